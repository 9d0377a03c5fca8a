"""The line that the throughput benchmark measures: tasks learned as in service, pictures in a topic and in a folder.

All pictures are JPEG files of quality 90 (`QUALITY`), no two alike. On the stream, one in twenty of the first
product has a defect.
"""

import hashlib
import io
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from stream_ad.app import App
from stream_ad.config import Settings
from stream_ad.domain.images import Picture
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import ConfigError, DataError

QUALITY = 90
LEARNED = 24  # pictures of each task
STREAMED = 20  # of each task; more are these moved by a few pixels
TRAIN, STREAM = "train", "stream"

Said = Callable[[str], None]


class Frame(NamedTuple):
    """One encoded picture on its way."""

    task: str
    number: int
    data: bytes

    @property
    def camera(self) -> str:
        return f"camera-{self.task}"


# --- pictures -----------------------------------------------------------------------------------


def make_pictures(place: Path, tasks: Sequence[str] | None, data: Path | None, size: int, said: Said) -> list[Task]:
    """The tasks, with JPEG pictures below `place`/<task>: to learn and to stream; rendered, or out of a data set."""
    sources = _of_data(data, tasks) if data is not None else _rendered(tasks or ("pcb", "screw"), size)
    made = []
    for id, class_name, learned, streamed in sources:
        made.append(Task(id=TaskId(id), class_name=class_name, cameras=(f"camera-{id}",)))
        for folder, pictures in ((TRAIN, learned), (STREAM, streamed)):
            inside = place / id / folder
            if inside.is_dir():
                continue
            said(f"pictures of {id} to {folder}")
            partial = place / id / f"{folder}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for row, picture in enumerate(pictures()):
                (partial / f"{row:03d}.jpg").write_bytes(_jpeg(_sized(picture, size)))
            partial.rename(inside)
    return made


Pictures = Callable[[], Iterator[Picture]]


def _rendered(names: Sequence[str], size: int) -> Iterator[tuple[str, str, Pictures, Pictures]]:
    from stream_ad.demo import PRODUCTS

    for place, name in enumerate(names):
        if name not in PRODUCTS:
            raise ConfigError(f"there is no rendered product {name!r}; choose among {', '.join(PRODUCTS)}")
        product = PRODUCTS[name]

        def learned(product: Any = product) -> Iterator[Picture]:
            return (product.render(seed, size=size).picture for seed in range(LEARNED))

        def streamed(product: Any = product, place: int = place) -> Iterator[Picture]:
            for seed in range(LEARNED, LEARNED + STREAMED):
                bad = place == 0 and seed == LEARNED + STREAMED // 2
                defect = next(iter(product.defects)) if bad else None
                yield product.render(seed, size=size, defect=defect).picture

        yield name, product.class_name, learned, streamed


def _of_data(root: Path, names: Sequence[str] | None) -> Iterator[tuple[str, str, Pictures, Pictures]]:
    from stream_ad.adapters.datasets import find_products

    for place, product in enumerate(find_products(root, names)):

        def learned(product: Any = product) -> Iterator[Picture]:
            return (product.train[i] for i in range(min(LEARNED, len(product.train))))

        def streamed(product: Any = product, place: int = place) -> Iterator[Picture]:
            good = [i for i, defective in enumerate(product.test.defective) if not defective]
            bad = [i for i, defective in enumerate(product.test.defective) if defective]
            return (
                product.test[i].picture
                for i in [*good[: STREAMED - 1], *(good[STREAMED - 1 : STREAMED] if place else bad[:1])]
            )

        yield product.id, product.class_name, learned, streamed


def _sized(picture: Picture, size: int) -> Picture:
    """With `size` pixels along the longer side."""
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    if scale == 1:
        return picture
    chosen = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(chosen, Image.Resampling.BICUBIC))


def _jpeg(picture: Picture) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "JPEG", quality=QUALITY)
    return encoded.getvalue()


def frames(place: Path, tasks: Sequence[Task], count: int) -> list[Frame]:
    """So many different pictures, the tasks in turn as from a camera each."""
    files = {task.id: sorted((place / task.id / STREAM).glob("*.jpg")) for task in tasks}
    found = []
    for number in range(count):
        task = tasks[number % len(tasks)].id
        lap, row = divmod(number // len(tasks), len(files[task]))
        data = files[task][row].read_bytes()
        if lap:  # moved by up to three pixels each way: another picture of the same part
            down, right = divmod(lap % 49, 7)
            data = _jpeg(np.roll(np.array(Image.open(io.BytesIO(data))), (down - 3, right - 3), axis=(0, 1)))
        found.append(Frame(task, number, data))
    return found


# --- the plant ----------------------------------------------------------------------------------


def plant_settings(base: Settings, data_dir: Path, **stream: Any) -> Settings:
    """The user's settings with a data folder and an embedded database of their own."""
    return changed(
        base,
        data_dir=data_dir,
        database={"url": None},
        # what is learned for speed must not fail at a gate for quality
        gate={name: 0.0 if name.startswith("min") else 1.0 for name in type(base.gate).model_fields},
        stream=stream,
    )


def changed(settings: Settings, **sections: Any) -> Settings:
    """Settings with other values, a mapping for those of a section."""
    values = {
        name: getattr(settings, name).model_copy(update=value) if isinstance(value, Mapping) else value
        for name, value in sections.items()
    }
    return settings.model_copy(update=values)


def learn(base: Settings, place: Path, pictures: Path, tasks: Sequence[Task], backbone: Any, said: Said) -> None:
    """A data folder with a bank of all tasks, learned by a worker as in service; kept when it is there."""
    from stream_ad.domain.job import JobKind, JobState

    if place.is_dir():
        return
    partial = place.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with App(plant_settings(base, partial), backbone=backbone) as app:
        app.make_database()
        for task in tasks:
            said(f"learning {task.id}")
            checked = app.check_folders(task, images=pictures / task.id / TRAIN, heldout=None, roi=None, detector=None)
            job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
            app.worker().run(drain=True)
            ended = app.database.jobs.get(job.id)
            if ended.state is not JobState.PUBLISHED:
                raise DataError(f"needed {task.id} learned, its job ended {ended.state}: {ended.message}")
    partial.rename(place)


def digest(*parts: Any) -> str:
    """A short name for what a kept part was made from."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


# --- streams ------------------------------------------------------------------------------------


@contextmanager
def topic_of(app: App, frames: Sequence[Frame], *, declared: bool) -> Iterator[str]:
    """A topic of its own that holds the pictures, with the topics of its results; deleted at the end."""
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    from stream_ad.adapters.kafka_connection import connect, explained
    from stream_ad.adapters.kafka_producer import Outgoing, SafeProducer

    topic = f"stream-ad.throughput.{uuid.uuid4().hex[:12]}"
    every = [topic, results_of(topic), f"{topic}.dlq"]
    options = app.kafka_producer_options()
    admin_settings = {"bootstrap_servers": options.bootstrap.split(","), **options.security.client_settings()}
    with ExitStack() as opened:
        with explained(options.bootstrap, "make topics at"):
            admin, _ = connect(KafkaAdminClient, admin_settings)
            opened.callback(admin.close)
            admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1) for name in every])
        try:
            producer = SafeProducer(options)
            with closing(producer):
                for start in range(0, len(frames), 32):
                    producer.send(
                        [
                            Outgoing(topic=topic, key=frame.camera.encode(), value=frame.data, headers=headers)
                            for frame in frames[start : start + 32]
                            for headers in [_headers(frame, declared)]
                        ]
                    )
            yield topic
        finally:
            admin.delete_topics(every)


def results_of(topic: str) -> str:
    return f"{topic}.results"


def _headers(frame: Frame, declared: bool) -> dict[str, bytes]:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid4()),
        "ce_source": "stream-ad/bench",
        "ce_type": "stream-ad.image/1",
        "ce_time": datetime.now(UTC).isoformat(),
        "content-type": "image/jpeg",
        "sha256": hashlib.sha256(frame.data).hexdigest(),
    }
    if declared:
        headers |= {"camera": frame.camera, "product": frame.task}
    return {name: text.encode() for name, text in headers.items()}


def fill_folder(inbox: Path, frames: Sequence[Frame], *, declared: bool) -> None:
    """The pictures as files of an inbox; the first sub-folder is the camera, which a task may name as its own."""
    for frame in frames:
        folder = inbox / (frame.camera if declared else f"line-{frame.number % 4}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{frame.number:06d}.jpg").write_bytes(frame.data)
    time.sleep(0.01)  # older than the look that finds them
