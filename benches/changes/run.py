"""Changes by primary key to a table of many rows, beside delta-rs's MERGE of the same batches.

    python3 benches/changes/run.py --boathouse target/release/boathouse [--rows 1500000] [--columns 20]

The peer is Python deltalake, which tests/services/python.sh installs; psql comes from Debian. Both
sides begin with the same rows, apply the same batches in turn, and must end with the same rows.
"""

import argparse
import os
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def interpreter():
    """The Python of tests/services/python.sh, which has deltalake."""
    found = subprocess.run(["sh", ROOT / "tests/services/python.sh"], capture_output=True, text=True)
    return found.stdout.strip()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boathouse", required=True)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--batches", type=int, default=7)
    parser.add_argument("--alone", action="store_true", help="without the peer, for tables it cannot hold")
    arguments = parser.parse_args()
    import deltalake
    import psycopg
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        server = subprocess.Popen(
            [arguments.boathouse, "serve", "--lake", f"{folder}/lake",
             "--listen", f"127.0.0.1:{port}", "--http", f"127.0.0.1:{free_port()}"],
            env=os.environ | {"BOATHOUSE_PASSWORD": "bench"}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        try:
            measure(arguments, folder, port, deltalake, psycopg, pa)
        finally:
            server.terminate()
            server.wait()


def connect(psycopg, port):
    for _ in range(200):
        try:
            return psycopg.connect(
                f"host=127.0.0.1 port={port} user=boathouse password=bench dbname=boathouse",
                autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.05)
    sys.exit("the server did not start")


def ends_alike(run, deltalake, pa, peer):
    ((count, total),) = run("SELECT count(*), sum(c1) FROM item").fetchall()
    table = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(peer)).execute(
        "select count(*) c, sum(c1) s from t").read_all()
    table = pa.table(table)
    assert (count, int(total)) == (table["c"][0].as_py(), table["s"][0].as_py()), (count, total)
    print(f"both sides end with {count} rows")


def measure(arguments, folder, port, deltalake, psycopg, pa):
    rows, width = arguments.rows, arguments.columns
    connection = connect(psycopg, port)
    run = connection.execute
    names = [f"c{number}" for number in range(1, width)]
    columns = ", ".join(f"{name} bigint" for name in names)
    values = ", ".join(f"g * {number + 3} % 100003" for number in range(1, width))
    run(f"CREATE TABLE item (id bigint PRIMARY KEY, {columns})")
    run(f"INSERT INTO item SELECT g, {values} FROM generate_series(1, {rows}) t(g)")
    run(f"CREATE TABLE batch (op text, id bigint, {columns})")
    peer = f"{folder}/peer"
    if not arguments.alone:
        peer_rows = deltalake.DeltaTable(f"{folder}/lake/public/item").to_pyarrow_table()
        deltalake.write_deltalake(peer, peer_rows)
        del peer_rows
    draw = random.Random(7)
    next_id = rows + 1

    def timed(statement, *parameters):
        begin = time.perf_counter()
        run(statement, parameters)
        return (time.perf_counter() - begin) * 1000

    inserts = [timed(f"INSERT INTO item (id) VALUES ({rows * 10 + n})") for n in range(20)]
    run(f"DELETE FROM item WHERE id >= {rows * 10}")
    updates = [timed("UPDATE item SET c1 = c1 WHERE id = %s", draw.randrange(1, rows)) for _ in range(20)]
    reads = [timed("SELECT * FROM item WHERE id = %s", draw.randrange(1, rows)) for _ in range(20)]
    print(f"insert of 1 row: {statistics.median(inserts):.1f} ms, update by key {statistics.median(updates):.1f} ms, "
          f"read by key {statistics.median(reads):.1f} ms, of {rows} rows")

    # The first statements by key have the table indexed behind them.
    time.sleep(rows / 1_000_000 + 2)
    sets = ", ".join(f"{name} = s.{name}" for name in names)
    merge = (f"MERGE INTO item t USING batch s ON t.id = s.id WHEN MATCHED AND s.op = 'd' THEN DELETE "
             f"WHEN MATCHED THEN UPDATE SET {sets} WHEN NOT MATCHED AND s.op <> 'd' THEN "
             f"INSERT (id, {', '.join(names)}) VALUES (s.id, {', '.join(f's.{name}' for name in names)})")
    for size in [100, 10_000]:
        ours, theirs = [], []
        for batch in range(arguments.batches):
            # 90 % updates, 5 % inserts, 5 % deletes, of keys drawn evenly.
            chosen = draw.sample(range(1, rows + 1), size - size // 20)
            deletes = set(chosen[: size // 20])
            new = range(next_id, next_id + size // 20)
            next_id += size // 20
            ids = [*chosen, *new]
            ops = ["d" if id in deletes else "u" for id in ids]
            text = "".join(f"{op}\t{id}" + f"\t{batch}" * (width - 1) + "\n" for op, id in zip(ops, ids))
            table = pa.table({"op": pa.array(ops), "id": pa.array(ids, pa.int64())}
                             | {name: pa.array([batch] * size, pa.int64()) for name in names})
            # The batch comes by COPY, which is part of the time: a table of its own, then the MERGE.
            begin = time.perf_counter()
            run("TRUNCATE batch")
            with connection.cursor() as cursor, cursor.copy("COPY batch FROM STDIN") as copy:
                copy.write(text)
            run(merge)
            ours.append(time.perf_counter() - begin)
            if arguments.alone:
                continue
            begin = time.perf_counter()
            (deltalake.DeltaTable(peer)
                .merge(table, "t.id = s.id", source_alias="s", target_alias="t")
                .when_matched_delete("s.op = 'd'")
                .when_matched_update({name: f"s.{name}" for name in names})
                .when_not_matched_insert({name: f"s.{name}" for name in ["id", *names]}, "s.op <> 'd'")
                .execute())
            theirs.append(time.perf_counter() - begin)
        ours = statistics.median(ours)
        if arguments.alone:
            print(f"{size} changes by MERGE: {ours * 1000:.0f} ms, {size / ours:,.0f} changes/s")
            continue
        theirs = statistics.median(theirs)
        print(f"{size} changes: {ours * 1000:.0f} ms, delta-rs MERGE {theirs * 1000:.0f} ms, "
              f"{theirs / ours:.1f} times as fast, {size / ours:,.0f} changes/s")
    if not arguments.alone:
        ends_alike(run, deltalake, pa, peer)
    sets = ", ".join(f"{name} = excluded.{name}" for name in names)
    for size in [100, 10_000]:
        took = []
        for batch in range(arguments.batches):
            run("TRUNCATE batch")
            begin = time.perf_counter()
            with connection.cursor() as cursor, cursor.copy("COPY batch FROM STDIN") as copy:
                copy.write("".join(f"u\t{id}" + f"\t{batch}" * (width - 1) + "\n"
                                   for id in draw.sample(range(1, rows + 1), size)))
            run(f"INSERT INTO item SELECT id, {', '.join(names)} FROM batch ON CONFLICT (id) DO UPDATE SET {sets}")
            took.append(time.perf_counter() - begin)
        took = statistics.median(took)
        print(f"{size} upserts by ON CONFLICT: {took * 1000:.0f} ms, {size / took:,.0f} changes/s")


if __name__ == "__main__":
    try:
        import deltalake  # noqa: F401
    except ImportError:
        os.execv(interpreter(), [interpreter(), *sys.argv])
    main()
