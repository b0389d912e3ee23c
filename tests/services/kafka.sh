#!/usr/bin/env bash
# A Kafka broker for tests, on loopback: broker and controller in one process (KRaft), its storage below the
# services' folder. kafka.xml says what is installed.
#
#   kafka.sh                          start it if it does not run, and print how to reach it
#   kafka.sh stop                     stop it
#   kafka.sh produce TOPIC            write the lines of the input to a topic of it: "key | message"
#   kafka.sh run NAME PORT [a=b ...]  one of a test's own, in the foreground, with further settings of the broker.
#                                     A node of a cluster is told node.id and controller.quorum.voters as settings,
#                                     and cluster.id, which all of its nodes share
#
# It may be run any number of times and by several tests at once. The controller listens one port above the broker;
# the shared broker has a second listener with SASL (user boathouse) two ports above it.
set -euo pipefail

port=${BOATHOUSE_TEST_KAFKA_PORT:-12092}
home=${BOATHOUSE_TEST_HOME:-$HOME/.cache/boathouse/services}/kafka
here=$(cd "$(dirname "$0")" && pwd)
password=boathouse

mkdir -p "$home"

install() {
    missing=
    command -v java >/dev/null || missing="$missing default-jre-headless"
    command -v mvn >/dev/null || missing="$missing maven"
    if [ -n "$missing" ]; then
        {
            apt-get update -qq
            # shellcheck disable=SC2086
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
        } >&2
    fi
    rm -rf "$home/jars" "$home/repository"
    mvn --batch-mode --quiet --file "$here/kafka.xml" -Dmaven.repo.local="$home/repository" \
        dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/jars" >&2
    rm -rf "$home/repository"
    cp "$here/kafka.xml" "$home/installed.xml"
}

java_program() {
    # Small work: the quick compiler and the simplest collector.
    java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$home/jars/*" "$@"
}

server() {
    name=$1
    listen=$2
    shift 2
    folder=$home/data/$name
    mkdir -p "$folder"
    jaas="org.apache.kafka.common.security"
    cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((listen + 1))
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$listen,CONTROLLER://127.0.0.1:$((listen + 1)),SASL://127.0.0.1:$((listen + 2))
advertised.listeners=PLAINTEXT://127.0.0.1:$listen,SASL://127.0.0.1:$((listen + 2))
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=$jaas.plain.PlainLoginModule required user_boathouse="$password";
listener.name.sasl.scram-sha-256.sasl.jaas.config=$jaas.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=$jaas.scram.ScramLoginModule required;
inter.broker.listener.name=PLAINTEXT
log.dirs=$folder/log
auto.create.topics.enable=false
num.partitions=1
message.max.bytes=20000000
replica.fetch.max.bytes=20000000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
PROPERTIES
    cluster=
    for setting in "$@"; do
        case $setting in
        cluster.id=*) cluster=${setting#*=} ;;
        *=IamValidator) compile IamValidator ;;&
        # The last of a name is the one that counts.
        *) echo "$setting" >>"$folder/server.properties" ;;
        esac
    done
    if [ ! -f "$folder/log/meta.properties" ]; then
        rm -rf "$folder/log"
        java_program kafka.tools.StorageTool format --cluster-id="${cluster:-$(cluster_id)}" --config "$folder/server.properties" \
            --add-scram "SCRAM-SHA-256=[name=boathouse,password=$password]" \
            --add-scram "SCRAM-SHA-512=[name=boathouse,password=$password]" >"$folder/format.log" 2>&1 ||
            { cat "$folder/format.log" >&2; exit 1; }
    fi
    # One of a test's own does not live long enough for the slow compiler.
    exec java -Xmx"${BOATHOUSE_TEST_KAFKA_HEAP:-512m}" -XX:TieredStopAtLevel="${BOATHOUSE_TEST_KAFKA_COMPILER:-4}" \
        -XX:+UseSerialGC -cp "$home/jars/*:$home/classes" \
        kafka.Kafka "$folder/server.properties"
}

# A class of ours that the broker is to load.
compile() {
    (
        flock 9
        cmp -s "$here/$1.java" "$home/classes/$1.java" && exit
        command -v javac >/dev/null || {
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jdk-headless
        } >&2
        mkdir -p "$home/classes"
        javac -cp "$home/jars/*" -d "$home/classes" "$here/$1.java" >&2
        cp "$here/$1.java" "$home/classes/"
    ) 9>"$home/classes.lock"
}

cluster_id() {
    head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '='
}

answers() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

case ${1:-start} in
start)
    exec 9>"$home/lock"
    flock 9
    cmp -s "$here/kafka.xml" "$home/installed.xml" || install
    if ! answers "$port"; then
        setsid bash "$0" run main "$port" >"$home/start.log" 2>&1 9>&- </dev/null &
        echo $! >"$home/pid"
        for _ in $(seq 300); do
            answers "$port" && break
            sleep 0.2
        done
        answers "$port" || { cat "$home/start.log" >&2; exit 1; }
    fi
    echo "BROKERS=127.0.0.1:$port"
    echo "SASL_BROKERS=127.0.0.1:$((port + 2))"
    echo "USER=boathouse"
    echo "PASSWORD=$password"
    ;;
run)
    shift
    server "$@"
    ;;
produce)
    topic=$2
    java_program org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" \
        --create --if-not-exists --topic "$topic" >/dev/null 2>&1
    # An empty key is none.
    sed -E 's/^ *\| /NULL | /' | java_program org.apache.kafka.tools.ConsoleProducer --bootstrap-server "127.0.0.1:$port" \
        --topic "$topic" --reader-property parse.key=true --reader-property "key.separator= | " \
        --reader-property null.marker=NULL 2>/dev/null
    ;;
stop)
    [ ! -f "$home/pid" ] || kill "$(cat "$home/pid")"
    ;;
*)
    echo "usage: $0 [start|stop|produce TOPIC|run NAME PORT [setting=value ...]]" >&2
    exit 2
    ;;
esac
