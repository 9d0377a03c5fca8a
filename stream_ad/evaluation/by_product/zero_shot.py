"""MPA and MPAMA beside untrained words, and the ablations of their paper, as methods that are judged by product.

Trained anew for each fold and seed, on the fold's auxiliary products. Features and states are files, shared by methods:
MPAMA goes on from MPA's last step, and runs with other experts from the same one. Untrained words are read out as MPA's
are, half the whole picture and half its most damaged patch.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.mpa import Mpa, both
from stream_ad.detectors.mpa_training import MpaOptions, MpaTraining, kept
from stream_ad.detectors.text import damaged_logit, ensemble, pair
from stream_ad.domain.ports import Progress
from stream_ad.evaluation.by_product.folds import Fold
from stream_ad.evaluation.by_product.methods import Learned, Method
from stream_ad.evaluation.continual.measure import Scored
from stream_ad.functional.anomaly_map import top_mean, upsample

#: one picture's patches and embedding to the log-odds of the whole and the probability of damage by patch
Seen = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
#: the log-odds of a picture of those of the whole and of its map
Read = Callable[[Tensor, Tensor], Tensor]
MPAMA, MPA, ENSEMBLE, PAIR = "MPAMA", "MPA", "ensemble", "pair"
#: steps
TOLD_EVERY = 50
FROZEN, ZERO = "frozen", "zero"


def methods(backbone: Backbone, state: Path, options: MpaOptions, *, ablations: bool = False) -> list[Method]:
    """MPAMA, MPA and untrained words; with `ablations` the paper's too. `state`: where features and states go."""
    bare = replace(options, expert_steps=0)
    found = [
        _trained(MPAMA, "MPA, then experts that patches are routed to", options, backbone, state),
        _trained(MPA, "learned words at several perception levels", bare, backbone, state),
        untrained_ensemble(backbone),
        _untrained(PAIR, "a flawless and a damaged ..., nothing learned", _pair, backbone),
    ]
    if ablations:
        found += [_trained(name, about, one, backbone, state) for name, (about, one) in _changed(options).items()]
        found += [
            _trained("MPA, words alone", "picture's score by the whole alone", bare, backbone, state, lambda w, m: w),
            _trained("MPA, map alone", "picture's score by its most damaged patch alone", bare, backbone, state, _peak),
        ]
    return found


def _changed(options: MpaOptions) -> dict[str, tuple[str, MpaOptions]]:
    """By name what it is and what is other: Tables 3, 4, 5 and 8, Fig. 6 and 8, and the hinge."""
    bare = replace(options, expert_steps=0)

    def shaped(of: MpaOptions, **changes: Any) -> MpaOptions:
        return replace(of, shape=replace(of.shape, **changes))

    single: Mapping[str, Any] = {"levels": (1,), "decoupled": False}
    found = {
        "coupled": ("one prompt for pixels and pictures (Fig. 6 CP; Table 3, no module)", shaped(bare, **single)),
        "decoupled": (
            "a prompt for pixels, one for pictures (Fig. 6 DP)",
            shaped(bare, levels=(1,), bridge=False),
        ),
        "no bridge": (
            "levels, and a prompt for pictures that takes nothing in (Fig. 6 MPDP)",
            shaped(bare, bridge=False),
        ),
        "coupled levels": ("levels, whose mean is for pictures too (Table 3, T1)", shaped(bare, decoupled=False)),
        "coupled + experts": ("one prompt, then experts (Table 3, T3)", shaped(options, **single)),
        "coupled levels + experts": ("levels, then experts (Table 3, T1 and T3)", shaped(options, decoupled=False)),
    }
    for levels in ((1,), (1, 2), (1, 2, 3), (1, 2, 3, 4, 5), (2, 3, 4, 5), (3, 4, 5, 6)):
        said = ",".join(map(str, levels))
        found[f"levels {said}"] = (f"perception levels {{{said}}} (Tables 4 and 8)", shaped(bare, levels=levels))
    for count in (1, 2, 4):
        found[f"{count + 2} experts"] = (
            f"{count} learned beside the frozen and the zero one (Table 5)",
            shaped(options, experts=count),
        )
    for weight in (0.0, 3.0, 4.0, 6.0, 7.0):
        found[f"lambda {weight:g}"] = ("weight of the hinge (Fig. 8); 0: none", replace(bare, hinge=weight))
    return found


def expert_use(report: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """By method which share of its choices each expert has (Fig. 5), mean over products and seeds."""
    found = {}
    for name, one in report["detectors"].items():
        uses = [
            said["expert_use"] for task in one["per_task"].values() for said in task["said"] if "expert_use" in said
        ]
        if uses:
            found[name] = {expert: sum(use[expert] for use in uses) / len(uses) for expert in uses[0]}
    return found


def _pair(backbone: Backbone, class_name: str) -> Tensor:
    return backbone.encode_text(pair(class_name))


def _peak(whole: Tensor, highest: Tensor) -> Tensor:
    return torch.logit(highest.double(), eps=1e-15).float()


def untrained_ensemble(backbone: Backbone) -> Method:
    """The baseline that learns nothing, of every bench."""
    return _untrained(ENSEMBLE, "the mean of 70 and 50 texts (WinCLIP's), nothing learned", ensemble, backbone)


def _untrained(name: str, about: str, texts: Callable[[Backbone, str], Tensor], backbone: Backbone) -> Method:
    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        with torch.no_grad():
            words = texts(backbone, fold.product.class_name)

        def seen(dense: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
            patches = torch.sigmoid(damaged_logit(dense, words))
            return damaged_logit(embedding[None], words)[0], patches.unflatten(0, (backbone.grid,) * 2)

        return Learned(_scorer(seen, backbone, both))

    return Method(name=name, about=about, options={"words": name}, backbone=backbone, learn=learn, seeded=False)


def _trained(name: str, about: str, options: MpaOptions, backbone: Backbone, state: Path, read: Read = both) -> Method:
    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        features = kept(state / "features", backbone, {one.id: one.test for one in fold.auxiliary}, progress)
        training = MpaTraining(state / "training", replace(options, seed=seed), backbone, features)
        told = f"training {name} for {fold.name}"
        training.run(told=lambda step, _: progress(told, step, training.steps) if step % TOLD_EVERY == 0 else None)
        weights = shared_weights.load(training.write(state / "weights"))
        detector = Mpa(backbone, weights)
        asked: list[Tensor] = []

        def seen(dense: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
            if (one := detector.asked(dense)) is not None:
                asked.append(one)
            return detector.seen(dense, embedding)

        def said() -> dict[str, Any]:
            told: dict[str, Any] = {"weights": weights.sha256, "losses": training.last}
            return told | {"expert_use": _shares(torch.stack(asked).sum(0))} if asked else told

        return Learned(_scorer(seen, backbone, read), said)

    given = {key: value for key, value in asdict(options).items() if key not in ("seed", "save_every")}
    given |= {"read": name} if read is not both else {}
    return Method(name=name, about=about, options=given, backbone=backbone, learn=learn)


def _scorer(seen: Seen, backbone: Backbone, read: Read) -> Callable[[Views], list[Scored]]:
    @torch.no_grad()
    def score(views: Views) -> list[Scored]:
        views.compute([], embedding=True, dense=True)
        found = []
        for dense, embedding in zip(views.dense, views.embedding, strict=True):
            whole, grid = seen(dense, embedding)
            one = upsample(grid, backbone.spec.image_size).numpy()
            found.append(Scored(float(read(whole, top_mean(grid, 1))), one))
        return found

    return score


def _shares(counts: Tensor) -> dict[str, float]:
    names = [FROZEN, *(f"learned {place}" for place in range(1, len(counts) - 1)), ZERO]
    return dict(zip(names, (counts / counts.sum()).tolist(), strict=True))
