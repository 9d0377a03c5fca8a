"""The line over Kafka as a person runs it: `publish` on the camera's side, `serve` on ours, a real broker between."""

import json
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.job import JobKind
from stream_ad.domain.task import Task, TaskId
from tests.broker import SESSION, create_topic, read_all
from tests.pictures import disc
from tests.test_cli import finished

pytestmark = pytest.mark.needs_broker

PRODUCT = "4711"
IDLE = ("--idle", "4")  # long enough for a consumer to get its partitions and its first pictures


class Line(NamedTuple):
    place: Path
    bootstrap: str
    topic: str

    def settings(self, **stream: Any) -> None:
        """Write the configuration."""
        chosen = {
            "backbone": {"id": "tiny", "image_size": 64},
            "detector": {"name": "patchcore", "coreset_rows": 64},
            "routing": {"refuse": False},
            "stream": {"source": "kafka", "settle_s": 0, **stream},
            "kafka": {
                "bootstrap": self.bootstrap,
                "topic": self.topic,
                "results_topic": f"{self.topic}.results",
                "group": uuid.uuid4().hex,
                **SESSION,
            },
        }
        (self.place / "config.yaml").write_text(yaml.safe_dump(chosen))

    def run(self, *arguments: object) -> str:
        """What a command says; it must succeed."""
        ran = finished(self.place, *arguments)
        assert ran.code == 0, ran
        return ran.out

    def results(self) -> list[Any]:
        """Of the database, in the order of the topic."""
        with App(load_settings(self.place / "config.yaml")) as app:
            return sorted(app.database.results.recent(100), key=lambda result: result.offset)

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        file = self.place / "stream-ad-data" / name
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def save(folder: Path, pictures) -> Path:
    folder.mkdir(parents=True)
    for row, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{row:03d}.png")
    return folder


@pytest.fixture
def line(tmp_path: Path, bootstrap: str, topic: str) -> Line:
    """A place whose bank knows one product, and its topics."""
    for name in (f"{topic}.results", f"{topic}.dlq"):
        create_topic(bootstrap, name)
    made = Line(tmp_path, bootstrap, topic)
    made.settings()
    good = save(tmp_path / "good", [disc(seed) for seed in range(16)])
    with App(load_settings(tmp_path / "config.yaml")) as app:
        app.make_database()
        task = Task(id=TaskId("nut"), class_name="metal nut", product_ids=(PRODUCT,), false_alarm_rate=0.05)
        payload = app.check_folders(task, images=good, heldout=None, roi=None, detector=None).payload
        app.database.tasks.add(task, JobKind.ADAPT, payload, app.clock.now())
        app.worker().run(drain=True)
        assert app.database.banks.active_version() == 1
    return made


def test_pictures_go_from_a_folder_over_the_topic_to_verdicts_everywhere(line: Line):
    camera = line.place / "camera"
    save(camera / "cam-1", [disc(100), disc(101, scratched=True), disc(102)])
    said = line.run("publish", "camera", "--product", PRODUCT)
    assert f"3 pictures sent to topic {line.topic}" in said
    served = line.run("serve", *IDLE)
    assert "bank 1" in served
    assert "3 pictures:" in served

    results = line.results()
    assert [result.offset for result in results] == [0, 1, 2]
    assert {(result.camera, result.declared_product, result.task) for result in results} == {
        ("cam-1", PRODUCT, TaskId("nut"))
    }
    assert results[1].verdict == "NG"
    assert results[1].overlay is not None
    assert Path(results[1].overlay).is_file()
    # the same three, by each of the three ways out
    sent = [json.loads(record.value) for record in read_all(line.bootstrap, f"{line.topic}.results", 3)]
    scores = {result.message_id: result.score for result in results}
    assert {document["message_id"]: document["score"] for document in sent} == scores
    assert {document["message_id"]: document["score"] for document in line.json_lines("results.jsonl")} == scores

    # served once is served for good
    assert "0 pictures" in line.run("serve", *IDLE)


def test_bad_pictures_and_references_end_in_the_dead_letter_topic_and_the_line_goes_on(line: Line):
    allowed = save(line.place / "allowed", [disc(100)])
    forbidden = save(line.place / "forbidden", [disc(101)])
    whole = (allowed / "000.png").read_bytes()
    line.settings(reference_roots=["allowed"])
    headers = {"ce_id": b"by-reference", "ce_dataref": (allowed / "000.png").resolve().as_uri().encode()}
    elsewhere = {"ce_id": b"elsewhere", "ce_dataref": (forbidden / "000.png").resolve().as_uri().encode()}
    messages = [
        (b"this is a text, whatever its name says", {"ce_subject": b"text.png"}),
        (whole[: len(whole) // 2], {"ce_subject": b"half.png"}),
        (None, headers),
        (None, elsewhere),
        (whole, {"ce_id": b"stranger", "product": b"no-such-product"}),
    ]
    with closing(SafeProducer(KafkaProducerOptions(bootstrap=line.bootstrap))) as producer:
        producer.send([Outgoing(topic=line.topic, key=None, value=value, headers=head) for value, head in messages])
    served = line.run("serve", *IDLE)
    assert "5 pictures:" in served
    assert "3 dead letters" in served

    by_reference, stranger = line.results()
    assert by_reference.message_id == "by-reference"
    assert by_reference.task == "nut"
    assert stranger.verdict == "unknown product"
    assert "'no-such-product' is declared" in stranger.alarm

    text, half, refused = read_all(line.bootstrap, f"{line.topic}.dlq", 3)
    assert text.value == b"this is a text, whatever its name says"
    assert half.value == whole[: len(whole) // 2]
    assert not refused.value
    reasons = [{name: value.decode() for name, value in record.headers} for record in (text, half, refused)]
    assert "needed a JPEG, PNG" in str(reasons[0])
    assert "truncated" in str(reasons[1])
    assert "000.png" in str(reasons[2])
    assert len(line.json_lines("results.dead-letters.jsonl")) == 3


def test_large_pictures_of_an_allowed_folder_travel_as_references(line: Line):
    line.settings(reference_roots=["camera"])
    save(line.place / "camera", [disc(100), disc(101, scratched=True)])
    line.run("publish", "camera", "--reference-above-mb", "0")
    assert [record.value for record in read_all(line.bootstrap, line.topic, 2)] == [b"", b""]  # no camera, so no key
    line.run("serve", *IDLE)
    good, scratched = line.results()
    assert good.score < scratched.score
    assert scratched.verdict == "NG"
