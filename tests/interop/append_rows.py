"""Appends rows to a Delta table with Python deltalake, one commit each: append_rows.py table first count."""

import sys

import deltalake
import pyarrow as pa

table, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    rows = pa.table({"k": pa.array([number], pa.int32()), "n": pa.array([1], pa.int64())})
    deltalake.write_deltalake(table, rows, mode="append")
