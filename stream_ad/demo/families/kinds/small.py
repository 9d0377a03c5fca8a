"""Capsules, pills and other small mouldings."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import linear, paint, varied
from stream_ad.demo.families.prints import mark, misprinted, stamped
from stream_ad.demo.families.shapes import box, disc, rod, segment, solid
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid

PILL = ("scratch", "dent", "crack", "stain", "hole", "missing part", "contamination", "colour shift", "misprint")


def capsule(rng: np.random.Generator) -> Blueprint:
    """A two-coloured capsule with a joint and an imprint."""
    names, colors = zip(*(paint(rng) for _ in range(2)), strict=True)
    radius, half = between(rng, 0.2, 0.34), between(rng, 0.36, 0.52)
    gloss, joint = between(rng, 0.45, 0.9), between(rng, -0.15, 0.15)
    ink = linear(24, 24, 30) if sum(colors[0]) > 0.5 else linear(230, 230, 230)
    text = mark(rng, -0.3, 0.0, 0.2, 0.09, ink, only="text")
    material = materials.Material(names[0], colors[0], gloss, layers=(materials.Layer(Texture("soft", 0.4), 0.03),))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        distance = segment(x, y, (-half, 0.0), (half, 0.0), radius)
        part = solid(material, shot, distance, height=0.0)
        part.height += np.float32(0.75) * rod(distance, radius)
        second = cover(np.float32(joint) - x, side)
        part.paint(second, colors[1])
        part.height -= np.float32(0.012) * second * part.alpha
        ink_on = stamped(text, side)
        if damage and damage.kind == "misprint":
            ink_on = misprinted(ink_on, damage)
        part.paint(0.9 * ink_on * part.alpha, text.ink)
        return part

    noun = f"{names[0]} and {names[1]} capsule" if names[0] != names[1] else f"{names[0]} capsule"
    return Blueprint(noun, draw, (*PILL, "bent"), ("misprint",))


def pill(rng: np.random.Generator) -> Blueprint:
    """A pressed tablet: round, oval or oblong, scored or debossed, plain or speckled."""
    name, color = paint(rng) if happens(rng, 0.5) else ("white", linear(228, 226, 220))
    shape, half = pick(rng, ("round", "oblong", "box")), (between(rng, 0.5, 0.76), between(rng, 0.32, 0.5))
    dome, bevel = between(rng, 0.05, 0.25), between(rng, 0.05, 0.3)
    speckles = (materials.Patches(Texture("grain", 0.45), 1.9, 2.3, varied(rng, paint(rng)[1]), 0.1, 0.0),)
    layers = (
        materials.Layer(Texture("white", 0.4), 0.03, between(rng, 0.0002, 0.0015)),
        materials.Layer(Texture("rough", 0.5), 0.03, 0.0008),
    )
    material = materials.Material(
        name, color, between(rng, 0.08, 0.6), layers=layers, patches=speckles if happens(rng, 0.3) else ()
    )
    text = mark(rng, 0.0, 0.0, 0.5 * half[1] + 0.1, 0.3 * half[1], (0.1, 0.1, 0.1), only="text")
    scored, printed = happens(rng, 0.4), happens(rng, 0.3)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        if shape == "round":
            distance, deep = disc(x, y, half[0]), half[0]
        elif shape == "oblong":
            distance, deep = segment(x, y, (-half[0] + half[1], 0.0), (half[0] - half[1], 0.0), half[1]), half[1]
        else:
            distance, deep = box(x, y, *half, 0.2), half[1]
        bulge = np.float32(dome) * np.sqrt(np.clip(-distance / np.float32(deep), 0, 1))
        part = solid(material, shot, distance, height=(0.12 + bulge).astype(np.float32), edge=bevel * deep)
        if scored:
            groove = np.exp(-((x / np.float32(0.02)) ** 2)) * part.alpha
            part.height -= np.float32(0.03) * groove
            part.albedo *= 1 - np.float32(0.12) * groove
        else:
            ink_on = stamped(text, side)
            if damage and damage.kind == "misprint":
                ink_on = misprinted(ink_on, damage)
            if printed:
                part.paint(0.85 * ink_on, text.ink)
            else:
                part.height -= np.float32(0.02) * ink_on
                part.albedo *= 1 - np.float32(0.2) * ink_on
        return part

    defects = tuple(word for word in PILL if not (scored and word == "misprint"))
    return Blueprint(f"{name} {pick(rng, ('pill', 'tablet', 'pill'))}", draw, defects, () if scored else ("misprint",))
