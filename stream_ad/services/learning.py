"""From the normal images of one task to its bank entry: adapt, then calibrate on images that were not adapted to."""

from dataclasses import replace

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import Detector, RawPrediction
from stream_ad.detectors.calibrated import calibrate
from stream_ad.detectors.memory import entry_roi
from stream_ad.domain.bank import BankEntry, Calibration
from stream_ad.domain.images import ImageSet, Mask, Subset, split_hash
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.errors import TooFewImages
from stream_ad.functional.perturbation import perturb
from stream_ad.routing.keys import key_distances, make_keys

BATCH = 16
MIN_IMAGES = 4  # fewer give no threshold that means anything


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
    seed: int = 0,
    progress: Progress,
) -> BankEntry:
    """The entry of one task, not yet stored (`sha256` is empty).

    With at least `split_from` normals a fifth of them is kept for calibration and never learned. Below that every
    image is scored by a memory that left it out (`folds`-fold), and the final memory takes all of them. Seeds derive
    from the task, so the entry does not depend on when the task arrives; `seed` is for repeating a whole run with
    other draws: starts of the sampling, prompts, painted defects, folds.

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
    measured = _Measured()
    if not out_of_fold:
        parts = parts[:1]
    arrays = {}
    total = len(parts) + out_of_fold
    for fold, held in enumerate(parts):
        rest = sorted(set(range(len(normals))) - set(held))
        stage = _Staged(progress, fold, total)
        arrays = _adapt(task, Subset(normals, rest), detector, backbone, roi, feature_block, own, stage)
        pseudo = _entry(task, detector, backbone, arrays)
        _measure(measured, Subset(normals, held), detector, backbone, pseudo, feature_block, own + fold)
    if out_of_fold:
        arrays = _adapt(task, normals, detector, backbone, roi, feature_block, own, _Staged(progress, total - 1, total))
    calibration = calibrate(
        measured.raw,
        detector.branches,
        key_distances=np.array(measured.keys),
        embedding_distances=np.array(measured.embeddings),
        out_of_fold=out_of_fold,
    )
    held_ids = [normals.ids[i] for part in parts for i in part]
    fit_ids = list(normals.ids) if out_of_fold else [i for i in normals.ids if i not in set(held_ids)]
    return replace(
        _entry(task, detector, backbone, arrays),
        calibration=calibration,
        splits={"fit": split_hash(fit_ids), "calibration": split_hash(held_ids)},
    )


def _mixed(task_seed: int, seed: int) -> int:
    """The seed of a task in one of several runs; run 0 is the one that a plant makes."""
    return (task_seed + 2_654_435_761 * seed) % (2**31 - 1)  # Knuth's multiplier: near seeds end up far apart


class _Measured:
    """What unseen normals gave, gathered over the folds."""

    def __init__(self) -> None:
        self.raw: list[RawPrediction] = []
        self.keys: list[float] = []
        self.embeddings: list[float] = []


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
    # what is read out must be the same when it is scored: another block or another mean is another score
    arrays["read_out"] = np.array([feature_block, detector.top_k])
    if roi is not None:
        arrays["roi"] = np.ascontiguousarray(roi)
    return arrays


def _measure(
    measured: _Measured,
    held: ImageSet,
    detector: Detector,
    backbone: Backbone,
    entry: BankEntry,
    feature_block: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    for start in range(0, len(held), BATCH):
        pictures = [held[i] for i in range(start, min(start + BATCH, len(held)))]
        views = Views(backbone, pictures)
        measured.raw.append(detector.predict(views, [entry] * len(views)))
        # refusal must let defective parts through, and real defects are not to be had: painted ones stand in
        painted = Views(backbone, [perturb(picture, rng, roi=entry_roi(entry))[0] for picture in pictures])
        distances = key_distances(painted, entry.arrays, block=feature_block)
        measured.keys.extend(distances.keys.tolist())
        measured.embeddings.extend(distances.embedding.tolist())


def _entry(task: Task, detector: Detector, backbone: Backbone, arrays: dict[str, np.ndarray]) -> BankEntry:
    nothing = np.zeros(0)
    return BankEntry(
        task=task,
        detector=detector.name,
        arrays=arrays,
        calibration=Calibration(
            score_scales={},
            map_scales={},
            scores=nothing,
            map_peaks=nothing,
            key_distances=nothing,
            embedding_distances=nothing,
            out_of_fold=False,
        ),
        features=backbone.spec,
        shared_weights=None,
        splits={},
    )
