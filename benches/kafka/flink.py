"""Flink as a peer: reads a topic to where it ends now, into Parquet files.

    python flink.py JARS BROKERS TOPIC FOLDER PARALLELISM "column type, ..." FORMAT

Prints the seconds that the job took, without the start of the Java machine.
"""

import pathlib
import sys

from pyflink.table import EnvironmentSettings, TableEnvironment

jars, brokers, topic, folder, parallelism, columns, form = sys.argv[1:]
environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
settings = {
    "pipeline.jars": ";".join(f"file://{jar}" for jar in sorted(pathlib.Path(jars).glob("*.jar"))),
    "parallelism.default": parallelism,
    "execution.checkpointing.interval": "10 s",
    "pipeline.object-reuse": "true",
    # What fails is to be seen, and not tried for ever.
    "restart-strategy.type": "none",
    "taskmanager.memory.network.max": "256 mb",
}
for key, value in settings.items():
    environment.get_config().set(key, value)
environment.execute_sql(f"""CREATE TABLE events ({columns}) WITH ('connector' = 'kafka', 'topic' = '{topic}',
    'properties.bootstrap.servers' = '{brokers}', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset',
    'format' = '{form}')""")
environment.execute_sql(f"""CREATE TABLE files ({columns}) WITH ('connector' = 'filesystem', 'path' = 'file://{folder}',
    'format' = 'parquet', 'parquet.compression' = 'SNAPPY')""")
client = environment.execute_sql("INSERT INTO files SELECT * FROM events").get_job_client()
print(client.get_job_execution_result().result().get_net_runtime() / 1000)
