"""Textures: windows of a few large periodic noise tiles, turned, stretched and scaled at will.

A tile is made once a process and is far larger than a picture, so a window costs one affine map, and thousands of
families share a dozen tiles without looking alike. Sizes are in pictures, not pixels: a scene is the same at any
resolution.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from stream_ad.demo.surface import grid

Field = Float32[np.ndarray, "rows columns"]

TEXELS = 512  # side of a tile
_SEED = 20261122


class Texture(NamedTuple):
    """One kind of irregularity: which tile, how many of its sides the picture spans, its direction and stretch."""

    tile: str
    span: float = 0.31  # 0.31: a texel a pixel when 160 are drawn
    degrees: float = 0.0
    stretch: float = 1.0  # features are so much longer along `degrees` than across

    def field(self, rng: np.random.Generator, side: int) -> Field:
        """Noise of mean 0 and deviation 1 ("cells": 0 to 1, even inside a cell), from a random window."""
        row, column = rng.random(), rng.random()
        return self.window(side, row, column)

    def window(self, side: int, row: float, column: float) -> Field:
        """The window of the tile that begins at `row` and `column` (0 to 1)."""
        texels = tile(self.tile)
        turn = np.deg2rad(self.degrees)
        step = self.span * TEXELS / side
        along, across = step / self.stretch, step
        c, s = float(np.cos(turn)), float(np.sin(turn))
        to_tile = np.array(
            [[c * along, s * along, column * TEXELS], [-s * across, c * across, row * TEXELS]], dtype=np.float64
        )
        sharp = cv2.INTER_NEAREST if self.tile.endswith("cells") else cv2.INTER_LINEAR
        return cv2.warpAffine(
            texels, to_tile, (side, side), flags=sharp | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
        )


def turned_marks(rng: np.random.Generator, side: int, span: float, center: tuple[float, float] = (0.0, 0.0)) -> Field:
    """Rings of a lathe around `center`: noise of mean 0 and deviation 1 that depends on the radius alone."""
    x, y = grid(side)
    radius = np.sqrt((x - np.float32(center[0])) ** 2 + (y - np.float32(center[1])) ** 2)
    line = tile("grain")[int(rng.integers(TEXELS))]
    return line[(radius * np.float32(span * TEXELS / 2)).astype(np.int32) % TEXELS]


@lru_cache(maxsize=32)
def tile(name: str) -> Float32[np.ndarray, "n n"]:
    """The tile called `name`; periodic, read-only.

    Raises:
        KeyError: there is no such tile.
    """
    texels = TILES[name](np.random.default_rng([_SEED, *name.encode()])).astype(np.float32)
    if not name.endswith("cells"):
        texels = (texels - texels.mean()) / texels.std()
    texels = np.ascontiguousarray(texels)
    texels.setflags(write=False)
    return texels


Make = Callable[[np.random.Generator], np.ndarray]


def _spectrum(slope: float, finest: float = 1.0) -> Make:
    """Noise with a power law; nothing finer than `finest` texels."""

    def make(rng: np.random.Generator) -> np.ndarray:
        frequency = np.hypot(np.fft.fftfreq(TEXELS)[:, None], np.fft.rfftfreq(TEXELS)[None])
        gain = np.maximum(frequency, 1.5 / TEXELS) ** -slope * np.exp(-((frequency * finest) ** 2) * 4)
        gain[0, 0] = 0
        return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((TEXELS, TEXELS))) * gain, s=(TEXELS, TEXELS))

    return make


def _unit(field: np.ndarray) -> np.ndarray:
    return (field - field.mean()) / field.std()


def _ridges(rng: np.random.Generator) -> np.ndarray:
    """Thin winding ridges: veins, wrinkles."""
    return -np.sqrt(np.abs(_unit(_spectrum(2.0, 2.0)(rng))) + 0.02)


def _swirls(rng: np.random.Generator) -> np.ndarray:
    """Bands that were stirred: marble, burl."""
    push = [_unit(_spectrum(2.2, 3.0)(rng)) * 22 for _ in range(2)]
    rows, columns = np.indices((TEXELS, TEXELS))
    base = _unit(_spectrum(1.9, 2.0)(rng)).astype(np.float32)
    x, y = ((columns + push[0]) % TEXELS).astype(np.float32), ((rows + push[1]) % TEXELS).astype(np.float32)
    stirred = cv2.remap(base, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.sin(2.6 * stirred)


def _points(rng: np.random.Generator, across: int, jitter: float) -> np.ndarray:
    """A periodic tile with 0 at jittered points and 255 elsewhere, three times in each direction."""
    pitch = TEXELS / across
    rows, columns = np.indices((across, across))
    rows = rows + 0.25 * (columns % 2)  # not a plain lattice
    spots = (np.stack([rows, columns], axis=-1) + 0.5 + jitter * rng.uniform(-0.5, 0.5, (across, across, 2))) * pitch
    spots = spots.reshape(-1, 2).astype(np.int64) % TEXELS
    field = np.full((TEXELS, TEXELS), 255, np.uint8)
    field[spots[:, 0], spots[:, 1]] = 0
    return np.tile(field, (3, 3))


_MIDDLE = (slice(TEXELS, 2 * TEXELS), slice(TEXELS, 2 * TEXELS))


def _labels(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distance, found = cv2.distanceTransformWithLabels(
        points, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    labels = np.asarray(found, dtype=np.int64)
    # the same number for a point's nine copies
    rows, columns = np.nonzero(points == 0)
    number = np.zeros(labels.max() + 1, dtype=np.int64)
    number[labels[rows, columns]] = (rows % TEXELS) * TEXELS + columns % TEXELS
    return distance, number[labels]


def _bumps(across: int, jitter: float) -> Make:
    """Distance to the nearest of scattered points, downwards."""
    return lambda rng: -_labels(_points(rng, across, jitter))[0][_MIDDLE]


def _cells(across: int, jitter: float) -> Make:
    """A number from 0 to 1 for each cell around scattered points."""

    def make(rng: np.random.Generator) -> np.ndarray:
        cells = _labels(_points(rng, across, jitter))[1][_MIDDLE]
        return rng.random(TEXELS * TEXELS)[cells]

    return make


def _joints(across: int, jitter: float) -> Make:
    """Distance from the border between cells: pebbles with grooves between."""

    def make(rng: np.random.Generator) -> np.ndarray:
        cells = _labels(_points(rng, across, jitter))[1]
        inside = (cells == np.roll(cells, 1, 0)) & (cells == np.roll(cells, 1, 1))
        distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[_MIDDLE]
        return np.sqrt(np.minimum(distance, 0.6 * TEXELS / across))

    return make


def _fibres(count: int, length: float, bend: float) -> Make:
    """Short threads that lie over each other at random."""

    def make(rng: np.random.Generator) -> np.ndarray:
        room = int(length) + 4
        field = np.zeros((TEXELS + 2 * room,) * 2, dtype=np.float32)
        starts = rng.uniform(0, TEXELS, (count, 2)) + room
        angles, levels = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.2, 1.0, count)
        for start, angle, level in zip(starts, angles, levels, strict=True):
            turns = angle + np.cumsum(rng.normal(0, bend, 6))
            steps = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / 6
            path = np.round(np.concatenate([[start], start + np.cumsum(steps, axis=0)]) * 16).astype(np.int32)
            cv2.polylines(field, [path], False, float(level), 1, cv2.LINE_8, 4)
        for axis in (0, 1):  # what sticks out comes in again on the other side
            field = np.moveaxis(field, axis, 0)
            field[room : 2 * room] = np.maximum(field[room : 2 * room], field[-room:])
            field[-2 * room : -room] = np.maximum(field[-2 * room : -room], field[:room])
            field = np.moveaxis(field, 0, axis)
        return cv2.GaussianBlur(field[room:-room, room:-room], (0, 0), 0.6)

    return make


TILES: dict[str, Make] = {
    "white": _spectrum(0.0, 0.6),
    "grain": _spectrum(0.0, 2.5),
    "rough": _spectrum(1.1),
    "cloud": _spectrum(1.8),
    "soft": _spectrum(3.0, 4.0),
    "ridges": _ridges,
    "swirls": _swirls,
    "bumps": _bumps(40, 0.9),
    "fine bumps": _bumps(96, 0.9),
    "studs": _bumps(32, 0.05),
    "cells": _cells(24, 0.95),
    "fine cells": _cells(80, 0.95),
    "joints": _joints(24, 0.9),
    "fine joints": _joints(64, 0.9),
    "fibres": _fibres(5200, 46.0, 0.25),
    "curls": _fibres(9000, 22.0, 0.7),
}
