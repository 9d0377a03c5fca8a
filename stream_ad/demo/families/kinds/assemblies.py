"""Several parts of different materials at fixed places of one base."""

from collections.abc import Callable

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import paint
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.prints import mark, stamped
from stream_ad.demo.families.shapes import box, disc, put, solid
from stream_ad.demo.surface import Surface, grid

Place = tuple[float, float]
Fit = Callable[[Surface, Place, np.random.Generator, float], None]  # the base, where, this piece's luck, its lean


def assembly(rng: np.random.Generator) -> Blueprint:
    """A base with screws, caps, sockets, washers, lamps, labels and wires."""
    base = materials.some(rng, (materials.metal, materials.metal, materials.plastic, materials.painted, materials.wood))
    whole, half = happens(rng, 0.35), (between(rng, 0.6, 0.84), between(rng, 0.5, 0.84))
    spread = (0.95, 0.95) if whole else half
    fits: list[tuple[Place, Fit]] = []
    sizes: list[tuple[Place, float]] = []
    for _ in range(40):
        size = between(rng, 0.08, 0.24)
        at = between(rng, -1, 1) * (spread[0] - size - 0.04), between(rng, -1, 1) * (spread[1] - size - 0.04)
        if all(np.hypot(at[0] - p[0], at[1] - p[1]) > size + s + 0.03 for p, s in sizes):
            sizes.append((at, size))
            fits.append((at, pick(rng, _FITS)(rng, size)))
        if len(fits) >= 7:
            break
    round_base = happens(rng, 0.25)
    wires = [
        (paint(rng)[1], int(rng.integers(len(fits))), int(rng.integers(len(fits))))
        for _ in range(int(rng.integers(0, 4)))
    ]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        outline = np.full_like(x, -1.0) if whole else disc(x, y, spread[0]) if round_base else box(x, y, *half, 0.06)
        surface = solid(base, shot, outline, height=0.04, edge=0.02)
        gone, askew = struck(damage, "missing part", len(fits), 3), struck(damage, "bent", len(fits), 3)
        for index, (at, fit) in enumerate(fits):
            luck = np.random.default_rng(int(shot.integers(2**31)))
            if index in gone:
                continue
            lean = 0.0
            if damage and index in askew:
                lean = 15 + 40 * damage.severity
                at = at[0] + (0.02 + 0.08 * damage.severity), at[1] - 0.05 * damage.severity
            fit(surface, at, luck, lean)
        for color, start, end in wires:
            (x0, y0), (x1, y1) = fits[start][0], fits[end][0]
            if start != end:
                middle, long = ((x0 + x1) / 2, (y0 + y1) / 2), float(np.hypot(x1 - x0, y1 - y0)) / 2
                put(
                    surface,
                    middle,
                    (long, 0.022),
                    color,
                    degrees=float(np.rad2deg(np.arctan2(y1 - y0, x1 - x0))),
                    corner=0.022,
                    height=0.22,
                    domed=True,
                    gloss=0.4,
                )
        return surface

    noun = pick(
        rng, (f"assembly on {base.word}", "assembly", f"{base.word} module", f"{base.word} device", "assembled unit")
    )
    return Blueprint(noun, draw, BODY, ("missing part", "bent"), full_frame=whole, turn=3.0)


def _screw(rng: np.random.Generator, size: float) -> Fit:
    material, slots = materials.metal(rng), pick(rng, (1, 2, 0))
    size = min(size, 0.15)

    def fit(surface: Surface, at: Place, luck: np.random.Generator, lean: float) -> None:
        put(
            surface,
            at,
            (size, size),
            material.color,
            corner=size,
            height=0.1,
            edge=0.04,
            gloss=material.gloss,
            metal=material.metal,
        )
        turn = between(luck, 0, 180)
        for k in range(slots):
            put(surface, at, (0.7 * size, 0.14 * size), (0.03, 0.03, 0.03), degrees=turn + 90 * k, height=0.06)
        if not slots:
            put(surface, at, 0.45 * size, (0.03, 0.03, 0.03), degrees=turn, corner=0.2 * size, height=0.04)

    return fit


def _cap(rng: np.random.Generator, size: float) -> Fit:
    material, inner = materials.some(rng, materials.HARD), paint(rng)[1]
    levels = between(rng, 0.1, 0.25), between(rng, 0.05, 0.28)
    share = between(rng, 0.3, 0.75)

    def fit(surface: Surface, at: Place, luck: np.random.Generator, lean: float) -> None:
        put(
            surface,
            at,
            (size, size),
            material.color,
            corner=size,
            height=levels[0],
            edge=0.04,
            gloss=material.gloss,
            metal=material.metal,
        )
        spot = at[0] + 0.002 * lean, at[1]
        put(surface, spot, share * size, inner, corner=size, height=levels[1], edge=0.03, gloss=0.6)

    return fit


def _block(rng: np.random.Generator, size: float) -> Fit:
    material = materials.some(rng, (materials.plastic, materials.metal, materials.rubber, materials.painted))
    half, turn, height = (0.75 * size, between(rng, 0.3, 0.7) * size), pick(rng, (0.0, 90.0)), between(rng, 0.08, 0.25)
    pins = int(rng.integers(0, 5))

    def fit(surface: Surface, at: Place, luck: np.random.Generator, lean: float) -> None:
        put(
            surface,
            at,
            half,
            material.color,
            degrees=turn + lean,
            corner=0.02,
            height=height,
            edge=0.025,
            gloss=material.gloss,
            metal=material.metal,
        )
        for k in range(pins):
            step = (k + 0.5) / pins * 2 - 1
            off = (step * half[0], 0.0) if turn == 0 else (0.0, step * half[0])
            put(
                surface,
                (at[0] + off[0], at[1] + off[1]),
                (0.02, 0.02),
                (0.6, 0.58, 0.5),
                height=height + 0.04,
                gloss=0.6,
                metal=0.7,
            )

    return fit


def _label(rng: np.random.Generator, size: float) -> Fit:
    paper, ink = paint(rng)[1], paint(rng)[1]
    text = mark(rng, 0.0, 0.0, 0.7 * size, 0.3 * size, ink)

    def fit(surface: Surface, at: Place, luck: np.random.Generator, lean: float) -> None:
        put(surface, at, (0.9 * size, 0.5 * size), paper, degrees=lean, height=0.05, edge=0.005, gloss=0.3)
        surface.paint(0.9 * stamped(text._replace(x=at[0], y=at[1]), surface.side), ink)

    return fit


def _bore(rng: np.random.Generator, size: float) -> Fit:
    material = materials.metal(rng)

    def fit(surface: Surface, at: Place, luck: np.random.Generator, lean: float) -> None:
        put(surface, at, (size, size), material.color, corner=size, height=0.07, edge=0.03, gloss=0.5, metal=0.7)
        put(
            surface,
            (at[0] + 0.002 * lean, at[1]),
            0.6 * size,
            (0.01, 0.01, 0.012),
            corner=size,
            height=-0.05,
            gloss=0.05,
        )

    return fit


_FITS: tuple[Callable[[np.random.Generator, float], Fit], ...] = (_screw, _screw, _cap, _block, _block, _label, _bore)
