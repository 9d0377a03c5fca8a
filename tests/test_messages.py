"""What a record's headers mean, and which records are put aside."""

import hashlib
import json
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ad.commands.schema import schemas
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.messages import MAX_TRACE, dead_letter, read_message
from stream_ad.services.outgoing import RESULT_SCHEMA, dead_letter_message, result_document, result_message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PICTURE = b"encoded picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


def record(value: bytes | None, *, key: Any = None, **headers: str | bytes) -> Record:
    encoded = {name: text.encode() if isinstance(text, str) else text for name, text in headers.items()}
    return Record(topic="t", partition=2, offset=7, key=key, value=value, headers=encoded, timestamp=NOW)


def understood(letter: Record, **options) -> ImageMessage:
    message = read_message(letter, None, at=NOW, **options)
    assert isinstance(message, ImageMessage), message
    return message


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
        (record(PICTURE, camera="c" * 513), "message", "at most 512 characters in the header 'camera'"),
        (record(PICTURE, ce_id=b"\xff"), "message", "needed UTF-8 in the header 'ce_id'"),
        (record(b"{}", **{"content-type": "Application/CloudEvents-batch+json"}), "message", "binary mode"),
        (record(None, ce_dataref="f" * 5000), "message", "at most 4096 characters"),
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


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_key_names_the_camera_where_no_header_does():
    assert understood(record(PICTURE, key="Kamera Süd".encode())).camera == "Kamera Süd"
    assert understood(record(PICTURE, key=b"by key", camera="by header")).camera == "by header"
    assert understood(record(PICTURE, key=b"by key", camera="")).camera == "by key"


def test_the_key_may_name_the_product_instead_or_nothing():
    by_product = understood(record(PICTURE, key=b"nut"), key_names="product")
    assert (by_product.camera, by_product.declared_product) == (None, "nut")
    by_nothing = understood(record(PICTURE, key=b"nut"), key_names=None)
    assert (by_nothing.camera, by_nothing.declared_product) == (None, None)


@pytest.mark.parametrize("key", [b"\x00\x00\x00\x07", b"\xff\xfe", b"", b"  ", b"a\nb", b"k" * 101, b"a\0b"])
def test_a_key_that_is_no_name_only_orders(key):
    assert understood(record(PICTURE, key=key)).camera is None


def test_ce_time_says_when_the_picture_was_taken():
    message = understood(record(PICTURE, ce_time="2025-12-31T23:30:00.5+02:00"))
    assert message.captured_at == datetime(2025, 12, 31, 21, 30, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("time", ["yesterday", "2025-12-31T23:30:00", b"\xff", "", "0001-01-01T00:00:00+14:00"])
def test_without_a_time_that_can_be_placed_the_records_own_counts(time):
    assert understood(record(PICTURE, ce_time=time)).captured_at == NOW


def test_the_senders_trace_is_passed_on_with_the_result():
    message = understood(record(PICTURE, traceparent=TRACE))
    assert message.traceparent == TRACE
    result = a_result(traceparent=TRACE)
    assert result_message(result).headers["traceparent"] == TRACE.encode()
    assert result_document(result)["traceparent"] == TRACE
    assert "traceparent" not in result_message(a_result()).headers
    letter = dead_letter(record(b"no picture", traceparent=TRACE), "decode", DataError("no picture"), at=NOW)
    assert dead_letter_message(letter).headers["traceparent"] == TRACE.encode()


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"line 3/0042.png", "line 3/0042.png"),
        (b"", None),
        (b"\xff\x00\x1b[2J\n", "\ufffd\ufffd\ufffd[2J\ufffd"),
        (b"x" * 999, "x" * 512),
    ],
)
def test_people_read_what_the_sender_calls_a_picture_and_nothing_depends_on_it(sent, told):
    message = understood(
        Record(topic="t", partition=2, offset=7, key=None, value=PICTURE, headers={"ce_subject": sent})
    )
    assert (message.subject, message.message_id) == (told, "t/2/7")
    document = result_document(a_result(subject=message.subject))
    assert document["subject"] == told
    fits(document, "result-1")


@pytest.mark.parametrize(
    "trace",
    [b"\xff", "", "what", TRACE.upper(), f"{TRACE}-more", TRACE.replace("00-", "ff-", 1), f"00-{'0' * 32}{TRACE[35:]}"],
)
def test_a_trace_that_is_none_is_ignored_as_w3c_asks(trace):
    assert understood(record(PICTURE, traceparent=trace)).traceparent is None


def test_a_trace_of_a_later_version_is_passed_on():
    assert understood(record(PICTURE, traceparent=f"01{TRACE[2:]}-more")).traceparent == f"01{TRACE[2:]}-more"


KNOWN = ("ce_id", "ce_time", "ce_dataref", "sha256", "camera", "product", "traceparent", "content-type")
texts = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.datetimes().map(lambda time: time.isoformat().encode()),
    st.sampled_from([SHA256.encode(), TRACE.encode(), b"file:///pictures/a.png", b"application/cloudevents+json"]),
    st.integers(500, 5000).map(lambda count: b"x" * count),
)


@given(
    headers=st.dictionaries(st.one_of(st.sampled_from(KNOWN), st.text(max_size=20)), texts, max_size=8),
    key=st.one_of(st.none(), texts),
    value=st.sampled_from([None, b"", PICTURE]),
    key_names=st.sampled_from(["camera", "product", None]),
    timestamp=st.one_of(st.none(), st.just(NOW)),
)
@example(headers={"stream_ad.source_error": b"\xff\xfe"}, key=None, value=PICTURE, key_names=None, timestamp=None)
def test_whatever_headers_hold_a_record_is_a_picture_or_a_dead_letter_that_can_be_sent(
    headers, key, value, key_names, timestamp
):
    letter = Record(topic="t", partition=0, offset=1, key=key, value=value, headers=headers, timestamp=timestamp)

    def store(reference: str, sha256: str | None) -> bytes:
        if reference != "file:///pictures/a.png" or sha256 not in (None, SHA256):
            raise DataError(f"no {reference!r}")
        return PICTURE

    outcome = read_message(letter, store, at=NOW, key_names=key_names)
    if isinstance(outcome, DeadLetter):
        message = dead_letter_message(outcome)
        assert (message.key, message.value) == (key, value or b"")
        assert headers.items() <= message.headers.items()
        return
    assert outcome.data == PICTURE
    for text in (outcome.message_id, outcome.camera, outcome.declared_product, outcome.traceparent):
        assert text is None or (0 < len(text) <= 512 and "\0" not in text)
    result = a_result(
        message_id=outcome.message_id,
        camera=outcome.camera,
        declared_product=outcome.declared_product,
        captured_at=outcome.captured_at,
        traceparent=outcome.traceparent,
    )
    assert json.loads(result_message(result).value)["message_id"] == outcome.message_id


def test_a_dead_letter_says_where_in_the_program_it_failed_but_not_without_end():
    def fail(depth: int) -> None:
        if depth == 0:
            raise DataError("this is why")
        fail(depth - 1)

    with pytest.raises(DataError) as caught:
        fail(400)
    trace = dead_letter(record(PICTURE), "decode", caught.value, at=NOW).trace
    assert trace is not None
    assert len(trace) <= MAX_TRACE
    assert trace.endswith("DataError: this is why\n")


# --- schemas: what is promised to those who write the other side


def a_result(**changes) -> InspectionResult:
    result = InspectionResult(
        message_id="part-1",
        topic="t",
        partition=0,
        offset=1,
        camera="Kamera Süd",
        declared_product=None,
        task=None,
        detector="cmpmb/2",
        score=1.5,
        p_value=0.25,
        threshold=2.0,
        verdict=Verdict.OK,
        bank_version=3,
        features="tiny",
        margin=0.5,
        latency_ms=12.5,
        scored_at=NOW,
        alarm=None,
    )
    return replace(result, **changes)


def fits(document: object, name: str, part: str = "") -> None:
    whole = json.loads(schemas()[name])
    chosen = {"$ref": f"#/$defs/{part}", "$defs": whole["$defs"]} if part else whole
    jsonschema.Draft202012Validator(chosen, format_checker=jsonschema.FormatChecker()).validate(document)


def texts_of(headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers.items()}


@pytest.mark.parametrize("name", sorted(schemas()))
def test_a_schema_is_one_and_is_named_by_what_it_describes(name):
    document = json.loads(schemas()[name])
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$id"] == "stream-ad." + "/".join(name.rsplit("-", 1))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_results_are_as_their_schema_says(verdict):
    full = a_result(
        verdict=verdict, captured_at=NOW - timedelta(seconds=1), traceparent=TRACE, alarm="not the declared one"
    )
    empty = a_result(verdict=verdict, score=float("nan"), p_value=None, margin=float("inf"), detector=None, camera=None)
    for result in (full, empty):
        fits(result_document(result), "result-1")
        message = result_message(result)
        fits(json.loads(message.value), "result-1")
        fits(texts_of(message.headers), "result-1", "headers")


def test_the_schema_knows_every_field_of_a_result_and_no_other():
    described = json.loads(schemas()["result-1"])["properties"]
    assert set(described) == {field.name for field in fields(InspectionResult)} | {"schema", "id"}
    assert described["schema"]["const"] == RESULT_SCHEMA
    assert described["verdict"]["enum"] == [str(verdict) for verdict in Verdict]


def test_a_document_that_breaks_the_promise_is_noticed():
    document = result_document(a_result())
    for broken in (document | {"verdict": "fine"}, document | {"score": "1.5"}, document | {"scored_at": "today"}):
        with pytest.raises(jsonschema.ValidationError):
            fits(broken, "result-1")


def test_dead_letters_are_as_their_schema_says():
    letter = dead_letter(record(b"no picture", camera="c"), "decode", DataError("no picture"), at=NOW)
    fits(texts_of(dead_letter_message(letter).headers), "dead-letter-1", "headers")


def test_a_message_as_the_docs_show_it_is_as_the_schema_says():
    shown = record(PICTURE, ce_id="part-1", ce_time=NOW.isoformat(), camera="c", sha256=SHA256, traceparent=TRACE)
    understood(shown)
    fits({"key": "c", "headers": texts_of(shown.headers)}, "image-1")
    with pytest.raises(jsonschema.ValidationError):
        fits({"key": "c", "headers": {"content-type": "application/cloudevents+json"}}, "image-1")
