"""A black rubber flange gasket with four bolt holes, on a steel table."""

from functools import lru_cache

import numpy as np

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, cover, disc, grid, rounded, smooth_union, smoothstep

THICKNESS = 0.055
BOLTS = tuple((sx * 0.53, sy * 0.53) for sx in (-1, 1) for sy in (-1, 1))
BOLT_RADIUS = 0.085
BORE = 0.37


@lru_cache(maxsize=4)
def _shape(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the outline without holes, and to the bore."""
    x, y = grid(side)
    outline = disc(x, y, 0.62)
    for bolt_x, bolt_y in BOLTS:
        outline = smooth_union(outline, disc(x - np.float32(bolt_x), y - np.float32(bolt_y), 0.19), 0.12)
    return outline, disc(x, y, BORE)


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    x, y = grid(side)
    outline, bore = _shape(side)
    kind, luck = defect if defect else ("", rng)
    # moulding is never quite the same size
    outline = outline + np.float32(0.006) * fbm(rng, side, cells=2, octaves=2)
    tone = float(rng.uniform(0.9, 1.12))
    ridge = np.zeros_like(bore)
    plugged = int(luck.integers(4)) if kind == "unpunched_hole" else -1

    if kind == "swelling":
        at, size = _on_ring(luck, 0.5), float(luck.uniform(0.10, 0.16))
        bulge = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / np.float32(size**2))
        outline, bore = outline - np.float32(0.07) * bulge, bore + np.float32(0.045) * bulge
        ridge = np.float32(luck.uniform(0.05, 0.09)) * bulge
    distance = np.maximum(outline, -bore)
    for index, (bolt_x, bolt_y) in enumerate(BOLTS):
        hole = disc(x - np.float32(bolt_x), y - np.float32(bolt_y), BOLT_RADIUS)
        if index == plugged:
            ridge = ridge - 0.012 * np.exp(-((hole / np.float32(0.012)) ** 2))
        else:
            distance = np.maximum(distance, -hole)
    if kind == "nick":
        distance = np.maximum(distance, -_nick(luck, side))

    part = Surface.blank(side, np.array((0.034, 0.035, 0.038)) * tone, gloss=0.36)
    part.tint(1 + 0.10 * fbm(rng, side, cells=5) + 0.12 * grain(rng, side, size=0.006))
    part.alpha = cover(distance, side)
    bead = np.exp(-(((bore - 0.09) / np.float32(0.028)) ** 2))
    part.height = THICKNESS * rounded(distance, 0.035) + 0.016 * bead + ridge + 0.0008 * fbm(rng, side, cells=24)
    _dust(part, rng)
    if kind == "crack":
        _crack(part, luck)
    elif kind == "contamination":
        _contaminate(part, luck)
    return part


def _on_ring(luck: np.random.Generator, radius: float) -> tuple[float, float]:
    angle = float(luck.uniform(0, 2 * np.pi))
    return float(np.cos(angle)) * radius, float(np.sin(angle)) * radius


def _nick(luck: np.random.Generator, side: int) -> np.ndarray:
    if luck.random() < 0.6:  # outer edge, between two ears
        angle = np.deg2rad(90 * int(luck.integers(4)) + float(luck.uniform(-18, 18)))
        radius = 0.64
    else:
        angle, radius = float(luck.uniform(0, 2 * np.pi)), BORE - 0.01
    center = float(np.cos(angle)) * radius, float(np.sin(angle)) * radius
    return marks.blob(luck, side, center, float(luck.uniform(0.055, 0.10)), ragged=0.22)


def _crack(part: Surface, luck: np.random.Generator) -> None:
    angle = float(luck.uniform(0, 360))
    turn = np.deg2rad(angle)
    start = float(np.cos(turn)) * (BORE - 0.01), float(np.sin(turn)) * (BORE - 0.01)
    length, width = float(luck.uniform(0.2, 0.34)), float(luck.uniform(0.014, 0.026))
    gap = marks.crack(luck, part.side, start, angle + float(luck.uniform(-25, 25)), length, width=width)
    lips = marks.soft(gap, 0.012)
    part.height += 0.022 * lips
    part.paint(np.minimum(1.4 * lips, 1), (0.10, 0.10, 0.105), gloss=0.1)
    part.alpha = part.alpha * (1 - smoothstep(0.35, 0.8, gap))


def _contaminate(part: Surface, luck: np.random.Generator) -> None:
    at = _on_ring(luck, 0.5)
    spot = marks.blob(luck, part.side, at, float(luck.uniform(0.05, 0.09)), ragged=0.3)
    clumps = smoothstep(-0.6, 0.5, fbm(luck, part.side, cells=30, octaves=3))
    amount = cover(spot, part.side, softness=0.03) * (0.45 + 0.55 * clumps)
    color = ((0.42, 0.36, 0.24), (0.50, 0.50, 0.48), (0.30, 0.16, 0.06))[int(luck.integers(3))]
    part.paint(amount, color, gloss=0.05)
    part.height += 0.012 * amount


def _dust(part: Surface, rng: np.random.Generator) -> None:
    specks = smoothstep(3.1, 3.8, grain(rng, part.side, size=0.007))
    part.paint(0.5 * specks, (0.22, 0.22, 0.21))


GASKET = Product(
    name="gasket",
    class_name="rubber gasket",
    defects=("nick", "crack", "unpunched_hole", "swelling", "contamination"),
    draw=draw,
    table=tables.steel,
    fixture=Fixture(degrees=6, shift=0.05, scale=0.025, zoom=1.14),
    lamp=Lamp(azimuth=-125, elevation=50, key=0.85, dome=0.42),
)
