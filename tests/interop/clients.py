"""Fetches values of every type through psycopg (text and binary), ADBC and ConnectorX; prints nothing when all agree."""

import datetime
import decimal
import sys
import uuid

import adbc_driver_postgresql.dbapi as adbc
import connectorx
import psycopg

URL = sys.argv[1]
UTC = datetime.timezone.utc
EXPECTED = {
    "flag": True,
    "small": -7,
    "whole": 2147483647,
    "large": 9007199254740993,
    "exact": decimal.Decimal("12345.6700"),
    "ratio": 2.5,
    "note": "naïve 'text'",
    "raw": b"\x00\xff",
    "day": datetime.date(2024, 2, 29),
    "clock": datetime.time(23, 59, 59, 999999),
    "plain": datetime.datetime(2024, 2, 29, 1, 2, 3, 456789),
    "moment": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC),
    "key": uuid.UUID("00000000-0000-0000-0000-00000000002a"),
    "document": {"a": [1, None]},
    "list": [1, None, 3],
    "missing": None,
}


def same(client, name, found, expected):
    assert found == expected, f"{client}: column {name} is {found!r}, expected {expected!r}"


def main():
    with psycopg.connect(URL, autocommit=True) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        connection.execute(
            """CREATE TABLE typed (flag boolean, small smallint, whole integer, large bigint, exact numeric(12,4),
               ratio double precision, note text, raw bytea, day date, clock time, plain timestamp, moment timestamptz,
               key uuid, document jsonb, list integer[], missing text)"""
        )
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO typed VALUES ({', '.join(['%s'] * len(EXPECTED))})",
                [psycopg.types.json.Jsonb(v) if n == "document" else v for n, v in EXPECTED.items()],
            )
        for binary in (False, True):
            row = connection.cursor(binary=binary).execute("SELECT * FROM typed").fetchone()
            for (name, expected), found in zip(EXPECTED.items(), row, strict=True):
                same(f"psycopg binary={binary}", name, found, expected)
        with connection.cursor() as cursor, cursor.copy("COPY typed TO STDOUT (FORMAT binary)") as copy:
            copy.set_types("bool int2 int4 int8 numeric float8 text bytea date time timestamp timestamptz uuid jsonb int4[] text".split())
            (row,) = list(copy.rows())
            for (name, expected), found in zip(EXPECTED.items(), row, strict=True):
                same("psycopg COPY", name, found, expected)
    with adbc.connect(URL) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM typed")
        (row,) = cursor.fetch_arrow_table().to_pylist()
        # ADBC gives numeric and jsonb as text.
        for name, expected in EXPECTED.items():
            found = row[name]
            if name in ("exact", "document"):
                found, expected = str(found).replace(" ", ""), '{"a":[1,null]}' if name == "document" else str(expected)
            same("ADBC", name, found, expected)
        cursor.execute("SELECT count(*), sum(g) FROM generate_series(1, 100000) AS g")
        same("ADBC", "sum", cursor.fetchone(), (100000, 5000050000))
    table = connectorx.read_sql(
        URL, "SELECT flag, whole, large, ratio, note, day FROM typed", return_type="arrow", protocol="binary"
    )
    for name, found in table.to_pylist()[0].items():
        same("ConnectorX", name, found, EXPECTED[name])


main()
