"""Pictures and image sets made on the spot."""

from collections.abc import Sequence

import numpy as np

from stream_ad.adapters.decode import pixel_sha256
from stream_ad.domain.images import Picture
from stream_ad.domain.task import Task, TaskId

NUT = Task(id=TaskId("nut"), class_name="metal nut")
TILE = Task(id=TaskId("tile"), class_name="tile")
CLOTH = Task(id=TaskId("cloth"), class_name="cloth")


class Pictures:
    """An `ImageSet` in memory."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.pictures = list(pictures)
        self.ids = [pixel_sha256(picture) for picture in self.pictures]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]


def disc(seed: int, *, scratched: bool = False) -> Picture:
    """A bright disc on a dark table."""
    rng = np.random.default_rng([1, seed])
    y, x = np.mgrid[:96, :96]
    radius = np.hypot(y - 48 - rng.uniform(-2, 2), x - 48 - rng.uniform(-2, 2))
    grey = np.where(radius < 30, 170, 50) + rng.normal(0, 4, (96, 96))
    picture = np.repeat(grey[..., None], 3, axis=2)
    if scratched:
        picture[44:50, 30:66] = (230, 40, 30)
    return picture.clip(0, 255).astype(np.uint8)


def checks(seed: int) -> Picture:
    """A blue checkerboard."""
    rng = np.random.default_rng([2, seed])
    y, x = np.mgrid[:96, :96]
    board = ((y // 12 + x // 12) % 2) * 120 + 60 + rng.normal(0, 4, (96, 96))
    return np.stack([board * 0.4, board * 0.6, board], axis=2).clip(0, 255).astype(np.uint8)


def stripes(seed: int) -> Picture:
    """Red and green vertical stripes."""
    rng = np.random.default_rng([3, seed])
    wave = np.sin(np.arange(96) / 3)[None, :] * 80 + 120 + rng.normal(0, 4, (96, 96))
    return np.stack([wave, 255 - wave, wave * 0.2], axis=2).clip(0, 255).astype(np.uint8)


def quiet(stage: str, done: int, total: int) -> None:
    """A progress that nobody looks at."""
