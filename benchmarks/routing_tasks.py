"""Ten thousand product lines made of a few hundred pictures: each is one picture under a look of its own.

A look is a hue, a tint, a scale, a turn and a crop, drawn from the task's seed. A *draw* is a photograph of that
product: the look, jittered a little. Tasks learn a few draws and are asked about others. How often the exact answer
is right depends on the jitter: with `LOOK` and `JITTER` for 94.7 % of the queries among 10,000 tasks, for more when the
queries are jittered less.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from stream_ad.adapters.image_folders import ImageFolder
from stream_ad.demo import write_product
from stream_ad.demo.products import PRODUCTS
from stream_ad.domain.images import Picture

SIZE = 224  # px, of what a task's camera gives
SOURCE = 256  # px, of the pictures that looks are applied to


@dataclass(frozen=True, slots=True)
class Look:
    """Of a task: half-widths of uniform draws (scale: log-uniform from 1, tint: from 0.1). Of jitter: spreads."""

    hue: float  # degrees
    tint: float  # share of the channel values
    scale: float  # of a task: largest factor; of jitter: relative
    turn: float  # degrees
    shift: float  # share of the picture's side: where the crop lies


LOOK = Look(hue=180, tint=0.5, scale=1.8, turn=180, shift=0.15)
JITTER = Look(hue=4, tint=0.03, scale=0.03, turn=3, shift=0.015)


def parameters() -> dict[str, object]:
    """What makes the tasks, for the result file."""
    return {"look": asdict(LOOK), "jitter": asdict(JITTER), "size": SIZE, "source": SOURCE}


@dataclass(frozen=True)
class Scale:
    """Tasks by number: task t is picture t (modulo their number) under the t-th look."""

    pictures: Sequence[Picture]
    seed: int = 0

    def draw(self, task: int, number: int, jitter: float = 1.0) -> Picture:
        """Photograph `number` of a task's product; equal arguments, equal pictures."""
        look = np.random.default_rng([self.seed, 1, task])
        hue, turn = look.uniform(-LOOK.hue, LOOK.hue), look.uniform(-LOOK.turn, LOOK.turn)
        tint, scale = look.uniform(0.1, LOOK.tint), np.exp(look.uniform(0, np.log(LOOK.scale)))
        x, y = look.uniform(-LOOK.shift, LOOK.shift, 2)
        shot = np.random.default_rng([self.seed, 2, task, number])
        return _photograph(
            self.pictures[task % len(self.pictures)],
            hue=hue + jitter * JITTER.hue * shot.normal(),
            tint=tint + jitter * JITTER.tint * shot.normal(),
            scale=scale * (1 + jitter * JITTER.scale * shot.normal()),
            turn=turn + jitter * JITTER.turn * shot.normal(),
            x=x + jitter * JITTER.shift * shot.normal(),
            y=y + jitter * JITTER.shift * shot.normal(),
        )


def real_pictures(root: Path) -> tuple[list[Picture], list[str]]:
    """The good training pictures of every product below `root` (MVTec layout) in turn, and the products' names."""
    folders = sorted(path for path in root.iterdir() if (path / "train" / "good").is_dir())
    sets = [ImageFolder(folder / "train" / "good") for folder in folders]
    most = max(len(images) for images in sets)
    chosen = [images[i] for i in range(most) for images in sets if i < len(images)]
    return [_square(picture) for picture in chosen], [folder.name for folder in folders]


def rendered_pictures(scratch: Path, each: int = 60) -> tuple[list[Picture], list[str]]:
    """The same of the demo's products, for a machine without data."""
    for product in PRODUCTS.values():
        write_product(scratch, product, train=each, good=0, per_defect=0, seed=1)
    return real_pictures(scratch)


def _square(picture: Picture) -> Picture:
    return cv2.resize(picture, (SOURCE, SOURCE), interpolation=cv2.INTER_AREA)


def _photograph(picture: Picture, *, hue: float, tint: float, scale: float, turn: float, x: float, y: float) -> Picture:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)  # hue in steps of two degrees
    hsv[..., 0] = (hsv[..., 0].astype(int) + round(hue / 2)) % 180
    channels = 1 + np.clip(tint, 0, 1) * np.cos(np.deg2rad(hue + np.array([0, -120, 120])))
    coloured = np.clip(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * channels, 0, 255).astype(np.uint8)
    center = (SOURCE * (0.5 + x), SOURCE * (0.5 + y))
    matrix = cv2.getRotationMatrix2D(center, turn, scale)
    matrix[:, 2] += SIZE / 2 - np.asarray(center)
    flags = cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(coloured, matrix, (SIZE, SIZE), flags=flags, borderMode=cv2.BORDER_REFLECT_101))
