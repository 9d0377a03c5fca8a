"""The stages of `serve`, each alone on the same batch: what it costs when nothing else runs."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch

from stream_ad.backbones.views import Views
from stream_ad.commands.bench_throughput import DECLARED, ROUTED, Stage, bare_forward, measured
from stream_ad.commands.throughput_line import Frame
from stream_ad.domain.message import Record
from stream_ad.domain.result import RESULT_FIELDS, Inspection, InspectionResult
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError
from stream_ad.evaluation.throughput import Cost
from stream_ad.services.outgoing import outbox_of
from stream_ad.services.relay import Relay

if TYPE_CHECKING:
    from stream_ad.commands.bench_throughput import Bench

#: batches that a cheap stage is measured on at once
ROUNDS = 4
#: batches that fetching is measured on, after as many that warm it up
FETCHED = 4


def stages(bench: "Bench", sources: Sequence[str]) -> list[Stage]:
    """Every stage in the order of a picture's way."""
    every = list(dict.fromkeys(sources))
    model = _Model(bench)
    fetching = [Stage(f"fetch, {source}", _fetching(bench, source), _FETCH_NOTES[source]) for source in every]
    writing = [stage for source in every for stage in _Writing(bench, source, model.inspections).stages()]
    return [*fetching, *model.stages(), *writing]


_FETCH_NOTES = {
    "kafka": "polled and committed, the client's thread included",
    "folder": "found, hashed, registered, read and committed",
}


def _fetching(bench: "Bench", source: str) -> Callable[[], Cost]:
    return lambda: _fetch(bench, source)


def _fetch(bench: "Bench", source: str) -> Cost:
    """Polls of a batch and their commits, while the client fetches ahead at both ends alike."""
    batch, taken = bench.batch, 0
    begun: tuple[int, float, float] | None = None
    give_up = time.monotonic() + 60
    with bench.plant(source, DECLARED) as app, closing(app.source()) as opened:
        while time.monotonic() < give_up:
            records = opened.poll(batch, 0.5)
            if records:
                taken += len(records)
                place = (records[-1].topic, records[-1].partition)
                opened.commit({place: records[-1].offset + 1})
            now = (taken, time.process_time(), time.perf_counter())
            if begun is None and taken >= FETCHED * batch:
                begun = now
            elif begun is not None and taken - begun[0] >= FETCHED * batch:
                each = 1000 / (taken - begun[0])
                return Cost((now[1] - begun[1]) * each, (now[2] - begun[2]) * each)
    raise DataError(f"needed {2 * FETCHED * batch} records from the {source}, got {taken} in 60 s; check the source")


class _Model:
    """From a record to an inspection."""

    def __init__(self, bench: "Bench") -> None:
        from functools import partial

        from stream_ad.adapters.decode import decode

        self.bench, self.batch = bench, bench.batch
        self.decode = partial(decode, max_pixels=bench.base.stream.max_pixels)
        self.frames = bench.frames[: bench.batch]
        self.records = [record_of(frame, "bench", frame.number) for frame in self.frames]
        self.pictures = [self.decode(frame.data) for frame in self.frames]
        with bench.plant("folder", DECLARED) as app:
            bank = app.database.banks.load()
            self.model = app.scorer(bank).model
            self.inspections = app.scorer(bank).inspect(
                self.pictures,
                declared=[frame.task for frame in self.frames],
                cameras=[frame.camera for frame in self.frames],
            )
        own = {entry.task.id: entry for entry in bank}
        self.entries = [own[TaskId(frame.task)] for frame in self.frames]
        self.known = self.model.views(self.pictures)
        self.blocks = sorted({*bench.options["blocks"], self.model.router.block})
        for scale in bench.options["scales"]:
            self.known.at(scale).compute(self.blocks)
        self.known.compute(self.blocks, embedding=True)

    def stages(self) -> list[Stage]:
        from stream_ad.adapters.overlay import overlay_jpeg
        from stream_ad.services.messages import read_message

        now, name = datetime.now(UTC), self.bench.forward_name
        pairs = list(zip(self.pictures, self.inspections, strict=True))
        return [
            self._stage("message", lambda: [read_message(record, None, at=now) for record in self.records], ROUNDS),
            self._stage("decode", lambda: [self.decode(record.value or b"") for record in self.records], ROUNDS),
            self._stage("preprocess", lambda: self.model.views(self.pictures), ROUNDS),
            self._stage(f"forward, {name(DECLARED)}", lambda: self._forward(whole=False), note="as served"),
            self._stage(f"forward, {name(ROUTED)}", lambda: self._forward(whole=True), note="as served"),
            self._stage("routing", lambda: self.model.route(self.known), note=f"among {len(self.bench.tasks)} tasks"),
            self._stage("score and map", lambda: self.model.find(self.known, self.entries)),
            self._stage("overlay", lambda: [overlay_jpeg(*pair) for pair in pairs], note="of a picture that is drawn"),
            self._stage(f"bare forward, {name(DECLARED)}", lambda: self._bare(whole=False), note="a batch in one"),
            self._stage(f"bare forward, {name(ROUTED)}", lambda: self._bare(whole=True), note="a batch in one"),
            Stage(f"bare forward, {name(DECLARED)}, one thread", self._one_thread, "a batch in one"),
        ]

    def _stage(self, name: str, run: Callable[[], object], rounds: int = 1, note: str = "") -> Stage:
        def repeated() -> None:
            for _ in range(rounds):
                run()

        return Stage(name, lambda: measured(repeated, rounds * self.batch), note)

    def _forward(self, *, whole: bool) -> None:
        views = Views.of_pixels(self.model.backbone, self.bench.pixels)
        views.compute(self.blocks if whole else self.bench.options["blocks"], embedding=whole)

    def _bare(self, *, whole: bool) -> None:
        bare_forward(self.bench.backbone, self.bench.pixels, self.bench.last_block, whole=whole)

    def _one_thread(self) -> Cost:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return measured(lambda: self._bare(whole=False), self.batch)
        finally:
            torch.set_num_threads(threads)


class _Writing:
    """From an inspection to the database and the sinks, on an installation of its own."""

    def __init__(self, bench: "Bench", source: str, inspections: Sequence[Inspection]) -> None:
        self.bench, self.source, self.inspections = bench, source, inspections

    def stages(self) -> list[Stage]:
        return [
            Stage(f"write, {self.source}", self._measure, "noted, one transaction, relayed to the sinks"),
        ]

    def _measure(self) -> Cost:
        """Batch by batch as served: begin, save, relay. The database is new each time."""
        bench, topic = self.bench, "bench"
        batches = [bench.frames[start : start + bench.batch] for start in range(0, len(bench.frames), bench.batch)]
        with bench.plant(self.source, DECLARED) as app, ExitStack() as stack:
            sinks = [stack.enter_context(closing(sink)) for sink in app.sinks()]
            results, relay = app.database.results, Relay(app.database.results, sinks, clock=app.clock)

            def write(frames: Sequence[Frame]) -> None:
                records = [record_of(frame, topic, frame.number) for frame in frames]
                results.begin(records, app.clock.now())
                rows = [
                    result_of(record, inspection, app.clock.now())
                    for record, inspection in zip(records, self.inspections, strict=False)
                ]
                results.save_batch(rows, [], outbox_of(rows, []) if sinks else [])
                relay.flush()

            write(batches[0])  # connects
            return measured(lambda: [write(batch) for batch in batches[1:]], len(bench.frames) - bench.batch)


def record_of(frame: Frame, topic: str, offset: int) -> Record:
    return Record(
        topic=topic,
        partition=0,
        offset=offset,
        key=frame.camera.encode(),
        value=frame.data,
        headers={name: text.encode() for name, text in {"ce_id": f"{offset}", "camera": frame.camera}.items()},
        timestamp=datetime.now(UTC),
    )


def result_of(record: Record, inspection: Inspection, at: datetime) -> InspectionResult:
    kept = {field.name for field in fields(Inspection)} & set(RESULT_FIELDS)  # a row has no map and no embedding
    shown = {name: getattr(inspection, name) for name in kept}
    return InspectionResult(
        message_id=record.default_id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        camera=record.headers["camera"].decode(),
        declared_product=None,
        latency_ms=0.0,
        scored_at=at,
        overlay=None,
        **shown,
    )
