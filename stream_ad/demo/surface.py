"""What stands before the camera: per point its colour, height and finish.

Positions are in units in which the picture spans -1 to 1, x to the right and y down; so are heights, up towards the
camera. Colours are linear, not sRGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32

Field = Float32[np.ndarray, "rows columns"]
Color = Sequence[float] | np.ndarray


@dataclass(slots=True, eq=False)
class Surface:
    """Materials and relief of one part (or table) on a square raster. Drawing changes it in place."""

    #: red, green, blue; planes first, for numpy is several times slower over a last axis of 3
    albedo: Float32[np.ndarray, "3 side side"]
    height: Float32[np.ndarray, "side side"]
    #: 0 matt to 1 polished: strength and sharpness of highlights
    gloss: Float32[np.ndarray, "side side"]
    #: 0 dielectric to 1 metal, which mirrors its surroundings
    metal: Float32[np.ndarray, "side side"]
    #: 1 where the part is, 0 where one looks past it
    alpha: Float32[np.ndarray, "side side"]

    @classmethod
    def blank(cls, side: int, albedo: Color, *, gloss: float = 0.1, metal: float = 0.0) -> "Surface":
        colors = np.empty((3, side, side), dtype=np.float32)
        colors[:] = np.asarray(albedo, dtype=np.float32)[:, None, None]
        height, gloss_plane, metal_plane, alpha = (
            np.full((side, side), value, dtype=np.float32) for value in (0, gloss, metal, 1)
        )
        return cls(colors, height, gloss_plane, metal_plane, alpha)

    def copy(self) -> "Surface":
        arrays = (self.albedo, self.height, self.gloss, self.metal, self.alpha)
        return Surface(*(array.copy() for array in arrays))

    @property
    def side(self) -> int:
        return len(self.height)

    def paint(
        self,
        cover: Field,
        albedo: Color | None = None,
        *,
        gloss: float | None = None,
        metal: float | None = None,
        height: Field | float | None = None,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Lay another material over `window`, as thick as `cover` (0 to 1) says; what is None stays."""
        cover = np.asarray(cover, dtype=np.float32)
        colors = (None, None, None) if albedo is None else albedo
        fields = (*self.albedo, self.gloss, self.metal, self.height)
        for field, value in zip(fields, (*colors, gloss, metal, height), strict=True):
            if value is not None:
                part = field[window]
                step = np.asarray(value, dtype=np.float32) - part
                step *= cover
                part += step

    def tint(self, factor: Field) -> None:
        """Multiply the colour by `factor`, never below zero."""
        self.albedo *= np.maximum(factor, 0.02)

    def around(self, x: float, y: float, radius: float) -> tuple[tuple[slice, slice], Field, Field]:
        """Window of the raster around a point, with the x and y of its pixels relative to the point."""
        xs, ys = grid(self.side)
        half = self.side / 2
        # never empty: a corner pixel at least
        left, top = (min(max(int((v - radius + 1) * half), 0), self.side - 1) for v in (x, y))
        right, bottom = (min(int((v + radius + 1) * half), self.side) for v in (x, y))
        window = (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))
        return window, xs[window] - np.float32(x), ys[window] - np.float32(y)


@lru_cache(maxsize=8)
def grid(side: int) -> tuple[Float32[np.ndarray, "side side"], Float32[np.ndarray, "side side"]]:
    """x and y of every pixel's centre; read-only."""
    line = ((np.arange(side) + 0.5) * 2 / side - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def mottled(color: Color, factor: Field) -> Float32[np.ndarray, "3 rows columns"]:
    """`color` at every point, brighter or darker by `factor`."""
    return np.asarray(color, dtype=np.float32)[:, None, None] * factor.astype(np.float32, copy=False)


def cover(distance: Field, side: int, *, softness: float = 0.0) -> Field:
    """1 inside (`distance` < 0), 0 outside, with an edge one pixel, or `softness`, wide."""
    return np.clip(0.5 - distance / np.float32(max(2 / side, softness)), 0, 1).astype(np.float32, copy=False)


def disc(x: Field, y: Field, radius: float) -> Field:
    """Signed distance to a disc at the origin; negative inside."""
    return np.sqrt(x * x + y * y) - np.float32(radius)


def box(x: Field, y: Field, half_width: float, half_height: float, corner: float = 0.0) -> Field:
    """Signed distance to a box with rounded corners at the origin; negative inside."""
    dx = np.abs(x) - np.float32(half_width - corner)
    dy = np.abs(y) - np.float32(half_height - corner)
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    return outside + np.minimum(np.maximum(dx, dy), 0) - np.float32(corner)


def turned(x: Field, y: Field, degrees: float) -> tuple[Field, Field]:
    """The same points in axes that are turned by `degrees`."""
    c, s = np.float32(np.cos(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(degrees)))
    return c * x + s * y, c * y - s * x


def smooth_union(a: Field, b: Field, blend: float) -> Field:
    """Signed distance to both shapes, with a fillet about `blend` wide between them."""
    mix = np.clip(0.5 + (b - a) / np.float32(2 * blend), 0, 1)
    return b + (a - b) * mix - np.float32(blend) * mix * (1 - mix)


def rounded(distance: Field, radius: float) -> Field:
    """Height profile of an edge rounded with `radius`: 0 at the outline, 1 from `radius` inwards."""
    t = 1 - np.clip(-distance / np.float32(radius), 0, 1)
    return np.sqrt(1 - t * t)


def smoothstep(low: float, high: float, value: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """0 at `low` and before, 1 at `high` and beyond, smooth between; `low` may be the higher one."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def changed(before: Surface, after: Surface) -> Bool[np.ndarray, "side side"]:
    """Where the material differs so much that a picture can show it."""
    # dark colours are told apart at smaller differences: compare square roots, about what sRGB does
    color = np.abs(np.sqrt(before.albedo) - np.sqrt(after.albedo)).max(axis=0) > 0.035
    visible = np.maximum(before.alpha, after.alpha) > 0.3
    finish = (np.abs(before.gloss - after.gloss) > 0.12) | (np.abs(before.metal - after.metal) > 0.12)
    relief = np.abs(before.height - after.height)
    higher = relief > max(0.003, 0.15 * float(relief.max()))
    outline = np.abs(before.alpha - after.alpha) > 0.3
    region = outline | (visible & (color | finish | higher))
    return cv2.morphologyEx(region.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).view(bool)
