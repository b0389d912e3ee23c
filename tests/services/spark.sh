#!/bin/sh
# Spark with Delta Lake, and tests/interop/Spark.java, by which a test asks it. Prints the file of arguments that
# `java @file` runs it with.
#
# It may be run any number of times and by several tests at once. spark.xml says what is installed; nothing
# of it is left but the jars.
set -eu

home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/spark
here=$(cd "$(dirname "$0")" && pwd)
program=$here/../interop/Spark.java

mkdir -p "$home"
exec 9>"$home/lock"
flock 9

missing=
command -v javac >/dev/null || missing="$missing default-jdk-headless"
command -v mvn >/dev/null || missing="$missing maven"
if [ -n "$missing" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing:$missing" >&2
        exit 1
    fi
    {
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
    } >&2
fi

if ! cmp -s "$here/spark.xml" "$home/installed.xml"; then
    rm -rf "$home/jars" "$home/repository" "$home/installed.java"
    mvn --batch-mode --quiet --file "$here/spark.xml" -Dmaven.repo.local="$home/repository" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/jars" >&2
    rm -rf "$home/repository"
    cp "$here/spark.xml" "$home/installed.xml"
fi
if ! cmp -s "$program" "$home/installed.java"; then
    rm -rf "$home/classes"
    mkdir "$home/classes"
    javac -nowarn -cp "$home/jars/*" -d "$home/classes" "$program" >&2
    # Small work: the quick compiler and the simplest collector. Spark looks inside the packages opened to it.
    {
        printf '%s\n' -Xmx1g -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
        for package in java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util \
            java.util.concurrent java.util.concurrent.atomic jdk.internal.ref sun.nio.ch sun.nio.cs \
            sun.security.action sun.util.calendar; do
            echo "--add-opens=java.base/$package=ALL-UNNAMED"
        done
        printf '%s\n' -cp "\"$home/classes:$home/jars/*\"" Spark
    } >"$home/arguments"
    cp "$program" "$home/installed.java"
fi
echo "$home/arguments"
