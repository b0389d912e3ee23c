#!/bin/sh
# A Python with AWS's own library; prints the path of its interpreter. It is apart from python.sh because few need it.
# It may be run any number of times and by several tests at once.
set -eu

home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/python_aws
packages='botocore==1.*'

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
