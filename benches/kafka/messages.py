"""Events for the Kafka benchmark, made from a seed: 20 fields of about 1 KB, or 7 of about 200 bytes."""

import json
import random
import string

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


def templates(size: int) -> list[bytes]:
    """What follows the id in each of the messages that repeat."""
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
        made.append(json.dumps(row)[1:].encode())
    return made


def message(number: int, made: list[bytes]) -> bytes:
    return b'{"id": %d, ' % number + made[number % TEMPLATES]
