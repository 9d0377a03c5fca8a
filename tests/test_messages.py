"""What a record's headers mean, and which records are put aside."""

import hashlib
from datetime import UTC, datetime

import pytest

from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.messages import read_message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PICTURE = b"encoded picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


def record(value: bytes | None, **headers: str | bytes) -> Record:
    encoded = {name: text.encode() if isinstance(text, str) else text for name, text in headers.items()}
    return Record(topic="t", partition=2, offset=7, key=None, value=value, headers=encoded)


def the_store(reference: str, sha256: str | None) -> bytes:
    if reference != "file:///pictures/a.png":
        raise DataError("not there")
    assert sha256 in (None, SHA256)
    return PICTURE


def test_bare_bytes_are_a_message_named_by_their_place():
    message = read_message(record(PICTURE), None, at=NOW)
    assert isinstance(message, ImageMessage)
    assert (message.message_id, message.camera, message.declared_product) == ("t/2/7", None, None)
    assert message.data == PICTURE


def test_headers_say_id_camera_and_product():
    message = read_message(record(PICTURE, ce_id="part-1", camera="Kamera Süd", product="nut"), None, at=NOW)
    assert isinstance(message, ImageMessage)
    assert (message.message_id, message.camera, message.declared_product) == ("part-1", "Kamera Süd", "nut")


@pytest.mark.parametrize("value", [None, b""])
def test_a_reference_stands_for_the_bytes(value):
    message = read_message(record(value, ce_dataref="file:///pictures/a.png", sha256=SHA256.upper()), the_store, at=NOW)
    assert isinstance(message, ImageMessage)
    assert message.data == PICTURE


def test_bytes_come_before_a_reference():
    message = read_message(record(PICTURE, ce_dataref="file:///elsewhere"), the_store, at=NOW)
    assert isinstance(message, ImageMessage)


@pytest.mark.parametrize(
    ("letter", "stage", "reason"),
    [
        (record(None), "message", "got neither"),
        (record(PICTURE, sha256="0" * 64), "message", "needed bytes with the sha256 0000"),
        (record(PICTURE, camera=b"\xff\xfe"), "message", "needed UTF-8 in the header 'camera'"),
        (record(PICTURE, product="a\0b"), "message", "needed text in the header 'product'"),
        (record(b"{}", **{"content-type": "application/cloudevents+json"}), "message", "binary mode"),
        (record(None, ce_dataref="file:///nothing"), "reference", "not there"),
        (record(None, **{"stream_ad.source_error": "the file vanished"}), "source", "the file vanished"),
    ],
)
def test_what_can_never_be_judged_is_put_aside_with_the_reason(letter, stage, reason):
    dead = read_message(letter, the_store, at=NOW)
    assert isinstance(dead, DeadLetter)
    assert (dead.stage, dead.error_class, dead.at) == (stage, "DataError", NOW)
    assert reason in dead.reason
    assert dead.record == letter


def test_without_allowed_folders_references_are_put_aside():
    dead = read_message(record(None, ce_dataref="file:///pictures/a.png"), None, at=NOW)
    assert isinstance(dead, DeadLetter)
    assert "not allowed here" in dead.reason


def test_a_store_that_is_away_is_no_reason_to_put_a_record_aside():
    def away(reference: str, sha256: str | None) -> bytes:
        raise Unavailable("not mounted")

    with pytest.raises(Unavailable):
        read_message(record(None, ce_dataref="file:///pictures/a.png"), away, at=NOW)
