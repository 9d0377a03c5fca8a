"""Thousands of families of products, each a product line of its own that can be photographed as often as wished."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from zlib import crc32

import cv2
import numpy as np

from stream_ad.demo.camera import photograph
from stream_ad.demo.families.blueprint import DEFECTS, Blueprint, Damage
from stream_ad.demo.families.colors import PAINTS
from stream_ad.demo.families.damage import HURT
from stream_ad.demo.families.kinds import HELD_OUT, KINDS
from stream_ad.demo.families.look import Look
from stream_ad.demo.families.tables import table
from stream_ad.demo.product import Rendered, on_table, placed
from stream_ad.demo.shading import shade
from stream_ad.demo.surface import Surface, changed

SUPERSAMPLING = 1.25
COVERED = 0.3  # share of a pixel that damage must cover to be in the mask
TRIES = 8  # damage that landed outside the picture is done again elsewhere

_NAMES = "|".join(sorted(PAINTS, key=len, reverse=True))
_COLOR = re.compile(rf"\b({_NAMES})( and ({_NAMES}))? ")

# numbers of the independent random streams of one photograph
_PART, _PLACE, _TABLE, _LIGHT, _SENSOR, _DEFECT = range(6)


class Split(StrEnum):
    """What families are for; no family is in two splits."""

    TRAIN = "train"
    VALIDATION = "validation"
    #: families of all kinds, and of some kinds that the other two never show
    HELDOUT = "heldout"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One product line: all its photographs show the same thing, on the same table, under the same light."""

    name: str
    kind: str
    blueprint: Blueprint
    look: Look
    ground: Callable[[np.random.Generator, int], Surface] | None
    #: the damage that makes sense for it, at least four of DEFECTS
    defects: tuple[str, ...]
    #: for captions: "steel gasket", "red plastic cap"
    noun: str

    def render(
        self, seed: int, *, size: int = 128, defect: str | None = None, severity: float = 0.5, nuisance: float = 1.0
    ) -> Rendered:
        """Photograph number `seed` of this family, and its defect's mask, empty without a defect.

        The same arguments give the same pixels. With and without `defect`, everything else about photograph `seed` is
        equal: part, place, light and sensor noise. `nuisance` scales what differs from shot to shot in place, light
        and exposure; the part itself and its sensor noise differ always.

        Raises:
            ValueError: the family has no such defect, `severity` is not above 0 and at most 1, or `size` is below 32.
        """
        if defect is not None and defect not in self.defects:
            raise ValueError(f"{self.name} has the defects {', '.join(self.defects)}; got {defect!r}")
        if not 0 < severity <= 1:
            raise ValueError(f"a severity is above 0 and at most 1, got {severity}")
        if size < 32:
            raise ValueError(f"a picture needs a size of at least 32 px, got {size}")
        side = 2 * round(SUPERSAMPLING * size / 2)
        full = self.blueprint.full_frame
        place = None if full else self.look.place(self._rng(seed, _PLACE), side, nuisance)
        part = self.blueprint.draw(self._rng(seed, _PART), side, None)
        bottom = None if self.ground is None else self.ground(self._rng(seed, _TABLE), side)
        brightness = _mean_albedo(part, bottom)
        mask = np.zeros((size, size), dtype=bool)
        if defect is not None:
            for attempt in range(TRIES):
                damage = Damage(defect, severity, self._rng(seed, _DEFECT, crc32(defect.encode()), attempt))
                damaged, region = self._damaged(part, damage, seed)
                mask = self._mask(region, place, size)
                if mask.any():
                    break
            part = damaged

        scene = part if bottom is None else on_table(part, bottom, place)
        rng = self._rng(seed, _LIGHT)
        light = self.look.light(rng, nuisance)
        arriving = light.dome + light.key * float(np.sin(np.deg2rad(light.elevation)))
        exposure = self.look.exposure(rng, brightness * arriving, nuisance)
        lit = shade(scene, light)
        if self.look.tilt != (0.0, 0.0):
            lit = np.stack([self.look.seen_obliquely(plane) for plane in lit])
        picture = photograph(lit, size, exposure, self._rng(seed, _SENSOR))
        return Rendered(self.look.processed(picture), mask)

    def _damaged(self, part: Surface, damage: Damage, seed: int) -> tuple[Surface, np.ndarray]:
        if damage.kind in self.blueprint.own:
            damaged = self.blueprint.draw(self._rng(seed, _PART), part.side, damage)
            return damaged, changed(part, damaged).astype(np.float32)
        damaged = part.copy()
        return damaged, HURT[damage.kind](damaged, damage, self.blueprint.full_frame)

    def _mask(self, region: np.ndarray, place: np.ndarray | None, size: int) -> np.ndarray:
        seen = self.look.seen_obliquely(placed(region.astype(np.float32), place))
        share = cv2.resize(seen, (size, size), interpolation=cv2.INTER_AREA)
        # a hair is thinner than a pixel
        return share > min(COVERED, max(0.5 * float(share.max()), 0.05))

    def _rng(self, seed: int, *stream: int) -> np.random.Generator:
        return np.random.default_rng([crc32(self.name.encode()), seed, *stream])


def _mean_albedo(part: Surface, bottom: Surface | None) -> float:
    """How bright the flawless scene is; damage does not change the exposure."""
    coarse = part.albedo[:, ::4, ::4].mean(axis=0)
    if bottom is None:
        return float(coarse.mean())
    alpha = part.alpha[::4, ::4]
    return float((coarse * alpha + bottom.albedo[:, ::4, ::4].mean(axis=0) * (1 - alpha)).mean())


def kinds(split: Split) -> Mapping[str, Callable[[np.random.Generator], Blueprint]]:
    """The kinds of products that a split shows, by name."""
    return {**HELD_OUT, **KINDS} if split is Split.HELDOUT else KINDS


@lru_cache(maxsize=256)
def family(split: Split, index: int) -> Family:
    """Family number `index` (from 0, as many as wished) of a split; the kinds take turns.

    Raises:
        ValueError: `index` is negative.
    """
    if index < 0:
        raise ValueError(f"families are numbered from 0, got {index}")
    names = tuple(kinds(split))
    kind = names[index % len(names)]
    name = f"{kind.replace(' ', '_')}_{split}_{index}"
    rng = np.random.default_rng([crc32(name.encode()), index])
    blueprint = kinds(split)[kind](rng)
    look = Look.draw(rng, full_frame=blueprint.full_frame, turn=blueprint.turn)
    ground = None if blueprint.full_frame else table(rng)
    defects = tuple(
        word for word in DEFECTS if word in blueprint.defects and not (look.grey and word == "colour shift")
    )
    noun = _COLOR.sub("", blueprint.noun) if look.grey else blueprint.noun  # a grey picture shows no colour
    return Family(name, kind, blueprint, look, ground, defects, noun)
