"""What parts lie on: steel, belts, mats, white trays."""

import numpy as np

from stream_ad.demo.noise import fbm, grain, streaks
from stream_ad.demo.surface import Surface, grid


def steel(rng: np.random.Generator, side: int) -> Surface:
    """A brushed sheet with a few old scuffs."""
    table = Surface.blank(side, (0.50, 0.51, 0.52), gloss=0.25, metal=0.35)
    table.tint(1 + 0.05 * streaks(rng, side, length=0.3, width=0.003) + 0.035 * fbm(rng, side, cells=3))
    table.height += 0.0002 * streaks(rng, side, length=0.2, width=0.003)
    return table


def belt(rng: np.random.Generator, side: int) -> Surface:
    """A dark green conveyor belt with a fine rhombic pattern."""
    table = Surface.blank(side, (0.050, 0.085, 0.075), gloss=0.12)
    x, y = grid(side)
    phase = rng.uniform(0, 2 * np.pi, 2)
    pattern = np.cos((x + y) * np.float32(60) + np.float32(phase[0])) * np.cos(
        (x - y) * np.float32(60) + np.float32(phase[1])
    )
    table.height += np.float32(0.0022) * pattern + 0.0003 * grain(rng, side)
    table.tint(1 + 0.09 * fbm(rng, side, cells=4) + 0.05 * grain(rng, side, size=0.006))
    return table


def tray(rng: np.random.Generator, side: int) -> Surface:
    """White plastic, hardly any structure."""
    table = Surface.blank(side, (0.70, 0.71, 0.69), gloss=0.2)
    table.tint(1 + 0.02 * fbm(rng, side, cells=2, octaves=3) + 0.012 * grain(rng, side, size=0.008))
    table.height += 0.0003 * fbm(rng, side, cells=6)
    return table


def mat(rng: np.random.Generator, side: int) -> Surface:
    """A dark blue antistatic mat."""
    table = Surface.blank(side, (0.030, 0.036, 0.055), gloss=0.15)
    table.tint(1 + 0.06 * fbm(rng, side, cells=5) + 0.08 * grain(rng, side, size=0.005))
    table.height += 0.0004 * grain(rng, side, size=0.006)
    return table


def plywood(rng: np.random.Generator, side: int) -> Surface:
    """A worn wooden pallet."""
    table = Surface.blank(side, (0.33, 0.205, 0.105), gloss=0.08)
    rings = streaks(rng, side, length=0.35, width=0.012)
    table.tint(1 + 0.13 * rings + 0.07 * streaks(rng, side, length=0.12, width=0.003) + 0.06 * fbm(rng, side, cells=3))
    table.height += 0.0005 * rings
    return table


def felt(rng: np.random.Generator, side: int) -> Surface:
    """Pale bluish grey felt behind standing parts."""
    table = Surface.blank(side, (0.36, 0.42, 0.47), gloss=0.05)
    table.tint(1 + 0.045 * grain(rng, side, size=0.007) + 0.04 * fbm(rng, side, cells=3))
    table.height += 0.0007 * grain(rng, side, size=0.006)
    return table
