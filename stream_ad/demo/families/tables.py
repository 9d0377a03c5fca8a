"""What the families' parts lie on: anything from a light box to a worn bench."""

from collections.abc import Callable

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import anything, varied
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid, turned

Table = Callable[[np.random.Generator, int], Surface]


def table(rng: np.random.Generator) -> Table:
    """A family's table: a function that gives a new piece of it."""
    plain = _studio(rng) if happens(rng, 0.5) else materials.some(rng, materials.ALL).coat
    return _furnished(rng, plain) if happens(rng, 0.2) else plain


def _furnished(rng: np.random.Generator, plain: Table) -> Table:
    """A table with seams, slots, holes or lines: the part's surroundings on a real line."""
    pitch, turn = scaled(rng, 0.12, 1.2), pick(rng, (0.0, 90.0, between(rng, 0, 180)))
    shape, width = pick(rng, ("lines", "slots", "grid", "holes")), between(rng, 0.012, 0.05)
    tone, deep = pick(rng, (0.3, 0.55, 1.6)), between(rng, 0.0, 0.03)

    def draw(shot: np.random.Generator, side: int) -> Surface:
        surface = plain(shot, side)
        x, y = turned(*grid(side), turn + between(shot, -1, 1))
        across, along = ((axis + between(shot, 0, 0.2)) / np.float32(pitch) + 40 for axis in (x, y))
        a, b = (np.abs(axis - np.floor(axis) - 0.5) * np.float32(pitch) for axis in (across, along))
        if shape == "holes":
            near = np.sqrt(a * a + b * b) - np.float32(min(0.3 * pitch, 2 * width))
        else:
            near = np.minimum(a, b) - np.float32(width) if shape == "grid" else a - np.float32(width)
        cut = cover(near, side)
        surface.albedo *= 1 + np.float32(tone - 1) * cut
        if shape != "lines":
            surface.height -= np.float32(deep) * cut
        return surface

    return draw


def _studio(rng: np.random.Generator) -> Table:
    """A plain backdrop, black, grey, white or coloured, with next to no structure."""
    level = pick(rng, (0.008, 0.02, 0.1, 0.35, 0.7, 0.85))
    color = varied(rng, (level, level, level), 0.25) if happens(rng, 0.7) else anything(rng)
    gloss = between(rng, 0.02, 0.4)
    uneven, fine = scaled(rng, 0.01, 0.08), scaled(rng, 0.003, 0.03)

    def draw(shot: np.random.Generator, side: int) -> Surface:
        surface = Surface.blank(side, varied(shot, color, 0.02), gloss=gloss)
        clouds = Texture("soft", 0.3).field(shot, side)
        surface.tint(1 + np.float32(uneven) * clouds + np.float32(fine) * Texture("white").field(shot, side))
        return surface

    return draw
