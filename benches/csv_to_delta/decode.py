"""Times decoding a file and writing Parquet beside DuckDB (CSV) and fastexcel (XLSX).

    python3 decode.py --decode target/release/examples/decode [--scale 1] [--rounds 5] [--excel]

Makes a virtual environment and its data (TPC-H lineitem by tpchgen-cli; a workbook by XlsxWriter)
under ~/.cache/boathouse/benches. Both sides run in turn, so that whatever else the machine does
falls on both; the ratio is that of the medians. Peak memory is each side's largest resident size,
child processes included one by one.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import venv

HOME = pathlib.Path.home() / ".cache/boathouse/benches"
PACKAGES = ["duckdb==1.5.5", "fastexcel==0.21.0", "pyarrow", "tpchgen-cli==4.0.0", "XlsxWriter"]

DUCKDB = """
import duckdb, sys
duckdb.sql("SET threads = 2")
duckdb.sql(f"COPY (FROM read_csv('{sys.argv[1]}')) TO '{sys.argv[2]}' (FORMAT parquet, CODEC 'zstd', COMPRESSION_LEVEL 1)")
"""
FASTEXCEL = """
import fastexcel, sys
batch = fastexcel.read_excel(sys.argv[1]).load_sheet(0).to_arrow()
assert batch.num_rows, "nothing read"
"""


def environment() -> pathlib.Path:
    folder = HOME / "venv"
    python = folder / "bin/python"
    if not (HOME / "venv.ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (HOME / "venv.ready").touch()
    return python


def lineitem(python: pathlib.Path, scale: float) -> pathlib.Path:
    folder = HOME / f"lineitem-{scale:g}"
    if not folder.exists():
        part = HOME / f"{folder.name}.part"
        command = [python.parent / "tpchgen-cli", "csv", "--overwrite", "-s", f"{scale:g}"]
        subprocess.run([*command, "--tables", "lineitem", "--output-dir", part], check=True)
        part.rename(folder)
    return next(folder.rglob("*.csv"))


def workbook(rows: int) -> pathlib.Path:
    """Twelve columns: numbers, texts that repeat and texts that do not, dates, booleans."""
    path = HOME / f"rows-{rows}.xlsx"
    if not path.exists():
        code = f"""
import datetime, random, xlsxwriter
random.seed(1)
book = xlsxwriter.Workbook({str(path) + '.part'!r}, {{"constant_memory": False}})
sheet = book.add_worksheet("data")
day = book.add_format({{"num_format": "yyyy-mm-dd"}})
sheet.write_row(0, 0, [f"c{{i}}" for i in range(12)])
start = datetime.date(2020, 1, 1)
for row in range(1, {rows} + 1):
    sheet.write_row(row, 0, [row, random.randrange(10**6), random.random() * 1000, round(random.random(), 2)])
    sheet.write_row(row, 4, [f"item {{row}}", random.choice(["red", "green", "blue"]), f"M{{row % 500:04d}}"])
    sheet.write_datetime(row, 7, start + datetime.timedelta(days=row % 1500), day)
    sheet.write_row(row, 8, [row % 2 == 0, random.randrange(100), f"note {{row % 1000}}", row * 1.5])
book.close()
"""
        subprocess.run([environment(), "-c", code], check=True)
        os.rename(f"{path}.part", path)
    return path


def timed(command: list) -> tuple[float, int]:
    """Seconds, and the peak resident size in MiB of the process or its largest child."""
    code = (
        "import resource, subprocess, sys, time\n"
        "start = time.perf_counter()\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", code, *map(str, command)]
    seconds, mebibytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(mebibytes)


def compare(name: str, peer: str, ours: list, theirs: list, rounds: int) -> None:
    results: dict[str, list] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        results["ours"].append(timed(ours))
        results["theirs"].append(timed(theirs))
    ours_seconds = statistics.median(seconds for seconds, _ in results["ours"])
    their_seconds = statistics.median(seconds for seconds, _ in results["theirs"])
    ours_peak = max(peak for _, peak in results["ours"])
    their_peak = max(peak for _, peak in results["theirs"])
    print(f"{name}: boathouse {ours_seconds:.2f} s ({ours_peak} MiB), "
          f"{peer} {their_seconds:.2f} s ({their_peak} MiB), ratio {ours_seconds / their_seconds:.2f}",
          flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decode", type=pathlib.Path, required=True, help="the built example decode")
    parser.add_argument("--scale", type=float, default=1.35, help="TPC-H scale: 1.35 is one gigabyte")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the workbook")
    parser.add_argument("--only", choices=["csv", "excel"])
    arguments = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    python = environment()
    output = HOME / "out.parquet"
    if arguments.only != "excel":
        source = lineitem(python, arguments.scale)
        compare(f"CSV {source.stat().st_size / 1e9:.2f} GB to Parquet zstd", "DuckDB",
                [arguments.decode, "CSV", source, output],
                [python, "-c", DUCKDB, source, output], arguments.rounds)
    if arguments.only != "csv":
        source = workbook(arguments.rows)
        compare(f"XLSX {arguments.rows} x 12 to Arrow", "fastexcel",
                [arguments.decode, "EXCEL", source, "-"],
                [python, "-c", FASTEXCEL, source], arguments.rounds)


if __name__ == "__main__":
    main()
