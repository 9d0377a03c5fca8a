"""What a record means: a picture with its headers, or a dead letter.

Two ways to send a picture:

- bare bytes: the record's value is an encoded picture; no header is needed;
- CloudEvents, Kafka binary mode: `ce_id` names the message, `ce_dataref` refers to the picture when the value is
  empty ("claim check").

Headers of ours, all optional: `product` (id of the declared product), `camera`, `sha256` (of the encoded picture, in
hex; checked). `ce_subject` is what the sender calls the picture, for people. Values are UTF-8.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime

from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.errors import DataError

SOURCE_ERROR = "stream_ad.source_error"
"""Header by which a source says that a record is there but cannot be read."""

References = Callable[[str, str | None], bytes]
"""Bytes behind a reference, whose sha256 is as given. Raises: DataError: never; Unavailable: not now."""


def read_message(record: Record, references: References | None, *, at: datetime) -> ImageMessage | DeadLetter:
    """The picture of a record; or, at stage "source", "message" or "reference", why there will never be one.

    Raises:
        Unavailable: the store behind a reference is away; try again.
    """
    stage = "message"
    try:
        if SOURCE_ERROR in record.headers:
            stage = "source"
            raise DataError(_text(record, SOURCE_ERROR))
        message_id, camera, product = (_text(record, name) for name in ("ce_id", "camera", "product"))
        sha256 = (_text(record, "sha256") or "").lower() or None
        reference = _text(record, "ce_dataref")
        if (_text(record, "content-type") or "").startswith("application/cloudevents"):
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
    except DataError as error:
        return dead_letter(record, stage, error, at=at)
    return ImageMessage(
        record=record,
        message_id=message_id or record.default_id,
        camera=camera or None,
        declared_product=product or None,
        data=data,
    )


def dead_letter(record: Record, stage: str, error: Exception, *, at: datetime) -> DeadLetter:
    """A record put aside for good, and why."""
    return DeadLetter(record=record, stage=stage, error_class=type(error).__name__, reason=str(error), at=at)


def _text(record: Record, header: str) -> str | None:
    raw = record.headers.get(header)
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"needed UTF-8 in the header {header!r}, got {raw[:40]!r}; change the sender") from error
    if "\0" in text:  # no database keeps it in a text
        raise DataError(f"needed text in the header {header!r}, got {raw[:40]!r}; change the sender")
    return text
