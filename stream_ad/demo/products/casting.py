"""A die-cast aluminium housing cover with four screw bosses, ribs and a machined bore, on a wooden pallet."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, box, cover, disc, grid, mottled, rounded, smooth_union, smoothstep, turned

HALF = (0.74, 0.60)
BOSSES = tuple((sx * 0.60, sy * 0.46) for sx in (-1, 1) for sy in (-1, 1))
HUB, BORE, FACE = 0.30, 0.13, 0.235
ALUMINIUM, CUT = (0.36, 0.365, 0.375), (0.72, 0.72, 0.73)

Field = Float32[np.ndarray, "side side"]


class _Shape(NamedTuple):
    outline: Field  # distances
    bosses: Field
    drilled: Field
    hub: Field
    ribs: Field


@lru_cache(maxsize=4)
def _shape(side: int) -> _Shape:
    x, y = grid(side)
    at_bosses = [(x - np.float32(bx), y - np.float32(by)) for bx, by in BOSSES]
    bosses = np.minimum.reduce([disc(dx, dy, 0.13) for dx, dy in at_bosses])
    outline = smooth_union(box(x, y, *HALF, corner=0.16), bosses, 0.05)
    drilled = np.minimum.reduce([disc(dx, dy, 0.06) for dx, dy in at_bosses])
    ribs = []
    for degrees in (37.5, -37.5):
        u, v = turned(x, y, degrees)
        ribs.append(box(u, v, 0.70, 0.026, 0.02))
    ribs.append(box(x, y, 0.70, 0.024, 0.02))
    return _Shape(outline, bosses, drilled, disc(x, y, HUB), np.minimum.reduce(ribs))


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    shape = _shape(side)
    skin = fbm(rng, side, cells=30, octaves=3)
    sand = grain(rng, side, size=0.007)
    outline = shape.outline + 0.004 * fbm(rng, side, cells=3, octaves=3)
    if kind == "chipped_edge":
        outline = np.maximum(outline, -_chip(luck, side))

    rim = np.abs(outline + np.float32(0.055)) - np.float32(0.035)
    height = 0.075 * rounded(outline, 0.03)
    height = np.maximum(height, 0.125 * rounded(rim, 0.03) * (rim < 0))
    height = np.maximum(height, 0.115 * rounded(shape.ribs, 0.03) * (shape.ribs < 0) * (outline < -0.05))
    height = np.maximum(height, 0.165 * rounded(shape.bosses, 0.03) * (shape.bosses < 0))
    height = np.maximum(height, 0.185 * rounded(shape.hub, 0.04) * (shape.hub < 0))
    height *= rounded(outline, 0.03)
    height = height + 0.0016 * skin + 0.0008 * sand

    part = Surface.blank(side, ALUMINIUM, gloss=0.3, metal=0.45)
    part.tint(float(rng.uniform(0.92, 1.08)) * (1 + 0.05 * skin + 0.06 * sand + 0.05 * fbm(rng, side, cells=3)))
    part.height = height.astype(np.float32)
    part.alpha = cover(np.maximum(outline, -shape.drilled), side)
    _machine(part, rng)
    if kind == "chipped_edge":
        fresh = smoothstep(0.035, 0.0, _distance_to_edge(outline, shape.outline))
        part.paint(0.8 * fresh, np.array((0.58, 0.58, 0.59)), gloss=0.5, metal=0.4)
    elif kind == "flash":
        _flash(part, luck)
    elif kind == "crack":
        _crack(part, luck)
    elif kind == "porosity":
        _pores(part, luck)
    elif kind == "scratch":
        _scratch(part, luck)
    return part


def _machine(part: Surface, rng: np.random.Generator) -> None:
    """Turn the hub's face, bore it, and face the bosses: bright rings of tool marks."""
    x, y = grid(part.side)
    radius = np.sqrt(x * x + y * y)
    marks_of_tool = np.sin(radius * np.float32(330) + np.float32(rng.uniform(0, 6)))
    face = cover(radius - np.float32(FACE), part.side)
    shine = mottled(CUT, 1 + 0.07 * marks_of_tool)
    # a turned face glints in two opposite sectors
    glint = np.cos(2 * (np.arctan2(y, x) - np.float32(rng.uniform(0.3, 0.8)))).astype(np.float32)
    part.paint(face, shine * (0.85 + 0.22 * glint), gloss=0.5, metal=0.8, height=0.178 + 0.0006 * marks_of_tool)
    hole = cover(radius - np.float32(BORE), part.side)
    part.paint(hole, (0.035, 0.033, 0.031), gloss=0.1, metal=0.1, height=0.02)
    for boss_x, boss_y in BOSSES:
        window, dx, dy = part.around(boss_x, boss_y, 0.12)
        ring = cover(disc(dx, dy, 0.098), part.side)
        part.paint(ring, CUT, gloss=0.5, metal=0.8, height=0.16, window=window)


def _edge_point(luck: np.random.Generator) -> tuple[float, float, float]:
    """A point on the straight part of the outline, and the direction outwards in degrees."""
    if luck.random() < 0.5:
        sign = float(luck.choice([-1, 1]))
        return sign * HALF[0], float(luck.uniform(-0.26, 0.26)), 0.0 if sign > 0 else 180.0
    sign = float(luck.choice([-1, 1]))
    return float(luck.uniform(-0.4, 0.4)), sign * HALF[1], 90.0 * sign


def _chip(luck: np.random.Generator, side: int) -> Field:
    x, y, _ = _edge_point(luck)
    return marks.blob(luck, side, (x, y), float(luck.uniform(0.06, 0.11)), ragged=0.3)


def _distance_to_edge(outline: Field, intact: Field) -> Field:
    """Distance to the broken edge inside the part; large elsewhere."""
    broken = outline > intact + 0.012
    return np.where(broken & (outline < 0), -outline, 1).astype(np.float32)


def _flash(part: Surface, luck: np.random.Generator) -> None:
    """Metal that was pressed between the halves of the die: a thin ragged fin beyond the outline."""
    x, y, outwards = _edge_point(luck)
    xs, ys = grid(part.side)
    u, v = turned(xs - np.float32(x), ys - np.float32(y), outwards)
    half, reach = float(luck.uniform(0.13, 0.22)), float(luck.uniform(0.06, 0.10))
    ragged = 0.02 * fbm(luck, part.side, cells=14, octaves=3)
    fin = np.maximum(
        np.maximum(u - np.float32(reach) * (1 - (v / np.float32(half)) ** 2) - ragged, -u - 0.02), np.abs(v) - half
    )
    added = cover(fin, part.side) * (1 - part.alpha)
    part.paint(added, (0.52, 0.52, 0.53), gloss=0.45, metal=0.5, height=0.03)
    part.alpha = np.maximum(part.alpha, added)


def _crack(part: Surface, luck: np.random.Generator) -> None:
    angle = float(luck.choice([0, 90, 180, 270])) + float(luck.uniform(-24, 24)) + 12
    turn = np.deg2rad(angle)
    start = float(np.cos(turn)) * 0.29, float(np.sin(turn)) * 0.29
    length, width = float(luck.uniform(0.22, 0.4)), float(luck.uniform(0.010, 0.018))
    line = marks.crack(luck, part.side, start, angle, length, width=width, branches=int(luck.integers(1, 4)))
    line = line * (part.alpha > 0.5)
    part.paint(line, (0.02, 0.019, 0.018), gloss=0.05, metal=0.0)
    part.height -= 0.03 * line


def _pores(part: Surface, luck: np.random.Generator) -> None:
    """Gas that could not leave: a cluster of round pits."""
    angle, away = float(luck.uniform(0, 2 * np.pi)), float(luck.uniform(0.18, 0.5))
    center = np.array((np.cos(angle) * away, np.sin(angle) * away * 0.8))
    for _ in range(int(luck.integers(5, 12))):
        x, y = (float(v) for v in center + luck.normal(0, 0.055, 2))
        radius = float(luck.uniform(0.011, 0.03))
        window, dx, dy = part.around(x, y, 0.06)
        pit = disc(dx, dy * np.float32(luck.uniform(0.8, 1.25)), radius)
        inside = cover(pit, part.side, softness=0.008)
        part.height[window] -= 0.035 * inside
        part.paint(0.85 * inside, (0.05, 0.048, 0.046), gloss=0.1, metal=0.1, window=window)


def _scratch(part: Surface, luck: np.random.Generator) -> None:
    start = float(luck.uniform(-0.55, 0.1)), float(luck.uniform(-0.4, 0.4))
    degrees, length = float(luck.uniform(-40, 40)), float(luck.uniform(0.3, 0.55))
    lines = [
        marks.stroke(
            part.side, marks.wander(luck, start, degrees, length, wobble=2.5), float(luck.uniform(0.012, 0.02))
        )
    ]
    if luck.random() < 0.6:
        second = start[0] + 0.01, start[1] + float(luck.uniform(0.03, 0.06))
        lines.append(marks.stroke(part.side, marks.wander(luck, second, degrees, 0.7 * length, wobble=2.5), 0.010))
    groove = marks.union(lines) * (part.alpha > 0.5)
    part.height -= 0.008 * groove
    part.paint(0.85 * groove, (0.86, 0.86, 0.87), gloss=0.55, metal=0.5)


CASTING = Product(
    name="casting",
    class_name="aluminium casting",
    defects=("crack", "porosity", "chipped_edge", "flash", "scratch"),
    draw=draw,
    table=tables.plywood,
    fixture=Fixture(degrees=5, shift=0.04, scale=0.02, zoom=1.1),
    lamp=Lamp(azimuth=-115, elevation=46, key=0.95, dome=0.4),
)
