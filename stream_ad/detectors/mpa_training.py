"""How MPA and MPAMA are trained: on labelled pictures of *other* products than those that they will score.

Every picture is encoded once; what is trained reads frozen features. Stage 1 learns the prompts (paper Eq. 5), stage 2
the experts, with the texts that stage 1 left as they are (Eq. 6). A step depends on the seed and its number alone: a
run that is taken up goes on to the same bits (one device, equal threads).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.registry import device_name
from stream_ad.backbones.views import Views
from stream_ad.detectors import shared_weights, training_state
from stream_ad.detectors.mpa_network import Experts, MpaShape, Prompts, Texts, patch_logits
from stream_ad.detectors.text import damaged_logit
from stream_ad.domain.images import HeldoutSet, Mask, split_hash
from stream_ad.domain.ports import Progress
from stream_ad.errors import DataError
from stream_ad.functional.losses import dice_loss, focal_loss, hinge_loss

KIND = "mpa"
BATCH = 16
#: cells along a patch's side of the maps that losses compare. paper: pixels of the input; a 64th of them will do
FINE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MpaOptions:
    shape: MpaShape = field(default_factory=MpaShape)
    #: of stage 1, and their rate. paper: 30 epochs, of 1,725 pictures (MVTec AD) 6,480 steps
    steps: int = 300
    rate: float = 1e-3
    #: of stage 2; 0: MPA, without experts. paper: 10 epochs at 1e-6
    expert_steps: int = 100
    expert_rate: float = 1e-4
    batch: int = 8
    #: λ and δ_n = δ_a
    hinge: float = 5.0
    margin: float = 0.5
    seed: int = 0
    #: steps between two saved states
    save_every: int = 50


@dataclass(frozen=True, slots=True, eq=False)
class Auxiliary:
    """Labelled pictures as the frozen backbone sees them."""

    embedding: Float[Tensor, "pictures joint"]
    #: float16: unit vectors, whose rounding is far below what a score can show
    dense: Float[Tensor, "pictures patches joint"]
    defective: Bool[Tensor, " pictures"]
    #: where the damage is, at the size that losses compare; meaningless where nobody marked it
    truth: Bool[Tensor, "pictures side side"]
    #: the picture is good, or its damage is marked
    marked: Bool[Tensor, " pictures"]
    #: ids of each product's pictures, which lie together; the last field: all before it are tensors, a row a picture
    ids: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.embedding)


def joined(parts: Sequence[Auxiliary]) -> Auxiliary:
    """Products side by side.

    Raises:
        DataError: no picture is good, or none is damaged.
    """
    defective = torch.cat([part.defective for part in parts])
    if not defective.any() or defective.all():
        damaged = int(defective.sum())
        raise DataError(
            f"needed good and damaged pictures to train {KIND}, got {len(defective) - damaged} and {damaged}; name"
            " products whose test folders hold both"
        )
    if not any((part.defective & part.marked).any() for part in parts):
        raise DataError(
            f"needed damaged pictures with masks to train {KIND}, got {int(defective.sum())} without any; name products"
            " whose damage is marked"
        )
    tensors = {one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Auxiliary)[:-1]}
    return Auxiliary(**tensors, ids={name: ids for part in parts for name, ids in part.ids.items()})


def kept(folder: Path, backbone: Backbone, products: Mapping[str, HeldoutSet], progress: Progress) -> Auxiliary:
    """As `encode`; each product's features are a file in the folder, so that no run waits for them again.

    Raises:
        DataError: no picture is good, or none is damaged.
        OSError: the folder cannot be written.
    """
    parts, total = [], sum(map(len, products.values()))
    for name, images in sorted(products.items()):
        ids = {name: list(images.ids)}
        path = folder / f"{KIND}-{training_state.digest(_of(backbone, ids))[:16]}.features"
        if path.is_file():
            try:
                parts.append(Auxiliary(**load_file(path), ids=ids))
            except training_state.UNREADABLE as error:
                raise training_state.unreadable(path, error) from error
            continue
        before = sum(map(len, parts))
        part = _encoded(backbone, name, images, lambda done, before=before: progress("pictures", before + done, total))
        training_state.put(path, to_bytes({one.name: getattr(part, one.name) for one in fields(part)[:-1]}))
        parts.append(part)
    return joined(parts)


def _of(backbone: Backbone, ids: Mapping[str, Sequence[str]]) -> list[Any]:
    """What features depend on."""
    pictures = {name: split_hash(own) for name, own in ids.items()}
    return [backbone.spec.weights_sha256, backbone.spec.image_size, pictures, FINE]


def encode(backbone: Backbone, products: Mapping[str, HeldoutSet]) -> Auxiliary:
    """The pictures of all products through the frozen backbone, once; in the order of the products' names.

    Raises:
        DataError: no picture is good, or none is damaged.
    """
    return joined([_encoded(backbone, name, images, lambda done: None) for name, images in sorted(products.items())])


def _encoded(backbone: Backbone, name: str, images: HeldoutSet, told: Callable[[int], None]) -> Auxiliary:
    """One product's pictures."""
    side = FINE * backbone.grid
    embeddings, denses, defective, truths, marked = [], [], [], [], []
    for start in range(0, len(images), BATCH):
        batch = [images[index] for index in range(start, min(start + BATCH, len(images)))]
        views = Views(backbone, [image.pixels for image in batch])
        views.compute([], embedding=True, dense=True)
        embeddings.append(views.embedding.cpu())
        denses.append(views.dense.half().cpu())
        defective += [image.defective for image in batch]
        marked += [image.mask is not None or not image.defective for image in batch]
        truths += [
            torch.zeros(side, side, dtype=torch.bool)
            if image.mask is None or not image.defective
            else shrunk(image.mask, side)
            for image in batch
        ]
        told(len(defective))
    return Auxiliary(
        torch.cat(embeddings),
        torch.cat(denses),
        torch.tensor(defective),
        torch.stack(truths),
        torch.tensor(marked),
        {name: list(images.ids)},
    )


def shrunk(mask: Mask, side: int) -> Bool[Tensor, "{side} {side}"]:
    """The mask on a coarser square: cells at least half damaged, or as much as the most damaged one, so that none
    vanishes."""
    share = F.adaptive_avg_pool2d(torch.from_numpy(mask.astype(np.float32))[None], (side, side))[0]
    return share >= min(0.5, float(share.max())) if mask.any() else share > 1


class MpaTraining(training_state.Resumable):
    """A run in a folder: made anew, or where it was left."""

    def __init__(self, folder: Path, options: MpaOptions, backbone: Backbone, data: Auxiliary) -> None:
        self.options, self.backbone, self.data = options, backbone, data
        self.steps, self.save_every = options.steps + options.expert_steps, options.save_every  # of both stages
        self.device = backbone.encode_text(["object"]).device
        generator = torch.Generator().manual_seed(options.seed)
        self.prompts = Prompts(options.shape, backbone.text_width, generator).to(self.device)
        self.experts = Experts(options.shape, backbone.joint_width, generator).to(self.device)
        self.step = 0
        #: parts of the last step's loss
        self.last: dict[str, float] = {}
        self._text_optimizer = torch.optim.Adam(self.prompts.parameters(), lr=options.rate)
        self._expert_optimizer = torch.optim.Adam(self.experts.parameters(), lr=options.expert_rate)
        self._texts: Texts | None = None
        #: of stage 1, which a run of MPA and one of MPAMA share, and of stage 2
        self._states = (
            folder / f"{KIND}-{self._run(0)}.training",
            folder / f"{KIND}-{self._run(options.expert_steps)}.training",
        )
        self._restore()

    def texts(self) -> Texts:
        """The prompts' embeddings as they are now; those of stage 2 are the last of stage 1."""
        if self._texts is not None:
            return self._texts
        with torch.no_grad():
            texts = self.prompts.texts(self.backbone)
        if self.step >= self.options.steps:  # they change no more
            self._texts = texts
        return texts

    def result(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays, and what they are."""
        texts = self.texts()
        tensors = {"texts.levels": texts.levels, "texts.whole": texts.whole}
        tensors |= {f"prompts.{name}": value for name, value in self.prompts.state_dict().items()}
        if self.step > self.options.steps:
            tensors |= {f"experts.{name}": value for name, value in self.experts.state_dict().items()}
        spec = self.backbone.spec
        about = {
            "shape": asdict(self.options.shape) | {"levels": list(self.options.shape.levels)},
            "method": "MPAMA" if self.step > self.options.steps else "MPA",
            "backbone": {"name": spec.backbone, "weights_sha256": spec.weights_sha256},
            "image_size": spec.image_size,
            **shared_weights.learned_from(self.data.ids),
            "steps": min(self.step, self.options.steps),
            "expert_steps": max(self.step - self.options.steps, 0),
            "options": {name: value for name, value in asdict(self.options).items() if name != "shape"},
            "seed": self.options.seed,
            "losses": self.last,
            "device": device_name(self.device),
            "torch": torch.__version__,
        }
        return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}, about

    def write(self, parent: Path) -> Path:
        """The folder of the weights as they are now."""
        arrays, about = self.result()
        return shared_weights.save(KIND, arrays, about, card(about, len(self.data)), parent)

    # --- steps ----------------------------------------------------------------------------------

    def _rows(self) -> Tensor:
        """The pictures of this step: every epoch in an order of its own."""
        batch = min(self.options.batch, len(self.data))
        epoch, place = divmod(self.step, len(self.data) // batch)
        order = np.random.default_rng([self.options.seed, epoch]).permutation(len(self.data))
        return torch.from_numpy(order[place * batch : (place + 1) * batch])

    def _learn(self) -> float:
        return self._text_step() if self.step < self.options.steps else self._expert_step()

    def _text_step(self) -> float:
        rows = self._rows()
        texts = self.prompts.texts(self.backbone)
        logit = damaged_logit(self.data.embedding[rows].to(self.device), texts.whole)
        losses = {"global": F.binary_cross_entropy_with_logits(logit, self.data.defective[rows].to(logit))}
        losses |= self._local_losses(rows, texts, None)
        return self._descend(losses, self._text_optimizer)

    def _expert_step(self) -> float:
        return self._descend(self._local_losses(self._rows(), self.texts(), self.experts), self._expert_optimizer)

    def _local_losses(self, rows: Tensor, texts: Texts, experts: Experts | None) -> dict[str, Tensor]:
        """Eq. 4 and the hinge, each summed over the levels."""
        rows = rows[self.data.marked[rows]]
        shape, side = self.options.shape, self.data.truth.shape[-1]
        dense = self.data.dense[rows].to(self.device).float()
        truth = self.data.truth[rows].to(self.device).float()
        logits = patch_logits(dense, texts, shape.levels, experts).unflatten(-1, (self.backbone.grid,) * 2)
        # paper: probabilities are brought to size; log-odds, so that the focal loss is exact where they are sure
        logits = F.interpolate(
            logits, (side, side), mode="bilinear", align_corners=False
        )  # (batch, levels, side, side)
        losses = {name: logits.new_zeros(()) for name in ("focal", "dice", "hinge")}
        for logit in logits.unbind(1) if len(rows) else ():
            probability = torch.sigmoid(logit)
            losses["focal"] = losses["focal"] + focal_loss(logit, truth)
            losses["dice"] = losses["dice"] + dice_loss(1 - probability, 1 - truth) + dice_loss(probability, truth)
            margin = self.options.margin
            losses["hinge"] = losses["hinge"] + hinge_loss(probability, truth, margin, margin)
        losses["hinge"] = self.options.hinge * losses["hinge"]
        return losses

    def _descend(self, losses: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> float:
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        if total.requires_grad:  # a batch without a marked picture teaches experts nothing
            total.backward()
            optimizer.step()
        self.last = {name: round(loss.item(), 4) for name, loss in losses.items()}
        return total.item()

    # --- states ---------------------------------------------------------------------------------

    def _run(self, expert_steps: int) -> str:
        """A name for what a state must agree with; how often it is saved is its own affair."""
        options: dict[str, Any] = {**asdict(self.options), "expert_steps": expert_steps}
        del options["save_every"]
        if not expert_steps:  # nothing of the experts is in it
            del options["expert_rate"], options["shape"]["experts"], options["shape"]["active"]
        return training_state.digest([options, _of(self.backbone, self.data.ids)])[:16]

    def _parts(self, second: bool) -> Mapping[str, training_state.Stateful]:
        """What a state holds: of stage 1 nothing of experts, so that runs with others go on from it."""
        if second:
            return {"prompts": self.prompts, "experts": self.experts, "expert_optimizer": self._expert_optimizer}
        return {"prompts": self.prompts, "text_optimizer": self._text_optimizer}

    def _to_be_saved(self) -> bool:
        return super()._to_be_saved() or self.step == self.options.steps  # where stage 2 begins

    def _save(self) -> None:
        second = self.step > self.options.steps
        training_state.save(self._states[second], self.step, self.last, self._parts(second))

    def _restore(self) -> None:
        first, last = self._states  # of MPA the same
        second = last != first and last.is_file()
        self.step, self.last = training_state.restore(self._states[second], self._parts(second), self.device)


CARD = """\
# {method}: zero-shot anomaly scores

Learned prompts{experts} of a frozen image-text model (`stream_ad.detectors.mpa`), for products that have no training
image. They belong to the backbone `{backbone}` (weights {backbone_sha256}) and to no other.

- Data: {pictures:,} labelled pictures of {n} products: {products}. Nothing of a product named here may be judged by
  these weights as if it had not been seen.
- Task: damaged or not, by picture and by pixel. Losses: cross-entropy of the picture, focal, Dice and hinge of the
  pixels. Last values: {losses}.
- Steps: {steps:,} of stage 1 (prompts), {expert_steps:,} of stage 2 (experts). Seed: {seed}.
- Made on {device} with torch {torch}.

Licence: that of the pictures in "Data" may bind what is made of them.
"""


def card(about: Mapping[str, Any], pictures: int) -> str:
    """In Markdown."""
    return CARD.format(
        method=about["method"],
        experts=" and experts" if about["expert_steps"] else "",
        backbone=about["backbone"]["name"],
        backbone_sha256=about["backbone"]["weights_sha256"][:16],
        pictures=pictures,
        n=len(about["products"]),
        products=", ".join(about["products"]),
        losses=", ".join(f"{name} {value:.3f}" for name, value in about["losses"].items()),
        **{name: about[name] for name in ("steps", "expert_steps", "seed", "device", "torch")},
    )
