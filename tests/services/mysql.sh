#!/usr/bin/env bash
# A current MySQL server for tests, on loopback, from Debian's unstable suite: unpacked into a folder and run
# from there, since the stable suite has none.
#
#   mysql.sh         start it if it does not run, and print how to reach it
#   mysql.sh stop    stop it
#
# It may be run any number of times and by several tests at once. Durability is switched off; a test that
# kills a server starts one of its own with mysql.sh run NAME PORT [option ...], which stays in the foreground.
set -euo pipefail

port=${BOATHOUSE_TEST_MYSQL_PORT:-12069}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/mysql
root=$home/root
password=boathouse

mkdir -p "$home"

unpack() {
    command -v mmdebstrap >/dev/null || {
        apt-get install -y -qq mmdebstrap || { apt-get update -qq && apt-get install -y -qq mmdebstrap; }
    } >"$home/install.log" 2>&1
    # The mirror this machine installs from, whichever that is.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | sort -u | head -1)
    rm -rf "$root" "$root.part"
    # A key of the unstable suite's that this machine's keyring does not know yet must not stop the tests.
    mmdebstrap --variant=extract --include=mysql-server-core \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
        sid "$root.part" "deb [trusted=yes] $mirror sid main" >>"$home/install.log" 2>&1 ||
        { cat "$home/install.log" >&2; exit 1; }
    mkdir -p "$root.part/tmp" "$root.part/dev"
    chmod 1777 "$root.part/tmp"
    for device in null zero random urandom; do
        cp -a "/dev/$device" "$root.part/dev/$device"
    done
    for folder in bin sbin lib lib64; do
        [ -e "$root.part/$folder" ] || ln -s "usr/$folder" "$root.part/$folder"
    done
    mv "$root.part" "$root"
}

server() {
    # The server sees only what is below its root.
    name=$1
    listen=$2
    shift 2
    folder=$root/data/$name
    mkdir -p "$folder"
    cat >"$folder/first.sql" <<SQL
CREATE USER IF NOT EXISTS boathouse@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO boathouse@'%' WITH GRANT OPTION;
SQL
    if [ ! -d "$folder/files/mysql" ]; then
        rm -rf "$folder/files"
        chroot "$root" /usr/sbin/mysqld --no-defaults --user=root --initialize-insecure \
            --datadir="/data/$name/files" --log-error="/data/$name/initialize.log"
    fi
    exec chroot "$root" /usr/sbin/mysqld --no-defaults --user=root --datadir="/data/$name/files" \
        --init-file="/data/$name/first.sql" --log-error="/data/$name/server.log" --pid-file="/data/$name/pid" \
        --socket="/data/$name/socket" --port="$listen" --bind-address=127.0.0.1 --mysqlx=OFF \
        --secure-file-priv="" --server-id=1 --log-bin=binlog --gtid-mode=ON --enforce-gtid-consistency=ON \
        --binlog-row-metadata=FULL --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 "$@"
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

case ${1:-start} in
start)
    exec 9>"$home/lock"
    flock 9
    [ -x "$root/usr/sbin/mysqld" ] || unpack
    if ! answers "$port"; then
        setsid bash "$0" run main "$port" >"$home/start.log" 2>&1 9>&- </dev/null &
        for _ in $(seq 300); do
            answers "$port" && break
            sleep 0.2
        done
        answers "$port" || { cat "$home/start.log" "$root/data/main/server.log" >&2; exit 1; }
    fi
    echo "HOST=127.0.0.1"
    echo "PORT=$port"
    echo "USER=boathouse"
    echo "PASSWORD=$password"
    ;;
run)
    shift
    server "$@"
    ;;
stop)
    [ ! -f "$root/data/main/pid" ] || kill "$(cat "$root/data/main/pid")"
    ;;
*)
    echo "usage: $0 [start|stop|run NAME PORT [option ...]]" >&2
    exit 2
    ;;
esac
