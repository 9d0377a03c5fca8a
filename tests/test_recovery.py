"""Wherever a scorer dies between the broker and the sinks, the next one loses nothing and judges nothing twice.

Real processes, a real broker, a real database and real files; only the model is a stand-in.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.adapters.storage import Database
from tests import recovery_kit as kit
from tests.broker import create_topic, read_all
from tests.scorer_to_kill import DEADLY, EXIT, STEPS
from tests.stream_kit import png

pytestmark = pytest.mark.needs_broker

ROOT = Path(__file__).parents[1]
GREYS = (20, 40, 120, 60, 200)
#: with the one that is no picture
RECORDS = len(GREYS) + 1
BEFORE_SAVING = STEPS[: STEPS.index("saved")]
#: after these the database cannot know that a sink has a message already; each sink has a thread of its own
MAY_REPEAT = {"sending": ("lines",), **dict.fromkeys(("sent", "written", "noting"), ("topics", "lines"))}


class Line(NamedTuple):
    folder: Path
    bootstrap: str
    topic: str
    database: Database
    books: kit.Books

    def put(self, *values: bytes) -> None:
        with closing(SafeProducer(KafkaProducerOptions(bootstrap=self.bootstrap))) as producer:
            producer.send([Outgoing(topic=self.topic, key=None, value=value, headers={}) for value in values])

    def run(self, point: str) -> int:
        """A scorer in a process of its own; its exit status."""
        command = [sys.executable, "-m", "tests.scorer_to_kill", str(self.folder), self.bootstrap, self.topic, point]
        return subprocess.run(command, cwd=ROOT, env=os.environ, timeout=120, check=False).returncode

    def heir(self, records: int) -> None:
        """Another scorer works until every record has a verdict, is committed, and nothing waits."""

        def done() -> bool:
            books = self.books
            return books.verdicts == books.committed == records and not books.count("outbox")

        with kit.scorer(self.database, self.folder, self.bootstrap, self.topic) as stream:
            kit.work_until(stream, done)
        assert done(), (self.books.verdicts, self.books.committed, self.books.count("outbox"))

    @property
    def scores(self) -> dict[int, float | None]:
        """By offset, as the database has them."""
        return {result.offset: result.score for result in self.database.results.recent(100)}

    def shown(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The results in the topic and in the file, repeats as well."""
        sent = [json.loads(r.value) for r in read_all(self.bootstrap, f"{self.topic}.results", 100, timeout_s=1.5)]
        lines = (self.folder / kit.LINES).read_text(encoding="utf-8").splitlines()
        return sent, [json.loads(line) for line in lines]


@pytest.fixture
def line(tmp_path: Path, bootstrap: str, topic: str) -> Iterator[Line]:
    for name in (f"{topic}.results", f"{topic}.dlq"):
        create_topic(bootstrap, name)
    with kit.open_database(tmp_path) as database, closing(kit.Books(database, bootstrap, topic)) as books:
        yield Line(tmp_path, bootstrap, topic, database, books)


@pytest.mark.parametrize("step", STEPS)
def test_a_scorer_that_dies_there_loses_nothing_and_nothing_is_judged_twice(line: Line, step: str):
    line.put(*(png(grey) for grey in GREYS), b"this is no picture")
    assert line.run(step) == EXIT

    # what it left behind: a batch is there with all that belongs to it or not at all, and is committed after that only
    books = line.books
    verdicts, tries = books.verdicts, books.count("attempts")
    assert (verdicts > 0) is (step not in BEFORE_SAVING)
    assert verdicts + tries == (0 if step in ("polled", "beginning") else RECORDS)
    if step in ("saved", "committing", "committed"):
        assert books.count("outbox") == verdicts  # the relay begins after the commit
    if step in (*BEFORE_SAVING, "saved", "committing"):
        assert books.committed == 0
    assert (step == "committed") <= (0 < books.committed <= verdicts)

    line.heir(RECORDS)
    assert line.scores == dict(enumerate(map(float, GREYS)))
    [letter] = line.database.results.dead_letters(10)
    assert (letter.record.offset, letter.stage) == (len(GREYS), "decode")
    assert books.count("attempts") == 0
    for sink, documents in zip(("topics", "lines"), line.shown(), strict=True):
        ids = Counter(document["id"] for document in documents)
        assert len(ids) == len(GREYS)
        assert len({json.dumps(document, sort_keys=True) for document in documents}) == len(GREYS)  # repeats are equal
        if sink not in MAY_REPEAT.get(step, ()):
            assert set(ids.values()) == {1}


def test_a_picture_that_kills_its_process_every_time_is_put_aside_and_the_others_get_their_verdicts(line: Line):
    line.put(png(20), png(40), png(DEADLY), png(60), b"this is no picture")
    deaths = 0
    while line.run("nowhere") == EXIT:
        deaths += 1
        assert deaths <= 3  # stream.max_attempts
    assert deaths == 3
    assert line.scores == {0: 20.0, 1: 40.0, 3: 60.0}
    letters = {letter.record.offset: letter for letter in line.database.results.dead_letters(10)}
    assert {offset: letter.stage for offset, letter in letters.items()} == {2: "crash", 4: "decode"}
    assert letters[2].attempts == 3
    assert letters[2].record.value == png(DEADLY)
    assert line.books.committed == 5
    assert line.books.count("attempts") == 0


def test_a_scorer_that_dies_again_and_again_does_not_accuse_the_pictures_that_were_only_waiting(line: Line):
    line.put(*(png(grey) for grey in GREYS))
    for step in ("begun", "polled", "beginning", "polled"):
        assert line.run(step) == EXIT
    line.heir(len(GREYS))
    assert line.scores == dict(enumerate(map(float, GREYS)))
    assert line.database.results.dead_letters(10) == []
