"""A dashboard of one merchant's day in a year of events, asked by many clients at once, beside DuckDB.

    python3 benches/dashboard/run.py --boathouse target/release/boathouse [--rows 50000000]
        [--clients 1,16] [--seconds 20] [--layout day|sorted|month|none] [--memory 4GiB]

The events (12 narrow columns, 2,000 merchants by Zipf's law, 365 days in order of arrival) are made by
numpy and loaded by INSERT ... SELECT from read_parquet, once, into a table that is partitioned by day
or month or not at all, or by day with each day sorted by merchant (`cluster_by`); they stay under
~/.cache/boathouse/benches. Each client asks, in turn, five aggregates of a random merchant and day as a
prepared statement through a connection of its own. The peer is DuckDB (PyPI) in this process with a
cursor for each client, on Parquet files of the same rows in order of arrival. Both sides run in turn; the answers to the same hundred questions are compared.
"""

import argparse
import datetime
import itertools
import pathlib
import random
import shutil
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402

MERCHANTS, DAYS, FILE_ROWS = 2000, 365, 2_000_000
COLUMNS = {"placed": "timestamp", "day": "date", "merchant": "integer", "customer": "bigint", "kind": "text",
           "status": "text", "currency": "text", "country": "text", "product": "integer", "quantity": "smallint",
           "amount": "numeric(12, 2)", "fee": "numeric(12, 2)"}
WHERE = "FROM events WHERE merchant = {0} AND day = {1}"
QUERIES = [
    f"SELECT count(*), sum(amount), sum(fee), count(DISTINCT customer), max(placed) {WHERE}",
    f"SELECT extract(hour FROM placed) AS hour, count(*), sum(amount) {WHERE} GROUP BY 1 ORDER BY 1",
    f"SELECT kind, status, count(*), avg(amount) {WHERE} GROUP BY kind, status ORDER BY kind, status",
    f"SELECT country, sum(amount) AS total {WHERE} GROUP BY country ORDER BY total DESC, country LIMIT 5",
    f"SELECT product, sum(quantity) AS sold, sum(amount) {WHERE} GROUP BY product ORDER BY sold DESC, product LIMIT 10",
]


def generate(folder: pathlib.Path, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    kinds, states = pa.array(["sale", "refund", "fee", "payout"]), pa.array(["done", "open", "failed"])
    currencies = pa.array(["EUR", "USD", "GBP", "RUB"])
    countries = pa.array([chr(65 + n // 8) + chr(65 + n % 8) for n in range(64)])
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        draw, count = np.random.default_rng(number), min(FILE_ROWS, rows - start)
        year = DAYS * 86_400_000_000
        at = 1_735_689_600_000_000 + np.arange(start, start + count) * (year / rows)

        def ranks(distinct):
            return np.minimum(distinct ** draw.random(count), distinct - 1).astype(np.int32)

        def money(most):
            return pa.array(draw.integers(1, most, count)).cast(pa.decimal128(19, 0)).cast(pa.decimal128(21, 2))

        at = pa.array(at.astype(np.int64)).cast(pa.timestamp("us"))
        table = pa.table([
            at, at.cast(pa.date32(), safe=False), ranks(MERCHANTS), draw.integers(0, 5_000_000, count), kinds.take(ranks(4)),
            states.take(ranks(3)), currencies.take(ranks(4)), countries.take(ranks(64)), ranks(20_000),
            pa.array(draw.integers(1, 9, count).astype(np.int16)), money(100_000), money(500)], names=list(COLUMNS))
        pq.write_table(table, folder / f"events-{number:03}.parquet", compression="zstd", compression_level=1)


def load(binary: pathlib.Path, lake: pathlib.Path, source: pathlib.Path, layout: str) -> None:
    columns = ", ".join(f"{name} {kind} NOT NULL" for name, kind in COLUMNS.items())
    select, by = "*", ""
    if layout == "day":
        by = "PARTITION BY (day)"
    elif layout == "sorted":
        by = "PARTITION BY (day) WITH (cluster_by = 'merchant')"
    elif layout == "month":
        columns, select, by = f"{columns}, month integer", "*, extract(month FROM day)::integer", "PARTITION BY (month)"
    with beside.Server(binary, lake) as server:
        run = server.connect().execute
        begin = time.perf_counter()
        run(f"CREATE TABLE events ({columns}) {by}")
        run(f"INSERT INTO events SELECT {select} FROM read_parquet('{source}/*.parquet')")
        if layout == "sorted":
            run("OPTIMIZE events")
        print(f"loaded in {time.perf_counter() - begin:.1f} s, {len(server.files('events'))} files, "
              f"peak memory of the server {server.peak_mebibytes()} MiB")


class Ours:
    name = "boathouse"

    def __init__(self, server):
        self.server = server

    def client(self):
        connection = self.server.connect()
        connection.prepare_threshold = 0
        texts = [query.format("%s", "%s") for query in QUERIES]
        return lambda number, merchant, day: connection.execute(texts[number], [merchant, day]).fetchall()


class Theirs:
    name = "duckdb"

    def __init__(self, source):
        import duckdb

        self.connection = duckdb.connect()
        self.connection.execute(f"SET threads = {beside.CORES}")
        self.connection.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet('{source}/*.parquet')")

    def client(self):
        cursor = self.connection.cursor()
        texts = [query.format("$1", "$2") for query in QUERIES]
        return lambda number, merchant, day: cursor.execute(texts[number], [merchant, day]).fetchall()


def question(draw: random.Random) -> tuple[int, datetime.date]:
    merchant = min(int(MERCHANTS ** draw.random()), MERCHANTS - 1)
    return merchant, datetime.date(2025, 1, 1) + datetime.timedelta(days=draw.randrange(DAYS))


def press(side, clients: int, seconds: float) -> list[float]:
    """The latencies of as many clients for as long, each with a connection of its own."""
    taken: list[list[float]] = [[] for _ in range(clients)]
    errors: list[Exception] = []
    asks = [side.client() for _ in range(clients)]
    end = time.perf_counter() + seconds

    def work(client: int) -> None:
        draw = random.Random(client)
        for number in itertools.cycle(range(len(QUERIES))):
            begin = time.perf_counter()
            if begin > end:
                return
            try:
                asks[client](number, *question(draw))
            except Exception as error:  # noqa: BLE001: an error of either side ends its run
                errors.append(error)
                return
            taken[client].append(time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        print(f"{side.name}: {len(errors)} of {clients} clients failed: {errors[0]}")
    return sorted(itertools.chain(*taken))


def compare(sides: list) -> bool:
    draw, good = random.Random(99), True
    ours, theirs = (side.client() for side in sides)
    for number in range(100):
        merchant, day = question(draw)
        left, right = (ask(number % len(QUERIES), merchant, day) for ask in (ours, theirs))
        difference = beside.unlike(left, right, None)
        if difference:
            good = False
            print(f"merchant {merchant}, {day}, query {number % len(QUERIES)}: {difference}")
    print("answers: " + ("all alike" if good else "NOT all alike"))
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--clients", default="1,16")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--layout", choices=["day", "sorted", "month", "none"], default="day")
    parser.add_argument("--memory", metavar="SIZE")
    arguments = parser.parse_args()
    binary, home = arguments.boathouse.resolve(), beside.HOME / f"events-{arguments.rows}"
    source, lake = home / "parquet", home / f"lake-{arguments.layout}"
    if not source.exists():
        shutil.rmtree(f"{source}.part", ignore_errors=True)
        generate(pathlib.Path(f"{source}.part"), arguments.rows)
        pathlib.Path(f"{source}.part").rename(source)
    if not lake.exists():
        load(binary, lake.with_name(f"{lake.name}.part"), source, arguments.layout)
        lake.with_name(f"{lake.name}.part").rename(lake)
    with beside.Server(binary, lake, arguments.memory) as server:
        sides = [Ours(server), Theirs(source)]
        good = compare(sides)
        print(f"{'clients':>7} {'side':>10} {'queries/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}")
        for clients in map(int, arguments.clients.split(",")):
            p99 = []
            for side in sides:
                rounds = [press(side, clients, arguments.seconds) for _ in range(arguments.rounds)]
                taken = sorted(itertools.chain(*rounds))
                p99.append(taken[int(len(taken) * 0.99)])
                print(f"{clients:7} {side.name:>10} {len(taken) / arguments.seconds / arguments.rounds:10.1f} "
                      f"{statistics.median(taken) * 1000:8.1f} {p99[-1] * 1000:8.1f} {taken[-1] * 1000:8.1f}", flush=True)
            print(f"{clients:7} p99 of duckdb's: {p99[0] / p99[1]:.2f}")
        print(f"peak memory of the server: {server.peak_mebibytes()} MiB")
    sys.exit(not good)


if __name__ == "__main__":
    beside.in_environment()
    main()
