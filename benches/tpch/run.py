"""TPC-H's 22 queries through the PostgreSQL port, beside plain DataFusion and DuckDB on the same files.

    python3 benches/tpch/run.py --boathouse target/release/boathouse [--scale 1] [--rounds 3]
        [--deleted 5] [--memory 4GiB] [--only q5,q18]

The data is made by tpchgen-cli and loaded by INSERT ... SELECT from read_parquet, once; the lake stays
under ~/.cache/boathouse/benches. DataFusion (PyPI) reads the very Parquet files that the tables consist
of, DuckDB (PyPI, its delta extension too) the tables by delta_scan. `--deleted 5` deletes 5 % of
lineitem and orders by DELETE in a copy of the lake, so that the tables have deletion vectors, and
compares that with the tables as they were and with DuckDB on the same tables. `--memory` limits the
server; all 22 answers are still asked for. The first run installs the peers by pip.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time

import beside

TABLES = ["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"]
TYPES = {"int64": "bigint", "int32": "integer", "date32[day]": "date", "string_view": "text", "string": "text"}


def generate(home: pathlib.Path, scale: float) -> pathlib.Path:
    folder = home / "parquet"
    if not folder.exists():
        command = [beside.HOME / "venv/bin/tpchgen-cli", "parquet", "--overwrite", "-s", f"{scale:g}"]
        subprocess.run([*command, "-o", f"{folder}.part"], check=True)
        os.rename(f"{folder}.part", folder)
    return folder


def load(binary: pathlib.Path, lake: pathlib.Path, source: pathlib.Path) -> None:
    import pyarrow.parquet as parquet

    with beside.Server(binary, lake) as server:
        run = server.connect().execute
        for table in TABLES:
            begin = time.perf_counter()
            columns = ", ".join(
                f"{field.name} {TYPES.get(str(field.type), 'numeric(15, 2)')} NOT NULL"
                for field in parquet.read_schema(source / f"{table}.parquet"))
            run(f"CREATE TABLE {table} ({columns})")
            run(f"INSERT INTO {table} SELECT * FROM read_parquet('{source / table}.parquet')")
            print(f"loaded {table} in {time.perf_counter() - begin:.1f} s, {len(server.files(table))} files")
        print(f"peak memory of the server when loading: {server.peak_mebibytes()} MiB")


def with_deleted(binary: pathlib.Path, lake: pathlib.Path, percent: int) -> pathlib.Path:
    """A copy of the lake, its data files by hard links, with rows deleted."""
    copy = lake.with_name(f"lake-deleted-{percent}")
    if copy.exists():
        return copy
    part = lake.with_name(f"{copy.name}.part")
    shutil.rmtree(part, ignore_errors=True)

    def link_or_copy(source, target):
        (os.link if source.endswith(".parquet") else shutil.copy2)(source, target)

    shutil.copytree(lake, part, copy_function=link_or_copy)
    with beside.Server(binary, part) as server:
        run = server.connect().execute
        for table, key in [("orders", "o_orderkey * 31"), ("lineitem", "l_orderkey * 31 + l_linenumber * 17")]:
            begin = time.perf_counter()
            deleted = run(f"DELETE FROM {table} WHERE ({key}) % 100 < {percent}").rowcount
            print(f"deleted {deleted} rows of {table} in {time.perf_counter() - begin:.1f} s")
    pathlib.Path(f"{part}.log").unlink()
    part.rename(copy)
    return copy


def queries(only: str | None) -> list[tuple[str, str]]:
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    beside.load_extension(connection, "tpch")
    texts = connection.execute("SELECT query_nr, query FROM tpch_queries()").fetchall()
    wanted = only.split(",") if only else None
    return [(f"q{number}", text) for number, text in texts if not wanted or f"q{number}" in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deleted", type=int, metavar="PERCENT")
    parser.add_argument("--memory", metavar="SIZE")
    parser.add_argument("--only", metavar="QUERIES")
    arguments = parser.parse_args()
    binary, texts = arguments.boathouse.resolve(), queries(arguments.only)
    home = beside.HOME / f"tpch-{arguments.scale:g}"
    home.mkdir(parents=True, exist_ok=True)
    lake = home / "lake"
    if not lake.exists():
        source = generate(home, arguments.scale)
        load(binary, home / "lake.part", source)
        (home / "lake.part").rename(lake)

    with beside.Server(binary, lake, arguments.memory) as server:
        if arguments.deleted:
            copy = with_deleted(binary, lake, arguments.deleted)
            with beside.Server(binary, copy, arguments.memory) as other:
                tables = {table: f"delta_scan('{other.folder(table)}')" for table in TABLES}
                sides = [beside.Boathouse(other, "deleted"), beside.DuckDb("duckdb delta_scan", tables)]
                before = beside.Boathouse(server, "before")
                seconds, answers = beside.race([*sides, before], texts, arguments.rounds)
                good = beside.report(sides, texts, seconds, answers)
                print("before the deletion:")
                for name, _ in texts:
                    answers[name, "before"] = answers[name, "deleted"]
                beside.report([sides[0], before], texts, seconds, answers)
                print(f"peak memory of the server: {other.peak_mebibytes()} MiB")
        else:
            folders = {table: beside.linked(server.files(table), home / "peer" / table) for table in TABLES}
            tables = {table: f"delta_scan('{server.folder(table)}')" for table in TABLES}
            sides = [beside.Boathouse(server), beside.DataFusion(folders), beside.DuckDb("duckdb delta_scan", tables)]
            seconds, answers = beside.race(sides, texts, arguments.rounds)
            good = beside.report(sides, texts, seconds, answers)
            print(f"peak memory of the server: {server.peak_mebibytes()} MiB")
    sys.exit(not good)


if __name__ == "__main__":
    beside.in_environment()
    main()
