"""Planning a query on a table of very many files, beside DuckDB's delta extension.

    python3 benches/planning/run.py --boathouse target/release/boathouse [--files 100000]

The table is a Delta log of so many files with statistics, one commit, of which only those files exist that
the query reads. Both sides are asked the same question about one key, which is in one file; ours again and
again through the port, after the first. DuckDB reads the log anew for each statement unless it is attached.
"""

import argparse
import datetime
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402

FILE_ROWS = 100
COLUMNS = {"id": "long", "day": "date", "merchant": "integer", "amount": "double", "note": "string"}


def make(folder: pathlib.Path, files: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "_delta_log").mkdir(parents=True)
    schema = {"type": "struct", "fields": [
        {"name": name, "type": kind, "nullable": True, "metadata": {}} for name, kind in COLUMNS.items()]}
    metadata = {"id": str(uuid.uuid4()), "format": {"provider": "parquet", "options": {}}, "partitionColumns": [],
                "schemaString": json.dumps(schema), "configuration": {}, "createdTime": 0}
    kept = files // 2
    first, day = kept * FILE_ROWS, datetime.date(2024, 1, 1)
    pq.write_table(pa.table({
        "id": pa.array(range(first, first + FILE_ROWS), pa.int64()), "day": [day] * FILE_ROWS,
        "merchant": pa.array([1] * FILE_ROWS, pa.int32()), "amount": [1.5] * FILE_ROWS, "note": ["x"] * FILE_ROWS,
    }), folder / f"f{kept}.parquet")
    size = (folder / f"f{kept}.parquet").stat().st_size
    with open(folder / "_delta_log/00000000000000000000.json", "w") as log:
        print(json.dumps({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}), file=log)
        print(json.dumps({"metaData": metadata}), file=log)
        same = {"day": "2024-01-01", "merchant": 1, "amount": 1.5, "note": "x"}
        for number in range(files):
            low = number * FILE_ROWS
            stats = {"numRecords": FILE_ROWS, "minValues": {"id": low} | same,
                     "maxValues": {"id": low + FILE_ROWS - 1} | same, "nullCount": dict.fromkeys(COLUMNS, 0)}
            print(json.dumps({"add": {"path": f"f{number}.parquet", "partitionValues": {}, "size": size,
                                      "modificationTime": 0, "dataChange": True, "stats": json.dumps(stats)}}), file=log)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--boathouse", required=True, type=pathlib.Path)
    parser.add_argument("--files", type=int, default=100_000)
    arguments = parser.parse_args()
    beside.in_environment()
    lake = beside.HOME / "planning"
    shutil.rmtree(lake, ignore_errors=True)
    make(lake / "public/wide", arguments.files)
    subprocess.run([arguments.boathouse, "catalog", "rebuild", "--lake", lake], check=True, stdout=subprocess.DEVNULL)
    key = arguments.files // 2 * FILE_ROWS + 7
    query = f"SELECT amount FROM {{0}} WHERE id = {key}"
    with beside.Server(arguments.boathouse, lake) as server:
        run = server.connect().execute

        def timed(statement: str) -> float:
            begin = time.perf_counter()
            answer = run(statement).fetchall()
            assert answer, statement
            return (time.perf_counter() - begin) * 1000

        first = timed(query.format("wide"))
        plans = [timed("EXPLAIN " + query.format("wide")) for _ in range(20)]
        reads = [timed(query.format("wide")) for _ in range(20)]
        peer = beside.DuckDb("duckdb", {"wide": f"delta_scan('{lake}/public/wide')"})
        begin = time.perf_counter()
        assert peer.rows(peer.ask(query.format("wide"))) == [(1.5,)]
        theirs = (time.perf_counter() - begin) * 1000
        print(f"{arguments.files} files: first query {first:.0f} ms, planning {statistics.median(plans):.1f} ms, "
              f"query {statistics.median(reads):.1f} ms, DuckDB's {theirs:.0f} ms; "
              f"peak memory {server.peak_mebibytes()} MiB")
    shutil.rmtree(lake, ignore_errors=True)


main()
