"""Events for the Kafka benchmark, made from a seed: 20 fields of about 1 KB, or 7 of about 200 bytes, as JSON, Avro or Protobuf."""

import json
import random
import string
import struct

COLUMNS = {
    1000: """id bigint, tenant bigint, user_id bigint, session varchar, event varchar, page varchar, referrer varchar, agent varchar,
        country varchar, amount double, quantity bigint, discount double, currency varchar, is_new boolean, is_paid boolean, at varchar,
        sent varchar, campaign varchar, note varchar, trace varchar""",
    200: "id bigint, user_id bigint, event varchar, amount double, is_new boolean, at varchar, trace varchar",
}
TEMPLATES = 1_000


def columns(size: int, text: str, double: str, quote: str = "") -> str:
    """The columns as an engine names their types and quotes their names."""
    words = (column.split() for column in COLUMNS[size].split(","))
    types = {"varchar": text, "double": double}
    return ", ".join(f"{quote}{name}{quote} {types.get(kind, kind)}" for name, kind in words)


def templates(size: int, form: str = "json") -> list[bytes]:
    """What follows the id in each of the messages that repeat."""
    if form == "json":
        return [json.dumps(row)[1:].encode() for row in rows(size)]
    encode = {"avro": avro, "protobuf": protobuf}[form]
    # The id, which comes first, is not repeated.
    return [b"".join(encode(place, value) for place, value in enumerate(row.values(), 2)) for row in rows(size)]


def rows(size: int) -> list[dict]:
    draw = random.Random(7)
    text = lambda length: "".join(draw.choices(string.ascii_lowercase + "     ", k=length))  # noqa: E731
    code = lambda length: "".join(draw.choices(string.hexdigits, k=length))  # noqa: E731
    made = []
    for number in range(TEMPLATES):
        at = f"2026-05-{number % 28 + 1:02}T{number % 24:02}:{number % 60:02}:07.{number:03}Z"
        event = draw.choice(["view", "cart", "order", "pay", "return"])
        row = {"user_id": draw.randrange(10**6), "event": event, "amount": round(draw.random() * 900, 2), "is_new": number % 3 == 0, "at": at}
        if size == 1000:
            row = {"tenant": number % 40, "user_id": row["user_id"], "session": code(36), "event": event, "page": "/shop/" + text(60).replace(" ", "-"),
                   "referrer": "https://example.com/" + code(60), "agent": "Mozilla/5.0 (" + text(90) + ")", "country": draw.choice(["VN", "TH", "ID"]),
                   "amount": row["amount"], "quantity": draw.randrange(1, 9), "discount": round(draw.random(), 3), "currency": "VND", "is_new": row["is_new"],
                   "is_paid": number % 2 == 0, "at": at, "sent": at, "campaign": "campaign-" + str(number % 50), "note": text(300), "trace": code(32)}
        else:
            row["trace"] = code(72)
        made.append(row)
    return made


def message(number: int, made: list[bytes], form: str = "json") -> bytes:
    start = {"json": lambda: b'{"id": %d, ' % number, "avro": lambda: varint(number << 1), "protobuf": lambda: b"\x08" + varint(number)}[form]
    return start() + made[number % TEMPLATES]


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def avro(_: int, value) -> bytes:
    """A value of a field that is never null."""
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, int):
        return varint(value << 1)
    return varint(len(value.encode()) << 1) + value.encode()


def protobuf(place: int, value) -> bytes:
    """A field with its number."""
    if isinstance(value, float):
        return varint(place << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(place << 3) + varint(int(value))
    return varint(place << 3 | 2) + varint(len(value.encode())) + value.encode()


def schema(size: int, form: str) -> str:
    """The schema of messages of Avro or Protobuf."""
    fields = [column.split() for column in COLUMNS[size].split(",")]
    if form == "avro":
        types = {"bigint": "long", "varchar": "string"}
        return json.dumps({"type": "record", "name": "event", "fields": [{"name": name, "type": types.get(kind, kind)} for name, kind in fields]})
    types = {"bigint": "int64", "varchar": "string", "boolean": "bool"}
    lines = " ".join(f"optional {types.get(kind, kind)} {name} = {place};" for place, (name, kind) in enumerate(fields, 1))
    return f'syntax = "proto3"; message Event {{ {lines} }}'
