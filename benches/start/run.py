"""Times a server's start on a lake of many tables, and its memory when idle.

    python3 benches/start/run.py --boathouse target/release/boathouse [--tables 1000] [--rounds 5]

Makes the lake once, then starts the server and asks `SELECT count(*)` of one table over a new
connection, which psql makes as soon as the port answers. The time is from the start of the process to
psql's end, so it holds psql's own start too (printed beside it).
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

PORT = 5473
ENVIRONMENT = dict(os.environ, BOATHOUSE_PASSWORD="bench", PGPASSWORD="bench")
PSQL = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(PORT), "-U", "boathouse", "-d", "boathouse"]


def start(binary: pathlib.Path, lake: str) -> subprocess.Popen:
    command = [binary, "serve", "--lake", lake, "--listen", f"127.0.0.1:{PORT}", "--http", f"127.0.0.1:{PORT + 1}"]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask(sql: str) -> str:
    """Asks until the server answers."""
    for _ in range(2_000):
        answer = subprocess.run(PSQL, input=sql, env=ENVIRONMENT, capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout
        if "refused" not in answer.stderr:
            raise SystemExit(answer.stderr)
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boathouse", type=pathlib.Path, required=True)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as lake:
        server = start(arguments.boathouse, lake)
        ask("".join(
            f"CREATE TABLE t{number} (id bigint, name text, at timestamptz);"
            f"INSERT INTO t{number} VALUES ({number}, 'one', now());" for number in range(arguments.tables)))
        server.terminate()
        server.wait()
        seconds, idle, alone = [], [], []
        for turn in range(arguments.rounds):
            begin = time.perf_counter()
            server = start(arguments.boathouse, lake)
            ask(f"SELECT count(*) FROM t{turn}")
            seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            ask("SELECT 1")
            alone.append(time.perf_counter() - begin)
            time.sleep(3)
            status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
            idle.append(int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10)
            server.terminate()
            server.wait()
        print(f"{arguments.tables} tables: first answer after {statistics.median(seconds) * 1e3:.0f} ms "
              f"(psql alone {statistics.median(alone) * 1e3:.0f} ms), idle at {max(idle)} MiB")


if __name__ == "__main__":
    main()
