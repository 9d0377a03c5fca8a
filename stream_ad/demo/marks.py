"""Shapes of damage: cracks, scratches, blobs, pores. All return how much of each pixel they cover."""

from collections.abc import Iterable
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Float32

from stream_ad.demo.surface import grid

Field = Float32[np.ndarray, "side side"]
Path = Float[np.ndarray, "points 2"]

_SHIFT = 4  # fractional bits of OpenCV's coordinates


def wander(
    rng: np.random.Generator, start: tuple[float, float], degrees: float, length: float, *, wobble: float = 12.0
) -> Path:
    """A path of `length` from `start` towards `degrees`, jagged by `wobble` degrees a step."""
    steps = max(int(length / 0.025), 3)
    bends = rng.normal(0, wobble, steps)
    # pulled back to the main direction, or long cracks would curl up
    angles = np.deg2rad(degrees + bends + 0.6 * np.concatenate([[0], bends[:-1]]))
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / steps)
    return np.concatenate([[start], start + np.cumsum(moves, axis=0)])


def stroke(side: int, path: Path, width: float, *, taper: bool = False) -> Field:
    """Cover of a line along `path`; with `taper` it thins out towards its end."""
    canvas = np.zeros((side, side), dtype=np.uint8)
    points = np.round((path + 1) * (side / 2) * 2**_SHIFT).astype(np.int32)
    thick = max(width * side / 2, 1.0)
    for index, (a, b) in enumerate(pairwise(points)):
        share = 1 - 0.75 * index / max(len(points) - 2, 1) if taper else 1.0
        cv2.line(canvas, tuple(map(int, a)), tuple(map(int, b)), 255, max(round(thick * share), 1), cv2.LINE_AA, _SHIFT)
    return canvas.astype(np.float32) / 255


def crack(
    rng: np.random.Generator,
    side: int,
    start: tuple[float, float],
    degrees: float,
    length: float,
    *,
    width: float = 0.012,
    branches: int = 2,
) -> Field:
    """Cover of a jagged crack that thins out, with some branches."""
    trunk = wander(rng, start, degrees, length, wobble=24.0)
    lines = [stroke(side, trunk, width, taper=True)]
    for _ in range(branches):
        at = trunk[int(rng.integers(len(trunk) // 3, len(trunk)))]
        away = degrees + float(rng.choice([-1, 1])) * float(rng.uniform(25, 60))
        twig = wander(rng, (float(at[0]), float(at[1])), away, length * float(rng.uniform(0.15, 0.35)), wobble=20.0)
        lines.append(stroke(side, twig, width * 0.6, taper=True))
    return union(lines)


def blob(
    rng: np.random.Generator, side: int, center: tuple[float, float], radius: float, *, ragged: float = 0.15
) -> Field:
    """Signed distance (about) to an irregular spot; negative inside."""
    x, y = grid(side)
    dx, dy = x - np.float32(center[0]), y - np.float32(center[1])
    distance = np.sqrt(dx * dx + dy * dy)
    table_angles = np.linspace(-np.pi, np.pi, 361)
    outline = np.ones_like(table_angles)
    for order in range(2, 9):
        outline += ragged * rng.normal(0, 1) / order**0.7 * np.cos(order * table_angles + rng.uniform(0, 2 * np.pi))
    angles = np.arctan2(dy, dx)
    return distance - np.float32(radius) * np.interp(angles, table_angles, np.maximum(outline, 0.3)).astype(np.float32)


def union(covers: Iterable[Field]) -> Field:
    """The highest cover at every pixel."""
    return np.maximum.reduce(list(covers))


def soft(cover: Field, radius: float) -> Field:
    """`cover` blurred by `radius`."""
    return cv2.GaussianBlur(cover, (0, 0), max(radius * len(cover) / 2, 0.3))
