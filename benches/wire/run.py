"""Measures fetches and round trips of Boathouse beside PostgreSQL 15. See README.md."""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import threading
import time

from psycopg import pq

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARIES = pathlib.Path("/usr/lib/postgresql/15/bin")
COLUMNS = """id bigint, store integer, price numeric(12,2), weight double precision,
    name text, day date, at timestamp, sold boolean"""
ROWS = """SELECT g, (g % 1000)::integer, (g % 100000)::numeric(12,2) / 100, g * 1.1::float8,
    'item number ' || g, date '2020-01-01' + (g % 1500)::integer,
    timestamp '2020-01-01' + g * interval '1 second', g % 3 = 0
    FROM generate_series(1, {count}::bigint) g"""


class Server:
    def __init__(self, name, url, process):
        self.name, self.url, self.process = name, url, process

    def psql(self, sql, **options):
        command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", self.url, "-c", sql]
        return subprocess.run(command, check=True, **options)

    def resident_bytes(self):
        """Of the process and of those it started."""
        total = 0
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            fields = dict(re.findall(r"^(\w+):\s+(\d+)", text, re.M))
            if self.process in (int(fields["Pid"]), int(fields["PPid"])):
                total += int(fields.get("VmRSS", 0)) << 10
        return total


def fetch(server, table, binary):
    connection = pq.PGconn.connect(server.url.encode())
    assert connection.status == pq.ConnStatus.OK, connection.error_message
    start = time.perf_counter()
    result = connection.exec_params(
        f"SELECT * FROM {table}".encode(), None, result_format=int(binary)
    )
    seconds = time.perf_counter() - start
    assert result.status == pq.ExecStatus.TUPLES_OK, result.error_message
    rows = result.ntuples
    result.clear()
    connection.finish()
    return rows / seconds


def copy(server, table, rows, binary):
    form = "binary" if binary else "text"
    start = time.perf_counter()
    with open(os.devnull, "wb") as nowhere:
        server.psql(f"COPY {table} TO STDOUT (FORMAT {form})", stdout=nowhere)
    return rows / (time.perf_counter() - start)


def round_trips(server, mode, seconds):
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("SELECT 1;\n")
        script.flush()
        command = [BINARIES / "pgbench", "-n", "-M", mode, "-f", script.name, "-c", "8", "-j", "1"]
        output = subprocess.run(
            [*command, "-T", str(seconds), server.url], check=True, capture_output=True, text=True
        ).stdout
    return float(re.search(r"tps = ([\d.]+)", output)[1])


def with_memory(server, work):
    """Does the work and gives its figure and the growth of the server meanwhile."""
    before = server.resident_bytes()
    peak, done = before, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, server.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return work(), peak - before
    finally:
        done.set()
        watcher.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=5433, type=int)
    parser.add_argument("--pid", type=int, help="process id of boathouse, to watch its memory")
    parser.add_argument("--rows", default=5_000_000, type=int)
    parser.add_argument("--rounds", default=5, type=int)
    parser.add_argument("--seconds", default=5, type=int, help="of one pgbench run")
    parser.add_argument("--table", default="wire_bench")
    parser.add_argument("--skip-load", action="store_true")
    options = parser.parse_args()

    postgres_url = subprocess.run(
        [ROOT / "tests/services/postgres.sh"], check=True, capture_output=True, text=True
    ).stdout.strip()
    password = os.environ.get("BOATHOUSE_PASSWORD", "")
    url = f"postgres://boathouse:{password}@{options.host}:{options.port}/boathouse"
    pid = options.pid or int(
        subprocess.run(["pgrep", "-nx", "boathouse"], check=True, capture_output=True).stdout
    )
    postgres = Server("PostgreSQL 15", postgres_url, 0)
    boathouse = Server("Boathouse", url, pid)

    table = options.table
    if not options.skip_load:
        postgres.psql(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} ({COLUMNS})")
        postgres.psql(f"INSERT INTO {table} {ROWS.format(count=options.rows)}")
        postgres.psql(f"VACUUM ANALYZE {table}")
        boathouse.psql(f"DROP TABLE IF EXISTS {table}")
        boathouse.psql(f"CREATE TABLE {table} ({COLUMNS})")
        start = time.perf_counter()
        out = subprocess.Popen(
            ["psql", "-Xqc", f"COPY {table} TO STDOUT (FORMAT binary)", postgres_url],
            stdout=subprocess.PIPE,
        )
        boathouse.psql(f"COPY {table} FROM STDIN (FORMAT binary)", stdin=out.stdout)
        rate = options.rows / (time.perf_counter() - start)
        print(f"loaded {options.rows} rows, {rate / 1e6:.2f} M rows/s through COPY FROM STDIN")

    measures = {
        "fetch as text, M rows/s": lambda server: fetch(server, table, False) / 1e6,
        "fetch as binary, M rows/s": lambda server: fetch(server, table, True) / 1e6,
        "COPY as text, M rows/s": lambda server: copy(server, table, options.rows, False) / 1e6,
        "COPY as binary, M rows/s": lambda server: copy(server, table, options.rows, True) / 1e6,
        "SELECT 1, simple, k/s": lambda server: round_trips(server, "simple", options.seconds) / 1e3,
        "SELECT 1, prepared, k/s": lambda server: round_trips(server, "prepared", options.seconds)
        / 1e3,
    }
    print(f"{'':28} {'Boathouse':>10} {'PostgreSQL':>10} {'ratio':>6}  memory")
    for name, measure in measures.items():
        figures, growth = {postgres: [], boathouse: []}, 0
        for turn in range(options.rounds):
            order = [postgres, boathouse] if turn % 2 else [boathouse, postgres]
            for server in order:
                if server is boathouse:
                    figure, grown = with_memory(server, lambda: measure(boathouse))
                    growth = max(growth, grown)
                else:
                    figure = measure(server)
                figures[server].append(figure)
        ours, theirs = (statistics.median(figures[server]) for server in (boathouse, postgres))
        print(
            f"{name:28} {ours:10.2f} {theirs:10.2f} {ours / theirs:6.2f}  +{growth / 2**20:.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
