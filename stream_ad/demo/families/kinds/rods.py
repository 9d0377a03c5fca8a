"""Bolts, pins, tubes: long round parts that lie on their side."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.shapes import cover, solid
from stream_ad.demo.surface import Surface, grid, smoothstep


def bolt(rng: np.random.Generator) -> Blueprint:
    """A body of revolution made of a few steps: head, collars, shank, thread, point."""
    material = materials.some(
        rng, (materials.metal, materials.metal, materials.metal, materials.plastic, materials.wood)
    )
    steps = int(rng.integers(1, 5))
    start, end = -between(rng, 0.6, 0.85), between(rng, 0.5, 0.85)
    cuts = np.sort(rng.uniform(start, end - 0.25, steps)).tolist()
    radii = [between(rng, 0.07, 0.26) for _ in range(steps + 1)]
    if happens(rng, 0.6):  # a head
        cuts[0], radii[0] = start + between(rng, 0.08, 0.22), between(rng, 0.2, 0.36)
        radii[1:] = [between(rng, 0.07, 0.18) for _ in radii[1:]]
    pitch, deep = between(rng, 0.03, 0.1), between(rng, 0.008, 0.03)
    threaded = happens(rng, 0.7)
    thread_from = between(rng, -0.3, 0.3)
    point, chamfer = between(rng, 0.02, 0.3) if happens(rng, 0.4) else 0.03, between(rng, 0.01, 0.04)
    slanted = between(rng, 0.05, 0.2)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        phase = between(shot, 0, 1)
        radius = np.full_like(x, radii[0])
        for at, value in zip(cuts, radii[1:], strict=True):
            radius += smoothstep(at - chamfer, at, x) * (np.float32(value) - radius)
        if threaded:
            turns = (x + np.float32(slanted) * y) / np.float32(pitch) + np.float32(phase)
            wave = np.abs(2 * (turns - np.floor(turns)) - 1)
            radius -= np.float32(deep) * smoothstep(0.9, 0.1, wave) * smoothstep(thread_from, thread_from + 0.04, x)
        radius = radius * np.clip((np.float32(end) - x) / np.float32(point), 0, 1) ** 0.7
        radius = np.where((x > start) & (x < end), radius, -1).astype(np.float32)
        body = np.sqrt(np.maximum(radius * radius - y * y, 0)) * (radius > 0)
        part = material.coat(shot, side)
        part.height *= np.float32(0.4)
        part.height += np.float32(0.7) * body
        part.alpha = cover(np.abs(y) - radius, side)
        return part

    words = ("bolt", "screw", "threaded rod", "stud") if threaded else ("pin", "rod", "shaft", "rivet", "dowel", "axle")
    return Blueprint(f"{material.word} {pick(rng, words)}", draw, BODY)


def tube(rng: np.random.Generator) -> Blueprint:
    """A pipe lying down, smooth, ribbed or with collars; its mouth is seen a little."""
    material = materials.some(
        rng, (materials.metal, materials.metal, materials.plastic, materials.rubber, materials.cardboard)
    )
    radius, end = between(rng, 0.14, 0.42), between(rng, 0.6, 0.86)
    ribs, deep = between(rng, 20, 70), between(rng, 0.0, 0.04) if happens(rng, 0.45) else 0.0
    collars = [between(rng, -0.6, 0.6) for _ in range(int(rng.integers(0, 3)))]
    collar, wide = between(rng, 0.02, 0.08), between(rng, 0.03, 0.1)
    mouth = radius * between(rng, 0.1, 0.35)
    arch = pick(rng, (0.0, 0.0, between(rng, -0.5, 0.5)))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        y = y + np.float32(arch) * (x * x - np.float32(0.3))
        r = np.full_like(x, radius)
        if deep:
            r += np.float32(deep) * np.sin(x * np.float32(ribs) + np.float32(between(shot, 0, 6)))
        for at in collars:
            r += np.float32(collar) * smoothstep(wide, wide - 0.02, np.abs(x - np.float32(at)))
        across = np.sqrt(np.maximum(1 - (y / r) ** 2, 0))
        left, right = -np.float32(end) - mouth * across, np.float32(end) - mouth * across
        inside = np.minimum(x - left, right - x)
        part = solid(material, shot, np.maximum(np.abs(y) - r, -inside), height=0.0)
        part.height += np.float32(0.7) * r * across
        opening = ((x - np.float32(end)) / np.float32(mouth)) ** 2 + (y / np.float32(radius)) ** 2
        rim = cover(np.sqrt(opening) - 1, side, softness=0.04)
        dark = cover(np.sqrt(opening) - np.float32(0.82), side, softness=0.04)
        part.paint(rim, np.minimum(np.array(material.color) * 1.2, 0.9), height=0.3 * radius)
        part.paint(dark, np.array(material.color) * 0.12, gloss=0.05, metal=0.0, height=0.0)
        part.alpha = np.maximum(part.alpha, rim)
        return part

    return Blueprint(f"{material.word} {pick(rng, ('tube', 'pipe', 'hose', 'sleeve', 'conduit'))}", draw, BODY)
