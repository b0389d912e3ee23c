"""ClickBench's 43 queries on a generated table of its shape, beside DuckDB on the same Parquet files.

    python3 benches/clickbench/run.py --boathouse target/release/boathouse [--rows 10000000] [--rounds 3]
        [--memory 4GiB] [--only q24,q34]

The table is made by numpy and pyarrow (hits.py) and loaded by INSERT ... SELECT from read_parquet, once;
both stay under ~/.cache/boathouse/benches. DuckDB (PyPI) reads the very files that the table consists of.
Seconds are the best of three rounds. The first run installs the peers by pip.

Ten rows of an ORDER BY with ties may be any of the tied: where two answers differ, the columns named
beside the query must still be alike.
"""

import argparse
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tpch"))
import beside  # noqa: E402

MONTH = "CounterID = 62 AND EventDate >= DATE '2013-07-01' AND EventDate <= DATE '2013-07-31'"
SUMS = ", ".join(f"sum(ResolutionWidth + {n})" for n in range(90))
TOP = "ORDER BY c DESC LIMIT 10"
SOURCE = "CASE WHEN SearchEngineID = 0 AND AdvEngineID = 0 THEN Referer ELSE '' END"
HOST = r"regexp_replace(Referer, '^https?://(?:www\.)?([^/]+)/.*$', '\1')"
IP_COUNTS = "count(*) AS c, sum(IsRefresh), avg(ResolutionWidth) FROM hits"

# Each query, and what to compare of answers that differ by ties: None is everything.
QUERIES = [
    ("SELECT count(*) FROM hits", None),
    ("SELECT count(*) FROM hits WHERE AdvEngineID <> 0", None),
    ("SELECT sum(AdvEngineID), count(*), avg(ResolutionWidth) FROM hits", None),
    ("SELECT avg(UserID) FROM hits", None),
    ("SELECT count(DISTINCT UserID) FROM hits", None),
    ("SELECT count(DISTINCT SearchPhrase) FROM hits", None),
    ("SELECT min(EventDate), max(EventDate) FROM hits", None),
    ("SELECT AdvEngineID, count(*) FROM hits WHERE AdvEngineID <> 0 GROUP BY AdvEngineID ORDER BY count(*) DESC", None),
    (f"SELECT RegionID, count(DISTINCT UserID) AS c FROM hits GROUP BY RegionID {TOP}", [1]),
    (f"SELECT RegionID, sum(AdvEngineID), count(*) AS c, avg(ResolutionWidth), count(DISTINCT UserID) FROM hits GROUP BY RegionID {TOP}", [2]),
    (f"SELECT MobilePhoneModel, count(DISTINCT UserID) AS c FROM hits WHERE MobilePhoneModel <> '' GROUP BY MobilePhoneModel {TOP}", [1]),
    (f"SELECT MobilePhone, MobilePhoneModel, count(DISTINCT UserID) AS c FROM hits WHERE MobilePhoneModel <> '' GROUP BY MobilePhone, MobilePhoneModel {TOP}", [2]),
    (f"SELECT SearchPhrase, count(*) AS c FROM hits WHERE SearchPhrase <> '' GROUP BY SearchPhrase {TOP}", [1]),
    (f"SELECT SearchPhrase, count(DISTINCT UserID) AS c FROM hits WHERE SearchPhrase <> '' GROUP BY SearchPhrase {TOP}", [1]),
    (f"SELECT SearchEngineID, SearchPhrase, count(*) AS c FROM hits WHERE SearchPhrase <> '' GROUP BY SearchEngineID, SearchPhrase {TOP}", [2]),
    (f"SELECT UserID, count(*) AS c FROM hits GROUP BY UserID {TOP}", [1]),
    (f"SELECT UserID, SearchPhrase, count(*) AS c FROM hits GROUP BY UserID, SearchPhrase {TOP}", [2]),
    ("SELECT UserID, SearchPhrase, count(*) FROM hits GROUP BY UserID, SearchPhrase LIMIT 10", []),
    (f"SELECT UserID, extract(minute FROM EventTime) AS m, SearchPhrase, count(*) AS c FROM hits GROUP BY UserID, m, SearchPhrase {TOP}", [3]),
    ("SELECT UserID FROM hits WHERE UserID = 435090932899640449", None),
    ("SELECT count(*) FROM hits WHERE URL LIKE '%google%'", None),
    (f"SELECT SearchPhrase, min(URL), count(*) AS c FROM hits WHERE URL LIKE '%google%' AND SearchPhrase <> '' GROUP BY SearchPhrase {TOP}", [2]),
    (f"SELECT SearchPhrase, min(URL), min(Title), count(*) AS c, count(DISTINCT UserID) FROM hits WHERE Title LIKE '%Google%' AND URL NOT LIKE '%.google.%' AND SearchPhrase <> '' GROUP BY SearchPhrase {TOP}", [3]),
    ("SELECT * FROM hits WHERE URL LIKE '%google%' ORDER BY EventTime LIMIT 10", [4]),
    ("SELECT SearchPhrase FROM hits WHERE SearchPhrase <> '' ORDER BY EventTime LIMIT 10", []),
    ("SELECT SearchPhrase FROM hits WHERE SearchPhrase <> '' ORDER BY SearchPhrase COLLATE \"C\" LIMIT 10", None),
    ("SELECT SearchPhrase FROM hits WHERE SearchPhrase <> '' ORDER BY EventTime, SearchPhrase COLLATE \"C\" LIMIT 10", None),
    ("SELECT CounterID, avg(length(URL)) AS l, count(*) AS c FROM hits WHERE URL <> '' GROUP BY CounterID HAVING count(*) > 100000 ORDER BY l DESC LIMIT 25", None),
    (f"SELECT {HOST} AS k, avg(length(Referer)) AS l, count(*) AS c, min(Referer) FROM hits WHERE Referer <> '' GROUP BY k HAVING count(*) > 100000 ORDER BY l DESC LIMIT 25", None),
    (f"SELECT {SUMS} FROM hits", None),
    (f"SELECT SearchEngineID, ClientIP, {IP_COUNTS} WHERE SearchPhrase <> '' GROUP BY SearchEngineID, ClientIP {TOP}", [2]),
    (f"SELECT WatchID, ClientIP, {IP_COUNTS} WHERE SearchPhrase <> '' GROUP BY WatchID, ClientIP {TOP}", [2]),
    (f"SELECT WatchID, ClientIP, {IP_COUNTS} GROUP BY WatchID, ClientIP {TOP}", [2]),
    (f"SELECT URL, count(*) AS c FROM hits GROUP BY URL {TOP}", [1]),
    (f"SELECT 1, URL, count(*) AS c FROM hits GROUP BY 1, URL {TOP}", [2]),
    (f"SELECT ClientIP, ClientIP - 1, ClientIP - 2, ClientIP - 3, count(*) AS c FROM hits GROUP BY ClientIP, ClientIP - 1, ClientIP - 2, ClientIP - 3 {TOP}", [4]),
    (f"SELECT URL, count(*) AS c FROM hits WHERE {MONTH} AND DontCountHits = 0 AND IsRefresh = 0 AND URL <> '' GROUP BY URL {TOP}", [1]),
    (f"SELECT Title, count(*) AS c FROM hits WHERE {MONTH} AND DontCountHits = 0 AND IsRefresh = 0 AND Title <> '' GROUP BY Title {TOP}", [1]),
    (f"SELECT URL, count(*) AS c FROM hits WHERE {MONTH} AND IsRefresh = 0 AND IsLink <> 0 AND IsDownload = 0 GROUP BY URL {TOP} OFFSET 1000", [1]),
    (f"SELECT TraficSourceID, SearchEngineID, AdvEngineID, {SOURCE} AS src, URL AS dst, count(*) AS c FROM hits WHERE {MONTH} AND IsRefresh = 0 GROUP BY TraficSourceID, SearchEngineID, AdvEngineID, src, dst {TOP} OFFSET 1000", [5]),
    (f"SELECT URLHash, EventDate, count(*) AS c FROM hits WHERE {MONTH} AND IsRefresh = 0 AND TraficSourceID IN (-1, 6) AND RefererHash = 3594120000172545465 GROUP BY URLHash, EventDate {TOP} OFFSET 100", [2]),
    (f"SELECT WindowClientWidth, WindowClientHeight, count(*) AS c FROM hits WHERE {MONTH} AND IsRefresh = 0 AND DontCountHits = 0 AND URLHash = 2868770270353813622 GROUP BY WindowClientWidth, WindowClientHeight {TOP} OFFSET 10", [2]),
    ("SELECT date_trunc('minute', EventTime) AS m, count(*) AS c FROM hits WHERE CounterID = 62 AND EventDate >= DATE '2013-07-14' AND EventDate <= DATE '2013-07-15' AND IsRefresh = 0 AND DontCountHits = 0 GROUP BY m ORDER BY m LIMIT 10 OFFSET 1000", None),
]


def load(binary: pathlib.Path, lake: pathlib.Path, rows: int) -> None:
    import hits

    source = lake.with_name("parquet")
    begin = time.perf_counter()
    hits.generate(source, rows)
    print(f"generated {rows} rows in {time.perf_counter() - begin:.1f} s")
    columns = ", ".join(f"{name} {hits.SQL[kind]} NOT NULL" for name, kind in hits.NAMED)
    with beside.Server(binary, lake) as server:
        run = server.connect().execute
        begin = time.perf_counter()
        run(f"CREATE TABLE hits ({columns})")
        run(f"INSERT INTO hits SELECT * FROM read_parquet('{source}/*.parquet')")
        print(f"loaded in {time.perf_counter() - begin:.1f} s, {len(server.files('hits'))} files, "
              f"peak memory of the server {server.peak_mebibytes()} MiB")
    shutil.rmtree(source)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", metavar="SIZE")
    parser.add_argument("--only", metavar="QUERIES")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else None
    queries = [(f"q{number}", *query) for number, query in enumerate(QUERIES, 1) if not wanted or f"q{number}" in wanted]
    texts = [(name, text) for name, text, _ in queries]
    lake = beside.HOME / f"hits-{arguments.rows}" / "lake"
    binary = arguments.boathouse.resolve()
    if not lake.exists():
        load(binary, lake.with_name("lake.part"), arguments.rows)
        lake.with_name("lake.part").rename(lake)
    with beside.Server(binary, lake, arguments.memory) as server:
        sides = [beside.Boathouse(server), beside.DuckDb("duckdb", {"hits": beside.list_of(server.files("hits"))})]
        seconds, answers = beside.race(sides, texts, arguments.rounds)
        good = beside.report(sides, texts, seconds, answers, min, {name: columns for name, _, columns in queries})
        print(f"peak memory of the server: {server.peak_mebibytes()} MiB")
    sys.exit(not good)


if __name__ == "__main__":
    beside.in_environment()
    main()
