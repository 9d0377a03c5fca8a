"""Print: text, bars, logos, and what goes wrong with it."""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from stream_ad.demo.families.blueprint import Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import Color, paint

Field = Float32[np.ndarray, "rows columns"]

_LETTERS = "ABCDEFGHIJKLMNOPRSTUVWXYZ0123456789"
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_COMPLEX)


class Mark(NamedTuple):
    """One thing to print: a word, a block of bars, or a simple figure."""

    shape: str  # "text", "bars", "code", "disc", "ring", "box", "lines"
    text: str
    x: float
    y: float
    width: float
    height: float
    font: int
    ink: Color


def word(rng: np.random.Generator, shortest: int = 2, longest: int = 8) -> str:
    """Letters and digits as on parts."""
    return "".join(pick(rng, _LETTERS) for _ in range(int(rng.integers(shortest, longest + 1))))


def mark(
    rng: np.random.Generator, x: float, y: float, width: float, height: float, ink: Color, *, only: str | None = None
) -> Mark:
    """A random mark centred at a point."""
    shape = only or pick(rng, ("text", "text", "text", "bars", "code", "disc", "ring", "box", "lines"))
    return Mark(shape, word(rng), x, y, width, height, pick(rng, _FONTS), ink)


def design(rng: np.random.Generator, x: float, y: float, width: float, height: float) -> tuple[Mark, ...]:
    """A label's layout inside a box: rows of marks."""
    rows = int(rng.integers(2, 6))
    inks = [paint(rng)[1] for _ in range(2)]
    shares = rng.uniform(0.5, 1.6, rows)
    tops = np.concatenate([[0], np.cumsum(shares)]) / shares.sum()
    marks = []
    for top, bottom in pairwise(tops):
        tall = float(bottom - top) * 2 * height
        middle = y - height + float(top + bottom) * height
        count = pick(rng, (1, 1, 2, 3))
        for column in range(count):
            wide = 2 * width / count
            left = x - width + (column + 0.5) * wide
            if happens(rng, 0.85):
                marks.append(mark(rng, left, middle, 0.42 * wide, 0.34 * tall, pick(rng, inks)))
    return tuple(marks) or (mark(rng, x, y, width, 0.5 * height, inks[0], only="text"),)


def stamped(item: Mark, side: int) -> Field:
    """How much ink of one mark is on each pixel."""
    half = side / 2
    canvas = np.zeros((side, side), dtype=np.uint8)
    cx, cy = (item.x + 1) * half, (item.y + 1) * half
    w, h = max(item.width * half, 1.5), max(item.height * half, 1.5)
    left, top, right, bottom = round(cx - w), round(cy - h), round(cx + w), round(cy + h)
    if item.shape == "text":
        thick = max(round(h / 5), 1)
        (wide, tall), _ = cv2.getTextSize(item.text, item.font, 1.0, 1)
        scale = min(2 * w / wide, 2 * h / tall)
        origin = round(cx - scale * wide / 2), round(cy + scale * tall / 2)
        cv2.putText(canvas, item.text, origin, item.font, scale, 255, thick, cv2.LINE_AA)
    elif item.shape in ("bars", "code"):
        rng = np.random.default_rng(list(item.text.encode()))
        count = max(min(int(w), 40), 4)
        rows = 1 if item.shape == "bars" else max(min(int(h), 16), 4)
        cells = (rng.random((rows, count if rows == 1 else rows)) < 0.5).astype(np.uint8) * np.uint8(255)
        shape = (max(right - left, 1), max(bottom - top, 1)) if rows == 1 else (max(bottom - top, 1),) * 2
        block = cv2.resize(cells, shape, interpolation=cv2.INTER_NEAREST)
        _paste(canvas, block, left, top)
    elif item.shape == "box":
        cv2.rectangle(canvas, (left, top), (right, bottom), 255, -1)
    elif item.shape == "lines":
        for row in range(top, bottom + 1, max(round(0.07 * half), 3)):
            cv2.line(canvas, (left, row), (right, row), 255, 1)
    else:
        radius = round(min(w, h))
        thick = -1 if item.shape == "disc" else max(radius // 4, 1)
        cv2.circle(canvas, (round(cx), round(cy)), radius, 255, thick, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def _paste(canvas: np.ndarray, block: np.ndarray, left: int, top: int) -> None:
    rows, columns = canvas.shape
    t, b = max(top, 0), min(top + block.shape[0], rows)
    l, r = max(left, 0), min(left + block.shape[1], columns)  # noqa: E741
    if t < b and l < r:
        canvas[t:b, l:r] = block[t - top : b - top, l - left : r - left]


def misprinted(ink: Field, damage: Damage) -> Field:
    """The same print gone wrong: shifted, doubled, smeared, faded, or partly missing."""
    rng, g = damage.rng, damage.severity
    side = len(ink)
    kind = pick(rng, ("shifted", "doubled", "smeared", "missing", "blotted"))
    turn = between(rng, 0, 2 * np.pi)
    reach = (0.03 + 0.15 * g) * side / 2
    if kind in ("shifted", "doubled"):
        step = np.array([[1, 0, reach * np.cos(turn)], [0, 1, reach * np.sin(turn)]])
        moved = cv2.warpAffine(ink, step, (side, side))
        return moved if kind == "shifted" else np.maximum(ink, (0.35 + 0.5 * np.float32(g)) * moved)
    if kind == "smeared":
        length = max(round(2 * reach), 3)
        kernel = np.zeros((length, length), dtype=np.float32)
        end = (length - 1) / 2 * np.array([np.cos(turn), np.sin(turn)])
        middle = (length - 1) / 2
        ends = [tuple(round(middle + sign * float(e)) for e in end) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1)
        kernel /= kernel.sum()
        return np.minimum(1.6 * cv2.filter2D(ink, -1, kernel), 1)
    # a band without ink, or with too much
    rows, columns = np.nonzero(ink > 0.5)
    if not len(rows):
        return ink
    at = int(rng.integers(len(rows)))
    x, y = np.meshgrid(np.arange(side, dtype=np.float32), np.arange(side, dtype=np.float32))
    across = (x - np.float32(columns[at])) * np.float32(np.cos(turn)) + (y - np.float32(rows[at])) * np.float32(
        np.sin(turn)
    )
    band = np.clip(1.5 - np.abs(across) / np.float32((0.03 + 0.16 * g) * side / 2), 0, 1)
    if kind == "missing":
        return ink * (1 - np.float32(0.6 + 0.4 * g) * band)
    fat = cv2.dilate(ink, np.ones((3, 3), np.uint8), iterations=1 + round(2 * g * side / 160))
    return np.maximum(ink, fat * band)
