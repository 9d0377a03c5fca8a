"""PromptMAD beside itself without words, PatchCore and untrained words, and its ablations, judged by product.

The network is trained anew for each seed on a fold's auxiliary products; features, states and weights are files, and
folds with the same auxiliary products share them. All that is compared here on normals of a product has the same
memory of it, of the same rows.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.detectors import shared_weights
from stream_ad.detectors.base import uncalibrated
from stream_ad.detectors.patchcore import PatchCore, PatchCoreOptions
from stream_ad.detectors.promptmad import PromptMadDetector
from stream_ad.detectors.promptmad_training import CARD, Half, PromptMadOptions, kept, training
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task, TaskId
from stream_ad.evaluation.by_product.folds import Fold
from stream_ad.evaluation.by_product.methods import Learned, Method, of_detector, scorer
from stream_ad.evaluation.by_product.published import Printed, PublishedTable
from stream_ad.evaluation.by_product.zero_shot import untrained_ensemble

PROMPTMAD, WORDLESS, UNREFINED, PATCHCORE = "PromptMAD", "no text", "no refinement", "PatchCore"
TOLD_EVERY = 50  # steps

TABLES = (
    PublishedTable(
        title="The paper's abstract",
        remarks=[
            "Context only, *other split*: theirs is one network trained on the good pictures of all fifteen products of"
            " MVTec AD that it is judged on. Ours has seen none of the products that it judges.",
        ],
        rows=[Printed(method="PromptMAD", dataset="MVTec AD", values={"pixel_auroc": 0.9835, "pixel_ap": 0.6654})],
        ours=(PROMPTMAD, WORDLESS, PATCHCORE),
    ),
)


def methods(backbone: Backbone, state: Path, options: PromptMadOptions, *, ablations: bool = False) -> list[Method]:
    """PromptMAD, and what it is compared with. `state`: where features, states and weights go."""
    shared = _Shared(backbone, state)
    plain = asdict(options.memory)
    changed = {
        PROMPTMAD: ("words, memory, segmentor, refinement", options, 4),
        WORDLESS: ("the same network, no text anywhere", _shaped(options, text=False), 4),
    }
    more = {
        UNREFINED: ("PromptMAD's weights, the coarse map enlarged", options, 0),
        "cross-entropy": ("in place of the focal loss", replace(options, focal=False), 4),
        "no attention": ("the segmentor's convolutions alone", _shaped(options, attention=False), 4),
    }
    found = [_trained(name, about, one, shared, steps) for name, (about, one, steps) in changed.items()]
    patchcore = PatchCore(backbone, PatchCoreOptions(**plain))
    found.append(of_detector(PATCHCORE, "distance to the nearest row of the same memory", plain, patchcore, backbone))
    found.append(untrained_ensemble(backbone))
    if ablations:
        found += [_trained(name, about, one, shared, steps) for name, (about, one, steps) in more.items()]
    return found


def _shaped(options: PromptMadOptions, **changes: Any) -> PromptMadOptions:
    return replace(options, shape=replace(options.shape, **changes))


class _Shared:
    """What methods need in turn, the last of each kept: features of auxiliary products, a product's memory."""

    def __init__(self, backbone: Backbone, state: Path) -> None:
        self.backbone, self.state = backbone, state
        self._features: tuple[Any, tuple[list[Half], dict[str, list[str]]]] | None = None
        self._arrays: tuple[Any, Mapping[str, np.ndarray]] | None = None

    def features(
        self, fold: Fold, options: PromptMadOptions, progress: Progress
    ) -> tuple[list[Half], dict[str, list[str]]]:
        of = [one.id for one in fold.auxiliary]
        if self._features is None or self._features[0] != of:
            self._features = None  # both at once would be twice the memory
            self._features = of, kept(self.state / "features", options, self.backbone, fold.auxiliary, progress)
        return self._features[1]

    def entry(self, fold: Fold, seed: int, detector: PromptMadDetector, progress: Progress) -> BankEntry:
        """That of the detector; what it learns does not depend on its weights."""
        task = Task(id=TaskId(fold.product.id), class_name=fold.product.class_name)
        if self._arrays is None or self._arrays[0] != (fold.name, seed):
            how: Mapping[str, Any] = {"roi": None, "seed": task.seed + seed, "progress": progress}
            self._arrays = (fold.name, seed), detector.adapt(task, fold.normals, **how)
        own = {"refinements": np.array(detector.refinements)}
        return uncalibrated(detector, task, {**self._arrays[1], **own}, self.backbone.spec)


def _trained(name: str, about: str, options: PromptMadOptions, shared: "_Shared", refinements: int) -> Method:
    backbone, state = shared.backbone, shared.state

    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        data = shared.features(fold, options, progress)
        run = training(state / "training", replace(options, seed=seed), backbone, data)
        told = f"training {name} for {fold.name}"
        run.run(told=lambda step, _: progress(told, step, run.steps) if step % TOLD_EVERY == 0 else None)
        weights = shared_weights.load(run.write(state / "weights", *CARD))
        detector = PromptMadDetector(backbone, weights, refinements)
        entry = shared.entry(fold, seed, detector, progress)
        return Learned(scorer(detector, entry), lambda: {"weights": weights.sha256, "losses": run.last})

    given = {key: value for key, value in asdict(options).items() if key != "seed"} | {"refinements": refinements}
    return Method(name=name, about=about, options=given, backbone=backbone, learn=learn)
