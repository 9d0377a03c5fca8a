"""The loop: lines come in, a step is taken, the state is saved so that a kill costs minutes."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from stream_ad.backbones.text_tower import TextTower
from stream_ad.detectors.text import damaged_logit
from stream_ad.training import objectives
from stream_ad.training.lines import Line
from stream_ad.training.model import FEATURE_BLOCK, new_model
from stream_ad.training.pool import FLAWLESS, Drawn, Pool
from stream_ad.training.reading import Read, read
from stream_ad.training.views import coverage, views_of
from stream_ad.training.words import Words

STATE = "training.pt"
CURVES = "curves.jsonl"
CURVE_EVERY = 20
RELATED = 512  # patches whose distances to each other are compared


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    steps: int = 4000
    #: lines of a step, and how many new ones come before it
    lines: int = 12
    fresh: int = 1
    #: lines that are in the ring before the first step, and at most
    first: int = 100
    capacity: int = 2000
    #: photographs of a line, half of them good
    shots: int = 12
    #: of these a step sees so many; some of the good ones serve as the line's memory
    good: int = 3
    damaged: int = 3
    support: int = 2
    #: pixels of a rendered picture's side; what the model sees are cuts of it
    rendered: int = 160
    rate: float = 6e-4
    weight_decay: float = 0.05
    warmup: int = 150
    #: share of the steps in which the rate falls to nothing; until then it stays, so that a run can be made longer
    decay: float = 0.2
    seed: int = 0
    #: weights of the losses
    captions: float = 0.5
    states: float = 1.0
    kinds: float = 0.5
    comparison: float = 1.0
    relation: float = 4.0
    #: steps between two saved states
    save_every: int = 100


class Batch(NamedTuple):
    """What one step learns from."""

    drawn: Drawn
    #: (lines, shots, 3, SIZE, SIZE), normalised
    pixels: Tensor
    #: (lines, shots, SIZE, SIZE)
    masks: Tensor
    #: (lines * shots, patches, channels)
    textures: Tensor
    #: for what else is drawn in this step
    rng: np.random.Generator


class Heads(nn.Module):
    """What is trained beside the model and thrown away."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.slope = nn.Parameter(torch.tensor(2.0))
        self.offset = nn.Parameter(torch.tensor(2.0))


class Trainer:
    """A run in a folder: made anew, or where it was left."""

    def __init__(
        self, folder: Path, options: TrainingOptions, words: Words, *, device: torch.device = torch.device("cpu")
    ) -> None:
        self.folder, self.options, self.words, self.device = folder, options, words, device
        folder.mkdir(parents=True, exist_ok=True)
        self.pool = Pool(
            folder / "pool",
            capacity=options.capacity,
            shots=options.shots,
            size=options.rendered,
            defects=words.defects,
        )
        self.model = new_model(options.seed).to(device).train()
        self.tower: Any = self.model.visual  # Any: torch types every attribute of a module as tensor or module
        #: the image tower in bfloat16, as passes are made; the steps are taken in float32
        self.quick = copy.deepcopy(self.tower).bfloat16()
        self.text = TextTower(self.model, "in training")
        self.heads = Heads().to(device)
        self.parameters = [*self.model.parameters(), *self.heads.parameters()]
        decayed = [p for p in self.parameters if p.ndim > 1]
        others = [p for p in self.parameters if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=options.rate,
            betas=(0.9, 0.98),
            fused=True,
        )
        self.step, self.seconds = 0, 0.0
        #: losses of the last step, by name
        self.last: Mapping[str, float] = {}
        self._restore()

    def run(
        self,
        lines: Iterator[Line],
        *,
        until: Callable[[], bool] = lambda: False,
        told: Callable[[int, float], None] = lambda step, loss: None,
    ) -> None:
        """To the last step, or until asked to stop; saved either way.

        `lines`: the stream from `pool.taken` on. `told`: after each step, with its loss.
        """
        o = self.options
        while self.pool.taken < o.first:
            self.pool.take(next(lines))
        begun = time.monotonic() - self.seconds
        with ThreadPoolExecutor(1) as beside:
            coming = beside.submit(self._batch, self.step)
            while self.step < o.steps and not until():
                batch = coming.result()
                for _ in range(o.fresh):
                    self.pool.take(next(lines))
                coming = beside.submit(self._batch, self.step + 1)
                self.last = self._step(batch)
                self.step += 1
                self.seconds = time.monotonic() - begun
                told(self.step, self.last["loss"])
                if self.step % CURVE_EVERY == 0 or self.step == o.steps:
                    row = {"step": self.step, "lines": self.pool.taken, "seconds": round(self.seconds, 1)} | self.last
                    with (self.folder / CURVES).open("a") as file:
                        file.write(json.dumps(row) + "\n")
                if self.step % o.save_every == 0:
                    self.save()
        self.save()

    def _batch(self, step: int) -> Batch:
        """Of the ring as it is after the step before, so that a run that is taken up draws the same."""
        rng = np.random.default_rng([self.options.seed, step])
        o = self.options
        drawn = self.pool.draw(rng, o.lines, o.good, o.damaged)
        pixels, masks = views_of(drawn, rng)
        pixels = pixels.to(self.device)
        with torch.no_grad():
            textures = self.tower.conv1.texture.described(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)
        return Batch(drawn, pixels, masks, textures, rng)

    def _rate(self) -> float:
        o = self.options
        rising = (self.step + 1) / max(o.warmup, 1)
        falling = (o.steps - self.step) / max(o.decay * o.steps, 1)
        return o.rate * min(rising, falling, 1.0)

    def _step(self, batch: Batch) -> dict[str, float]:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        losses = self._losses(batch)
        weights = asdict(self.options)
        total = sum((weights[name.partition(".")[0]] * loss for name, loss in losses.items()), torch.zeros(()))
        self.optimizer.zero_grad(set_to_none=True)
        self.quick.zero_grad(set_to_none=True)
        total.backward()
        for exact, quick in zip(self.tower.parameters(), self.quick.parameters(), strict=True):
            exact.grad = None if quick.grad is None else quick.grad.float()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self._quicken()
        with torch.no_grad():
            self.heads.scale.clamp_(max=math.log(100))
        return {"loss": round(total.item(), 4)} | {name: round(loss.item(), 4) for name, loss in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        o, patch = self.options, self.tower.conv1.kernel_size[0]
        drawn, pixels, masks, textures, rng = batch
        shares = coverage(masks, patch).to(self.device)  # (lines, shots, patches)
        n_lines, n_shots, _ = shares.shape
        damaged, flawless = shares > objectives.SEEN, shares == 0
        # a cut may have lost the damage: what is not seen is not asked for
        defective = damaged.any(-1)
        kind = torch.from_numpy(drawn.kinds.astype(np.int64)).to(self.device)
        kind = torch.where(defective, kind, torch.full_like(kind, FLAWLESS))
        texts = [
            caption if seen == (one >= 0) else self.words.caption(noun, None, rng)
            for noun, row, kinds, seens in zip(
                drawn.nouns, drawn.captions, drawn.kinds, defective.tolist(), strict=True
            )
            for caption, one, seen in zip(row, kinds, seens, strict=True)
        ]
        asked = [text for noun in drawn.nouns for text in self.words.asked(noun, rng)]
        found = read(self.quick, pixels.flatten(0, 1).bfloat16(), textures.bfloat16(), FEATURE_BLOCK)
        with sdpa_kernel(SDPBackend.MATH):
            embedded = self.text([*texts, *asked], None, self.device)
        captions, asked_for = embedded[: len(texts)], embedded[len(texts) :].unflatten(0, (n_lines, -1))
        pairs, names = asked_for[:, :2], asked_for[:, 2:]
        line = torch.arange(n_lines, device=self.device).repeat_interleave(n_shots)
        flat = kind.flatten()
        same = (line[:, None] == line[None]) & (flat[:, None] == flat[None])
        losses = {"captions": objectives.captions(found.embedding, captions, same, self.heads.scale.exp())}
        shaped = Read(*(part.unflatten(0, (n_lines, n_shots)) for part in found))
        patches = shaped.dense.flatten(1, 2)
        logits = damaged_logit(patches, pairs).unflatten(1, (n_shots, -1))
        losses["states.patches"] = objectives.balanced(logits, damaged, flawless)
        losses["states.images"] = objectives.pictures(logits, defective, torch.ones(()))
        patch_kind = torch.where(shares > 0.25, kind[..., None].expand_as(shares), torch.full_like(kind, -1)[..., None])
        losses["kinds.patches"] = objectives.kinds(patches, names, patch_kind.flatten(1))
        losses["kinds.images"] = objectives.kinds(objectives.most_damaged(shaped.dense, logits), names, kind)
        losses["comparison.patches"], relative = objectives.comparison(
            shaped.tokens, damaged, flawless, o.support, self.heads.slope, self.heads.offset
        )
        losses["comparison.images"] = objectives.pictures(relative, defective[:, o.support :], self.heads.slope)
        few = torch.from_numpy(rng.permutation(textures.shape[0] * textures.shape[1])[:RELATED])
        losses["relation"] = objectives.relation(found.tokens.flatten(0, 1)[few], textures.flatten(0, 1)[few])
        return losses

    def _quicken(self) -> None:
        with torch.no_grad():
            for exact, quick in zip(self.tower.parameters(), self.quick.parameters(), strict=True):
                quick.copy_(exact)

    def save(self) -> None:
        """The pool first: a state never knows of lines that the ring has lost."""
        self.pool.save()
        state: Mapping[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "options": asdict(self.options),
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        partial = self.folder / (STATE + ".partial")
        torch.save(state, partial)
        partial.rename(self.folder / STATE)

    def _restore(self) -> None:
        path = self.folder / STATE
        if path.is_file():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.seconds = state["step"], state["seconds"]
            self._quicken()
