"""What a codec, the rows of a row group and bloom filters cost and gain, on TPC-H's lineitem.

    python3 benches/parquet/run.py --boathouse target/release/boathouse [--scale 1] [--rounds 3]

Each way of making files is a table of its own, loaded by INSERT ... SELECT from the same Parquet file
(tpchgen-cli, PyPI). Then each is asked the same queries in turn, and the medians are compared with those
of the table made without any property. It is how the defaults were chosen.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402

WAYS = {
    "default": "",
    "zstd(3)": "\"parquet.compression\" = 'zstd(3)'",
    "snappy": "\"parquet.compression\" = 'snappy'",
    "lz4_raw": "\"parquet.compression\" = 'lz4_raw'",
    "uncompressed": "\"parquet.compression\" = 'uncompressed'",
    "128k rows": '"parquet.row_group_rows" = 131072',
    "256k rows": '"parquet.row_group_rows" = 262144',
    "bloom filters": "\"parquet.bloom_filter_columns\" = 'l_orderkey, l_partkey'",
}
QUERIES = [
    ("q1", """SELECT l_returnflag, l_linestatus, sum(l_quantity), sum(l_extendedprice * (1 - l_discount)), count(*)
              FROM {0} WHERE l_shipdate <= date '1998-09-02' GROUP BY 1, 2 ORDER BY 1, 2"""),
    ("q6", """SELECT sum(l_extendedprice * l_discount) FROM {0} WHERE l_shipdate >= date '1994-01-01'
              AND l_shipdate < date '1995-01-01' AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24"""),
    ("text", "SELECT count(*) FROM {0} WHERE l_comment LIKE '%special%requests%'"),
    ("sorted key", "SELECT * FROM {0} WHERE l_orderkey = 1234567"),
    ("scattered key", "SELECT count(*), sum(l_quantity) FROM {0} WHERE l_partkey = 155190"),
    ("absent key", "SELECT count(*) FROM {0} WHERE l_partkey = 155190123"),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boathouse", required=True, type=pathlib.Path)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    beside.in_environment()
    source = beside.HOME / f"tpch-{arguments.scale}" / "parquet"
    if not source.exists():
        command = [beside.HOME / "venv/bin/tpchgen-cli", "parquet", "--overwrite", "-s", str(arguments.scale)]
        subprocess.run([*command, "-o", f"{source}.part"], check=True)
        pathlib.Path(f"{source}.part").rename(source)
    source = source / "lineitem.parquet"
    lake = beside.HOME / "parquet-settings"
    shutil.rmtree(lake, ignore_errors=True)
    with beside.Server(arguments.boathouse, lake) as server:
        run = server.connect().execute
        tables = {way: f"lineitem_{number}" for number, way in enumerate(WAYS)}
        load, size = {way: [] for way in WAYS}, {}
        for turn in range(2):
            for way, table in tables.items():
                run(f"DROP TABLE IF EXISTS {table}")
                # A folder is never another table's.
                tables[way] = table = f"{table}_{turn}"
                properties = ', '.join(filter(None, [WAYS[way], '"delta.autoOptimize.autoCompact" = false']))
                begin = time.perf_counter()
                run(f"CREATE TABLE {table} WITH ({properties}) AS SELECT * FROM read_parquet('{source}')")
                load[way].append(time.perf_counter() - begin)
                size[way] = sum(pathlib.Path(file).stat().st_size for file in server.files(table))
        seconds = {(name, way): [] for name, _ in QUERIES for way in WAYS}
        for _ in range(arguments.rounds):
            for name, query in QUERIES:
                answers = set()
                for way, table in tables.items():
                    begin = time.perf_counter()
                    answers.add(str(run(query.format(table)).fetchall()))
                    seconds[name, way].append(time.perf_counter() - begin)
                assert len(answers) == 1, (name, answers)
        head = ["way", "MB", "load s", *(f"{name} ms" for name, _ in QUERIES)]
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        for way in WAYS:
            cells = [way, f"{size[way] / 1e6:.0f}", f"{min(load[way]):.1f}"]
            cells += [f"{statistics.median(seconds[name, way]) * 1000:.0f}" for name, _ in QUERIES]
            print("| " + " | ".join(cells) + " |")
    shutil.rmtree(lake, ignore_errors=True)


main()
