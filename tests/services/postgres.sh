#!/bin/sh
# A PostgreSQL 15 server for tests, on loopback, with data of its own.
#
#   postgres.sh         start it if it does not run, and print its URL
#   postgres.sh stop    stop it
#
# It may be run any number of times and by several tests at once. The data can be deleted at any time
# while the server is stopped. Durability is switched off: tests of ours stop clients, not this server.
set -eu

port=${BOATHOUSE_TEST_POSTGRES_PORT:-12432}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/postgres
data=$home/data
binaries=/usr/lib/postgresql/15/bin

mkdir -p "$home"
exec 9>"$home/lock"
flock 9

# The server refuses to run as root, so root runs it as the user the package made, with the data in
# that user's home: it could not reach them in root's.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

if [ ! -x "$binaries/initdb" ] && [ "${1:-start}" = start ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "PostgreSQL 15 is missing: install the package postgresql-15" >&2
        exit 1
    fi
    # The package must not start a cluster of its own.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    {
        apt-get install -y --no-install-recommends postgresql-15 ||
            { apt-get update && apt-get install -y --no-install-recommends postgresql-15; }
    } >"$home/install.log" 2>&1 9>&- || { cat "$home/install.log" >&2; exit 1; }
fi

if [ "$(id -u)" = 0 ]; then
    reachable=/var/lib/postgresql/boathouse-$(echo "$home" | cksum | cut -d' ' -f1)
    mkdir -p "$reachable"
    chown postgres: "$reachable"
    data=$reachable/data
fi

case ${1:-start} in
start)
    if [ ! -f "$data/PG_VERSION" ]; then
        rm -rf "$data"
        as_server "$binaries/initdb" --pgdata "$data" --username boathouse --auth trust \
            --encoding UTF8 --locale C.UTF-8 --no-sync >"$home/initdb.log" 2>&1 9>&- ||
            { cat "$home/initdb.log" >&2; exit 1; }
    fi
    if ! as_server "$binaries/pg_ctl" --pgdata "$data" status >/dev/null 2>&1 9>&-; then
        as_server "$binaries/pg_ctl" --pgdata "$data" --log "$data/server.log" --wait \
            --options "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
                -c fsync=off -c max_connections=300" start >"$home/start.log" 2>&1 9>&- ||
            { cat "$home/start.log" >&2; as_server tail -20 "$data/server.log" >&2; exit 1; }
    fi
    echo "postgres://boathouse@127.0.0.1:$port/postgres"
    ;;
stop)
    [ ! -d "$data" ] || as_server "$binaries/pg_ctl" --pgdata "$data" --mode fast stop 9>&-
    ;;
*)
    echo "usage: $0 [start|stop]" >&2
    exit 2
    ;;
esac
