"""One method on one task's test pictures, after every step from its own on.

Two modes side by side: *routed*, each picture alone, its task guessed; and *oracle*, the task told. A refused picture
keeps the nearest task's score in the ranking metrics, and refusals are counted apart.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from stream_ad.backbones.base import Backbone
from stream_ad.detectors.base import Detector
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import METRICS
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.continual.methods import Held
from stream_ad.evaluation.continual.test_set import TestSet
from stream_ad.evaluation.metrics import image_ap, image_auroc, pixel_ap, pixel_auroc, pixel_pro
from stream_ad.inspection import BankModel

ALPHAS = (0.05, 0.01)
#: arrays that detectors write; all others are the router's, alike for all methods
OF_DETECTORS = frozenset(
    ("coreset", "levels", "directions", "gains", "units", "top_k", "text_prompts", "text_embeddings", "visual_prompts")
)
STRIDE = 4  # of the maps that differences between methods are resampled on


class Routed(NamedTuple):
    """Where one picture goes."""

    task: TaskId
    refused: bool


class Scored(NamedTuple):
    """One picture against one entry."""

    score: float
    map: Float32[np.ndarray, "size size"]


class Routes:
    """Routes of one task's test pictures among banks; alike for all methods whose routing keys are alike."""

    def __init__(self, test: TestSet) -> None:
        self._test = test
        self._known: dict[tuple[str, int, tuple[str, ...]], list[Routed]] = {}

    def of(self, held: Mapping[TaskId, BankEntry], backbone: Backbone, detector: Detector, block: int) -> list[Routed]:
        """One route per picture."""
        key = (str(backbone.spec), block, tuple(_routing_hash(entry) for entry in held.values()))
        if key not in self._known:
            model = model_of(held, backbone, detector, block)
            routes: list[Routed] = []
            for _, views in self._test.batches(backbone):
                routes += [Routed(route.entry.task.id, bool(route.refused)) for route in model.route(views)]
            self._known[key] = routes
        return self._known[key]


@dataclass(slots=True, eq=False)
class Measurement:
    """One method (what it held after every step) on one task's test pictures."""

    test: TestSet
    task: TaskId
    #: step at which the task arrived
    own: int
    held: Sequence[Held]
    backbone: Backbone
    detector: Detector
    block: int
    routes: Routes
    now: Callable[[], datetime]
    #: every look at the test pictures
    reads: list[dict[str, Any]] = field(default_factory=list)
    #: scores of the pictures under entries that are still in use, by picture and entry
    _scored: dict[tuple[int, str], Scored] = field(default_factory=dict)
    _metrics: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)

    def run(self) -> "Measured":
        steps = []
        first: Step | None = None
        last: Step | None = None
        for step in range(self.own, len(self.held)):
            last = self._step(step)
            first = first or last
            steps.append(last.summary)
        assert first is not None
        assert last is not None
        unseen = self._refused_when_unknown()
        return Measured(
            steps=steps,
            first=first,
            last=last,
            unseen_refused=unseen,
            last_maps=np.stack([scored.map for scored in last.routed]),
        )

    def _step(self, step: int) -> "Step":
        self._log(step)
        held = self.held[step]
        own = held.entries[self.task]
        told = [own] * len(self.test)
        routes = None
        guessed: list[BankEntry] = told
        if held.routes:
            routes = self.routes.of(held.entries, self.backbone, self.detector, self.block)
            guessed = [held.entries[route.task] for route in routes]
        used = {(row, entry.sha256) for entries in (told, guessed) for row, entry in enumerate(entries)}
        self._scored = {key: value for key, value in self._scored.items() if key in used}
        self._score(told)
        self._score(guessed)
        scored = {
            mode: [self._scored[row, entry.sha256] for row, entry in enumerate(entries)]
            for mode, entries in (("oracle", told), ("routed", guessed))
        }
        summary: dict[str, Any] = {
            "step": step,
            "oracle": self._of(told, scored["oracle"]),
            "routed": self._of(guessed, scored["routed"]),
        }
        if routes is not None:
            summary["recognised"] = sum(route.task == self.task for route in routes)
            summary["refused"] = sum(route.refused for route in routes)
        return Step(summary, told, guessed, routes, scored["oracle"], scored["routed"])

    def _score(self, entries: Sequence[BankEntry]) -> None:
        """Score every picture under its entry, unless that is known."""
        missing = {row for row, entry in enumerate(entries) if (row, entry.sha256) not in self._scored}
        if not missing:
            return
        model = model_of({}, self.backbone, self.detector, self.block)
        for rows, views in self.test.batches(self.backbone):
            todo = [place for place, row in enumerate(rows) if row in missing]
            if not todo:
                continue
            own = [entries[rows[place]] for place in todo]
            for place, finding in zip(todo, model.find(views.select(todo), own), strict=True):
                key = (rows[place], entries[rows[place]].sha256)
                self._scored[key] = Scored(finding.score, to_size(finding.map, self.test.map_size))

    def _of(self, entries: Sequence[BankEntry], scored: Sequence[Scored]) -> dict[str, float | None]:
        """All metrics; computed again only when some picture was scored by another entry."""
        key = tuple(entry.sha256 for entry in entries)
        if key not in self._metrics:
            scores = np.array([one.score for one in scored])
            self._metrics = {key: metrics_of(scores, [one.map for one in scored], self.test)} | self._metrics
            while len(self._metrics) > 4:
                self._metrics.popitem()
        return {name: _plain(value) for name, value in self._metrics[key].items()}

    def _log(self, step: int | str) -> None:
        self.reads.append({"step": step, "images": len(self.test), "at": self.now().isoformat(timespec="seconds")})

    def _refused_when_unknown(self) -> int | None:
        """Pictures refused by the final bank when this task is left out of it; None: nothing else is in it."""
        held = self.held[-1]
        others = {task: entry for task, entry in held.entries.items() if task != self.task}
        if not held.routes or not others:
            return None
        self._log("left out of the final bank")
        return sum(route.refused for route in self.routes.of(others, self.backbone, self.detector, self.block))


class Step(NamedTuple):
    """What a step gave, picture by picture."""

    summary: dict[str, Any]
    told: Sequence[BankEntry]
    guessed: Sequence[BankEntry]
    routes: Sequence[Routed] | None
    oracle: Sequence[Scored]
    routed: Sequence[Scored]

    def verdicts(self, mode: str) -> list[Verdict]:
        entries, scored = (self.told, self.oracle) if mode == "oracle" else (self.guessed, self.routed)
        found = [
            Verdict.NG if one.score > entry.threshold else Verdict.OK
            for entry, one in zip(entries, scored, strict=True)
        ]
        if mode == "oracle" or self.routes is None:
            return found
        return [Verdict.UNKNOWN if r.refused else v for v, r in zip(found, self.routes, strict=True)]


class Measured(NamedTuple):
    """One method on one task, after all steps."""

    steps: list[dict[str, Any]]
    first: Step
    last: Step
    unseen_refused: int | None
    last_maps: Float32[np.ndarray, "images size size"]

    def content(self, test: TestSet, *, thresholds: bool) -> dict[str, Any]:
        """As a part keeps it. Without `thresholds`, verdicts mean nothing and are left out."""
        last = self.last
        content: dict[str, Any] = {
            "steps": self.steps,
            "images": {"ids": test.ids, "kinds": test.kinds, "defective": test.defective.tolist()},
            "unmarked": test.unmarked,
            "synthetic": test.synthetic,
            "scores": {
                "routed": [float(one.score) for one in last.routed],
                "oracle": [float(one.score) for one in last.oracle],
            },
            "unseen_refused": self.unseen_refused,
        }
        if last.routes is not None:
            content["routed_to"] = [str(route.task) for route in last.routes]
            content["refused"] = [route.refused for route in last.routes]
        if thresholds:
            content["verdicts"] = {
                mode: {"first": self.first.verdicts(mode), "last": last.verdicts(mode)} for mode in ("routed", "oracle")
            }
            content["thresholds"] = [float(entry.threshold) for entry in last.guessed]
            content["alarms"] = {f"{alpha:g}": self._alarms(test.defective, alpha) for alpha in ALPHAS}
        return content

    def arrays(self, test: TestSet) -> dict[str, np.ndarray]:
        """Maps and masks of the last step, thinned out, for differences between methods."""
        if test.masks is None:
            return {"maps": np.zeros((0, 0, 0), np.float32), "masks": np.zeros((0, 0, 0), bool)}
        thin = slice(STRIDE // 2, None, STRIDE)
        return {"maps": self.last_maps[:, thin, thin], "masks": test.masks[:, thin, thin]}

    def _alarms(self, defective: Bool[np.ndarray, " images"], alpha: float) -> dict[str, Any]:
        """Good pictures above the thresholds for `alpha`, with the task told and guessed."""
        entry = self.last.told[0]
        good = np.flatnonzero(~defective).tolist()

        def above(entries: Sequence[BankEntry], scored: Sequence[Scored], row: int) -> bool:
            return scored[row].score > entries[row].calibration.threshold(alpha)

        refused = [] if self.last.routes is None else [row for row in good if self.last.routes[row].refused]
        return {
            "good": len(good),
            "calibrated_on": len(entry.calibration.scores),
            "out_of_fold": bool(entry.calibration.out_of_fold),
            "oracle": sum(above(self.last.told, self.last.oracle, row) for row in good),
            "routed": sum(above(self.last.guessed, self.last.routed, row) for row in good),
            "routed_or_refused": sum(row in refused or above(self.last.guessed, self.last.routed, row) for row in good),
        }


def model_of(held: Mapping[TaskId, BankEntry], backbone: Backbone, detector: Detector, block: int) -> BankModel:
    """The entries ready to score and to route among."""
    bank = MemoryBank(0)
    for entry in held.values():
        bank = bank.with_entry(entry, 0)
    return BankModel(backbone, {"method": detector}, bank, feature_block=block)


def metrics_of(scores: Float64[np.ndarray, " images"], maps: Sequence[np.ndarray], test: TestSet) -> dict[str, float]:
    """All metrics of one task; NaN where one is not defined."""
    found: dict[str, float] = {metric: float("nan") for metric in METRICS}
    found["image_auroc"] = image_auroc(scores, test.defective)
    found["image_ap"] = image_ap(scores, test.defective)
    if test.masks is not None:
        stacked = np.stack(maps)
        found["pixel_auroc"] = pixel_auroc(stacked, test.masks)
        found["pixel_ap"] = pixel_ap(stacked, test.masks)
        found["pixel_pro"] = pixel_pro(stacked, test.masks)
    return found


def to_size(values: Float32[np.ndarray, "_from _from"], size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """A map at the size that all methods are compared at: the mean of what a cell covers, or between points."""
    if len(values) == size:
        return values
    how = cv2.INTER_AREA if len(values) > size else cv2.INTER_LINEAR
    return cv2.resize(values, (size, size), interpolation=how)


def _routing_hash(entry: BankEntry) -> str:
    """What a router may read of an entry: all but what a detector wrote."""
    made_of = hashlib.blake2b(entry.task.id.encode(), digest_size=16)
    for name, array in sorted(entry.arrays.items()):
        if name not in OF_DETECTORS:
            made_of.update(name.encode() + np.ascontiguousarray(array).tobytes())
    made_of.update(entry.calibration.embedding_distances.tobytes())
    made_of.update(entry.calibration.key_distances.tobytes())
    return made_of.hexdigest()


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
