"""Labels, boxes, trays, pouches: what is printed and filled."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import paint, varied
from stream_ad.demo.families.prints import Mark, design, mark, misprinted, stamped
from stream_ad.demo.families.shapes import box, put, solid
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid, rounded, smoothstep

PACK = ("scratch", "dent", "stain", "hole", "missing part", "bent", "misprint", "contamination", "colour shift")


def _print(surface: Surface, marks: tuple[Mark, ...], damage: Damage | None, relief: float = 0.0) -> None:
    """All marks of a layout; a misprint hits more of them if it is severe."""
    hit = struck(damage, "misprint", len(marks), 4)
    for index, item in enumerate(marks):
        ink = stamped(item, surface.side)
        if damage and index in hit:
            ink = misprinted(ink, damage)
        surface.paint(0.92 * ink * surface.alpha, item.ink)
        if relief:
            surface.height += np.float32(relief) * ink


def label(rng: np.random.Generator) -> Blueprint:
    """A printed label, card or box."""
    material = materials.some(rng, (materials.paper, materials.paper, materials.cardboard, materials.plastic))
    half = between(rng, 0.6, 0.84), between(rng, 0.36, 0.8)
    marks = design(rng, 0.0, 0.0, half[0] * 0.9, half[1] * 0.9)
    panel = (between(rng, -0.5, 0.5), paint(rng)[1]) if happens(rng, 0.4) else None
    thick, corner = pick(rng, (0.006, 0.02, 0.2)), between(rng, 0.0, 0.12)
    flaps = happens(rng, 0.3)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(material, shot, box(x, y, *half, corner), height=thick, edge=0.01)
        if panel:
            surface.paint(cover(y - np.float32(panel[0] * half[1]), side) * surface.alpha, panel[1])
        _print(surface, marks, damage)
        if flaps:
            seam = smoothstep(0.012, 0.004, np.abs(y - np.float32(0.1)))
            surface.albedo *= 1 - np.float32(0.5) * seam * surface.alpha
            surface.height -= np.float32(0.01) * seam
        return surface

    word = pick(rng, ("label", "box", "package", "carton", "card", "sticker"))
    noun = pick(rng, (f"printed {material.word} {word}", f"{material.word} {word}"))
    return Blueprint(noun, draw, PACK, ("misprint",), turn=pick(rng, (2.0, 5.0)))


def printed_sheet(rng: np.random.Generator) -> Blueprint:
    """Printed paper, film or cloth: the same marks again and again."""
    material = materials.some(rng, (materials.paper, materials.plastic, materials.cardboard, materials.ceramic))
    pitch = scaled(rng, 0.2, 0.9)
    turn = pick(rng, (0.0, 0.0, 0.5))
    shapes = [mark(rng, 0.0, 0.0, 0.36 * pitch, 0.3 * pitch, paint(rng)[1]) for _ in range(pick(rng, (1, 2, 3)))]
    many = int(np.ceil(2 / pitch)) + 2
    places = [(column, row) for column in range(many) for row in range(many)]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        surface = material.coat(shot, side)
        # printed once for each shape, then repeated: a window of one long tiling
        dx, dy = between(shot, 0, pitch), between(shot, 0, pitch)
        for number, shape in enumerate(shapes):
            ink = np.zeros((side, side), dtype=np.float32)
            single = stamped(shape._replace(x=0.0, y=0.0), side)
            half, step = side // 2, round(pitch * side / 2)
            reach = step // 2
            stamp = single[half - reach : half + reach, half - reach : half + reach]
            for column, row in places:
                if (column + row) % len(shapes) != number:
                    continue
                left = round((column * pitch - dx) * side / 2) + (round(turn * step) if row % 2 else 0) - step // 2
                top = round((row * pitch - dy) * side / 2) - step // 2
                _add(ink, stamp, left, top)
            if number == 0 and damage and damage.kind == "misprint":
                ink = misprinted(ink, damage)
            surface.paint(0.9 * ink, shape.ink)
        return surface

    noun = f"printed {material.word} {pick(rng, ('sheet', 'wrapping', 'foil', 'surface'))}"
    defects = ("scratch", "stain", "hole", "bent", "misprint", "contamination", "colour shift", "missing part")
    return Blueprint(noun, draw, defects, ("misprint",), full_frame=True)


def _add(canvas: np.ndarray, stamp: np.ndarray, left: int, top: int) -> None:
    rows, columns = canvas.shape
    t, b = max(top, 0), min(top + stamp.shape[0], rows)
    first, last = max(left, 0), min(left + stamp.shape[1], columns)
    if t < b and first < last:
        part = canvas[t:b, first:last]
        np.maximum(part, stamp[t - top : b - top, first - left : last - left], out=part)


def tray(rng: np.random.Generator) -> Blueprint:
    """A tray, blister or palette with equal things in its pockets."""
    body = materials.some(
        rng, (materials.plastic, materials.metal, materials.cardboard, materials.foam, materials.wood)
    )
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    half = between(rng, 0.6, 0.84), between(rng, 0.5, 0.84)
    pitch = 1.86 * half[0] / columns, 1.86 * half[1] / rows
    thing = materials.some(rng, materials.HARD)
    size = min(pitch) * between(rng, 0.3, 0.42)
    shape = pick(rng, ("disc", "disc", "box", "oblong", "ring"))
    sizes = (size, size) if shape != "oblong" else (0.42 * pitch[0], size * 0.7)
    corner = size if shape != "box" else 0.15 * size
    places = [
        (-0.93 * half[0] + (c + 0.5) * pitch[0], -0.93 * half[1] + (r + 0.5) * pitch[1])
        for c in range(columns)
        for r in range(rows)
    ]
    domed, height = happens(rng, 0.5), between(rng, 0.06, 0.14)
    colors = (
        [thing.color if happens(rng, 0.8) else paint(rng)[1] for _ in places]
        if happens(rng, 0.15)
        else [thing.color] * len(places)
    )

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(body, shot, box(x, y, *half, 0.06), height=0.06, edge=0.03)
        gone, askew = struck(damage, "missing part", len(places), 4), struck(damage, "bent", len(places), 4)
        for index, (at, color) in enumerate(zip(places, colors, strict=True)):
            pocket = 1.12 * sizes[0], 1.12 * sizes[1]
            put(surface, at, pocket, np.array(body.color) * 0.55, corner=1.12 * corner, height=0.015)
            if index in gone:
                continue
            move = shot.normal(0, 0.04 * size, 2)
            turn = float(shot.normal(0, 2))
            if damage and index in askew:
                move = move + size * (0.2 + 0.5 * damage.severity) * damage.rng.choice([-1, 1], 2)
                turn += 40 * damage.severity
            spot = at[0] + float(move[0]), at[1] + float(move[1])
            put(
                surface,
                spot,
                sizes,
                varied(shot, color, 0.04),
                degrees=turn,
                corner=corner,
                height=height,
                edge=0.3 * size,
                gloss=thing.gloss,
                metal=thing.metal,
                domed=domed,
            )
            if shape == "ring":
                put(surface, spot, 0.45 * size, np.array(body.color) * 0.4, corner=size, height=0.02)
        return surface

    contents = {"disc": "tablets", "ring": "rings", "oblong": "capsules", "box": "blocks"}[shape]
    noun = pick(rng, (f"{body.word} tray", f"{body.word} tray of {contents}", f"tray of {thing.word} {contents}"))
    return Blueprint(
        noun, draw, (*PACK[:-3], "crack", "contamination", "colour shift"), ("missing part", "bent"), turn=3.0
    )


def pouch(rng: np.random.Generator) -> Blueprint:
    """A bag with sealed ends, full and wrinkled."""
    name, color = paint(rng)
    foil = happens(rng, 0.4)
    half = between(rng, 0.42, 0.7), between(rng, 0.5, 0.82)
    seal = between(rng, 0.06, 0.14)
    layers = (materials.Layer(Texture("soft", between(rng, 0.6, 1.4), 90.0, 1.6), 0.03, between(rng, 0.006, 0.018)),)
    material = materials.Material(
        "foil" if foil else f"{name} plastic", color, between(rng, 0.4, 0.85), 0.6 if foil else 0.1, layers=layers
    )
    marks = design(rng, 0.0, 0.0, half[0] * 0.75, (half[1] - seal) * 0.7)
    full = between(rng, 0.08, 0.3)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        distance = box(x, y, *half, 0.02)
        inner = box(x, y, half[0], half[1] - seal, 0.1)
        bulge = np.float32(full) * np.sqrt(np.clip(-inner / np.float32(half[0]), 0, 1))
        surface = solid(material, shot, distance, height=0.01, edge=0.01)
        surface.height = surface.height * (0.15 + smoothstep(0.0, -0.1, inner)) + bulge
        crimp = np.sin(x * np.float32(120)) * smoothstep(-0.01, 0.01, inner)
        surface.height += np.float32(0.006) * crimp
        _print(surface, marks, damage)
        return surface

    noun = f"{material.word} {pick(rng, ('pouch', 'bag', 'sachet', 'packet'))}"
    return Blueprint(noun, draw, PACK, ("misprint",))


def bubble_wrap(rng: np.random.Generator) -> Blueprint:
    """A foil with pockets or bubbles, seen from near."""
    name, color = paint(rng)
    pitch, hexagonal = scaled(rng, 0.18, 0.6), happens(rng, 0.6)
    metal = pick(rng, (0.0, 0.0, 0.5))
    layers = (materials.Layer(Texture("soft", 0.8), 0.06, 0.003), materials.Layer(Texture("ridges", 0.5), 0.04, 0.0015))
    material = materials.Material(f"{name} foil", color, between(rng, 0.6, 0.95), metal, layers=layers)
    share, high = between(rng, 0.3, 0.46), between(rng, 0.25, 0.7)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = material.coat(shot, side)
        v = (y + between(shot, 0, 1)) / np.float32(pitch * (0.87 if hexagonal else 1.0)) + 50
        row = np.floor(v)
        u = (x + between(shot, 0, 1)) / np.float32(pitch) + 50 + (np.float32(0.5) * (row % 2) if hexagonal else 0)
        column = np.floor(u)
        dome = np.float32(share) - np.sqrt((u - column - 0.5) ** 2 + (v - row - 0.5) ** 2)
        flat = np.zeros_like(x)
        if damage and damage.kind == "missing part":
            at = int(side * between(damage.rng, 0.2, 0.8)), int(side * between(damage.rng, 0.2, 0.8))
            flat = (np.hypot(column - column[at], row - row[at]) < 0.5 + 2 * damage.severity).astype(np.float32)
        profile = np.sqrt(np.clip(dome / np.float32(share), 0, 1)) * (1 - flat)
        surface.height += np.float32(high * share * pitch) * profile + np.float32(0.02 * pitch) * rounded(-dome, 0.1)
        surface.albedo *= 0.8 + np.float32(0.3) * profile
        return surface

    return Blueprint(
        f"{name} {pick(rng, ('bubble foil', 'bubble wrap', 'blister foil'))}",
        draw,
        ("missing part", "hole", "stain", "contamination", "colour shift", "bent", "scratch"),
        ("missing part",),
        full_frame=True,
    )
