"""What the runners of tpch, clickbench and dashboard share: a server, its peers, a race, a table.

The peers come from PyPI into the virtual environment under ~/.cache/boathouse/benches, which holds
the data too. DuckDB's Delta extension comes as a Python package, so nothing else is fetched.
"""

import importlib
import math
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time
import venv

HOME = pathlib.Path.home() / ".cache/boathouse/benches"
PACKAGES = ["datafusion==55.0.0", "deltalake==1.6.6", "duckdb==1.5.5", "duckdb-extension-delta==1.5.5",
            "duckdb-extension-tpch==1.5.5", "numpy", "psycopg[binary]", "pyarrow", "tpchgen-cli==4.0.0"]
CORES = os.cpu_count() or 1


def in_environment() -> None:
    """Goes on in the virtual environment, made if there is none."""
    python, ready = HOME / "venv/bin/python", HOME / "venv.peers.ready"
    if not ready.exists():
        if not python.exists():
            venv.create(HOME / "venv", with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        ready.touch()
    if pathlib.Path(sys.prefix) != HOME / "venv":
        os.execv(python, [python, *sys.argv])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A Boathouse on a lake of its own."""

    def __init__(self, binary: pathlib.Path, lake: pathlib.Path, memory: str | None = None):
        self.lake, self.port = lake, free_port()
        command = [binary, "serve", "--lake", lake, "--listen", f"127.0.0.1:{self.port}",
                   "--http", f"127.0.0.1:{free_port()}", "--scratch", f"{lake}-scratch"]
        if memory:
            command += ["--memory", memory]
        lake.parent.mkdir(parents=True, exist_ok=True)
        self.log = open(f"{lake}.log", "w")
        self.process = subprocess.Popen(command, env=os.environ | {"BOATHOUSE_PASSWORD": "bench"},
                                        stdout=self.log, stderr=self.log)

    def connect(self):
        import psycopg

        for _ in range(400):
            try:
                connection = psycopg.connect(
                    f"host=127.0.0.1 port={self.port} user=boathouse password=bench dbname=boathouse",
                    autocommit=True)
                connection.prepare_threshold = None
                return connection
            except psycopg.OperationalError:
                time.sleep(0.05)
        sys.exit(f"the server did not start; see {self.log.name}")

    def folder(self, table: str) -> pathlib.Path:
        return self.lake / "public" / table

    def files(self, table: str) -> list[str]:
        """The Parquet files of the table as its Delta log has them."""
        import deltalake

        return [uri.removeprefix("file://") for uri in deltalake.DeltaTable(self.folder(table)).file_uris()]

    def peak_mebibytes(self) -> int:
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) >> 10

    def forget_peak(self) -> None:
        """From now on the peak is that of what follows (proc(5), clear_refs)."""
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(f"{self.lake}-scratch", ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Boathouse:
    """Asks through the PostgreSQL port. Rows are fetched to the end but become Python later."""

    name = "boathouse"

    def __init__(self, server: Server, name: str = "boathouse"):
        self.name, self.server = name, server
        self.connection = server.connect()

    def ask(self, query: str):
        cursor = self.connection.cursor()
        cursor.execute(query)
        return cursor

    def rows(self, answer) -> list[tuple]:
        return answer.fetchall()


class DuckDb:
    """DuckDB in this process, on a view for each table: `delta_scan` of a folder, or a list of files."""

    def __init__(self, name: str, tables: dict[str, str], memory: str | None = None):
        import duckdb

        self.name = name
        self.connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        load_extension(self.connection, "delta")
        self.connection.execute(f"SET threads = {CORES}")
        if memory:
            self.connection.execute(f"SET memory_limit = '{memory}'")
        for table, source in tables.items():
            self.connection.execute(f"CREATE VIEW {table} AS SELECT * FROM {source}")

    def ask(self, query: str):
        return self.connection.execute(query).to_arrow_table()

    def rows(self, answer) -> list[tuple]:
        return rows_of(answer)


class DataFusion:
    """Plain DataFusion in this process, on files."""

    name = "datafusion"

    def __init__(self, tables: dict[str, pathlib.Path]):
        import datafusion

        self.context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(CORES))
        for table, folder in tables.items():
            self.context.register_parquet(table, str(folder))

    def ask(self, query: str):
        return self.context.sql(query).to_arrow_table()

    def rows(self, answer) -> list[tuple]:
        return rows_of(answer)


def load_extension(connection, name: str) -> None:
    package = importlib.import_module(f"duckdb_extension_{name}")
    (file,) = pathlib.Path(package.__path__[0]).rglob(f"{name}.duckdb_extension")
    connection.execute(f"LOAD '{file}'")


def rows_of(table) -> list[tuple]:
    return list(zip(*(column.to_pylist() for column in table.columns))) if table.num_columns else []


def linked(files: list[str], folder: pathlib.Path) -> pathlib.Path:
    """A folder of hard links to the files, for a reader that takes folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in files:
        os.link(file, folder / pathlib.Path(file).name)
    return folder


def list_of(files: list[str]) -> str:
    return "read_parquet([" + ", ".join(f"'{file}'" for file in files) + "])"


def race(sides: list, queries: list[tuple[str, str]], rounds: int) -> tuple[dict, dict]:
    """Asks every side every query in turn: seconds by (query, side), and the last answers or errors."""
    seconds: dict = {}
    answers: dict = {}
    for round_number in range(rounds):
        for number, (name, query) in enumerate(queries):
            turn = (round_number + number) % len(sides)
            for side in sides[turn:] + sides[:turn]:
                key = (name, side.name)
                if isinstance(answers.get(key), Exception):
                    continue
                begin = time.perf_counter()
                try:
                    answer = side.ask(query)
                    seconds.setdefault(key, []).append(time.perf_counter() - begin)
                    if round_number == 0:
                        answers[key] = side.rows(answer)
                except Exception as error:  # noqa: BLE001: each engine has its own
                    answers[key] = error
                    seconds.pop(key, None)
    return seconds, answers


def report(sides: list, queries: list, seconds: dict, answers: dict, best=statistics.median, tied=None) -> bool:
    """Prints the table and the summary; whether every answer of the first side is the others'.

    `tied` names the columns that are to be alike, by query, where not all of them need to be.
    """
    ours, *peers = [side.name for side in sides]
    header = f"{'query':>6} {ours:>12}" + "".join(f" {peer:>18} {'ratio':>6}" for peer in peers)
    print(header)
    good, ratios, sums = True, {peer: {} for peer in peers}, {peer: [0.0, 0.0] for peer in peers}
    notes = []
    for name, _ in queries:
        mine = best(seconds[name, ours]) if (name, ours) in seconds else None
        line = f"{name:>6} " + (f"{mine:12.3f}" if mine is not None else f"{'failed':>12}")
        if mine is None:
            good = False
            notes.append(f"{name}: {ours}: {answers[name, ours]}")
        for peer in peers:
            if (name, peer) not in seconds:
                line += f" {'failed':>18} {'':>6}"
                notes.append(f"{name}: {peer}: {answers[name, peer]}")
                continue
            other = best(seconds[name, peer])
            line += f" {other:18.3f} "
            if mine is None:
                line += f"{'':>6}"
                continue
            ratios[peer][name] = mine / other
            sums[peer][0] += mine
            sums[peer][1] += other
            line += f"{mine / other:6.2f}"
            difference = unlike(answers[name, ours], answers[name, peer], (tied or {}).get(name))
            if difference:
                good = False
                notes.append(f"{name}: differs from {peer}: {difference}")
        print(line, flush=True)
    for peer in peers:
        if ratios[peer]:
            of = ratios[peer]
            worst = max(of, key=of.get)
            mean = math.exp(statistics.fmean(map(math.log, of.values())))
            print(f"of {peer}'s time: geometric mean {mean:.2f}, sum {sums[peer][0] / sums[peer][1]:.2f} "
                  f"({sums[peer][0]:.2f} s to {sums[peer][1]:.2f} s), worst {of[worst]:.2f} ({worst})")
    for note in notes:
        print(note)
    print("answers: " + ("all alike" if good else "NOT all alike"))
    return good


def unlike(mine: list[tuple], other: list[tuple], columns: list[int] | None) -> str | None:
    """How two answers differ by value. Numbers may differ as far as a double or six decimals go."""
    if len(mine) != len(other):
        return f"{len(mine)} rows, not {len(other)}"
    if all(map(alike_rows, mine, other)):
        return None
    if columns is not None:
        mine, other = ([tuple(row[column] for column in columns) for row in rows] for rows in (mine, other))
    for left, right in zip(sorted(mine, key=sortable), sorted(other, key=sortable)):
        if not alike_rows(left, right):
            return f"{left} is not {right}"[:600]
    return None


def alike_rows(left: tuple, right: tuple) -> bool:
    return len(left) == len(right) and all(map(alike, left, right))


def alike(left, right) -> bool:
    if is_number(left) and is_number(right):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=2e-6)
    if hasattr(left, "utcoffset") and hasattr(right, "utcoffset"):
        return left.replace(tzinfo=None) == right.replace(tzinfo=None)
    if isinstance(left, str) and isinstance(right, str):
        return left.rstrip() == right.rstrip()
    return str(left) == str(right)


def is_number(value) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def sortable(row: tuple) -> tuple:
    return tuple(f"{float(value):.4f}" if is_number(value) else str(value).rstrip() for value in row)
