"""Reads a Delta table with Python deltalake, Polars and DuckDB and prints every value, one reader after
the other, each sorted by `id`. The test compares the text: values, never counts."""

import datetime
import decimal
import importlib
import json
import pathlib
import sys

location, options = sys.argv[1], json.loads(sys.argv[2])


def plain(value):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "0x" + bytes(value).hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc).replace(tzinfo=None)
            return value.isoformat(timespec="microseconds") + "Z"
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, list):
        return "[" + ",".join(plain(item) for item in value) + "]"
    if value is None:
        return "NULL"
    return str(value)


def show(reader, names, rows):
    by_name = [dict(zip(names, row)) for row in rows]
    for row in sorted(by_name, key=lambda row: row["id"]):
        print(reader, " | ".join(f"{name}={plain(row[name])}" for name in sorted(names)))


def with_deltalake():
    import deltalake
    import pyarrow

    table = pyarrow.table(deltalake.QueryBuilder().register(
        "t", deltalake.DeltaTable(location, storage_options=options)
    ).execute("select * from t").read_all())
    show("deltalake", table.column_names, zip(*[column.to_pylist() for column in table.columns]))


def with_polars():
    import polars

    frame = polars.read_delta(location, storage_options=options or None)
    show("polars", frame.columns, [
        [value.to_list() if isinstance(value, polars.Series) else value for value in row]
        for row in frame.rows()
    ])


def with_duckdb():
    import duckdb

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    # The extensions come as Python packages; nothing is fetched.
    for extension in ["delta", "httpfs"]:
        package = importlib.import_module(f"duckdb_extension_{extension}")
        (file,) = pathlib.Path(package.__path__[0]).rglob(f"{extension}.duckdb_extension")
        connection.execute(f"load '{file}'")
    connection.execute("set timezone = 'UTC'")
    if options:
        endpoint = options["AWS_ENDPOINT_URL"].removeprefix("http://")
        connection.execute(
            f"create secret (type s3, key_id '{options['AWS_ACCESS_KEY_ID']}', "
            f"secret '{options['AWS_SECRET_ACCESS_KEY']}', region 'us-east-1', "
            f"endpoint '{endpoint}', url_style 'path', use_ssl false)"
        )
    result = connection.execute(f"select * from delta_scan('{location}')")
    show("duckdb", [column[0] for column in result.description], result.fetchall())


for read in sys.argv[3].split(","):
    {"deltalake": with_deltalake, "polars": with_polars, "duckdb": with_duckdb}[read]()
