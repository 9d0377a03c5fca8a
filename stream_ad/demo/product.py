"""One product line before its camera: a part is drawn, placed, lit and photographed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np

from stream_ad.demo.camera import Exposure, photograph
from stream_ad.demo.shading import Light, shade
from stream_ad.demo.surface import Surface, changed
from stream_ad.domain.images import Mask, Picture

SUPERSAMPLING = 1.5  # at 2 a picture takes twice as long and looks the same
COVERED = 0.35  # share of a pixel that the defect must cover to be in the mask

# numbers of the independent random streams of one picture
_PART, _PLACE, _TABLE, _LIGHT, _SENSOR, _DEFECT = range(6)


class Rendered(NamedTuple):
    picture: Picture
    #: where the part's material differs from the same part without the defect
    mask: Mask


class Defect(NamedTuple):
    """One kind of damage to draw, and the random numbers that say where and how badly."""

    kind: str
    rng: np.random.Generator


class Fixture(NamedTuple):
    """How precisely the line places its parts (largest deviations), and how close the camera is."""

    degrees: float
    shift: float  # of half the picture
    scale: float
    zoom: float = 1.0

    def place(self, rng: np.random.Generator, side: int, *, angle: float = 0.0, nuisance: float = 1.0) -> np.ndarray:
        """Affine map from the drawn part to the canvas; `nuisance` scales the deviations."""
        degrees = angle + nuisance * float(rng.uniform(-1, 1)) * self.degrees
        scale = self.zoom * (1 + nuisance * float(rng.uniform(-1, 1)) * self.scale)
        shift = nuisance * rng.uniform(-1, 1, 2) * self.shift * side / 2
        place = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, scale)
        place[:, 2] += shift
        return place


class Lamp(NamedTuple):
    """The line's light; every shot differs a little."""

    azimuth: float  # degrees, -90 = from the top of the picture
    elevation: float
    key: float
    dome: float


DrawPart = Callable[[np.random.Generator, int, Defect | None], Surface]
DrawTable = Callable[[np.random.Generator, int], Surface]


@dataclass(frozen=True, slots=True)
class Product:
    """A product line that can be photographed as often as wished."""

    name: str
    #: the noun for text prompts
    class_name: str
    #: the kinds of damage it knows
    defects: tuple[str, ...]
    #: called twice with equal random numbers for a defective part, with and without the defect
    draw: DrawPart
    #: None: the part fills the picture
    table: DrawTable | None
    fixture: Fixture
    lamp: Lamp

    def render(self, seed: int, *, size: int = 256, defect: str | None = None, noiseless: bool = False) -> Rendered:
        """Photograph number `seed` of this line, and its defect's mask, empty without a defect.

        The same arguments give the same pixels. With and without `defect`, everything else about photograph `seed` is
        equal: part, place, light and sensor noise (`noiseless` leaves the latter out).

        Raises:
            ValueError: the line has no such defect, or `size` is below 32.
        """
        if defect is not None and defect not in self.defects:
            raise ValueError(f"{self.name} has the defects {', '.join(self.defects)}; got {defect!r}")
        if size < 32:
            raise ValueError(f"a picture needs a size of at least 32 px, got {size}")
        side = 2 * round(SUPERSAMPLING * size / 2)
        place = self._place(seed, side)
        part = self.draw(self._rng(seed, _PART), side, None)
        mask = np.zeros((size, size), dtype=bool)
        if defect is not None:
            damage = Defect(defect, self._rng(seed, _DEFECT, crc32(defect.encode())))
            damaged = self.draw(self._rng(seed, _PART), side, damage)
            region = placed(changed(part, damaged).astype(np.float32), place)
            mask = cv2.resize(region, (size, size), interpolation=cv2.INTER_AREA) > COVERED
            part = damaged

        scene = part if self.table is None else on_table(part, self.table(self._rng(seed, _TABLE), side), place)
        rng = self._rng(seed, _LIGHT)
        light = Light(
            azimuth=self.lamp.azimuth + float(rng.uniform(-9, 9)),
            elevation=self.lamp.elevation + float(rng.uniform(-4, 4)),
            key=self.lamp.key * float(rng.uniform(0.93, 1.07)),
            dome=self.lamp.dome * float(rng.uniform(0.93, 1.07)),
        )
        sensor = None if noiseless else self._rng(seed, _SENSOR)
        return Rendered(photograph(shade(scene, light), size, Exposure.draw(rng), sensor), mask)

    def _rng(self, seed: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng([crc32(self.name.encode()), seed, *stream])

    def _place(self, seed: int, side: int) -> np.ndarray | None:
        """Affine map from the drawn part to the canvas; None: as drawn."""
        return self.fixture.place(self._rng(seed, _PLACE), side) if any(self.fixture) else None


def on_table(part: Surface, table: Surface, place: np.ndarray | None) -> Surface:
    """The table with the part on it. Overwrites the table."""
    alpha = placed(part.alpha, place)
    rest = 1 - alpha
    under = (*table.albedo, table.height, table.gloss, table.metal)
    over = (*part.albedo, part.height, part.gloss, part.metal)
    for below, above in zip(under, over, strict=True):
        cv2.blendLinear(placed(above, place), below, alpha, rest, dst=below)
    return table


def placed(array: np.ndarray, place: np.ndarray | None) -> np.ndarray:
    """A plane of the drawn part, on the canvas."""
    if place is None:
        return array
    height, width = array.shape[:2]
    return cv2.warpAffine(array, place, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
