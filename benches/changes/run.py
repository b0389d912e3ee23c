"""Upserts by primary key into a table of many rows, beside delta-rs's MERGE of the same batches.

    python3 benches/changes/run.py --boathouse target/release/boathouse [--rows 1500000]

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
COLUMNS = 6


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
    parser.add_argument("--batches", type=int, default=5)
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


def measure(arguments, folder, port, deltalake, psycopg, pa):
    rows = arguments.rows
    connection = connect(psycopg, port)
    run = connection.execute
    run("CREATE TABLE item (id bigint PRIMARY KEY, a bigint, b bigint, c bigint, d bigint, e text)")
    run(f"INSERT INTO item SELECT g, g, g * 7 % 1000, g % 13, 0, 'n' || g FROM generate_series(1, {rows}) t(g)")
    run("CREATE TABLE batch (id bigint, a bigint, b bigint, c bigint, d bigint, e text)")
    schema = pa.schema([(name, pa.int64()) for name in ["id", "a", "b", "c", "d"]] + [("e", pa.string())])
    ids = range(1, rows + 1)
    peer = f"{folder}/peer"
    deltalake.write_deltalake(peer, pa.table([
        pa.array(ids), pa.array(ids), pa.array([g * 7 % 1000 for g in ids]),
        pa.array([g % 13 for g in ids]), pa.array([0] * rows),
        pa.array([f"n{g}" for g in ids])], schema=schema))
    draw = random.Random(7)

    def one_row():
        begin = time.perf_counter()
        run("UPDATE item SET d = d WHERE id = %s", [draw.randrange(1, rows)])
        return time.perf_counter() - begin

    def insert_row(number):
        begin = time.perf_counter()
        run("INSERT INTO item VALUES (%s, 0, 0, 0, 0, 'x')", [number])
        took = time.perf_counter() - begin
        run("DELETE FROM item WHERE id = %s", [number])
        return took

    print(f"insert of 1 row: {statistics.median(insert_row(rows * 10 + n) for n in range(20)) * 1000:.1f} ms")
    print(f"update of 1 row of {rows}: {statistics.median(one_row() for _ in range(10)) * 1000:.1f} ms")

    for size in [100, 10_000]:
        ours, theirs = [], []
        for batch in range(arguments.batches):
            changed = draw.sample(range(1, rows + 1), size)
            table = pa.table([
                pa.array(changed), pa.array([batch] * size), pa.array([1] * size), pa.array([2] * size),
                pa.array([3] * size), pa.array(["new"] * size)], schema=schema)
            begin = time.perf_counter()
            # The batch comes by COPY, which is part of the time: a table of its own, then the upsert.
            run("TRUNCATE batch")
            with connection.cursor() as cursor, cursor.copy("COPY batch FROM STDIN") as copy:
                copy.write("".join(f"{id}\t{batch}\t1\t2\t3\tnew\n" for id in changed))
            run("INSERT INTO item SELECT * FROM batch ON CONFLICT (id) DO UPDATE SET "
                "a = excluded.a, b = excluded.b, c = excluded.c, d = excluded.d, e = excluded.e")
            ours.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            (deltalake.DeltaTable(peer)
                .merge(table, "t.id = s.id", source_alias="s", target_alias="t")
                .when_matched_update_all().when_not_matched_insert_all().execute())
            theirs.append(time.perf_counter() - begin)
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        print(f"{size} rows: {ours * 1000:.0f} ms, delta-rs MERGE {theirs * 1000:.0f} ms, "
              f"{theirs / ours:.1f} times as fast, {size / ours:,.0f} changes/s")
    ((count, total),) = run("SELECT count(*), sum(a) FROM item").fetchall()
    table = deltalake.QueryBuilder().register("t", deltalake.DeltaTable(peer)).execute(
        "select count(*) c, sum(a) s from t").read_all()
    table = pa.table(table)
    assert (count, int(total)) == (table["c"][0].as_py(), table["s"][0].as_py()), (count, total)


if __name__ == "__main__":
    try:
        import deltalake  # noqa: F401
    except ImportError:
        os.execv(interpreter(), [interpreter(), *sys.argv])
    main()
