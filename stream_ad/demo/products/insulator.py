"""A standing porcelain insulator, brown glaze, cast-iron caps, seen from the side."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float32

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain, streaks
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, cover, grid, mottled, smoothstep

GLAZE, PORCELAIN, IRON = (0.115, 0.036, 0.014), (0.66, 0.60, 0.50), (0.20, 0.20, 0.205)
SHEDS = tuple((-0.46 + 0.23 * i, 0.56 if i % 2 == 0 else 0.46) for i in range(5))  # height of the rim, radius
CORE, CAP = 0.21, 0.25
ENDS = (-0.66, 0.66)  # of the porcelain
LENGTH = 0.86

Field = Float32[np.ndarray, "side side"]


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    x, _ = grid(side)
    level = _level(side) + 0.002 * fbm(rng, side, cells=3, octaves=2)
    at_level = np.clip((level + 1.2) * np.float32(_STEPS / 2.4), 0, _STEPS - 1).astype(np.int32)
    radius, iron = (column[at_level] for column in _profile())
    outline = np.abs(x) - radius
    chip = None
    if kind == "chipped_shed":
        bite, chip = _chip(luck, side)
        chip = np.where(iron > 0.5, 1, chip).astype(np.float32)
        outline = np.maximum(outline, -np.where(iron > 0.5, 1, bite).astype(np.float32))

    part = Surface.blank(side, GLAZE, gloss=0.72)
    part.tint(float(rng.uniform(0.9, 1.1)) * (1 + 0.10 * fbm(rng, side, cells=5) + 0.05 * grain(rng, side, size=0.01)))
    round_body = np.sqrt(np.maximum(radius * radius - x * x, 0))
    part.height = (0.55 * round_body + 0.0012 * fbm(rng, side, cells=9)).astype(np.float32)
    part.alpha = cover(outline, side)
    rough = grain(rng, side, size=0.008)
    part.paint(iron, mottled(IRON, 1 + 0.09 * rough), gloss=0.3, metal=0.6)
    part.height += 0.0015 * iron * rough
    if chip is not None:
        lost = cover(chip, side, softness=0.008)
        part.height -= 0.02 * lost
        part.paint(lost, mottled(PORCELAIN, 1 + 0.08 * rough), gloss=0.08)
        part.height += 0.004 * lost * rough
    elif kind == "crack":
        _crack(part, luck)
    elif kind == "bare_patch":
        _bare(part, luck)
    elif kind == "flashover_burn":
        _burn(part, luck)
    return part


_STEPS = 4096  # of the profile


@lru_cache(maxsize=4)
def _level(side: int) -> Field:
    """Height along the axis at every pixel. The camera looks slightly down, so rims are arcs."""
    x, y = grid(side)
    return y + 0.17 * (1 - np.sqrt(np.maximum(1 - (x / np.float32(0.75)) ** 2, 0.05))) - 0.05


@lru_cache(maxsize=1)
def _profile() -> tuple[Float32[np.ndarray, " steps"], Float32[np.ndarray, " steps"]]:
    """Radius at each level from -1.2 to 1.2, and where the caps are."""
    level = np.linspace(-1.2, 1.2, _STEPS, dtype=np.float32)
    radius = np.where(np.abs(level) < ENDS[1], np.float32(CORE), np.float32(CAP))
    for rim, reach in SHEDS:
        # flat below, sloping above: rain runs off
        below = 1 - smoothstep(rim + 0.012, rim + 0.028, level)
        above = np.clip((level - np.float32(rim - 0.14)) / np.float32(0.14), 0, 1)
        radius = np.maximum(radius, CORE + np.float32(reach - CORE) * above**1.6 * below)
    ends = np.abs(level) < LENGTH
    collar = np.exp(-(((np.abs(level) - 0.70) / np.float32(0.025)) ** 2)) * 0.035
    iron = smoothstep(ENDS[1] - 0.006, ENDS[1] + 0.006, np.abs(level))
    return np.where(ends, radius + collar * iron, -1).astype(np.float32), iron.astype(np.float32)


def _on_glaze(luck: np.random.Generator) -> tuple[float, float]:
    """A point on the slope of a shed."""
    rim, reach = SHEDS[int(luck.integers(len(SHEDS)))]
    return float(luck.uniform(-0.6, 0.6)) * reach, rim - 0.01 + 0.05


def _chip(luck: np.random.Generator, side: int) -> tuple[Field, Field]:
    """Distances to what broke off a shed's outline, and to the bare fracture: a tip, or a shell in front."""
    rim, reach = SHEDS[int(luck.integers(len(SHEDS)))]
    x, _ = grid(side)
    level = _level(side)
    if luck.random() < 0.5:
        at = float(luck.choice([-1, 1])) * (reach - float(luck.uniform(0.08, 0.17)))
        outwards = (np.abs(at) - x * np.sign(np.float32(at))).astype(np.float32)
        jagged = 0.014 * fbm(luck, side, cells=14, octaves=3)
        near = np.abs(level - np.float32(rim - 0.04)) - np.float32(0.085)
        broken = np.maximum(outwards + jagged, near)
        return broken, np.maximum(broken - np.float32(luck.uniform(0.035, 0.06)), near)
    at = float(luck.uniform(-0.7, 0.7)) * reach
    sag = -0.17 * (1 - float(np.sqrt(1 - (at / 0.75) ** 2)))
    shell = marks.blob(luck, side, (at, rim + 0.05 + sag), float(luck.uniform(0.07, 0.11)), ragged=0.22)
    shell = np.maximum(shell, level - np.float32(rim + 0.022))  # not on the shed below
    return np.ones_like(shell), shell


def _crack(part: Surface, luck: np.random.Generator) -> None:
    at = _on_glaze(luck)
    degrees, length = float(luck.choice([70, 110])) + float(luck.uniform(-25, 25)), float(luck.uniform(0.25, 0.45))
    width = float(luck.uniform(0.014, 0.022))
    line = marks.crack(luck, part.side, (at[0], at[1] - length / 2), degrees, length, width=width) * (part.alpha > 0.5)
    edge = marks.soft(line, 0.010)
    part.paint(np.minimum(1.1 * edge, 0.6), PORCELAIN, gloss=0.2)
    part.paint(line, (0.008, 0.006, 0.005), gloss=0.05)
    part.height -= 0.012 * line


def _bare(part: Surface, luck: np.random.Generator) -> None:
    """Glaze that did not take in the kiln."""
    spot = marks.blob(luck, part.side, _on_glaze(luck), float(luck.uniform(0.06, 0.11)), ragged=0.3)
    missing = smoothstep(0.008, -0.012, spot) * (part.alpha > 0.5)
    rough = grain(luck, part.side, size=0.008)
    color = mottled((0.40, 0.27, 0.17), 1 + 0.10 * rough)
    part.paint(missing, color, gloss=0.08)
    part.height += missing * (0.002 * rough - 0.006)


def _burn(part: Surface, luck: np.random.Generator) -> None:
    """Soot and melted glaze along the path of an arc."""
    at = _on_glaze(luck)
    path = marks.wander(
        luck, (at[0], at[1] - 0.2), 90 + float(luck.uniform(-25, 25)), float(luck.uniform(0.35, 0.55)), wobble=18.0
    )
    trail = marks.soft(marks.stroke(part.side, path, float(luck.uniform(0.05, 0.09))), 0.02)
    mottle = np.clip(0.8 + 0.35 * fbm(luck, part.side, cells=16), 0, 1)
    soot = np.clip(trail * mottle * 1.3, 0, 1) * (part.alpha > 0.5)
    ash = smoothstep(0.75, 1.0, soot) * smoothstep(-0.2, 0.8, streaks(luck, part.side, length=0.02, width=0.02))
    part.paint(0.95 * soot, (0.010, 0.009, 0.009), gloss=0.06)
    part.paint(0.7 * ash, (0.36, 0.34, 0.32), gloss=0.05)


INSULATOR = Product(
    name="insulator",
    class_name="porcelain insulator",
    defects=("chipped_shed", "crack", "bare_patch", "flashover_burn"),
    draw=draw,
    table=tables.felt,
    fixture=Fixture(degrees=3, shift=0.035, scale=0.02, zoom=1.06),
    lamp=Lamp(azimuth=-140, elevation=50, key=0.9, dome=0.45),
)
