"""What people say of a verdict is taken down with the very picture it is about, or refused with a reason."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.adapters.feedback_pictures import FeedbackPictures
from stream_ad.adapters.in_memory import InMemoryLedger
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.past_pictures import from_folder, from_topic, read_record
from stream_ad.adapters.storage import Database
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.message import message_id
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.feedback import FeedbackOffice
from tests import adaptation_kit as kit
from tests.kafka_kit import put
from tests.storage_kit import result

FALSE_ALARM, MISSED, WRONG = FeedbackKind.FALSE_ALARM, FeedbackKind.MISSED, FeedbackKind.WRONG_PRODUCT


def png(grey: int = 90) -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.full((8, 8, 3), grey, np.uint8))[1].tobytes()


def look(data: bytes):
    picture = decode(data)
    return picture, pixel_sha256(picture)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with kit.open_storage(tmp_path) as opened:
        opened.results.save_batch(
            [
                result(0, message_id="ng", verdict=Verdict.NG, subject="cam1/a.png"),
                result(1, message_id="ok", verdict=Verdict.OK, subject="cam1/b.png"),
                result(2, message_id="unknown", verdict=Verdict.UNKNOWN),
                result(3, message_id="late", verdict=Verdict.LATE, task=None),
                result(4, message_id="twice", verdict=Verdict.NG),
                result(5, message_id="twice", verdict=Verdict.NG),
            ],
            [],
            [],
        )
        yield opened


class Pool(list):
    def __call__(self, result: InspectionResult, data: bytes, picture) -> None:
        self.append(result.message_id)


def office(database: Database, tmp_path: Path, **changes) -> FeedbackOffice:
    plain = {
        "feedback": database.feedback,
        "pictures": FeedbackPictures(tmp_path / "feedback"),
        "fetch": lambda result: png(),
        "look": look,
        "pool": None,
        "clock": kit.HandClock(),
    }
    return FeedbackOffice(**{**plain, **changes})


def test_a_false_alarm_waits_in_quarantine_with_a_copy_of_its_picture(database, tmp_path):
    said, new = office(database, tmp_path).say("ng", FALSE_ALARM, who="ada", reason="a reflection")
    assert new
    assert (said.state, said.task, said.who) == (FeedbackState.QUARANTINED, "nut", "ada")
    assert (tmp_path / "feedback" / said.path).read_bytes() == png()
    assert said.sha256 == look(png())[1]


@pytest.mark.parametrize("name", ["images/0/0", "cam1/a.png", "ng"])
def test_a_result_may_be_named_by_its_place_its_file_or_its_message(database, tmp_path, name):
    said, _ = office(database, tmp_path).say(name, FALSE_ALARM, who="ada", reason="")
    assert said.place == ("images", 0, 0)


def test_said_again_the_first_word_stands(database, tmp_path):
    first, _ = office(database, tmp_path).say("ng", FALSE_ALARM, who="ada", reason="")
    again, new = office(database, tmp_path).say("images/0/0", FALSE_ALARM, who="bob", reason="also")
    assert (again, new) == (first, False)


@pytest.mark.parametrize(
    ("name", "kind", "why"),
    [
        ("ok", FALSE_ALARM, "verdict NG to call it a false alarm, 'ok' is OK: what was not called NG"),
        ("ng", MISSED, "verdict OK to call it a missed, 'ng' is NG"),
        ("unknown", FALSE_ALARM, "is unknown product: teach an unknown product with `stream-ad add-task`"),
        ("unknown", WRONG, "OK or NG to call it a wrong product, .* in `stream-ad tasks proposals`"),
        ("late", FALSE_ALARM, "'late' is late"),
        ("nothing", FALSE_ALARM, "no result is called 'nothing'"),
        ("twice", FALSE_ALARM, r"2 results are called 'twice'; name one by its place: images/0/5 \(NG"),
    ],
)
def test_what_does_not_fit_the_verdict_is_refused(database, tmp_path, name, kind, why):
    with pytest.raises(DataError, match=why):
        office(database, tmp_path).say(name, kind, who="ada", reason="")
    assert database.feedback.recent(9) == []


def test_without_its_picture_nothing_is_noted(database, tmp_path):
    def gone(result):
        raise DataError("the picture is gone")

    with pytest.raises(DataError, match="the picture is gone"):
        office(database, tmp_path, fetch=gone).say("ng", FALSE_ALARM, who="ada", reason="")
    with pytest.raises(DataError):
        office(database, tmp_path, fetch=lambda result: b"no picture").say("ng", FALSE_ALARM, who="ada", reason="")
    assert database.feedback.recent(9) == []


def test_a_picture_of_another_product_joins_those_of_no_known_product(database, tmp_path):
    pool = Pool()
    said, _ = office(database, tmp_path, pool=pool).say("ok", WRONG, who="ada", reason="")
    assert pool == ["ok"]
    assert said.state is FeedbackState.APPLIED
    assert "no known product" in (said.outcome or "")


def test_said_again_a_picture_joins_the_pool_that_was_away_the_first_time(database, tmp_path):
    def away(result, data, picture):
        raise Unavailable("the database is away")

    with pytest.raises(Unavailable):
        office(database, tmp_path, pool=away).say("ok", WRONG, who="ada", reason="")
    pool = Pool()
    for _ in range(2):
        said, new = office(database, tmp_path, pool=pool).say("ok", WRONG, who="ada", reason="")
        assert (said.state, new) == (FeedbackState.APPLIED, False)
    assert pool == ["ok"]


def test_without_discovery_a_wrong_product_is_kept_as_said(database, tmp_path):
    said, _ = office(database, tmp_path).say("ok", WRONG, who="ada", reason="")
    assert said.state is FeedbackState.QUARANTINED


# --- where pictures come from ---------------------------------------------------------------------


def of_file(data: bytes, **changes) -> InspectionResult:
    sha256 = hashlib.sha256(data).hexdigest()
    plain = {"topic": "folder:inbox", "message_id": f"cam1/a.png@{sha256[:12]}", "subject": "cam1/a.png"}
    return result(0, **{**plain, **changes})


@pytest.mark.parametrize("known", [True, False], ids=["known to the ledger", "forgotten by the ledger"])
def test_a_picture_of_the_watched_folder_is_read_if_it_is_the_one_that_was_judged(tmp_path, known):
    ledger, data = InMemoryLedger(), png()
    (tmp_path / "cam1").mkdir()
    (tmp_path / "cam1" / "a.png").write_bytes(data)
    if known:
        ledger.register("folder:inbox", [("cam1/a.png", hashlib.sha256(data).hexdigest())], kit.NOON)
    assert from_folder(of_file(data), tmp_path, ledger) == data
    (tmp_path / "cam1" / "a.png").write_bytes(png(10))
    with pytest.raises(DataError, match="other content by now"):
        from_folder(of_file(data), tmp_path, ledger)
    (tmp_path / "cam1" / "a.png").unlink()
    with pytest.raises(DataError, match="is gone"):
        from_folder(of_file(data), tmp_path, ledger)


@pytest.mark.needs_broker
def test_a_picture_of_a_topic_is_read_back_from_its_place(bootstrap, topic):
    values = put(bootstrap, topic, 3)
    judged = result(1, topic=topic, message_id=f"{topic}/0/1")

    def read(wanted: InspectionResult) -> bytes:
        return from_topic(wanted, bootstrap, read=lambda record: record.value or b"", message_id=message_id)

    assert read(judged) == values[1]
    with pytest.raises(DataError, match="no longer has the record"):
        read(result(9, topic=topic, message_id=f"{topic}/0/9"))
    with pytest.raises(DataError, match="the topic was made anew"):
        read(result(1, topic=topic, message_id="another"))


@pytest.mark.needs_broker
def test_reading_a_record_back_joins_no_group_and_keeps_headers(bootstrap, topic):
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=bootstrap))) as producer:
        producer.send([Outgoing(topic=topic, key=b"cam1", value=b"x", headers={"ce_id": b"m1"})])
    record = read_record((topic, 0, 0), bootstrap)
    assert record is not None
    assert (record.key, record.value, record.headers["ce_id"]) == (b"cam1", b"x", b"m1")
    assert read_record((topic, 7, 0), bootstrap) is None


def test_a_broker_that_is_away_is_said_to_be_away():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        read_record(("images", 0, 0), "127.0.0.1:1", timeout_s=1.0)
