"""Times a pipeline that loads a file into a committed Delta table, beside the tool that only converts it.

    python3 benches/csv_to_delta/load.py --boathouse target/release/boathouse [--scale 1.35] [--rounds 5] [--only csv]

CSV: TPC-H lineitem (by tpchgen-cli), against DuckDB reading it and writing Parquet with the same codec.
XLSX: 1,000,000 rows x 12 columns (by XlsxWriter), against fastexcel reading it to Arrow. The peers come
from PyPI into a virtual environment under ~/.cache/boathouse/benches, which holds the data too.

Each round starts a server on an empty lake and times `RUN PIPELINE` from a psql that is connected
already: reading, typing, checks, writing and the commit. Both sides run in turn; the ratio is that of
the medians. Memory is the largest resident size of the server or its largest child.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import decode

PORT = 5471


class Server:
    def __init__(self, binary: pathlib.Path, lake: str):
        environment = dict(os.environ, BOATHOUSE_PASSWORD="bench", PGPASSWORD="bench")
        self.environment = environment
        self.process = subprocess.Popen(
            [binary, "serve", "--lake", lake, "--listen", f"127.0.0.1:{PORT}", "--http", f"127.0.0.1:{PORT + 1}"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if subprocess.run(["pg_isready", "-q", "-h", "127.0.0.1", "-p", str(PORT)]).returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit("the server did not start")

    def sql(self, text: str) -> str:
        command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(PORT), "-U", "boathouse", "-d", "boathouse"]
        return subprocess.run(command, input=text, env=self.environment, check=True, capture_output=True, text=True).stdout

    def peak_mebibytes(self) -> int:
        """Of the server; its children are counted by the watcher of [`load`]."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) >> 10

    def child_mebibytes(self) -> int:
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                for child in (task / "children").read_text().split():
                    status = pathlib.Path(f"/proc/{child}/status").read_text()
                    total = max(total, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) >> 10)
            except (OSError, TypeError):
                continue
        return total

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def load(binary: pathlib.Path, source: pathlib.Path, format_name: str, rows: int | None) -> tuple[float, int]:
    with tempfile.TemporaryDirectory(dir=decode.HOME) as lake:
        server = Server(binary, lake)
        try:
            server.sql(
                f"CREATE CONNECTION inbox TO LOCAL WITH (path = '{source.parent}');"
                f"CREATE PIPELINE load FROM FILES inbox '{source.name}' FORMAT {format_name} INTO loaded WITH (settle = '0 s')")
            worker = subprocess.Popen(
                ["psql", "-XAtq", "-h", "127.0.0.1", "-p", str(PORT), "-U", "boathouse", "-d", "boathouse",
                 "-c", "RUN PIPELINE load"], env=server.environment, stdout=subprocess.PIPE, text=True)
            start, child = time.perf_counter(), 0
            while worker.poll() is None:
                time.sleep(0.02)
                child = max(child, server.child_mebibytes())
            seconds = time.perf_counter() - start
            assert worker.returncode == 0
            loaded = int(server.sql("SELECT count(*) FROM loaded"))
            if not loaded or loaded != (rows or loaded):
                raise SystemExit(f"{loaded} rows of {rows}: {worker.stdout.read()}" + server.sql("SELECT * FROM system.pipeline_errors"))
            return seconds, max(server.peak_mebibytes(), child)
        finally:
            server.stop()


def compare(name: str, peer: str, ours, theirs: list, rounds: int) -> None:
    mine, other = [], []
    for turn in range(rounds):
        for side in ([0, 1] if turn % 2 else [1, 0]):
            if side:
                mine.append(ours())
            else:
                other.append(decode.timed(theirs))
    my_seconds, other_seconds = (statistics.median(s for s, _ in side) for side in (mine, other))
    print(f"{name}: boathouse {my_seconds:.2f} s ({max(m for _, m in mine)} MiB), "
          f"{peer} {other_seconds:.2f} s ({max(m for _, m in other)} MiB), ratio {my_seconds / other_seconds:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--scale", type=float, default=1.35, help="TPC-H scale: 1.35 is one gigabyte, 13.5 ten")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the workbook")
    parser.add_argument("--only", choices=["csv", "excel"])
    arguments = parser.parse_args()
    decode.HOME.mkdir(parents=True, exist_ok=True)
    python = decode.environment()
    output = decode.HOME / "out.parquet"
    binary = arguments.boathouse.resolve()
    if arguments.only != "excel":
        source = decode.lineitem(python, arguments.scale)
        compare(f"CSV of {source.stat().st_size / 1e9:.2f} GB", "DuckDB",
                lambda: load(binary, source, "CSV", None), [python, "-c", decode.DUCKDB, source, output], arguments.rounds)
        output.unlink(missing_ok=True)
    if arguments.only != "csv":
        source = decode.workbook(arguments.rows)
        compare(f"XLSX of {arguments.rows} x 12", "fastexcel",
                lambda: load(binary, source, "EXCEL", arguments.rows), [python, "-c", decode.FASTEXCEL, source], arguments.rounds)


if __name__ == "__main__":
    main()
