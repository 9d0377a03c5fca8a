"""An outbox message as one JSON document, for sinks that know no records with keys and headers."""

import hashlib
import json
from dataclasses import dataclass

from stream_ad.domain.message import OutboxMessage

DEAD_LETTER_SCHEMA = "stream-ad.dead-letter/1"
DEAD_LETTER = "dead letter"
"""What a dead letter is called where sinks choose among verdicts: the part has none."""


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    #: its verdict, or "dead letter"
    kind: str
    camera: str | None
    #: CloudEvents attributes and `traceparent`
    headers: dict[str, str]
    body: bytes


def document(message: OutboxMessage) -> Document:
    """A result is its own document. A dead letter's has the hash of its bytes, which are in the database."""
    if message.channel == "results":
        content = json.loads(message.value)
        headers = {name: value.decode() for name, value in message.headers.items()}
        return Document(message.id, content["verdict"], content["camera"], headers, message.value)
    fields = {
        "schema": DEAD_LETTER_SCHEMA,
        "id": message.id,
        "key": None if message.key is None else message.key.decode(errors="replace"),
        "headers": {name: value.decode(errors="replace") for name, value in message.headers.items()},
        "bytes": len(message.value),
        "sha256": hashlib.sha256(message.value).hexdigest(),
    }
    headers = {
        "ce_specversion": "1.0",
        "ce_id": message.id,
        "ce_type": DEAD_LETTER_SCHEMA,
        "ce_source": fields["headers"].get("__connect.errors.topic", ""),
        "content-type": "application/json",
    }
    return Document(message.id, DEAD_LETTER, None, headers, json.dumps(fields, ensure_ascii=False).encode())
