"""What a record means: a picture with its headers, or a dead letter. Schema: `stream-ad.image/1`.

Two ways to send a picture:

- bare bytes: the record's value is an encoded picture; no header is needed;
- CloudEvents, Kafka binary mode: `ce_id` names the message, `ce_time` says when the picture was taken, `ce_dataref`
  refers to it when the value is empty ("claim check").

Headers of ours, all optional: `product` (id of the declared product), `camera`, `sha256` (of the encoded picture, in
hex; checked), `traceparent` (W3C trace context). `ce_subject` is what the sender calls the picture, for people. Values
are UTF-8. Without a `camera` header, a key that is a name names the camera; see `KeyNames`.
"""

import hashlib
import re
import traceback
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from stream_ad.domain.message import DeadLetter, ImageMessage, Record, captured_at, message_id
from stream_ad.errors import DataError, Unavailable

SOURCE_ERROR = "stream_ad.source_error"
"""Header by which a source says that a record is there but cannot be read."""

MAX_NAME = 512
"""Characters of an id, a camera or a product: all of them are written into every result."""
MAX_KEY_NAME = 100
"""Characters of a key that is taken for a name."""
MAX_REFERENCE = 4096
MAX_TRACE = 8000

References = Callable[[str, str | None], bytes]
"""Bytes behind a reference, whose sha256 is as given. Raises: DataError: never; Unavailable: not now."""

KeyNames = Literal["camera", "product"] | None
"""What a record's key names where the header of that name is missing; None: nothing, it only orders."""


def read_message(
    record: Record, references: References | None, *, at: datetime, key_names: KeyNames = "camera"
) -> ImageMessage | DeadLetter:
    """The picture of a record; or, at stage "source", "message" or "reference", why there will never be one.

    Raises:
        Unavailable: the store behind a reference is away; try again.
    """
    stage = "message"
    try:
        if SOURCE_ERROR in record.headers:
            stage = "source"
            raise DataError(record.headers[SOURCE_ERROR].decode(errors="replace"))
        _text(record, "ce_id")  # it must be text, or no database keeps it
        names = {name: _text(record, name) or None for name in ("camera", "product")}
        if key_names is not None:
            names[key_names] = names[key_names] or _name(record.key)
        sha256 = (_text(record, "sha256") or "").lower() or None
        reference = _text(record, "ce_dataref", longest=MAX_REFERENCE)
        if (_text(record, "content-type") or "").lower().startswith("application/cloudevents"):
            raise DataError(
                "needed CloudEvents in binary mode (headers ce_*), got the structured mode; change the sender"
            )
        if record.value:
            data = record.value
            if sha256 and (came := hashlib.sha256(data).hexdigest()) != sha256:
                raise DataError(f"needed bytes with the sha256 {sha256} of the header, got {came}; send it again")
        elif reference and references is not None:
            stage = "reference"
            data = references(reference, sha256)
        elif reference:
            raise DataError(
                f"needed the picture's bytes, got the reference {reference!r}, and references are not allowed here;"
                " allow the folder it is in, or send bytes"
            )
        else:
            raise DataError("needed the picture's bytes or a `ce_dataref` header, got neither; change the sender")
    except Unavailable:
        raise
    except Exception as error:  # whatever one message does to us, or to the client of a store, the stream goes on
        return dead_letter(record, stage, error, at=at)
    return ImageMessage(
        record=record,
        message_id=message_id(record),
        camera=names["camera"],
        declared_product=names["product"],
        data=data,
        subject=record.subject,
        captured_at=captured_at(record),
        traceparent=_traceparent(record),
    )


def where(record: Record) -> dict[str, Any]:
    """A record's place, for logs that machines read (`extra`)."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def dead_letter(record: Record, stage: str, error: Exception, *, at: datetime, attempts: int = 1) -> DeadLetter:
    """A record put aside for good, and why."""
    return DeadLetter(
        record=record,
        stage=stage,
        error_class=type(error).__name__,
        reason=str(error),
        at=at,
        trace="".join(traceback.format_exception(error))[-MAX_TRACE:],  # its end says most
        attempts=attempts,
    )


def _text(record: Record, header: str, *, longest: int = MAX_NAME) -> str | None:
    raw = record.headers.get(header)
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"needed UTF-8 in the header {header!r}, got {raw[:40]!r}; change the sender") from error
    if "\0" in text:  # no database keeps it in a text
        raise DataError(f"needed text in the header {header!r}, got {raw[:40]!r}; change the sender")
    if len(text) > longest:
        raise DataError(
            f"needed at most {longest} characters in the header {header!r}, got {len(text):,}; change the sender"
        )
    return text


def _name(key: bytes | None) -> str | None:
    """A key as a name; None for one that is binary, long or blank: a key may be anything, and is then no error."""
    try:
        text = (key or b"").decode().strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() and 0 < len(text) <= MAX_KEY_NAME else None


def _traceparent(record: Record) -> str | None:
    """The sender's trace context; None for one that is not as W3C says, which is to be ignored."""
    text = record.headers.get("traceparent", b"").decode(errors="replace").strip()
    fields = re.fullmatch(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[\x21-\x7e]{1,200})?", text)
    if fields is None:
        return None
    version, trace, span, more = fields.groups()
    valid = version != "ff" and trace != "0" * 32 and span != "0" * 16 and (version != "00" or more is None)
    return text if valid else None
