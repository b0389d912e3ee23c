#!/usr/bin/env bash
# A MariaDB server for tests, on loopback, with data of its own.
#
#   mariadb.sh         start it if it does not run, and print how to reach it
#   mariadb.sh stop    stop it
#
# It may be run any number of times and by several tests at once. Durability is switched off; a test that
# kills a server starts one of its own with mariadb.sh run NAME PORT [option ...], which stays in the foreground.
set -euo pipefail

port=${BOATHOUSE_TEST_MARIADB_PORT:-12079}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/mariadb
password=boathouse

mkdir -p "$home"

server() {
    folder=$home/data/$1
    listen=$2
    shift 2
    mkdir -p "$folder/tmp"
    # What is not in the package of the server's core, such as a way to log in.
    [ ! -d "$home/plugin" ] || set -- --plugin-dir="$home/plugin" "$@"
    # A server that starts deletes what it takes for leftovers in its folder for temporary files.
    export TMPDIR=$folder/tmp
    cat >"$folder/first.sql" <<SQL
CREATE USER IF NOT EXISTS boathouse@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO boathouse@'%' WITH GRANT OPTION;
SQL
    if [ ! -d "$folder/files/mysql" ]; then
        rm -rf "$folder/files"
        mariadb-install-db --no-defaults --user="$(id -un)" --datadir="$folder/files" --skip-test-db \
            >"$folder/initialize.log" 2>&1
    fi
    exec mariadbd --no-defaults --user="$(id -un)" --datadir="$folder/files" --init-file="$folder/first.sql" \
        --log-error="$folder/server.log" --pid-file="$folder/pid" --socket="$folder/socket" --port="$listen" \
        --bind-address=127.0.0.1 --secure-file-priv="" --server-id=1 --log-bin=binlog --binlog-format=ROW \
        --binlog-row-metadata=FULL --gtid-strict-mode=ON --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 "$@"
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

case ${1:-start} in
start)
    exec 9>"$home/lock"
    flock 9
    { command -v mariadbd && command -v my_print_defaults; } >/dev/null || {
        apt-get install -y -qq --no-install-recommends mariadb-server-core mariadb-client-core ||
            { apt-get update -qq && apt-get install -y -qq --no-install-recommends mariadb-server-core mariadb-client-core; }
    } >"$home/install.log" 2>&1 || { cat "$home/install.log" >&2; exit 1; }
    if [ ! -e "$home/plugin/auth_ed25519.so" ]; then
        rm -rf "$home/package" && mkdir -p "$home/package" "$home/plugin"
        (cd "$home/package" && apt-get download -qq mariadb-server && dpkg -x mariadb-server_*.deb .) >>"$home/install.log" 2>&1 ||
            { cat "$home/install.log" >&2; exit 1; }
        mv "$home/package/usr/lib/mysql/plugin/auth_ed25519.so" "$home/plugin/"
        rm -rf "$home/package"
    fi
    if ! answers "$port"; then
        setsid bash "$0" run main "$port" >"$home/start.log" 2>&1 9>&- </dev/null &
        for _ in $(seq 300); do
            answers "$port" && break
            sleep 0.2
        done
        answers "$port" || { cat "$home/start.log" "$home/data/main/server.log" >&2; exit 1; }
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
    [ ! -f "$home/data/main/pid" ] || kill "$(cat "$home/data/main/pid")"
    ;;
*)
    echo "usage: $0 [start|stop|run NAME PORT [option ...]]" >&2
    exit 2
    ;;
esac
