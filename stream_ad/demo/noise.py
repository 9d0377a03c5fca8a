"""Noise fields: the irregularities that make a rendered surface look like a photographed one.

A field is a window of a larger tile, cut at a random place and flipped at random. The tiles are made once a process,
because summing octaves for every picture would cost more than shading it. Features have a size in units of the
picture, not in pixels, so a scene stays the same at any resolution.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32

Field = Float32[np.ndarray, "side side"]

MARGIN = 1.5  # side of a tile over side of a field: room for different windows
_TILE_SEED = 20240117


def fbm(rng: np.random.Generator, side: int, *, cells: int = 4, octaves: int = 4, persistence: float = 0.5) -> Field:
    """Fractal noise of mean 0 and deviation 1, its largest features 1/`cells` of the field."""
    return _window(rng, _fbm_tile(side, cells, octaves, persistence), side)


def grain(rng: np.random.Generator, side: int, *, size: float = 0.004) -> Field:
    """Fine noise of mean 0 and deviation 1, its specks about `size` (1 = the field's side) across."""
    return _window(rng, _grain_tile(side, size, size), side)


def streaks(rng: np.random.Generator, side: int, *, length: float = 0.08, width: float = 0.0025) -> Field:
    """Noise of mean 0 and deviation 1, drawn out along x: brushed metal, fibres."""
    return _window(rng, _grain_tile(side, length, width), side)


def _window(rng: np.random.Generator, tile: Float32[np.ndarray, "n n"], side: int) -> Field:
    row, column, turn = rng.random(), rng.random(), int(rng.integers(4))
    room = len(tile) - side
    top, left = int(row * room), int(column * room)
    field = tile[top : top + side, left : left + side]
    if turn & 1:
        field = field[::-1]
    if turn & 2:
        field = field[:, ::-1]
    return field  # read-only: a copy would cost as much as what is done with it


@lru_cache(maxsize=32)
def _fbm_tile(side: int, cells: int, octaves: int, persistence: float) -> Float32[np.ndarray, "n n"]:
    rng = np.random.default_rng([_TILE_SEED, cells, octaves])
    n = int(side * MARGIN)
    tile = np.zeros((n, n), dtype=np.float32)
    for octave in range(octaves):
        knots = round(cells * MARGIN) * 2**octave + 3
        knot_values = rng.standard_normal((knots, knots), dtype=np.float32)
        tile += persistence**octave * cv2.resize(knot_values, (n, n), interpolation=cv2.INTER_CUBIC)
    return _standardised(tile)


@lru_cache(maxsize=32)
def _grain_tile(side: int, length: float, width: float) -> Float32[np.ndarray, "n n"]:
    rng = np.random.default_rng([_TILE_SEED, round(length * 1e6), round(width * 1e6)])
    n = int(side * MARGIN)
    tile = rng.standard_normal((n, n), dtype=np.float32)
    sigma_x, sigma_y = max(length * side / 2, 0.3), max(width * side / 2, 0.3)
    return _standardised(cv2.GaussianBlur(tile, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y))


def _standardised(tile: Float32[np.ndarray, "n n"]) -> Float32[np.ndarray, "n n"]:
    tile = (tile - tile.mean()) / tile.std()
    tile.setflags(write=False)
    return tile
