"""From the normal images of one task to its bank entry: adapt, then calibrate on images that were not adapted to."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, RawPrediction, uncalibrated
from stream_ad.detectors.calibrated import calibrate
from stream_ad.detectors.memory import UNITS, entry_roi
from stream_ad.domain.bank import SUSPECTS, BankEntry, Calibration
from stream_ad.domain.images import MIN_IMAGES, ImageSet, Mask, Subset, split_hash
from stream_ad.domain.job import learned_of
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.perturbation import perturb
from stream_ad.routing.keys import KeyDistances, key_distances, make_keys
from stream_ad.services.suspects import Evidence

BATCH = 16


def learn(
    task: Task,
    normals: ImageSet,
    detector: Detector,
    backbone: Backbone,
    *,
    roi: Mask | None = None,
    feature_block: int = 5,
    folds: int = 5,
    split_from: int = 500,
    max_suspects: float = 0.1,
    few: int = 0,
    seed: int = 0,
    progress: Progress,
) -> BankEntry:
    """The entry of one task, not yet stored (`sha256` is empty).

    With at least `split_from` normals a fifth of them is kept for calibration and never learned. Below that every
    image is scored by a memory that left it out (`folds`-fold), and the final memory takes all of them. Seeds derive
    from the task, so the entry does not depend on when the task arrives; `seed` is for repeating a whole run with
    other draws: starts of the sampling, prompts, painted defects, folds.

    With `few`, only so many are learned, and all others calibrate, if these are enough for a threshold.

    Pictures that look defective among the others are left out of the memory and of the calibration, at most a share
    `max_suspects` of all (0: none is looked for); the entry names them. Which they are is judged by memories that did
    not see them; of a large set the calibration fifth judges the rest first.

    Raises:
        TooFewImages: fewer than 4 normals, or than the detector needs.
    """
    needed = max(MIN_IMAGES, detector.min_images + 1)
    if len(normals) < needed:
        raise TooFewImages(task.id, needed, len(normals))
    own = _mixed(task.seed, seed)
    order = sorted(range(len(normals)), key=lambda index: normals.ids[index])  # by hash: whatever the file names
    if seed:
        order = np.random.default_rng(own).permutation(order).tolist()
    parts = [order[fold::folds] for fold in range(min(folds, len(order)))]
    out_of_fold = len(normals) < split_from
    if not out_of_fold:
        parts = parts[:1]
    first = learned_of(len(order), few)
    if first < len(order):
        out_of_fold, parts = False, [order[first:]]
    apart = set() if out_of_fold else set(parts[0])
    # a few pictures are too few to tell which of them is the odd one
    screened = max_suspects > 0 and len(apart) >= needed and first == len(order)
    total = len(parts) + out_of_fold + screened
    stages = (_Staged(progress, min(stage, total - 1), total) for stage in count())

    def adapted(indices: Iterable[int]) -> dict[str, np.ndarray]:
        chosen = Subset(normals, sorted(indices))
        return _adapt(task, chosen, detector, backbone, roi, feature_block, own, next(stages))

    measured = _Measured(detector.branches)
    suspects: set[int] = set()
    if screened:
        screen = uncalibrated(detector, task, adapted(apart), backbone.spec)
        judged = sorted(set(order) - apart)
        suspects |= _screened(Subset(normals, judged), judged, detector, backbone, screen, max_suspects)
    arrays = adapted(set(order) - apart - suspects)
    # memories of one task differ in what they measure in, by far more than their distances do: scores of the folds'
    # would say little of the scores of the one that is kept
    units = {name: arrays[name] for name in UNITS if name in arrays}
    for fold, held in enumerate(parts):
        made = adapted(set(order) - set(held)) | units if out_of_fold else arrays
        pseudo = uncalibrated(detector, task, made, backbone.spec)
        _measure(measured, normals, held, detector, backbone, pseudo, feature_block, own + fold)
    found = measured.suspects(max_suspects)
    if found and out_of_fold:
        arrays = adapted(set(order) - found) | units
    suspects |= found
    held_ids = [normals.ids[i] for part in parts for i in part if i not in suspects]
    return replace(
        uncalibrated(detector, task, arrays, backbone.spec),
        calibration=measured.calibration(suspects, out_of_fold=out_of_fold),
        splits={
            "fit": split_hash([normals.ids[i] for i in order if i not in suspects | apart]),
            "calibration": split_hash(held_ids),
            **({SUSPECTS: " ".join(normals.ids[i] for i in sorted(suspects))} if suspects else {}),
        },
    )


def _mixed(task_seed: int, seed: int) -> int:
    """The seed of a task in one of several runs; run 0 is the one that a plant makes."""
    return (task_seed + 2_654_435_761 * seed) % (2**31 - 1)  # Knuth's multiplier: near seeds end up far apart


class _Measured:
    """What unseen normals gave, gathered over the folds."""

    def __init__(self, branches: Mapping[str, float]) -> None:
        self.branches = branches
        self.evidence = Evidence(branches)
        self.indices: list[int] = []
        self.raw: list[RawPrediction] = []
        self.keys: list[float] = []
        self.embeddings: list[float] = []

    def add(self, indices: Sequence[int], raw: RawPrediction, distances: KeyDistances) -> None:
        self.evidence.add(indices, raw)
        self.indices += indices
        self.raw.append(raw)
        self.keys += distances.keys.tolist()
        self.embeddings += distances.embedding.tolist()

    def suspects(self, max_share: float) -> set[int]:
        return self.evidence.suspects(max_share)

    def calibration(self, without: Collection[int], *, out_of_fold: bool) -> Calibration:
        kept = np.array([index not in without for index in self.indices])
        starts = np.cumsum([0, *(len(next(iter(part.scores.values()))) for part in self.raw)])
        parts = [part.rows(kept[a:b]) for part, a, b in zip(self.raw, starts[:-1], starts[1:], strict=True)]
        return calibrate(
            [part for part in parts if len(next(iter(part.scores.values())))],
            self.branches,
            key_distances=np.array(self.keys)[kept],
            embedding_distances=np.array(self.embeddings)[kept],
            out_of_fold=out_of_fold,
        )


class _Staged:
    """Progress of one fold as a part of the whole."""

    def __init__(self, progress: Progress, fold: int, folds: int) -> None:
        self.progress, self.fold, self.folds = progress, fold, folds
        self.seen: list[str] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage not in self.seen:
            self.seen.append(stage)
        steps = 4  # text prompts, visual prompts, coreset, and what comes after
        within = (min(len(self.seen), steps) - 1 + done / max(total, 1)) / steps
        self.progress("adapt", round(1000 * (self.fold + within)), 1000 * self.folds)


def _adapt(
    task: Task,
    normals: ImageSet,
    detector: Detector,
    backbone: Backbone,
    roi: Mask | None,
    feature_block: int,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    arrays = dict(detector.adapt(task, normals, roi=roi, seed=seed, progress=progress))
    arrays |= make_keys(backbone, normals, block=feature_block, seed=seed)
    arrays["key_block"] = np.array(feature_block)  # the router must read the block that the keys are of
    if roi is not None:
        arrays["roi"] = np.ascontiguousarray(roi)
    return arrays


def _measure(
    measured: _Measured,
    normals: ImageSet,
    held: Sequence[int],
    detector: Detector,
    backbone: Backbone,
    entry: BankEntry,
    feature_block: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    for start in range(0, len(held), BATCH):
        indices = held[start : start + BATCH]
        pictures = [normals[i] for i in indices]
        views = Views(backbone, pictures)
        raw = detector.predict(views, [entry] * len(views))
        # refusal must let defective parts through, and real defects are not to be had: painted ones stand in
        painted = Views(backbone, [perturb(picture, rng, roi=entry_roi(entry))[0] for picture in pictures])
        measured.add(indices, raw, key_distances(painted, entry.arrays, block=feature_block))


def _screened(
    images: ImageSet,
    indices: Sequence[int],
    detector: Detector,
    backbone: Backbone,
    entry: BankEntry,
    max_share: float,
) -> set[int]:
    """Which of the images, numbered `indices`, look defective to an entry that learned none of them."""
    evidence = Evidence(detector.branches)
    for start in range(0, len(images), BATCH):
        rows = range(start, min(start + BATCH, len(images)))
        views = Views(backbone, [images[row] for row in rows])
        evidence.add([indices[row] for row in rows], detector.predict(views, [entry] * len(views)))
    return evidence.suspects(max_share)
