"""What many small commits leave behind while the server keeps the table: how it scans, and what was written.

    python3 benches/upkeep/run.py --boathouse target/release/boathouse [--minutes 10] [--batch 1000]
        [--rows 1000000] [--work append|change]

append: commits of new rows without a pause, then the same rows in a table written at once; both are scanned
in turn, and the ratio of the medians is what continuous ingest costs a reader.
change: batches of changes by random keys (90 % updates, 5 % inserts, 5 % deletes) to a table of so many rows
of 20 columns, without a pause; then the bytes of all files that came into the table's folder by the bytes of
the files that the batches wrote. Everything that compaction wrote is counted.
"""

import argparse
import pathlib
import random
import shutil
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402

SCANS = [
    "SELECT count(*), sum(amount), avg(quantity) FROM {0}",
    "SELECT merchant, count(*), sum(amount) FROM {0} GROUP BY merchant ORDER BY 3 DESC, 1 LIMIT 10",
    "SELECT count(*) FROM {0} WHERE note LIKE '%77%'",
    "SELECT count(DISTINCT customer) FROM {0} WHERE merchant < 50",
]


def append(server, run, arguments) -> None:
    run("""CREATE TABLE events (id bigint, placed timestamptz, merchant int, customer bigint, quantity int,
           amount numeric(12, 2), note text)""")
    end, commits, next_id = time.monotonic() + arguments.minutes * 60, 0, 0
    slowest = 0.0
    while time.monotonic() < end:
        begin = time.perf_counter()
        run(f"""INSERT INTO events SELECT g, now(), g * 7919::bigint % 1000, g * 104729::bigint % 100003, g % 9, g % 10007 / 100.0,
                'note ' || g * 31::bigint % 100000 FROM generate_series({next_id}, {next_id + arguments.batch - 1}) t(g)""")
        slowest = max(slowest, time.perf_counter() - begin)
        next_id += arguments.batch
        commits += 1
    time.sleep(15)
    files = len(server.files("events"))
    run("CREATE TABLE fresh AS SELECT * FROM events")
    seconds = {"events": [], "fresh": []}
    for _ in range(7):
        for table in seconds:
            begin = time.perf_counter()
            answers = [run(query.format(table)).fetchall() for query in SCANS]
            seconds[table].append(time.perf_counter() - begin)
            if table == "events":
                expected = answers
            assert answers == expected
    ours, fresh = (statistics.median(seconds[table]) for table in ["events", "fresh"])
    print(f"{commits} commits of {arguments.batch} rows, {next_id} rows in {files} files; scans {ours * 1000:.0f} ms, "
          f"of a table written at once {fresh * 1000:.0f} ms: {ours / fresh:.2f} times; slowest commit {slowest * 1000:.0f} ms")


def change(server, run, arguments) -> None:
    names = [f"c{number}" for number in range(1, 20)]
    columns = ", ".join(f"{name} bigint" for name in names)
    values = ", ".join(f"g * {number + 3} % 100003" for number in range(1, 20))
    run(f"CREATE TABLE item (id bigint PRIMARY KEY, {columns})")
    run(f"INSERT INTO item SELECT g, {values} FROM generate_series(1, {arguments.rows}) t(g)")
    sets = ", ".join(f"{name} = s.{name}" for name in names)
    merge = (f"MERGE INTO item t USING {{0}} s ON t.id = s.id WHEN MATCHED AND s.op = 'd' THEN DELETE "
             f"WHEN MATCHED THEN UPDATE SET {sets} WHEN NOT MATCHED AND s.op <> 'd' THEN "
             f"INSERT (id, {', '.join(names)}) VALUES (s.id, {', '.join(f's.{name}' for name in names)})")
    folder = server.folder("item")
    seen = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    before = set(seen)
    draw, next_id, batches, slowest = random.Random(7), arguments.rows + 1, 0, 0.0
    few = arguments.batch // 20
    end = time.monotonic() + arguments.minutes * 60
    times = []
    while time.monotonic() < end:
        ids = draw.sample(range(1, arguments.rows + 1), arguments.batch - few) + list(range(next_id, next_id + few))
        next_id += few
        rows = ", ".join(f"({id}, '{'d' if number < few else 'u'}')" for number, id in enumerate(ids))
        source = f"(SELECT op, id, {', '.join(f'id * {batches + 1} % 1000003 AS {name}' for name in names)} FROM (VALUES {rows}) v(id, op))"
        begin = time.perf_counter()
        run(merge.format(source))
        times.append(time.perf_counter() - begin)
        batches += 1
    time.sleep(15)
    history = run("""SELECT operation, sum(bytes_added) FROM system.table_history WHERE table_name = 'item'
                     AND version > 1 GROUP BY operation""").fetchall()
    by_operation = {operation: int(bytes_added) for operation, bytes_added in history}
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path not in before)
    files = sum(path.stat().st_size for path in folder.rglob("*.parquet") if path not in before)
    direct = files - by_operation.get("OPTIMIZE", 0)
    print(f"{batches} batches of {arguments.batch} changes to {arguments.rows} rows, median {statistics.median(times) * 1000:.0f} ms, "
          f"slowest {max(times) * 1000:.0f} ms; {written / 1e6:.1f} MB came, {direct / 1e6:.1f} MB by the batches: "
          f"{written / direct:.2f} times; {by_operation}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boathouse", required=True, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", choices=["append", "change"], default="append")
    arguments = parser.parse_args()
    beside.in_environment()
    lake = beside.HOME / "upkeep"
    shutil.rmtree(lake, ignore_errors=True)
    with beside.Server(arguments.boathouse, lake) as server:
        {"append": append, "change": change}[arguments.work](server, server.connect().execute, arguments)
    shutil.rmtree(lake, ignore_errors=True)


main()
