"""Appends rows to a Delta table with Python deltalake, one commit each: append_rows.py table first count.

delta-rs refuses an append now and then that meets a commit which took rows out ("a concurrent transaction
deleted data this operation read"), though an append reads nothing. Nothing was written then; it is tried again.
"""

import sys

import deltalake
import pyarrow as pa
from deltalake.exceptions import CommitFailedError

ATTEMPTS_MAX = 20

table, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(first, first + count):
    rows = pa.table({"k": pa.array([number], pa.int32()), "n": pa.array([1], pa.int64())})
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            deltalake.write_deltalake(table, rows, mode="append")
            break
        except CommitFailedError:
            if attempt == ATTEMPTS_MAX:
                raise
