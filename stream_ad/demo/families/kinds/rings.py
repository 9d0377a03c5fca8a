"""Washers, gaskets, gears, nuts: flat round parts with a hole."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.shapes import circle_of, lay, lobed, polygon, rod, solid, spots, toothed
from stream_ad.demo.surface import Surface, disc, grid, rounded

BODY = ("scratch", "dent", "crack", "stain", "hole", "missing part", "bent", "contamination", "colour shift")


def washer(rng: np.random.Generator) -> Blueprint:
    """A ring: flat, round in section, stepped, lobed, with holes or notches."""
    material = materials.some(
        rng,
        (
            materials.metal,
            materials.metal,
            materials.rubber,
            materials.plastic,
            materials.ceramic,
            materials.cork,
            materials.felt,
        ),
    )
    outer = between(rng, 0.6, 0.82)
    inner = outer * between(rng, 0.25, 0.8)
    section = pick(rng, ("flat", "flat", "round", "stepped"))
    lobes, depth = pick(rng, (0, 0, 0, 3, 4, 6, 8, 12)), between(rng, 0.02, 0.07)
    holes = circle_of(pick(rng, (2, 3, 4, 6)), (inner + outer) / 2) if happens(rng, 0.3) else []
    thick, edge = between(rng, 0.02, 0.12), between(rng, 0.01, 0.06)
    step = inner + (outer - inner) * between(rng, 0.3, 0.7)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        rim = lobed(x, y, lobes, outer - depth, depth) if lobes else disc(x, y, outer)
        distance = np.maximum(rim, -disc(x, y, inner))
        if holes and inner < 0.6 * outer:
            distance = np.maximum(distance, -spots(x, y, holes, 0.18 * (outer - inner)))
        height: float | np.ndarray = thick
        if section == "round":
            height = rod(distance, (outer - inner) / 2) * np.float32(0.8)
        elif section == "stepped":
            height = thick + np.float32(thick) * rounded(disc(x, y, step), edge)
        return solid(material, shot, distance, height=height, edge=edge)

    words = (
        ("ring", "o-ring", "seal") if section == "round" else ("washer", "gasket", "ring", "flange", "disc", "spacer")
    )
    return Blueprint(f"{material.word} {pick(rng, words)}", draw, BODY)


def gear(rng: np.random.Generator) -> Blueprint:
    """A gear or sprocket, with a hub, a keyway, spokes or holes."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.plastic, materials.painted))
    hub_material = materials.some(rng, materials.HARD) if happens(rng, 0.25) else material
    teeth, sharpness = int(rng.integers(8, 40)), pick(rng, (1.0, 2.0, 4.0))
    outer = between(rng, 0.7, 0.84)
    root = outer * (1 - between(rng, 1.2, 2.2) / teeth)
    bore, hub = between(rng, 0.08, 0.2), between(rng, 0.24, 0.36)
    windows = circle_of(pick(rng, (3, 4, 5, 6)), (hub + root) / 2) if happens(rng, 0.5) else []
    web, key = between(rng, 0.3, 0.9), happens(rng, 0.4)
    thick = between(rng, 0.05, 0.14)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        radius = np.sqrt(x * x + y * y)
        distance = toothed(x, y, teeth, root, outer, sharpness)
        bored = disc(x, y, bore)
        if key:
            bored = np.minimum(bored, np.maximum(np.abs(x) - np.float32(0.3 * bore), np.abs(y + bore) - 0.05))
        cut = np.minimum(bored, spots(x, y, windows, 0.32 * (root - hub))) if windows else bored
        distance = np.maximum(distance, -cut)
        between_rims = rounded(np.maximum(radius - np.float32(root - 0.1), np.float32(hub) - radius), 0.03)
        part = solid(material, shot, distance, height=thick * (1 - np.float32(1 - web) * between_rims), edge=0.02)
        if hub_material is not material:
            lay(part, solid(hub_material, shot, np.maximum(disc(x, y, hub), -bored), height=1.2 * thick, edge=0.02))
            part.alpha *= (bored > 0).astype(np.float32)
        return part

    return Blueprint(f"{material.word} {pick(rng, ('gear', 'cogwheel', 'sprocket', 'gear wheel'))}", draw, BODY)


def nut(rng: np.random.Generator) -> Blueprint:
    """A nut: hexagon, square, castle or wing lobes, with a threaded hole."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.metal, materials.plastic))
    sides, radius = pick(rng, (6, 6, 6, 4, 8, 12)), between(rng, 0.55, 0.74)
    shape = pick(rng, ("polygon", "polygon", "lobed", "flanged"))
    bore = radius * between(rng, 0.4, 0.66)
    chamfer, thick = between(rng, 0.02, 0.16), between(rng, 0.12, 0.24)
    threads = between(rng, 60, 140)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        if shape == "lobed":
            body = lobed(x, y, sides if sides < 8 else 4, radius, 0.14 * radius)
        else:
            body = polygon(x, y, sides, radius, corner=chamfer / 2)
        if shape == "flanged":
            body = np.minimum(body, disc(x, y, radius * 1.2))
        distance = np.maximum(body, -disc(x, y, bore))
        away = np.sqrt(x * x + y * y)
        top = thick - np.float32(0.8) * np.maximum(away - np.float32(radius * (1 - chamfer)), 0)
        # the thread, seen down the hole
        top = top - np.where(away < bore * 1.16, 0.012 * (1 + np.sin(away * np.float32(threads))), 0).astype(np.float32)
        return solid(material, shot, distance, height=np.maximum(top, 0.04).astype(np.float32), edge=0.03)

    word = {4: "square nut", 6: "hex nut"}.get(sides, "nut") if shape == "polygon" else "nut"
    return Blueprint(f"{material.word} {pick(rng, (word, 'nut'))}", draw, BODY)
