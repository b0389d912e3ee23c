#!/bin/sh
# A Python with the client libraries the tests and benches use; prints the path of its interpreter.
# It may be run any number of times and by several tests at once.
set -eu

home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/python
packages='psycopg[binary]==3.3.* adbc-driver-manager adbc-driver-postgresql connectorx pyarrow deltalake==1.6.6 polars==2.1.0 duckdb==1.5.5 duckdb-extension-delta==1.5.5 duckdb-extension-httpfs==1.5.5 pytz'

mkdir -p "$home"
exec 9>"$home/lock"
flock 9
if [ "$(cat "$home/installed" 2>/dev/null)" != "$packages" ]; then
    [ -x "$home/venv/bin/python" ] || python3 -m venv "$home/venv"
    # shellcheck disable=SC2086
    "$home/venv/bin/pip" install --quiet --disable-pip-version-check $packages >&2
    echo "$packages" >"$home/installed"
fi
echo "$home/venv/bin/python"
