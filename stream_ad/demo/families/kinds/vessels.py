"""Caps, bottles' mouths, lenses, buttons: round things of concentric rings."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import linear, paint
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.prints import mark, misprinted, stamped
from stream_ad.demo.families.shapes import circle_of, disc, lay, solid, spots, toothed
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, grid, rounded

_GLASSES = (
    ("brown", linear(70, 38, 14)),
    ("green", linear(24, 70, 36)),
    ("clear", linear(170, 190, 186)),
    ("blue", linear(30, 50, 110)),
    ("white", linear(220, 220, 214)),
)


def cap(rng: np.random.Generator) -> Blueprint:
    """A cap from above, its rim knurled, its top flat, domed or dished, often printed."""
    material = materials.some(
        rng, (materials.plastic, materials.plastic, materials.metal, materials.painted, materials.rubber)
    )
    teeth, outer = int(rng.integers(16, 72)), between(rng, 0.6, 0.82)
    knurl = between(rng, 0.0, 0.05)
    tiers = sorted((between(rng, 0.2, 0.95) * outer for _ in range(int(rng.integers(1, 4)))), reverse=True)
    levels = [between(rng, -0.05, 0.07) for _ in tiers]
    inks = [paint(rng)[1] for _ in range(2)]
    printed = happens(rng, 0.6)
    figures = [mark(rng, 0.0, 0.0, 0.4 * outer, 0.25 * outer, inks[0])]
    if happens(rng, 0.4):
        figures.append(mark(rng, 0.0, 0.4 * outer, 0.3 * outer, 0.08, inks[1], only="text"))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        height = np.full_like(x, 0.1)
        for radius, level in zip(tiers, levels, strict=True):
            height += np.float32(level) * rounded(disc(x, y, radius), 0.03)
        part = solid(material, shot, toothed(x, y, teeth, outer - knurl, outer, 1.5), height=height, edge=0.05)
        if printed:
            for index, figure in enumerate(figures):
                ink = stamped(figure, side)
                if index == 0 and damage and damage.kind == "misprint":
                    ink = misprinted(ink, damage)
                part.paint(0.92 * ink * part.alpha, figure.ink, metal=0.0)
        return part

    extra = ("misprint",) if printed else ()
    noun = f"{material.word} {pick(rng, ('cap', 'bottle cap', 'lid', 'closure', 'knob'))}"
    return Blueprint(noun, draw, (*BODY, *extra), extra)


def bottle(rng: np.random.Generator) -> Blueprint:
    """A bottle or jar from above: rim, neck, shoulder, dark inside."""
    name, color = pick(rng, (*_GLASSES, paint(rng)))
    glass = happens(rng, 0.7)
    layers = (materials.Layer(Texture("soft", 0.4), 0.08, 0.002),)
    word, mirror = ("glass", 0.25) if glass else ("plastic", 0.0)
    material = materials.Material(f"{name} {word}", color, between(rng, 0.6, 0.95), mirror, layers=layers)
    outer, neck = between(rng, 0.68, 0.84), between(rng, 0.36, 0.56)
    wall = between(rng, 0.05, 0.12)
    depth, rings = between(rng, 0.2, 0.5), int(rng.integers(0, 4))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        radius = np.sqrt(x * x + y * y)
        shoulder = np.float32(depth) * np.sqrt(np.clip(1 - (radius / outer) ** 2, 0, 1))
        ridges = 0.01 * np.cos(radius * np.float32(40 * rings)) if rings else 0
        part = solid(material, shot, disc(x, y, outer), height=(shoulder + ridges).astype(np.float32), edge=0.05)
        lip = np.maximum(disc(x, y, neck), -disc(x, y, neck - wall))
        part.paint((lip < 0).astype(np.float32), np.minimum(np.array(color) * 1.5 + 0.03, 0.95))
        part.height += np.float32(0.12) * rounded(lip, wall / 2)
        bottom = disc(x, y, neck - wall)
        part.paint((bottom < 0).astype(np.float32), np.array(color) * 0.25, gloss=0.3)
        part.height = np.where(bottom < 0, 0.05 + 0.2 * np.clip(radius / neck, 0, 1) ** 4, part.height).astype(
            np.float32
        )
        glow = np.exp(-((radius / np.float32(0.5 * neck)) ** 2))
        part.albedo *= 1 + np.float32(1.2) * glow * (bottom < 0)
        return part

    noun = f"{material.word} {pick(rng, ('bottle', 'jar', 'vial', 'flask'))}"
    return Blueprint(noun, draw, ("crack", "stain", "missing part", "contamination", "scratch", "colour shift"))


def button(rng: np.random.Generator) -> Blueprint:
    """A button: a dished disc with a raised rim and two or four holes."""
    material = materials.some(
        rng, (materials.plastic, materials.plastic, materials.wood, materials.metal, materials.ceramic)
    )
    outer, rim = between(rng, 0.55, 0.8), between(rng, 0.06, 0.2)
    count, away = pick(rng, (2, 4, 4)), between(rng, 0.13, 0.22)
    thick, dish = between(rng, 0.06, 0.14), between(rng, 0.02, 0.06)
    inlay = materials.some(rng, materials.HARD) if happens(rng, 0.25) else None

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        holes = spots(x, y, circle_of(count, away, 45.0), 0.055)
        dished = rounded(disc(x, y, outer - rim), 0.05)
        distance = np.maximum(disc(x, y, outer), -holes)
        part = solid(material, shot, distance, height=thick - np.float32(dish) * dished, edge=0.06)
        if inlay:
            ring = np.maximum(disc(x, y, outer - rim), -disc(x, y, 0.6 * (outer - rim)))
            lay(part, solid(inlay, shot, ring, height=thick - dish, edge=0.01))
        return part

    return Blueprint(f"{material.word} button", draw, BODY)


def lens(rng: np.random.Generator) -> Blueprint:
    """A lens or glass disc in a mount."""
    mount = materials.some(rng, (materials.metal, materials.plastic, materials.painted))
    outer, ring = between(rng, 0.62, 0.82), between(rng, 0.05, 0.22)
    tint = pick(
        rng, (linear(190, 204, 204), linear(70, 90, 120), linear(120, 80, 120), linear(40, 44, 50), paint(rng)[1])
    )
    glass = materials.Material(
        "glass",
        tint,
        between(rng, 0.8, 1.0),
        between(rng, 0.2, 0.7),
        layers=(materials.Layer(Texture("soft", 0.3), 0.06, 0.0006),),
    )
    dome = between(rng, 0.05, 0.35)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        part = solid(mount, shot, disc(x, y, outer), height=0.1, edge=0.04)
        inner = disc(x, y, outer - ring)
        bulge = np.sqrt(np.clip(1 - (x * x + y * y) / np.float32((outer - ring) ** 2), 0, 1))
        lay(part, solid(glass, shot, inner, height=(0.06 + np.float32(dome) * bulge).astype(np.float32), edge=0.01))
        return part

    noun = f"glass {pick(rng, ('lens', 'window', 'disc', 'indicator lamp'))}"
    return Blueprint(noun, draw, ("scratch", "crack", "stain", "missing part", "contamination", "colour shift"))
