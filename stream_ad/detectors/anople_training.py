"""How AnoPLe's shared weights are trained: on pictures of *auxiliary* products.

    L = L_pixel (Dice + focal) + L_img (cross-entropy against the two texts) + L_align (1 - <z_0, s>)

In each step half of the pictures are damaged (pixel space, `anople_pictures`), and the features of the others are also
shown disturbed in a region (latent space). Every picture is seen as a whole and as a crop, each under its own scale
prefix. A step depends on the seed and its number alone: a run that is taken up goes on to the same bits (one device,
equal threads).

paper: the k images of all products at once. In the pipeline the weights are trained once, before a product is known,
and its k images only fill the memory; training on the k images themselves is `bench few-shot`'s.
paper: all four crops in each step; here the next one in turn (`crops_a_step`), which costs two fifths, and defects are
painted in it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.registry import device_name
from stream_ad.detectors import shared_weights, training_state
from stream_ad.detectors.anople_network import (
    CROPS,
    FINE,
    AnopleNetwork,
    AnopleShape,
    alignment_loss,
    evidence,
    place_logits,
)
from stream_ad.detectors.anople_pictures import Auxiliary, Batch, drawn, shown
from stream_ad.detectors.text import damaged_logit
from stream_ad.domain.images import split_hash
from stream_ad.errors import DataError
from stream_ad.functional.losses import dice_loss, focal_loss

KIND = "anople"
METHOD = "AnoPLe"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnopleOptions:
    shape: AnopleShape = field(default_factory=AnopleShape)
    steps: int = 300
    #: of Adam, falling along a cosine: of the decoder, and of what it reads through. paper: not said. With one rate for
    #: both the decoder learned nothing in 150 steps: what it read moved faster than it did
    rate: float = 5e-3
    prompt_rate: float = 2e-4
    #: pictures of a step
    batch: int = 4
    #: crops that each picture is also seen as, in turn; 0: the whole picture alone
    crops_a_step: int = 1
    #: weight of L_align
    alignment: float = 1.0
    #: largest standard deviation of the noise on features, whose own is 1
    noise: float = 1.0
    #: weight of the pixel losses on disturbed features. At 1 painted defects were found after 60 steps, at 0 after 20
    latent: float = 0.1
    #: share of the damaged pictures that are labelled ones, of products that have some. paper: 0
    real: float = 0.5
    seed: int = 0
    #: steps between two saved states
    save_every: int = 50


class AnopleTraining(training_state.Resumable):
    """A run in a folder: made anew, or where it was left.

    Raises:
        DataError: there is no product, or one has no picture.
    """

    def __init__(
        self, folder: Path, options: AnopleOptions, backbone: Backbone, products: Mapping[str, Auxiliary]
    ) -> None:
        if not products or not all(len(product.normals) for product in products.values()):
            raise DataError(f"needed good pictures of at least one product to train {KIND}, got none; name others")
        self.options, self.backbone = options, backbone
        self.steps, self.save_every = options.steps, options.save_every
        self.products = dict(sorted(products.items()))
        self.device = backbone.encode_text(["object"]).device
        generator = torch.Generator().manual_seed(options.seed)
        self.network = AnopleNetwork(options.shape, backbone, generator).to(self.device)
        decoder = list(self.network.decoder.parameters())
        others = [parameter for name, parameter in self.network.named_parameters() if not name.startswith("decoder.")]
        self._optimizer = torch.optim.Adam([{"params": decoder}, {"params": others}])
        self._parts = {"network": self.network, "optimizer": self._optimizer}
        self._path = folder / f"{KIND}-{self._run()[:16]}.training"
        #: `last`: parts of the last step's loss
        self.step, self.last = training_state.restore(self._path, self._parts, self.device)

    def result(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays, and what they are."""
        arrays = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        spec, options = self.backbone.spec, asdict(self.options)
        del options["shape"], options["save_every"]
        about = {
            "shape": plain(self.options.shape),
            "method": METHOD,
            "backbone": {"name": spec.backbone, "weights_sha256": spec.weights_sha256},
            "image_size": spec.image_size,
            **shared_weights.learned_from({name: one.ids for name, one in self.products.items()}),
            "damaged": sum(len(one.damaged) for one in self.products.values()),
            "steps": self.step,
            "options": options,
            "seed": self.options.seed,
            "losses": self.last,
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
        return arrays, about

    def write(self, parent: Path) -> Path:
        """The folder of the weights as they are now."""
        arrays, about = self.result()
        return shared_weights.save(KIND, arrays, about, card(about), parent)

    # --- steps ----------------------------------------------------------------------------------

    def _learn(self) -> float:
        options = self.options
        rng = np.random.default_rng([options.seed, self.step])
        names = [list(self.products)[int(rng.integers(len(self.products)))] for _ in range(options.batch)]
        crops = [(self.step * options.crops_a_step + turn) % CROPS**2 for turn in range(options.crops_a_step)]
        pictures = [
            drawn(self.products[name], rng, damaged=row % 2 == 0, real=options.real, crops=crops)
            for row, name in enumerate(names)
        ]
        classes = [self.products[name].class_name for name in names]
        known = sorted(set(classes))
        texts = self.network.texts(self.backbone, known)[[known.index(name) for name in classes]]
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        scales = shown(self.backbone, pictures, crops)
        each = [self._losses(scale, batch, texts, generator) for scale, batch in scales.items()]
        terms = list(dict.fromkeys(term for part in each for term in part))
        losses = {term: torch.stack([part[term] for part in each if term in part]).mean() for term in terms}
        total = torch.stack(list(losses.values())).sum()
        falling = 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        for group, rate in zip(self._optimizer.param_groups, (options.rate, options.prompt_rate), strict=True):
            group["lr"] = falling * rate
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._optimizer.step()
        self.last = {name: round(loss.item(), 4) for name, loss in losses.items()}
        return total.item()

    def _losses(
        self, scale: int, batch: Batch, texts: Float[Tensor, "batch 2 joint"], generator: torch.Generator
    ) -> dict[str, Tensor]:
        network = self.network
        seen = network.seen(self.backbone, batch.pixels, network.prompts(self.backbone, scale))
        places = network.decoder(seen.patches)
        logits = place_logits(places, texts)
        damaged = batch.truth.any(-1).any(-1)
        image = damaged_logit(seen.whole[:, None], texts)[:, 0]
        losses = _of_pixels(logits, batch.truth)
        losses["image"] = F.binary_cross_entropy_with_logits(image, damaged.to(image))
        if self.options.latent and not damaged.all():
            disturbed, where = disturb(seen.patches[~damaged], self.options.noise, generator)
            found = place_logits(network.decoder(disturbed), texts[~damaged])
            losses["latent"] = self.options.latent * torch.stack(list(_of_pixels(found, where).values())).sum()
        if self.options.alignment:
            # paper: of all pictures, and s learns too. A good one holds no evidence; and the decoder's shortest way to
            # agree is to make all places alike: its Dice loss was 0.95 after 150 steps, and 0.48 without the term
            aggregated = evidence(places, logits)[damaged].detach()
            aligned = alignment_loss(seen.whole[damaged], aggregated) if damaged.any() else logits.new_zeros(())
            losses["align"] = self.options.alignment * aligned
        return losses

    # --- states ---------------------------------------------------------------------------------

    def _run(self) -> str:
        """A name for what a state must agree with; how often it is saved is its own affair."""
        options = asdict(self.options) | {"shape": plain(self.options.shape)}
        del options["save_every"]
        spec = self.backbone.spec
        pictures = {name: [one.class_name, split_hash(one.ids)] for name, one in self.products.items()}
        return training_state.digest([options, spec.weights_sha256, spec.image_size, pictures])

    def _save(self) -> None:
        training_state.save(self._path, self.step, self.last, self._parts)


def _of_pixels(
    logits: Float[Tensor, "batch places"], truth: Bool[Tensor, "batch side side"]
) -> dict[str, Float[Tensor, ""]]:
    """L_pixel in its two parts."""
    logit = logits.unflatten(-1, truth.shape[-2:])
    target = truth.to(logit)
    return {"focal": focal_loss(logit, target), "dice": dice_loss(torch.sigmoid(logit), target)}


def disturb(
    patches: Float[Tensor, "batch patches channels"], noise: float, generator: torch.Generator
) -> tuple[Float[Tensor, "batch patches channels"], Bool[Tensor, "batch side side"]]:
    """Features with Gaussian noise in one box of each picture, and the box: anomalies in latent space.

    Boxes have sides of 1 to a third of the grid, the noise a spread drawn between a fifth of `noise` and `noise`.
    """
    count, total, channels = patches.shape
    grid = round(total**0.5)
    where = torch.zeros(count, grid, grid, dtype=torch.bool)
    for box in where:
        height, width = (torch.randint(1, max(2, grid // 3 + 1), (2,), generator=generator)).tolist()
        top = int(torch.randint(grid - height + 1, (), generator=generator))
        left = int(torch.randint(grid - width + 1, (), generator=generator))
        box[top : top + height, left : left + width] = True
    spread = noise * (0.2 + 0.8 * torch.rand(count, 1, 1, generator=generator))
    drawn = torch.randn(count, total, channels, generator=generator) * spread * where.flatten(1)[..., None]
    fine = where.repeat_interleave(FINE, 1).repeat_interleave(FINE, 2)
    return patches + drawn.to(patches), fine.to(patches.device)


def plain(shape: AnopleShape) -> dict[str, Any]:
    """A shape as JSON has it."""
    return asdict(shape) | {"read": list(shape.read), "coupling": str(shape.coupling)}


CARD = """\
# {method}: few-shot anomaly scores

Coupled prompts, scale prefixes and a decoder for a frozen image-text model (`stream_ad.detectors.anople`), for products
of which one to four good pictures are at hand. They belong to the backbone `{backbone}` (weights {backbone_sha256}) and
to no other.

- Data: {good:,} good pictures of {n} products{labelled}: {products}. Nothing of a product named here may be judged by
  these weights as if it had not been seen.
- Task: defects painted by us, {real}, and disturbed features. Losses: focal and Dice of the pixels, cross-entropy of
  the picture, alignment. Last values: {losses}.
- Steps: {steps:,}. Seed: {seed}.
- Made on {device} with torch {torch}.

Licence: that of the pictures in "Data" may bind what is made of them.
"""


def card(about: Mapping[str, Any]) -> str:
    """In Markdown."""
    damaged = about["damaged"] if about["options"]["real"] else 0
    return CARD.format(
        good=sum(product["pictures"] for product in about["products"].values()) - about["damaged"],
        labelled=f", and {damaged:,} labelled ones of damaged parts" if damaged else "",
        real="and real ones" if damaged else "no real one",
        backbone=about["backbone"]["name"],
        backbone_sha256=about["backbone"]["weights_sha256"][:16],
        n=len(about["products"]),
        products=", ".join(about["products"]),
        losses=", ".join(f"{name} {value:.3f}" for name, value in about["losses"].items()),
        **{name: about[name] for name in ("method", "steps", "seed", "device", "torch")},
    )
