"""AnoPLe beside PatchCore with the very same k pictures, and the ablations of its paper, judged by product.

AnoPLe's weights are trained for each fold on pictures of the fold's auxiliary products, good ones and labelled damage:
once, as in a plant, or with each seed anew. States are files, shared by methods and by every number of pictures. Which
k pictures are taken follows from product and seed, and of k = 4 two are those of k = 2.

*Unseen* is the paper's question: what is left where a product has no picture of its own. There the memory holds the k
pictures of each other product; the *seen* one has its own. Weights are trained without it either way. PatchCore has the
same memories.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights
from stream_ad.detectors.anople import Anople
from stream_ad.detectors.anople_fusion import AnopleMemoryOptions
from stream_ad.detectors.anople_network import Coupling
from stream_ad.detectors.anople_pictures import Auxiliary
from stream_ad.detectors.anople_training import AnopleOptions, AnopleTraining, plain
from stream_ad.detectors.patchcore import PatchCore, PatchCoreOptions
from stream_ad.detectors.shared_weights import SharedWeights
from stream_ad.domain.images import ImageSet, Joined, Subset, split_hash
from stream_ad.domain.ports import Progress
from stream_ad.domain.product import Product
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import ConfigError
from stream_ad.evaluation.by_product.folds import Fold, apart
from stream_ad.evaluation.by_product.methods import Learned, Method, of_detector
from stream_ad.evaluation.by_product.zero_shot import untrained_ensemble
from stream_ad.evaluation.continual.tables import Table, number

ANOPLE, PATCHCORE = "AnoPLe", "PatchCore"
UNSEEN = "unseen"
TOLD_EVERY = 10  # steps

#: a decoder's log-odds of a picture, by weights, texts and pixels
Said = dict[bytes, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class FewShot:
    """What methods of a run have in common."""

    backbone: Backbone
    products: Sequence[Product]
    #: where states and weights go
    state: Path
    options: AnopleOptions
    #: of PatchCore and of AnoPLe's memory
    memory: Mapping[str, Any]
    #: numbers of pictures
    shots: Sequence[int] = (1, 2, 4)
    #: train with each seed anew; else once, with the options' seed, and seeds draw the k pictures alone
    retrained: bool = False
    #: by all methods of the run
    said: Said = field(default_factory=dict)


def methods(of: FewShot, *, ablations: bool = False, joint: bool = False) -> list[Method]:
    """Each k of AnoPLe, then of PatchCore, what happens to unseen products at the smallest k, and untrained words.

    `ablations`: the paper's too, at the smallest k; `joint`: the paper's own protocol, one model for all products that
    is trained on their k pictures.

    Raises:
        ConfigError: a product has fewer good pictures than the largest number asked for.
    """
    most = max(of.shots)
    if few := [f"{one.id!r} has {len(one.train)}" for one in of.products if len(one.train) < most]:
        raise ConfigError(
            f"k = {most} needs {most} good pictures of each product, but {', '.join(few)}; ask for fewer with --k, or"
            " leave the product out with --tasks"
        )
    found = [_anople(of, f"{ANOPLE}, k={k}", "weights of other products, its own k pictures", k) for k in of.shots]
    found += [_patchcore(of, f"{PATCHCORE}, k={k}", "the same k pictures, the same memory", k) for k in of.shots]
    k = min(of.shots)
    found += [
        _anople(of, f"{ANOPLE}, k={k}, {UNSEEN}", "no picture of the product, others' k", k, normals=_others(of)),
        _patchcore(of, f"{PATCHCORE}, k={k}, {UNSEEN}", "no picture of the product, others' k", k, _others(of)),
    ]
    found.append(untrained_ensemble(of.backbone))
    if joint:
        found += [
            _anople(of, f"{ANOPLE}, k={k}, joint", "trained on the k pictures of all products", k, trained=_joint(k))
            for k in of.shots
        ]
    if ablations:
        for name, (about, options) in changed(of.options).items():
            found.append(_anople(replace(of, options=options), f"{name}, k={k}", about, k))
        found.append(_anople(of, f"no margin, k={k}", "the paper's plain harmonic mean", k, margin=0.0))
    return found


def changed(options: AnopleOptions) -> dict[str, tuple[str, AnopleOptions]]:
    """By name what it is and what is other: the paper's ablations, and the same network without text."""

    def shaped(**changes: Any) -> AnopleOptions:
        return replace(options, shape=replace(options.shape, **changes))

    return {
        "no text": ("two learned embeddings instead of the texts", shaped(text=False, coupling=Coupling.NONE)),
        "text to image": ("images alone see the other's tokens", shaped(coupling=Coupling.TEXT_TO_IMAGE)),
        "image to text": ("texts alone see the other's tokens", shaped(coupling=Coupling.IMAGE_TO_TEXT)),
        "not coupled": ("prompts of both towers, each for itself", shaped(coupling=Coupling.NONE)),
        "one scale": ("whole pictures alone in training, no prefix", replace(shaped(prefixes=False), crops_a_step=0)),
        "no prefix": ("crops in training, without prefixes", shaped(prefixes=False)),
        "no alignment": ("without L_align", replace(options, alignment=0.0)),
        "painted alone": ("no labelled damage of other products, as the paper", replace(options, real=0.0)),
    }


def lost(report: Mapping[str, Any], shots: Sequence[int]) -> Table:
    """What a method loses where a product has no picture of its own, in image AUROC and pixel AUROC."""
    k = min(shots)
    rows = []
    for name in (ANOPLE, PATCHCORE):
        own = f"{name}, k={k}"
        seen, unseen = (report["detectors"][one]["average"] for one in (own, f"{own}, {UNSEEN}"))
        cells = [number(one[metric]) for metric in ("image_auroc", "pixel_auroc") for one in (seen, unseen)]
        fallen = [number(_less(seen[metric], unseen[metric])) for metric in ("image_auroc", "pixel_auroc")]
        rows.append([name, *cells[:2], fallen[0], *cells[2:], fallen[1]])
    return ["method", "image AUROC seen", "unseen", "lost", "pixel AUROC seen", "unseen", "lost"], rows


def _less(seen: float | None, unseen: float | None) -> float | None:
    return None if seen is None or unseen is None else seen - unseen


#: the products that weights of a fold are trained on, with their pictures
Trained = Callable[[FewShot, Fold, int], Mapping[str, Auxiliary]]
Normals = Callable[[Fold, int], ImageSet]


def _auxiliary(of: FewShot, fold: Fold, seed: int) -> dict[str, Auxiliary]:
    return {one.id: Auxiliary(one.class_name, one.train, one.test) for one in fold.auxiliary}


def _joint(k: int) -> Trained:
    def trained(of: FewShot, fold: Fold, seed: int) -> dict[str, Auxiliary]:
        found = {one.id: shots(one, apart(one.train, fold.test), seed, k) for one in of.products}
        return {one.id: Auxiliary(one.class_name, found[one.id]) for one in of.products}

    return trained


def shots(product: Product, normals: ImageSet, seed: int, k: int) -> ImageSet:
    """k of a product's good pictures; those of a smaller k are among those of a larger one."""
    drawn = np.random.default_rng([Task(id=TaskId(product.id), class_name="").seed, seed]).permutation(len(normals))
    return Subset(normals, drawn[:k].tolist())


def _own(k: int) -> Normals:
    return lambda fold, seed: shots(fold.product, fold.normals, seed, k)


def _others(of: FewShot) -> Normals:
    """The smallest number of pictures of each other product."""
    k = min(of.shots)

    def normals(fold: Fold, seed: int) -> ImageSet:
        others = [one for one in of.products if one.id != fold.product.id]
        return Joined([shots(one, apart(one.train, fold.test), seed, k) for one in others])

    return normals


def _pictures(of: FewShot) -> dict[str, str]:
    """The good pictures of all products: some methods learn from each of them, whatever the fold."""
    return {one.id: split_hash(one.train.ids) for one in of.products}


def _patchcore(of: FewShot, name: str, about: str, k: int, normals: Normals | None = None) -> Method:
    detector = PatchCore(of.backbone, PatchCoreOptions(**of.memory))
    options = {"k": k, "memory": dict(of.memory), "pictures": name, "products": _pictures(of)}
    return of_detector(name, about, options, detector, of.backbone, normals=normals or _own(k))


def _anople(
    of: FewShot,
    name: str,
    about: str,
    k: int,
    *,
    normals: Normals | None = None,
    trained: Trained = _auxiliary,
    margin: float = AnopleMemoryOptions().margin,
) -> Method:
    memory = {**of.memory, "margin": margin}

    def learn(fold: Fold, seed: int, progress: Progress) -> Learned:
        options = replace(of.options, seed=seed) if of.retrained else of.options
        training = AnopleTraining(of.state / "training", options, of.backbone, trained(of, fold, seed))
        told = f"training {name} for {fold.name}"
        training.run(told=lambda step, _: progress(told, step, training.steps) if step % TOLD_EVERY == 0 else None)
        weights = shared_weights.load(training.write(of.state / "weights"))
        detector = Remembering(of.backbone, weights, AnopleMemoryOptions(**memory), of.said)
        adapted = of_detector(name, about, {}, detector, of.backbone, normals=normals or _own(k))
        said = {"weights": weights.sha256, "losses": training.last}
        return Learned(adapted.learn(fold, seed, progress).score, lambda: said)

    given = asdict(of.options) | {"shape": plain(of.options.shape), "k": k, "memory": memory, "pictures": name}
    given |= {"retrained": of.retrained, "products": _pictures(of)}
    given = {key: value for key, value in given.items() if key != "save_every"}
    return Method(name=name, about=about, options=given, backbone=of.backbone, learn=learn)


class Remembering(Anople):
    """What the decoder says of a picture is the same for every memory: said once."""

    def __init__(self, backbone: Backbone, weights: SharedWeights, options: AnopleMemoryOptions, said: Said) -> None:
        super().__init__(backbone, weights, options)
        self.said = said

    def decoded(self, views: Views, texts: Float[Tensor, "2 joint"]) -> list[Float[Tensor, "grid grid"]]:
        own = self.shared_weights.encode() + texts.cpu().numpy().tobytes()
        keys = [hashlib.blake2b(own + one.cpu().numpy().tobytes()).digest() for one in views.pixels]
        missing = [row for row, key in enumerate(keys) if key not in self.said]
        if missing:
            found = super().decoded(views.select(missing), texts)
            self.said.update({keys[row]: grid for row, grid in zip(missing, found, strict=True)})
        return [self.said[key] for key in keys]
