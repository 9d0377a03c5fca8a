"""How PromptMAD is trained: on good pictures of *other* products, and on copies of them with painted defects.

Each half of a product's pictures is seen against a memory of its other half, as a new picture is against its product's
memory. A step takes painted pictures of one product, and their originals.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.memory import BATCH, MemoryOptions
from stream_ad.detectors.mpa_training import shrunk
from stream_ad.detectors.promptmad import KIND, as_seen, reference, reference_arrays
from stream_ad.detectors.promptmad_network import PromptMad, PromptMadShape, Reference, Seen
from stream_ad.detectors.training_run import TrainingRun, once
from stream_ad.detectors.training_state import digest
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import Picture, Subset, split_hash
from stream_ad.domain.ports import Progress
from stream_ad.domain.product import Product
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import TooFewImages
from stream_ad.functional.diffusion import noised, signal_left
from stream_ad.functional.losses import focal_loss
from stream_ad.functional.perturbation import perturb

CARD = "PromptMAD: fine anomaly maps", "A network (`stream_ad.detectors.promptmad`) that judges what a memory lacks."
WORD_NOISE = 0.03  # of each number of a text's embedding: the words of a few products are not to be learned by heart


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptMadOptions:
    shape: PromptMadShape = field(default_factory=PromptMadShape)
    memory: MemoryOptions = field(default_factory=lambda: MemoryOptions(blocks=(3, 5, 7), whitening=64))
    normals: int = 64  # good pictures of each product
    painted: int = 96  # and copies of them with painted defects
    steps: int = 200
    rate: float = 2e-3
    batch: int = 8  # half of them painted
    rebuilding: float = 0.1  # weight of the reconstruction beside segmentor and denoiser
    focal: bool = True  # focal loss, or plain cross-entropy
    seed: int = 0


class Half(NamedTuple):
    of: Reference  # made of the other half
    good: Seen
    painted: Seen
    truth: Tensor  # where the paint is (painted, side, side)
    origin: Tensor  # which good picture each painted one was


def kept(
    folder: Path, options: PromptMadOptions, backbone: Backbone, products: Sequence[Product], progress: Progress
) -> tuple[list[Half], dict[str, list[str]]]:
    """Halves of products, and their pictures' ids; what is encoded is a file. Raises: TooFewImages: fewer than four."""
    halves, known = [], {}
    for product in sorted(products, key=lambda one: one.id):
        ids = product.train.ids
        chosen = sorted(range(len(ids)), key=lambda index: ids[index])[: options.normals]  # by hash: as good as drawn
        if len(chosen) < 4:
            raise TooFewImages(product.id, 4, len(chosen))
        known[product.id] = [ids[index] for index in chosen]
        of = [split_hash(known[product.id]), product.class_name, options.painted, options.shape.fine]
        of += [asdict(options.memory), backbone.spec.weights_sha256, backbone.spec.image_size]
        for half in range(2):
            path = folder / f"{KIND}-{digest([half, *of])[:16]}.features"
            own, others = chosen[half::2], chosen[1 - half :: 2]
            one = once(path, partial(_encoded, product, own, others, options, backbone))
            halves.append(Half(Reference(**one.pop("of")), Seen(**one.pop("good")), Seen(**one.pop("painted")), **one))
        progress("products", len(known), len(products))
    return halves, known


def _encoded(
    product: Product, own: Sequence[int], others: Sequence[int], options: PromptMadOptions, backbone: Backbone
) -> dict[str, Any]:
    """A `Half`, of dictionaries."""
    task, known = Task(id=TaskId(product.id), class_name=product.class_name), Subset(product.train, others)
    arrays = reference_arrays(task, known, backbone, options.memory, roi=None, seed=0, progress=lambda *_: None)
    entry = BankEntry.uncalibrated(task, KIND, arrays, backbone.spec)
    pictures, rng = [product.train[index] for index in own], np.random.default_rng(task.seed)
    origin = [number % len(own) for number in range(options.painted // 2)]
    painted, masks = zip(*(perturb(pictures[index], rng) for index in origin), strict=True)

    def seen(pictures: Sequence[Picture]) -> dict[str, Tensor]:
        views = [Views(backbone, pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)]
        parts = zip(*(as_seen(one, entry, replace(options.shape, text=True)) for one in views), strict=True)
        return {name: torch.cat(each).half().cpu() for name, each in zip(Seen._fields, parts, strict=True)}

    of = reference(entry, Views(backbone, pictures[:1]))._asdict()
    truth = torch.stack([shrunk(mask, options.shape.fine * backbone.grid) for mask in masks])
    return {"of": of, "good": seen(pictures), "painted": seen(painted), "truth": truth, "origin": torch.tensor(origin)}


def training(
    folder: Path, options: PromptMadOptions, backbone: Backbone, data: tuple[list[Half], dict[str, list[str]]]
) -> TrainingRun:
    """A run in a folder, on what `kept` gave: made anew, or where it was left."""
    halves, ids = data
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = PromptMad(options.shape, len(options.memory.blocks), backbone.width, backbone.joint_width)
    network.to(backbone.encode_text(["object"]).device)
    about, learned_by = {"method": "PromptMAD", **asdict(options)}, partial(losses, network, options, halves)
    return TrainingRun(folder, KIND, network, learned_by, backbone, ids, about)


def losses(
    network: PromptMad, options: PromptMadOptions, halves: Sequence[Half], rng: np.random.Generator
) -> dict[str, Tensor]:
    """What a step is learned by."""
    device, half = network.prior.device, halves[int(rng.integers(len(halves)))]
    rows = torch.from_numpy(rng.permutation(len(half.truth))[: options.batch // 2])
    draw = torch.Generator().manual_seed(int(rng.integers(2**62)))
    pairs = zip(half.painted, half.good, strict=True)
    seen = Seen(*(torch.cat([a[rows], b[half.origin[rows]]]).to(device).float() for a, b in pairs))
    truth = torch.cat([half.truth[rows], torch.zeros_like(half.truth[rows])])[:, None].to(device).float()
    known, unit, profile, texts = (one.to(device) for one in half.of if one is not None)  # all that it may inspect
    of = Reference(known, unit, profile, texts + WORD_NOISE * torch.randn(texts.shape, generator=draw).to(device))
    judged = network(seen, of)
    denoised = partial(network.denoised, judged, seen.detail)
    far = (judged.rebuilt - seen.tokens[len(rows) :].repeat(2, 1, 1, 1)).square().sum(-1) / of.unit.square()[:, None]
    first, second = (torch.randn(truth.shape, generator=draw).to(device) for _ in range(2))
    # the denoiser's first step has nothing but noise; a later one a mask of its own, right and wrong, which it must not
    # trust as if it were the truth
    begun = denoised(first, torch.zeros(len(truth), device=device))
    signal = signal_left(torch.rand(len(truth), generator=draw)).to(device)
    ended = denoised(noised(torch.tanh(begun.detach() / 2), signal, second), signal)
    loss = focal_loss if options.focal else F.binary_cross_entropy_with_logits
    logits = {"coarse": network.enlarged(judged.coarse), "begun": begun, "ended": ended}
    return {"rebuilding": options.rebuilding * far.mean()} | {name: loss(one, truth) for name, one in logits.items()}
