"""A network that all tasks share, in training: steps that go on where they were cut off, and the folder at the end.

A step depends on the run's seed and the step's number alone, so a run that is taken up goes on to the same bits (one
device, equal threads).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.registry import device_name
from stream_ad.detectors import shared_weights, training_state

#: a step's parts of the loss by name, of all that the step may draw
Losses = Callable[[np.random.Generator], Mapping[str, Tensor]]


def once(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Tensors, in dictionaries, that are made once; from then on they are read from the file, into the CPU's memory.

    Raises:
        OSError: the file cannot be written.
        DataError: it is damaged.
    """
    if not path.is_file():
        made = dict(make())
        training_state.put(path, training_state.in_bytes(made))
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except training_state.UNREADABLE as error:
        raise training_state.unreadable(path, error) from error


class TrainingRun(training_state.Resumable):
    """A run in a folder: made anew, or where it was left. AdamW; the rate falls to zero along a cosine."""

    save_every = 50

    def __init__(
        self,
        folder: Path,
        kind: str,
        network: nn.Module,
        losses: Losses,
        backbone: Backbone,
        ids: Mapping[str, Sequence[str]],
        options: Mapping[str, Any],
    ) -> None:
        """`ids`: of each product's pictures; `options`: as JSON has them, "steps", "rate" and "seed" among them."""
        self.kind, self.network, self.losses = kind, network, losses
        self.steps, self.rate, self.seed = (options[name] for name in ("steps", "rate", "seed"))
        spec = backbone.spec
        self.about = {
            "backbone": {"name": spec.backbone, "weights_sha256": spec.weights_sha256},
            "image_size": spec.image_size,
            **shared_weights.learned_from(ids),
            **options,
        }
        self.device = next(network.parameters()).device
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=self.rate)
        self._parts = {"network": network, "optimizer": self.optimizer}
        self._state = folder / f"{kind}-{training_state.digest(self.about)[:16]}.training"
        #: `last`: parts of the last step's loss
        self.step, self.last = training_state.restore(self._state, self._parts, self.device)

    def _learn(self) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 + float(np.cos(np.pi * self.step / self.steps))) / 2
        losses = self.losses(np.random.default_rng([self.seed, self.step]))
        loss = torch.stack(list(losses.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.last = {name: round(one.item(), 4) for name, one in losses.items()}
        return loss.item()

    def write(self, parent: Path, title: str, text: str) -> Path:
        """The folder of the weights as they are now; its card begins with a title and what is particular to them."""
        device, losses = device_name(self.device), ", ".join(f"{name} {value:.4f}" for name, value in self.last.items())
        about = {**self.about, "steps": self.step, "losses": self.last, "device": device, "torch": torch.__version__}
        arrays = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        products = ", ".join(self.about["products"])
        card = CARD.format(**about, title=title, text=text, names=products, said=losses)
        return shared_weights.save(self.kind, arrays, about, card, parent)

    def _save(self) -> None:
        training_state.save(self._state, self.step, self.last, self._parts)


CARD = """\
# {title}

{text}
These weights belong to the backbone `{backbone[name]}` (weights {backbone[weights_sha256]}) and to no other.

- Data: pictures of {names}. Nothing of a product named here may be judged by these weights as if it had not been seen.
- Steps: {steps:,}. Seed: {seed}. Last losses: {said}.
- Made on {device} with torch {torch}.

Licence: that of the pictures in "Data" may bind what is made of them.
"""
