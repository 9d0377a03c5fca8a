"""Every task of a bank evaluated through its router: each held-out image alone, its product guessed.

Two modes side by side: *routed*, the headline, and *oracle*, where the task is given; their difference is what routing
costs. A refused image keeps the nearest task's score in the ranking metrics and is reported apart. See "Running a
sequence" in the documentation of the protocol.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.bank import BankEntry
from stream_ad.domain.evaluation import METRICS, ImageOutcome, TaskEvaluation
from stream_ad.domain.images import HeldoutImage, HeldoutSet
from stream_ad.domain.ports import Progress
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.metrics import image_ap, image_auroc, mask_to_map_size, pixel_ap, pixel_auroc, pixel_pro
from stream_ad.functional.anomaly_map import resize_roi
from stream_ad.inspection import BankModel, Finding
from stream_ad.routing.router import Route

BATCH = 16


def evaluate(
    model: BankModel, heldout: Mapping[TaskId, HeldoutSet], progress: Progress
) -> Mapping[TaskId, TaskEvaluation]:
    """One evaluation per task of the bank that has held-out images here.

    Deterministic: equal bank, images and threads give equal numbers.
    """
    total = sum(len(images) for images in heldout.values())
    done = 0
    evaluations = {}
    for task, images in heldout.items():
        gathered = _Gathered(task, model.bank.entry(task))
        for start in range(0, len(images), BATCH):
            batch = [images[i] for i in range(start, min(start + BATCH, len(images)))]
            _gather(model, batch, gathered)
            done += len(batch)
            progress("evaluate", done, total)
        evaluations[task] = gathered.summary()
    return evaluations


@dataclass(slots=True)
class _Gathered:
    """What the images of one task gave so far."""

    task: TaskId
    entry: BankEntry
    outcomes: list[ImageOutcome] = field(default_factory=list)
    maps: dict[str, list[np.ndarray]] = field(default_factory=lambda: {"routed": [], "oracle": []})
    masks: list[np.ndarray] = field(default_factory=list)
    unmarked: int = 0
    outside: int = 0

    def summary(self) -> TaskEvaluation:
        defective = np.array([outcome.defective for outcome in self.outcomes], bool)
        scores = {
            "routed": np.array([outcome.routed_score for outcome in self.outcomes]),
            "oracle": np.array([outcome.oracle_score for outcome in self.outcomes]),
        }
        notes = []
        if defective.all() or not defective.any():
            notes.append(
                "AUROC and AP not measured: this half has "
                + ("no good" if defective.any() else "no defective")
                + " image"
            )
        if self.unmarked:
            notes.append(f"pixel metrics not measured: {self.unmarked} defective images have no mask")
        if self.outside:
            notes.append(f"{self.outside} defective images left out: their defect is outside the region of interest")
        alarms = np.array([outcome.routed_verdict is not Verdict.OK for outcome in self.outcomes], bool)
        right = [outcome.routed_task == self.task for outcome in self.outcomes]
        return TaskEvaluation(
            task=self.task,
            routed=self._metrics("routed", scores["routed"], defective),
            oracle=self._metrics("oracle", scores["oracle"], defective),
            routing_accuracy=_mean(right),
            refused_rate=_mean([outcome.refused for outcome in self.outcomes]),
            false_alarm_rate=_mean(alarms[~defective]),
            detection_rate=_mean(alarms[defective]),
            n_normal=int((~defective).sum()),
            n_defective=int(defective.sum()),
            synthetic=any(outcome.synthetic for outcome in self.outcomes),
            outcomes=tuple(self.outcomes),
            notes=tuple(notes),
        )

    def _metrics(self, mode: str, scores: np.ndarray, defective: np.ndarray) -> Mapping[str, float]:
        if not len(scores):
            return dict.fromkeys(METRICS, float("nan"))
        values = {"image_auroc": image_auroc(scores, defective), "image_ap": image_ap(scores, defective)}
        if self.unmarked or not defective.any():
            return values | dict.fromkeys(("pixel_auroc", "pixel_ap", "pixel_pro"), float("nan"))
        maps, masks = np.stack(self.maps[mode]), np.stack(self.masks)
        return values | {
            "pixel_auroc": pixel_auroc(maps, masks),
            "pixel_ap": pixel_ap(maps, masks),
            "pixel_pro": pixel_pro(maps, masks),
        }


def _gather(model: BankModel, batch: list[HeldoutImage], gathered: _Gathered) -> None:
    views = model.views([image.pixels for image in batch])
    routes = model.route(views)
    oracle = model.find(views, [gathered.entry] * len(batch))
    # an image that was routed right is scored by the same pure function: only the others need a second pass
    astray = [row for row, route in enumerate(routes) if route.entry is not gathered.entry]
    routed = list(oracle)
    for row, finding in zip(
        astray, model.find(views.select(astray), [routes[row].entry for row in astray]) if astray else [], strict=True
    ):
        routed[row] = finding
    for image, route, own, seen in zip(batch, routes, oracle, routed, strict=True):
        _add(gathered, image, route, own, seen)


def _add(gathered: _Gathered, image: HeldoutImage, route: Route, oracle: Finding, routed: Finding) -> None:
    size = oracle.map.shape[0]
    mask = np.zeros((size, size), bool)
    if image.defective and image.mask is None:
        gathered.unmarked += 1
    elif image.mask is not None and image.mask.any():
        mask = mask_to_map_size(image.mask, size)
        roi = gathered.entry.arrays.get("roi")
        if roi is not None and not (mask & resize_roi(np.asarray(roi), size)).any():
            gathered.outside += 1
            return
    gathered.masks.append(mask)
    gathered.maps["oracle"].append(oracle.map)
    gathered.maps["routed"].append(_inside(routed.map, oracle.map))
    gathered.outcomes.append(
        ImageOutcome(
            image_id=image.id,
            task=gathered.task,
            defective=image.defective,
            kind=image.kind,
            synthetic=image.synthetic,
            routed_task=route.entry.task.id,
            refused=route.refused,
            margin=route.margin,
            routed_score=routed.score,
            oracle_score=oracle.score,
            routed_verdict=Verdict.UNKNOWN if route.refused else _verdict(routed),
            oracle_verdict=_verdict(oracle),
        )
    )


def _inside(seen: Float32[np.ndarray, "size size"], own: Float32[np.ndarray, "size size"]) -> np.ndarray:
    """Another task's map on this task's region of interest: what it did not inspect counts as most normal."""
    finite = seen[np.isfinite(seen)]
    filled = np.where(np.isfinite(seen), seen, finite.min() if len(finite) else 0.0)
    return np.where(own == -np.inf, -np.inf, filled).astype(np.float32)


def _verdict(finding: Finding) -> Verdict:
    return Verdict.NG if finding.score > finding.entry.threshold else Verdict.OK


def _mean(values: "np.ndarray | list[bool]") -> float:
    return float(np.mean(values)) if len(values) else float("nan")
