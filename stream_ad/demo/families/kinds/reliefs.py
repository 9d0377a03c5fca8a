"""Full-frame reliefs: embossed sheet, corrugation, gravel, terrazzo, crumpled foil, carpet, knitting, carbon fibre."""

import numpy as np
from jaxtyping import Float32

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import Color, linear, paint, varied
from stream_ad.demo.families.kinds.sheets import HARD_SHEET, SOFT_SHEET
from stream_ad.demo.families.shapes import counted
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, grid, smoothstep, turned

Field = Float32[np.ndarray, "rows columns"]


def embossed(rng: np.random.Generator) -> Blueprint:
    """Chequer plate, corrugated sheet, ribs, studs, waffle, louvres: one relief again and again."""
    material = materials.some(
        rng,
        (
            materials.metal,
            materials.metal,
            materials.rubber,
            materials.plastic,
            materials.painted,
            materials.paper,
            materials.ceramic,
            materials.foam,
        ),
    )
    pattern = pick(rng, ("chequer", "waves", "ribs", "studs", "waffle", "louvres", "honeycomb"))
    count, turn = scaled(rng, 3.5, 18), pick(rng, (0.0, 0.0, 45.0, between(rng, 0, 180)))
    high, soft = between(rng, 0.1, 0.45) / count, between(rng, 0.06, 0.2)
    worn = between(rng, 0.0, 0.35)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -1.5, 1.5))
        u = (x + between(shot, 0, 1)) * np.float32(count / 2) + 60
        v = (y + between(shot, 0, 1)) * np.float32(count / 2) + 60
        relief = _relief(pattern, u, v, soft)
        surface = material.coat(shot, side)
        surface.height += np.float32(2 * high) * relief
        # what stands up is rubbed bright, what lies low gathers dirt
        surface.albedo *= 1 + np.float32(worn) * (relief - np.float32(0.6))
        return surface

    words = {
        "chequer": ("chequer plate", "diamond plate"),
        "waves": ("corrugated sheet",),
        "ribs": ("ribbed sheet", "ribbed mat"),
        "studs": ("studded mat", "dimpled sheet"),
        "waffle": ("waffle sheet", "grid plate"),
        "louvres": ("louvre panel",),
        "honeycomb": ("honeycomb panel",),
    }
    return Blueprint(
        f"{material.word} {pick(rng, words[pattern])}", draw, (*HARD_SHEET, "bent", "missing part"), full_frame=True
    )


def _relief(pattern: str, u: Field, v: Field, soft: float) -> Field:
    (i, a), (j, b) = counted(u), counted(v)
    a, b = a - np.float32(0.5), b - np.float32(0.5)
    if pattern == "waves":
        return 0.5 + 0.5 * np.cos(2 * np.float32(np.pi) * u)
    if pattern == "ribs":
        return smoothstep(0.25 + soft, 0.25, np.abs(a))
    if pattern == "louvres":
        return smoothstep(0.5, 0.5 - soft, np.abs(b)) * (b + np.float32(0.5))
    if pattern == "studs":
        return smoothstep(0.3 + soft, 0.3, np.sqrt(a * a + b * b))
    if pattern == "waffle":
        return 1 - smoothstep(0.4, 0.4 - soft, np.abs(a)) * smoothstep(0.4, 0.4 - soft, np.abs(b))
    if pattern == "honeycomb":
        row = (j % 2).astype(np.float32)
        _, c = counted(u + np.float32(0.5) * row)
        away = np.maximum(np.abs(c - 0.5), 0.5 * np.abs(c - 0.5) + 0.8 * np.abs(b))
        return smoothstep(0.36, 0.36 + soft, away)
    upright = (i + j) % 2 == 0
    long, flat = np.where(upright, a, b), np.where(upright, b, a)
    return smoothstep(1.0, 1.0 - 2 * soft, np.sqrt((long / 0.46) ** 2 + (flat / 0.16) ** 2).astype(np.float32))


def grains(rng: np.random.Generator) -> Blueprint:
    """Gravel, granulate, beads, pellets: heaped grains, each with a tone of its own."""
    colors = [paint(rng)[1], pick(rng, (linear(150, 140, 126), linear(196, 186, 170), linear(90, 80, 70)))]
    tile, span = pick(rng, (("cells", "joints"), ("fine cells", "fine joints"))), scaled(rng, 0.25, 0.9)
    color, spread = pick(rng, colors), between(rng, 0.1, 0.6)
    high, gloss = between(rng, 0.01, 0.03), between(rng, 0.05, 0.7)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        row, column = float(shot.random()), float(shot.random())
        numbers = Texture(tile[0], span).window(side, row, column)
        heaped = Texture("joints" if tile[0] == "cells" else "fine joints", span).field(shot, side)
        surface = Surface.blank(side, color, gloss=gloss)
        surface.tint(
            (1 + np.float32(2 * spread) * (numbers - np.float32(0.5))) * np.clip(0.75 + 0.3 * heaped, 0.15, 1.2)
        )
        surface.height += np.float32(high) * heaped
        rough = Texture("rough", 0.5).field(shot, side)
        surface.height += np.float32(0.001) * rough
        return surface

    return Blueprint(
        pick(rng, ("gravel", "granulate", "pellets", "pebbles", "grains")),
        draw,
        ("stain", "contamination", "hole", "colour shift", "missing part"),
        full_frame=True,
    )


def terrazzo(rng: np.random.Generator) -> Blueprint:
    """Chips of stone in cement, ground flat."""
    base = varied(rng, pick(rng, (linear(214, 210, 202), linear(120, 116, 112), linear(60, 62, 64), paint(rng)[1])))
    chips = []
    for _ in range(int(rng.integers(1, 4))):
        # stones of one size: some of the cells, cut off at their borders by the cement
        stones = Texture(pick(rng, ("cells", "fine cells")), scaled(rng, 0.3, 1.0), between(rng, 0, 180))
        low = between(rng, 0.55, 0.9)
        chips.append(materials.Patches(stones, low, low + 0.01, varied(rng, paint(rng)[1], 0.3), 0.5, 0.0))
    layers = (materials.Layer(Texture("white", 0.4), 0.03), materials.Layer(Texture("cloud", 0.3), 0.04))
    material = materials.Material("terrazzo", base, between(rng, 0.2, 0.7), layers=layers, patches=tuple(chips))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        return material.coat(shot, side)

    return Blueprint(
        f"terrazzo {pick(rng, ('floor', 'slab', 'surface'))}", draw, (*HARD_SHEET, "missing part"), full_frame=True
    )


def crumpled(rng: np.random.Generator) -> Blueprint:
    """Foil, film or paper that was crumpled and laid flat."""
    name, color = paint(rng)
    kind = pick(rng, ("aluminium foil", "plastic film", "paper", "gold foil"))
    tint: Color = {"aluminium foil": linear(196, 198, 202), "gold foil": linear(206, 164, 84)}.get(kind, color)
    metal = 0.8 if "foil" in kind else 0.0
    gloss = 0.1 if kind == "paper" else between(rng, 0.5, 0.9)
    facets = Texture(
        pick(rng, ("cells", "joints", "ridges")), scaled(rng, 0.15, 0.5), between(rng, 0, 180), between(rng, 1, 2)
    )
    layers = (
        materials.Layer(facets, between(rng, 0.02, 0.2), between(rng, 0.002, 0.010)),
        materials.Layer(Texture("ridges", scaled(rng, 0.15, 0.5)), 0.06, between(rng, 0.003, 0.016)),
        materials.Layer(Texture("soft", 0.5), 0.05, between(rng, 0.004, 0.016)),
    )
    material = materials.Material(kind, varied(rng, tint), gloss, metal, layers=layers)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        return material.coat(shot, side)

    noun = kind if metal else f"{name} {kind}"
    return Blueprint(
        noun, draw, ("hole", "stain", "contamination", "colour shift", "scratch", "missing part"), full_frame=True
    )


def carpet(rng: np.random.Generator) -> Blueprint:
    """Loops or cut pile, heathered or striped, in rows or felted."""
    name, color = paint(rng)
    second = varied(rng, color, 0.35) if happens(rng, 0.6) else paint(rng)[1]
    rows, turn = happens(rng, 0.55), pick(rng, (0.0, 90.0, between(rng, 0, 180)))
    count, high = scaled(rng, 14, 46), between(rng, 0.3, 0.9)
    heather = Texture(pick(rng, ("rough", "grain", "fine cells", "curls")), scaled(rng, 0.4, 1.2))
    curls = Texture(pick(rng, ("curls", "fine bumps", "white")), between(rng, 0.4, 0.9))
    stripe = scaled(rng, 2, 9) if happens(rng, 0.2) else 0.0

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -1, 1))
        fuzz = curls.field(shot, side)
        loops = fuzz
        if rows:
            wavy = np.float32(0.012) * Texture("cloud", 0.5).field(shot, side)
            v = (y + wavy + between(shot, 0, 1)) * np.float32(count / 2) + 80
            row, b = counted(v)
            u = (
                (x + wavy + between(shot, 0, 1)) * np.float32(count / 2.6)
                + 80
                + np.float32(0.5) * (row % 2).astype(np.float32)
            )
            _, a = counted(u)
            loops = np.sqrt(np.maximum(1 - 2.6 * (a - 0.5) ** 2 - 3.2 * (b - 0.5) ** 2, 0)) * 2 - 1 + 0.4 * fuzz
        surface = Surface.blank(side, color, gloss=0.03)
        surface.paint(smoothstep(0.0, 0.8, heather.field(shot, side)), second)
        if stripe:
            surface.paint((np.sin(x * np.float32(np.pi * stripe)) > 0.4).astype(np.float32) * np.float32(0.7), second)
        surface.tint(np.clip(0.85 + 0.22 * loops + 0.1 * Texture("white", 0.5).field(shot, side), 0.15, 1.7))
        surface.height += np.float32(high * 0.5 / count) * loops
        return surface

    return Blueprint(f"{name} {pick(rng, ('carpet', 'rug', 'carpet tile'))}", draw, SOFT_SHEET, full_frame=True)


def knitting(rng: np.random.Generator) -> Blueprint:
    """Knitted stitches: columns of V shapes."""
    name, color = paint(rng)
    count, turn = scaled(rng, 5, 22), pick(rng, (0.0, 90.0, between(rng, 0, 180)))
    lean, hairy = between(rng, 0.5, 1.0), between(rng, 0.04, 0.16)
    bands = paint(rng)[1] if happens(rng, 0.3) else None

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -2, 2))
        wavy = np.float32(0.01) * Texture("soft", 0.4).field(shot, side)
        u = (x + wavy + between(shot, 0, 1)) * np.float32(count / 2) + 60
        _, a = counted(u)
        v = (y + wavy + between(shot, 0, 1)) * np.float32(count / 1.5) + 60 + np.float32(lean) * np.abs(a - 0.5)
        row, b = counted(v)
        leg = np.abs(np.abs(a - 0.5) - np.float32(0.25))
        yarn = np.sqrt(np.maximum(1 - (leg / 0.27) ** 2, 0)) * np.sqrt(
            np.maximum(1 - (2 * np.abs(b - 0.5)) ** 2 * 0.9, 0)
        )
        fibres = Texture("fibres", 0.7).field(shot, side)
        surface = Surface.blank(side, color, gloss=0.03)
        if bands:
            surface.paint(((row // 4) % 2).astype(np.float32), bands)
        surface.tint(np.clip((0.25 + 0.8 * yarn) * (1 + np.float32(hairy) * fibres), 0.05, 1.6).astype(np.float32))
        surface.height += (np.float32(0.5 / count) * yarn + np.float32(0.0008) * fibres).astype(np.float32)
        return surface

    return Blueprint(f"{name} {pick(rng, ('knitted fabric', 'knitting', 'wool'))}", draw, SOFT_SHEET, full_frame=True)


def carbon_fibre(rng: np.random.Generator) -> Blueprint:
    """Twill or plain weave of flat shiny tows: carbon, glass, wicker, straps."""
    name, color = pick(
        rng,
        (
            ("carbon fibre", linear(38, 38, 42)),
            ("carbon fibre", linear(30, 32, 34)),
            ("wicker", linear(176, 126, 76)),
            ("glass fibre", linear(196, 200, 190)),
            ("woven strap", paint(rng)[1]),
            ("rattan", linear(204, 170, 116)),
        ),
    )
    count, turn = scaled(rng, 4, 16), pick(rng, (0.0, 45.0, between(rng, 0, 90)))
    period, over = pick(rng, ((2, 1), (4, 2), (3, 2)))
    glint, bulge = (
        between(rng, 0.2, 0.7),
        between(rng, 0.1, 0.5) if name in ("wicker", "rattan") else between(rng, 0.03, 0.12),
    )
    gloss = between(rng, 0.4, 0.9)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -1, 1))
        (i, a), (j, b) = (counted((axis + between(shot, 0, 1)) * np.float32(count / 2) + 60) for axis in (x, y))
        up = (i + j) % period < over
        across, along = np.where(up, a, b) - np.float32(0.5), np.where(up, b, a) - np.float32(0.5)
        threads = np.where(
            up,
            Texture("grain", 0.7, turn + 90, 14).field(shot, side),
            Texture("grain", 0.7, turn, 14).field(shot, side),
        )
        surface = Surface.blank(side, color, gloss=gloss, metal=0.15)
        # tows that lie across the light shine, the others do not
        tone = np.where(up, 1 + glint, 1 - 0.6 * glint).astype(np.float32)
        edge = smoothstep(0.5, 0.42, np.abs(across))
        surface.tint(tone * (1 + 0.12 * threads) * (0.35 + 0.65 * edge))
        surface.height += (np.float32(bulge / count) * (edge - 2 * along * along)).astype(np.float32) + 0.0004 * threads
        return surface

    return Blueprint(
        f"{name} {pick(rng, ('sheet', 'panel', 'weave'))}",
        draw,
        ("scratch", "crack", "stain", "hole", "missing part", "contamination", "colour shift", "dent"),
        full_frame=True,
    )
