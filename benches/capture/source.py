"""The MySQL that is captured: a server of its own, its rows, its changes, and the fastest way to read either.

Rows are computed by the server from their key, so that nothing is sent to it. Changes are statements of many
rows, since it is the rows that the binlog has; each transaction has about a thousand.
"""

import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests/services/mysql.sh"
SERVICES = pathlib.Path(os.environ.get("BOATHOUSE_TEST_HOME", pathlib.Path.home() / ".cache/boathouse/services"))
FILES = SERVICES / "mysql/root"
USER, PASSWORD = "boathouse", "boathouse"

# One copy of ten million rows fits in memory, so that neither side waits for the disk.
OPTIONS = ["--innodb-buffer-pool-size=3G", "--innodb-redo-log-capacity=2G", "--innodb-doublewrite=OFF",
           "--max-binlog-size=1G", "--binlog-expire-logs-seconds=0", "--performance-schema=OFF",
           "--skip-name-resolve"]

# Name, type and how it follows from the key {g}: 18 columns, about 170 bytes a row.
COLUMNS = [
    ("id", "bigint NOT NULL PRIMARY KEY", "{g}"),
    ("customer", "int NOT NULL", "{g} * 7919 % 1000003"),
    ("product", "int unsigned NOT NULL", "{g} * 104729 % 50021"),
    ("quantity", "smallint NOT NULL", "1 + {g} % 50"),
    ("state", "tinyint NOT NULL", "{g} % 7"),
    ("weight", "double", "{g} * 31 % 10007 / 8"),
    ("price", "decimal(12,2) NOT NULL", "{g} * 37 % 1000000 / 100"),
    ("tax", "decimal(6,4) NOT NULL", "{g} % 25 / 100"),
    ("total", "decimal(18,4) NOT NULL", "{g} * 7907 % 100000000 / 1000"),
    ("ordered", "date NOT NULL", "DATE '2020-01-01' + INTERVAL {g} % 2000 DAY"),
    ("shipped", "date", "IF({g} % 10 = 0, NULL, DATE '2020-01-03' + INTERVAL {g} % 2000 DAY)"),
    ("created", "datetime NOT NULL", "TIMESTAMP '2020-01-01 00:00:00' + INTERVAL {g} * 11 % 170000000 SECOND"),
    ("changed", "datetime(6) NOT NULL", "TIMESTAMP '2020-01-01 00:00:00' + INTERVAL {g} * 1000003 % 170000000000000 MICROSECOND"),
    ("code", "varchar(20) NOT NULL", "CONCAT('SKU-', LPAD(HEX({g} * 2654435761 % 4294967291), 8, '0'))"),
    ("name", "varchar(80)", "CONCAT(ELT(1 + {g} % 8, 'Anna', 'Björn', 'Chloé', 'Dieter', 'Łucja', 'Zoë', '陈伟', 'María'), ' ', "
                            "ELT(1 + {g} % 9, 'Müller', 'Smith', 'Nguyễn', 'García', 'Kowalska', 'Rossi', 'Ivanov', 'Öztürk', 'Lee'), ' ', {g} % 100003)"),
    ("city", "varchar(40)", "ELT(1 + {g} % 11, 'Zürich', 'London', 'São Paulo', 'Kraków', 'Lima', 'Oslo', '東京', 'Nairobi', 'Quito', 'Perth', 'Göteborg')"),
    ("email", "varchar(60)", "CONCAT('user', {g} * 7919 % 1000003, '@example.com')"),
    ("note", "text", "CONCAT('order ', {g}, ': ', ELT(1 + {g} % 5, 'leave it with the neighbour', 'ring twice', "
                     "'gift wrap, no invoice in the parcel', 'fragile', 'deliver after six in the evening'))"),
]
SEQUENCE = 100_000


class Source:
    """A server that is started and thrown away, or one that runs already at `port`."""

    def __init__(self, port: int | None, free_port):
        self.process = None
        self.port = port or free_port()
        if port:
            return
        if not (FILES / "usr/sbin/mysqld").exists():
            subprocess.run(["bash", SCRIPT], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["bash", SCRIPT, "stop"], check=True)
        self.name = f"bench-{self.port}"
        # The script ends by becoming the server, so that the process is the server's.
        self.process = subprocess.Popen(["bash", SCRIPT, "run", self.name, str(self.port), *OPTIONS],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connect(self, **options):
        import pymysql

        for _ in range(600):
            try:
                return pymysql.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD,
                                       autocommit=True, **options)
            except pymysql.err.OperationalError:
                if self.process and self.process.poll() is not None:
                    break
                time.sleep(0.2)
        sys.exit("the source did not start")

    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def run(self, *statements: str) -> list[tuple]:
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()
            shutil.rmtree(FILES / "data" / self.name, ignore_errors=True)

    def fill(self, rows: int) -> int:
        """Makes `bench.t` unless it has that many rows. Gives how many it has."""
        self.run("CREATE DATABASE IF NOT EXISTS bench", "CREATE DATABASE IF NOT EXISTS tools",
                 "CREATE TABLE IF NOT EXISTS tools.sequence (n int PRIMARY KEY)",
                 "CREATE TABLE IF NOT EXISTS bench.prime (id int PRIMARY KEY AUTO_INCREMENT)")
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            cursor.execute("SET cte_max_recursion_depth = 1000000")
            cursor.execute("INSERT IGNORE INTO tools.sequence WITH RECURSIVE s(n) AS "
                           f"(SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {SEQUENCE}) SELECT n FROM s")
            columns = ", ".join(f"{name} {kind}" for name, kind, _ in COLUMNS)
            cursor.execute(f"CREATE TABLE IF NOT EXISTS bench.t ({columns}) DEFAULT CHARSET utf8mb4")
            cursor.execute("SELECT count(*) FROM bench.t")
            ((count,),) = cursor.fetchall()
            for begin in range(0, rows if count < rows * 0.9 else 0, SEQUENCE):
                cursor.execute(insert(begin, min(SEQUENCE, rows - begin)))
            # Also tells the estimates by which chunks are cut.
            cursor.execute("ANALYZE TABLE bench.t")
            cursor.execute("SELECT count(*) FROM bench.t")
            return cursor.fetchall()[0][0]

    def sums(self) -> tuple:
        return self.run("SELECT count(*), sum(id), sum(quantity), sum(price) FROM bench.t")[0]

    def place(self) -> tuple[str, int]:
        """Where the binlog is written at."""
        return self.run("SHOW BINARY LOG STATUS")[0][:2]

    def binlog_bytes(self, begin: tuple[str, int]) -> int:
        files = [(name, size) for name, size, *_ in self.run("SHOW BINARY LOGS") if name >= begin[0]]
        return sum(size for _, size in files) - begin[1]

    def change(self, changes: int, inserts_only: bool) -> int:
        """Writes changes of rows: 60 % updates and 10 % deletes of random keys, 30 % inserts. Gives how many."""
        ((last,),) = self.run("SELECT max(id) FROM bench.t")
        draw = random.Random(last)
        first_keys, written = last, 0
        connection = self.connect()
        connection.autocommit(False)
        with connection, connection.cursor() as cursor:
            while written < changes:
                if inserts_only:
                    new = min(1_000, changes - written)
                else:
                    new = 300
                    keys = draw.sample(range(1, first_keys + 1), 700)
                    written += cursor.execute(
                        "UPDATE bench.t SET quantity = quantity % 50 + 1, state = (state + 1) % 7, total = total + 0.5, "
                        f"changed = changed + INTERVAL 1 SECOND WHERE id IN ({','.join(map(str, keys[:600]))})")
                    written += cursor.execute(f"DELETE FROM bench.t WHERE id IN ({','.join(map(str, keys[600:]))})")
                written += cursor.execute(insert(last, new))
                last += new
                connection.commit()
        return written

    def plain_select(self) -> tuple[float, int]:
        """Reads the whole table over one connection and looks at nothing. Gives the seconds and the bytes."""
        import pymysql

        connection = self.connect()
        with connection:
            begin = time.perf_counter()
            connection._execute_command(pymysql.constants.COMMAND.COM_QUERY, "SELECT * FROM bench.t")
            end, read = drain(connection)
            return end - begin, read

    def raw_binlog(self, begin: tuple[str, int]) -> tuple[float, int]:
        """Reads the binlog from a place to its end, as a replica that looks at nothing."""
        import pymysql

        connection = self.connect()
        with connection:
            with connection.cursor() as cursor:
                cursor.execute("SET @source_binlog_checksum = @@GLOBAL.binlog_checksum")
            file, offset = begin
            # Not to wait for more at the end is flag 1.
            request = struct.pack("<IHI", offset, 1, 4_000_000_001) + file.encode()
            start = time.perf_counter()
            connection._execute_command(pymysql.constants.COMMAND.COM_BINLOG_DUMP, request)
            end, read = drain(connection)
            return end - start, read


def insert(begin: int, rows: int) -> str:
    values = ", ".join(value.replace("{g}", f"(n + {begin})") for _, _, value in COLUMNS)
    return f"INSERT INTO bench.t SELECT {values} FROM tools.sequence WHERE n <= {rows} ORDER BY n"


def drain(connection) -> tuple[float, int]:
    """Reads an answer to its last packet, which is the only one that is looked at. Gives when that came, and the bytes."""
    socket, buffer = connection._sock, bytearray(1 << 20)
    view, total, tail = memoryview(buffer), 0, b""
    while True:
        read = socket.recv_into(buffer)
        if read == 0:
            sys.exit("the source closed the connection")
        total += read
        tail = (tail + bytes(view[max(0, read - 9):read]))[-9:]
        # Of five bytes, the first of them 0xfe. An error is looked for where it would be alone.
        if tail[:3] == b"\x05\0\0" and tail[4] == 0xFE:
            end = time.perf_counter()
            # Nothing may follow, but that a server closes the connection behind the end of a binlog.
            socket.settimeout(0.2)
            try:
                more = socket.recv_into(buffer)
            except TimeoutError:
                more = 0
            socket.settimeout(None)
            if more == 0:
                return end, total
            total += more
        elif total == read and len(view[:read]) > 5 and buffer[4] == 0xFF:
            sys.exit(f"the source answered {bytes(view[7:read])}")
