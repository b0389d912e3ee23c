"""Times a pipeline FROM KAFKA: messages that wait, and how long a message takes to be seen.

    cargo build --release && cargo build --release -p boathouse-connectors --example consume_topic
    python3 benches/kafka/run.py --boathouse target/release/boathouse [--messages 5000000] [--only large]

The broker is a Kafka of its own, started by tests/services/kafka.sh and deleted afterwards. The peers:

    Flink            its Table API (apache-flink, from PyPI; its jars from Maven Central by flink.xml): Kafka source
                     to Parquet files, two slots, a checkpoint each 10 s; its job's time, without the start of Java
    a bare consumer  connectors/examples/consume_topic.rs: librdkafka through rdkafka, nothing is parsed

Every run ends with the same messages counted and summed up in the table.
"""

import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import threading
import time
import venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402
import messages  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
SCRIPT = HERE.parents[1] / "tests/services/kafka.sh"
WORK = beside.HOME / f"kafka-{os.getpid()}"
FLINK = beside.HOME / "flink"
TICKS = os.sysconf("SC_CLK_TCK")
SIZES = {"large": 1000, "small": 200}
FORMS = {"avro": "avro", "protobuf": "protobuf"}


def in_environment() -> None:
    """Goes on in the virtual environment of the benchmarks, made if there is none."""
    python, ready = beside.HOME / "venv/bin/python", beside.HOME / "venv.kafka.ready"
    if not ready.exists():
        if not python.exists():
            venv.create(beside.HOME / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "confluent-kafka==2.12.2", "psycopg[binary]"], check=True)
        ready.touch()
    if pathlib.Path(sys.prefix) != beside.HOME / "venv":
        os.execv(python, [python, *sys.argv])


def install_flink() -> None:
    """Into an environment of its own: it asks for old versions of what others use."""
    ready = FLINK / "ready.avro"
    if ready.exists():
        return
    venv.create(FLINK / "venv", with_pip=True)
    subprocess.run([FLINK / "venv/bin/python", "-m", "pip", "install", "--quiet", "apache-flink==2.3.0"], check=True)
    subprocess.run(["mvn", "--batch-mode", "--quiet", "--file", HERE / "flink.xml", f"-Dmaven.repo.local={FLINK}/repository",
                    "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={FLINK}/jars"], check=True)
    shutil.rmtree(FLINK / "repository")
    ready.touch()


class Broker:
    def __init__(self):
        # The controller and SASL listen at the two ports that follow.
        self.port, self.name = beside.free_port() // 3 + 1_024, f"bench-{os.getpid()}"
        home = pathlib.Path(os.environ.get("BOATHOUSE_TEST_HOME", pathlib.Path.home() / ".cache/boathouse/services"))
        self.folder = home / "kafka/data" / self.name
        subprocess.run(["bash", SCRIPT], check=True, stdout=subprocess.DEVNULL)
        WORK.mkdir(parents=True, exist_ok=True)
        self.log = open(WORK / "broker.log", "w")
        self.process = subprocess.Popen(["bash", SCRIPT, "run", self.name, str(self.port)], stdout=self.log, stderr=self.log,
                                        env=os.environ | {"BOATHOUSE_TEST_KAFKA_HEAP": "1g"})
        self.address = f"127.0.0.1:{self.port}"

    def make_topic(self, topic: str, partitions: int) -> None:
        from confluent_kafka.admin import AdminClient, NewTopic

        admin = AdminClient({"bootstrap.servers": self.address})
        for _ in range(120):
            try:
                admin.create_topics([NewTopic(topic, partitions, 1)], request_timeout=5)[topic].result()
                return
            except Exception as error:  # noqa: BLE001: whatever it is while the broker starts
                last = error
                time.sleep(0.5)
        sys.exit(f"no topic could be made: {last}; see {self.log.name}")

    def produce(self, topic: str, size: int, count: int, form: str) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.address, "linger.ms": 50, "batch.size": 500_000,
                             "queue.buffering.max.messages": 500_000, "acks": 1})
        made = messages.templates(size, form)
        for number in range(count):
            while True:
                try:
                    producer.produce(topic, messages.message(number, made, form))
                    break
                except BufferError:
                    producer.poll(0.1)
            if number % 10_000 == 0:
                producer.poll(0)
        if producer.flush(60):
            sys.exit("messages were not taken")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Lake:
    def __init__(self, arguments, broker: Broker):
        folder = WORK / "lake"
        shutil.rmtree(folder, ignore_errors=True)
        self.broker = broker
        self.server = beside.Server(arguments.boathouse.resolve(), folder)
        self.connection = self.server.connect()
        self.run(f"CREATE CONNECTION events TO KAFKA WITH (brokers = '{broker.address}')")

    def run(self, sql: str) -> list[tuple]:
        cursor = self.connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        self.connection.close()
        self.server.stop()
        shutil.rmtree(self.server.lake, ignore_errors=True)


def processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def backlog(arguments, broker: Broker, name: str, partitions: int) -> None:
    """Messages that wait, until they are all committed."""
    size, count, form = SIZES.get(name, 1000), arguments.messages, FORMS.get(name, "json")
    topic = f"{name}-{partitions}"
    broker.make_topic(topic, partitions)
    begin = time.perf_counter()
    broker.produce(topic, size, count, form)
    print(f"{topic}: {count} messages written in {time.perf_counter() - begin:.0f} s", flush=True)
    bare = min(consume(arguments, broker, topic) for _ in range(2))
    print(f"{topic}: a bare consumer {count / bare:,.0f} messages/s", flush=True)
    lake = Lake(arguments, broker)
    try:
        given = f"FORMAT JSON COLUMNS ({messages.columns(size, 'text', 'double precision')})"
        if form != "json":
            given = f"FORMAT {form} (schema = '{messages.schema(size, form)}')"
        lake.run(f"CREATE PIPELINE p FROM KAFKA events TOPICS ('{topic}') {given} INTO t SCHEDULE ON DEMAND{arguments.with_options}")
        processes = [lake.server.process.pid, broker.process.pid]
        before = [processor_seconds(pid) for pid in processes]
        begin = time.perf_counter()
        lake.run("RUN PIPELINE p")
        seconds = time.perf_counter() - begin
        ours, theirs = (processor_seconds(pid) - start for pid, start in zip(processes, before))
        found = lake.run("SELECT count(*), sum(id) FROM t")[0]
        if [int(value) for value in found] != [count, count * (count - 1) // 2]:
            sys.exit(f"{topic}: the table has {found}")
        peak = lake.server.peak_mebibytes()
    finally:
        lake.stop()
    # What the two cores had left for it beside the broker.
    without = seconds * (1 - theirs / seconds / beside.CORES)
    print(f"{topic}: boathouse {count / seconds:,.0f} rows/s ({count} in {seconds:.1f} s), {bare / seconds:.2f} of the bare consumer's; "
          f"without the broker's processor time {count / without:,.0f} rows/s; peak {peak} MiB; processor time: boathouse {ours:.1f} s, "
          f"broker {theirs:.1f} s", flush=True)
    # Flink's format for Protobuf wants a class that a compiler made of the schema.
    if not arguments.alone and form != "protobuf":
        rate = flink(broker, topic, size, count, form)
        print(f"{topic}: Flink {rate:,.0f} rows/s; boathouse {count / seconds / rate:.1f} times that", flush=True)


def consume(arguments, broker: Broker, topic: str) -> float:
    program = arguments.boathouse.parent / "examples/consume_topic"
    printed = subprocess.run([program, broker.address, topic], check=True, capture_output=True, text=True).stdout
    return float(printed.split()[2])


def flink(broker: Broker, topic: str, size: int, count: int, form: str) -> float:
    install_flink()
    folder = WORK / "flink"
    shutil.rmtree(folder, ignore_errors=True)
    columns = messages.columns(size, "string", "double", "`")
    if form == "avro":
        columns = columns.replace(",", " NOT NULL,") + " NOT NULL"
    command = [FLINK / "venv/bin/python", HERE / "flink.py", FLINK / "jars", broker.address, topic, folder, str(beside.CORES), columns, form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    if done.returncode:
        sys.exit(f"Flink failed: {done.stdout[-500:]} {done.stderr[-2000:]}")
    seconds = float(done.stdout.split()[-1])
    counted = subprocess.run([FLINK / "venv/bin/python", "-c", "import glob, pyarrow.parquet as p, sys; "
                              "print(sum(p.read_metadata(f).num_rows for f in glob.glob(sys.argv[1] + '/**/*', recursive=True) if '/part-' in f))",
                              folder], check=True, capture_output=True, text=True).stdout
    if int(counted) != count:
        sys.exit(f"Flink wrote {counted} rows")
    shutil.rmtree(folder)
    return count / seconds


def lag(arguments, broker: Broker) -> None:
    """Writes at a steady rate, and asks through the port for the newest message there is."""
    from confluent_kafka import Producer

    topic = "lag"
    broker.make_topic(topic, 8)
    lake = Lake(arguments, broker)
    try:
        columns = messages.columns(200, "text", "double precision")
        lake.run(f"CREATE PIPELINE p FROM KAFKA events TOPICS ('lag') FORMAT JSON COLUMNS ({columns}, sent double precision) INTO t")
        made, rate, seconds = messages.templates(200), arguments.rate, arguments.seconds
        producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 5, "queue.buffering.max.messages": 500_000})
        written = [0]

        def write() -> None:
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds:
                due = int((time.perf_counter() - begin) * rate)
                while written[0] < due:
                    number = written[0]
                    body = messages.message(number, made)
                    producer.produce(topic, body[:-1] + b', "sent": %.6f}' % time.time(), partition=number % 8)
                    written[0] += 1
                producer.poll(0)
                time.sleep(0.01)
            producer.flush(60)

        pid, lags, last = lake.server.process.pid, [], -1
        writer = threading.Thread(target=write)
        before, begin = processor_seconds(pid), time.perf_counter()
        writer.start()
        while writer.is_alive() or last < written[0] - 1:
            if lake.run("SELECT to_regclass('t') IS NULL") == [(True,)]:
                time.sleep(0.1)
                continue
            # Each thousandth message is a marker.
            found = lake.run(f"SELECT id, sent FROM t WHERE id > {last} AND (id % 1000 = 0 OR id = {written[0] - 1})")
            now = time.time()
            # The first seconds make the table.
            lags += [now - sent for number, sent in found if number % 1000 == 0 and number > rate * 5]
            last = max([last, *(number for number, _ in found)])
            time.sleep(0.02)
            if time.perf_counter() - begin > seconds + 120:
                sys.exit(f"lag: the newest row is {last} of {written[0]}")
        used = (processor_seconds(pid) - before) / seconds
        if lake.run("SELECT count(*) FROM t") != [(written[0],)]:
            sys.exit("lag: rows are missing")
        cuts = statistics.quantiles(lags, n=100)
        print(f"lag: at {written[0] / seconds:,.0f} messages/s for {seconds} s, of {len(lags)} markers: p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, "
              f"p99 {cuts[98]:.2f} s, longest {max(lags):.2f} s; peak {lake.server.peak_mebibytes()} MiB; boathouse uses {used:.2f} cores", flush=True)
    finally:
        lake.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--rate", type=int, default=20_000, help="messages a second of the lag's load")
    parser.add_argument("--seconds", type=int, default=120, help="how long that load lasts")
    parser.add_argument("--only", choices=["large", "small", "avro", "protobuf", "many", "lag"], action="append", help="`many`: 64 partitions, for the memory")
    parser.add_argument("--options", help="what the pipeline is created WITH")
    parser.add_argument("--alone", action="store_true", help="without Flink")
    arguments = parser.parse_args()
    arguments.with_options = f" WITH ({arguments.options})" if arguments.options else ""
    in_environment()
    wanted = arguments.only or ["large", "small", "avro", "protobuf", "many", "lag"]
    broker = Broker()
    try:
        for name in ["large", "small", "avro", "protobuf"]:
            if name in wanted:
                backlog(arguments, broker, name, arguments.partitions)
        if "many" in wanted:
            arguments.alone = True
            backlog(arguments, broker, "many", 64)
        if "lag" in wanted:
            lag(arguments, broker)
        shutil.rmtree(WORK)
    finally:
        broker.stop()


main()
