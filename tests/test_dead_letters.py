# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""Dead letters as an operator handles them: the folder's through the commands, Kafka's through a real broker."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from PIL import Image
from storage_kit import dead_letter, record

from stream_ad.adapters.in_memory import InMemoryResults, ManualClock
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.message import Record
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.dead_letters import DeadLetters, place_of
from stream_ad.services.outgoing import dead_letter_message
from tests.broker import SESSION, create_topic, read_all
from tests.pictures import disc
from tests.test_cli import Ran, finished, place, run  # noqa: F401


class Office:
    """Dead letters in memory, and what was sent."""

    def __init__(self) -> None:
        self.results, self.sent = InMemoryResults(), list[Record]()
        self.away = False
        self.letters = DeadLetters(self.results, self._send, ManualClock())

    def _send(self, record: Record) -> str:
        if self.away:
            raise Unavailable("the broker is away, because a test says so")
        self.sent.append(record)
        return "there"


@pytest.fixture
def office() -> Office:
    return Office()


def test_a_letter_is_sent_again_as_its_sender_made_it(office: Office) -> None:
    given = {"ce_id": b"m0", "camera": b"cam1", "traceparent": b"00-1-2-01"}
    first = dead_letter(record=record(headers=given))
    # as somebody took it from the topic of dead letters and put it back by hand
    marked = dict(dead_letter_message(first).headers)
    office.results.save_batch([], [dead_letter(record=record(3, headers=marked))], [])
    assert office.letters.retry(("images", 0, 3)) == "there"
    [again] = office.sent
    assert (again.key, again.value) == (first.record.key, first.record.value)
    assert again.headers == {**given, "stream_ad.retry_of": b"images/0/3"}


def test_a_letter_is_sent_again_once(office: Office) -> None:
    office.results.save_batch([], [dead_letter(0)], [])
    office.letters.retry(record(0).place)
    with pytest.raises(DataError, match="was sent again at 2026-01-01"):
        office.letters.retry(record(0).place)
    assert len(office.sent) == 1


def test_a_letter_that_could_not_be_sent_stays_open(office: Office) -> None:
    office.results.save_batch([], [dead_letter(0)], [])
    office.away = True
    with pytest.raises(Unavailable):
        office.letters.retry(record(0).place)
    assert office.results.open_dead_letters() == [record(0).place]


def test_a_place_without_a_letter_says_where_they_are(office: Office) -> None:
    with pytest.raises(DataError, match="stream-ad dlq list"):
        office.letters.retry(("images", 0, 7))


@pytest.mark.parametrize("wrong", ["", "7", "images/7", "/0/7", "images/0/", "images/0/x", "images/-1/2", "images/0/²"])
def test_what_is_no_place_says_what_one_looks_like(wrong: str) -> None:
    with pytest.raises(DataError, match="topic/partition/offset"):
        place_of(wrong)


def test_a_topic_may_have_slashes_in_its_name() -> None:
    assert place_of("folder:a/b/0/12") == ("folder:a/b", 0, 12)


def test_a_dead_letter_says_what_tools_for_kafka_connect_read() -> None:
    headers = dead_letter_message(dead_letter(4, "bad \ud800", trace="Traceback ...", attempts=3)).headers
    errors = {name.removeprefix("__connect.errors."): value for name, value in headers.items() if "errors" in name}
    assert errors == {
        "topic": b"images",
        "partition": b"0",
        "offset": b"4",
        "connector.name": b"stream-ad",
        "task.id": b"0",
        "stage": b"decode",
        "class.name": b"stream_ad.decode",
        "exception.class.name": b"UndecodableImage",
        "exception.message": b"bad ?",
        "exception.stacktrace": b"Traceback ...",
    }
    assert headers["stream_ad.attempts"] == b"3"
    assert headers["ce_id"] == b"m4"


# --- as a person runs it --------------------------------------------------------------------------


def settings(place: Path, **sections: dict[str, object]) -> None:
    chosen = {"backbone": {"id": "tiny", "image_size": 64}, "routing": {"refuse": False}, **sections}
    (place / "config.yaml").write_text(yaml.safe_dump(chosen))


@pytest.fixture
def say(place: Path, run: Callable[..., Ran]) -> Callable[..., str]:
    """What a command says on the terminal, when it ends with `code`."""

    def told(*arguments: object, code: int = 0) -> str:
        # a process of its own for what listens to signals
        ran = finished(place, *arguments) if arguments[0] == "serve" else run(*arguments)
        assert ran.code == code, ran
        return ran.out + ran.err

    return told


def test_a_picture_that_was_put_right_is_scored_by_a_retry(place: Path, say: Callable[..., str]) -> None:
    """The file was a reference to a place that was missing, say; here the size limit was too low."""
    inbox = place / "stream-ad-data/inbox/cam1"
    inbox.mkdir(parents=True)
    Image.fromarray(disc(0)).save(inbox / "large.png")
    (inbox / "broken.png").write_bytes(b"no picture")
    settings(place, stream={"settle_s": 0, "max_pixels": 100})
    say("init")
    say("serve", "--idle", "1")
    listed = say("dlq", "list")
    assert listed.count("folder:inbox/0/") == 2
    with App(load_settings(place / "config.yaml")) as app:
        letters = {letter.record.headers["ce_subject"]: letter for letter in app.database.results.dead_letters(9)}
    large = "/".join(map(str, letters[b"cam1/large.png"].record.place))
    told = say("dlq", "show", large, "--output", place / "bytes")
    assert "header camera" in told
    assert "Traceback" in told
    assert (place / "bytes").read_bytes() == (inbox / "large.png").read_bytes()

    settings(place, stream={"settle_s": 0})
    assert "folder:inbox/0/2" in say("dlq", "retry", large)
    assert "was sent again" in say("dlq", "retry", large, code=1)
    say("serve", "--idle", "1")
    with App(load_settings(place / "config.yaml")) as app:
        assert [(r.offset, r.message_id[:14]) for r in app.database.results.recent(9)] == [(2, "cam1/large.png")]
    assert large not in say("dlq", "list")
    assert large in say("dlq", "list", "--all")
    assert "no open dead letters" in say("dlq", "list", "--stage", "crash")


def test_dlq_says_what_it_needs(place: Path, say: Callable[..., str]) -> None:
    settings(place)
    say("init")
    assert "no open dead letters" in say("dlq", "list")
    assert "no open dead letters" in say("dlq", "retry", "--all")
    assert "either places or --all" in say("dlq", "retry", code=2)
    assert "topic/partition/offset" in say("dlq", "show", "7", code=2)
    assert "there is none" in say("dlq", "show", "images/0/7", code=2)
    assert "there is none" in say("dlq", "retry", "images/0/7", code=1)


@pytest.mark.needs_broker
def test_a_letter_goes_back_into_its_topic(bootstrap: str, place: Path, say: Callable[..., str]) -> None:
    topic = f"images-{uuid.uuid4().hex[:12]}"
    create_topic(bootstrap, topic)
    kafka = {"bootstrap": bootstrap, "topic": topic, "group": uuid.uuid4().hex, **SESSION}
    settings(place, stream={"source": "kafka"}, kafka=kafka)
    say("init")
    at = datetime(2026, 3, 1, tzinfo=UTC)
    headers = {"ce_id": b"m0", "camera": b"cam1"}
    mine = record(topic=topic, key=b"cam1", value=b"\xff\xd8", headers=headers, timestamp=at)
    other = record(topic="another")
    with App(load_settings(place / "config.yaml")) as app:
        app.database.results.save_batch([], [dead_letter(record=mine), dead_letter(record=other)], [])
    assert "kafka.topic" in say("dlq", "retry", "--all", code=1)
    [sent] = read_all(bootstrap, topic, 1)
    assert (sent.key, sent.value) == (b"cam1", b"\xff\xd8")
    assert dict(sent.headers) == {**headers, "stream_ad.retry_of": f"{topic}/0/0".encode()}
    listed = say("dlq", "list")
    assert topic not in listed
    assert "another/0/0" in listed
