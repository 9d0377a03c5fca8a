"""Full-frame sheets: any material seen from near, woven cloth, tiles, perforated sheet."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import PAINTS, paint, varied
from stream_ad.demo.families.prints import mark, misprinted, stamped
from stream_ad.demo.families.shapes import counted, lay, put
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid, smoothstep, turned

HARD_SHEET = ("scratch", "dent", "crack", "stain", "hole", "contamination", "colour shift")
SOFT_SHEET = ("stain", "hole", "bent", "missing part", "contamination", "colour shift")


def _sheet(material: materials.Material, noun: str, defects: tuple[str, ...]) -> Blueprint:
    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        return material.coat(shot, side)

    return Blueprint(noun, draw, defects, full_frame=True)


def metal_sheet(rng: np.random.Generator) -> Blueprint:
    material = materials.metal(rng)
    noun = f"{material.word} {pick(rng, ('sheet', 'surface', 'plate', 'strip'))}"
    return _sheet(material, noun, (*HARD_SHEET, "bent"))


def leather(rng: np.random.Generator) -> Blueprint:
    material = materials.leather(rng)
    return _sheet(material, pick(rng, (material.word, f"{material.word} hide")), (*SOFT_SHEET, "scratch", "crack"))


def stone(rng: np.random.Generator) -> Blueprint:
    material = materials.some(rng, (materials.stone, materials.stone, materials.ceramic))
    return _sheet(material, f"{material.word} {pick(rng, ('slab', 'surface', 'tile'))}", (*HARD_SHEET, "missing part"))


def soft_sheet(rng: np.random.Generator) -> Blueprint:
    material = materials.some(
        rng, (materials.rubber, materials.felt, materials.cork, materials.foam, materials.paper, materials.cardboard)
    )
    return _sheet(
        material, f"{material.word} {pick(rng, ('sheet', 'surface', 'mat'))}", (*SOFT_SHEET, "scratch", "crack")
    )


def panel(rng: np.random.Generator) -> Blueprint:
    """A painted or moulded panel with the seams, slots, screws and print of a housing."""
    material = materials.some(rng, (materials.painted, materials.plastic))
    seams = [(pick(rng, (0.0, 90.0)), between(rng, -0.8, 0.8)) for _ in range(int(rng.integers(0, 4)))]
    slots = int(rng.integers(3, 9)) if happens(rng, 0.35) else 0
    at, long = (between(rng, -0.5, 0.5), between(rng, -0.5, 0.5)), between(rng, 0.15, 0.4)
    screws = [(between(rng, -0.85, 0.85), between(rng, -0.85, 0.85)) for _ in range(int(rng.integers(0, 4)))]
    screw = materials.metal(rng)
    text = mark(rng, between(rng, -0.4, 0.4), between(rng, -0.7, 0.7), 0.35, 0.12, paint(rng)[1])
    printed = happens(rng, 0.5)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        surface = material.coat(shot, side)
        x, y = (axis + np.float32(between(shot, -0.06, 0.06)) for axis in grid(side))
        for degrees, offset in seams:
            _, v = turned(x, y, degrees)
            groove = smoothstep(0.02, 0.008, np.abs(v - np.float32(offset)))
            surface.height -= np.float32(0.02) * groove
            surface.albedo *= 1 - np.float32(0.6) * groove
        if slots:
            dx, dy = x - np.float32(at[0]), (y - np.float32(at[1])) * 12
            _, place = counted(dy + 60)
            vent = smoothstep(0.26, 0.2, np.abs(place - 0.5)) * smoothstep(long, long - 0.03, np.abs(dx))
            vent = vent * (np.abs(dy) < slots / 2)
            surface.paint(vent.astype(np.float32), (0.01, 0.01, 0.01), gloss=0.05, metal=0.0)
            surface.height -= np.float32(0.05) * vent.astype(np.float32)
        for spot in screws:
            put(surface, spot, (0.07, 0.07), screw.color, corner=0.07, height=0.02, gloss=0.6, metal=screw.metal)
            put(surface, spot, (0.05, 0.01), (0.02, 0.02, 0.02), degrees=between(shot, 0, 180), height=-0.01)
        if printed:
            ink = stamped(text, side)
            if damage and damage.kind == "misprint":
                ink = misprinted(ink, damage)
            surface.paint(0.9 * ink, text.ink, metal=0.0)
        return surface

    noun = f"{material.word} {pick(rng, ('panel', 'surface', 'housing', 'front panel'))}"
    own = ("misprint",) if printed else ()
    return Blueprint(noun, draw, (*HARD_SHEET, "bent", "missing part", *own), own, full_frame=True)


def wood(rng: np.random.Generator) -> Blueprint:
    """Boards, one or several, with gaps and sometimes knots."""
    planks = [materials.wood(rng)]
    boards = pick(rng, (0, 0, 2, 3, 5))
    across = happens(rng, 0.5)
    knots = happens(rng, 0.3)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        surface = planks[0].coat(shot, side)
        x, y = grid(side)
        if knots:
            at = between(shot, -0.7, 0.7), between(shot, -0.7, 0.7)
            _, dx, dy = surface.around(*at, 3)
            away = np.sqrt(dx * dx + 2 * dy * dy) + 0.01 * Texture("cloud").field(shot, side)
            rings = 0.5 + 0.5 * np.sin(away * np.float32(90))
            strength = np.exp(-((away / np.float32(between(shot, 0.06, 0.12))) ** 2)).astype(np.float32)
            surface.albedo *= 1 - strength * (0.55 + 0.25 * rings)
        if boards:
            v = (y if across else x) * np.float32(boards / 2) + np.float32(between(shot, 0, 1))
            number, part = counted(v)
            tones = 1 + 0.1 * shot.standard_normal(32).astype(np.float32)
            gap = smoothstep(0.035, 0.012, np.minimum(part, 1 - part))
            surface.albedo *= tones[number % 32] * (1 - 0.85 * gap)
            surface.height -= np.float32(0.02) * gap
        return surface

    noun = pick(rng, (f"{planks[0].word} board", f"{planks[0].word} surface", f"{planks[0].word} panel", "wood"))
    return Blueprint(noun, draw, (*HARD_SHEET, "missing part"), full_frame=True)


def fabric(rng: np.random.Generator) -> Blueprint:
    """Woven cloth: plain, twill, satin, basket or canvas, of two yarns."""
    threads, turn = scaled(rng, 10, 44), pick(rng, (0.0, 45.0, between(rng, 0, 90)))
    step, over_count, period = pick(rng, ((1, 1, 2), (1, 2, 3), (1, 2, 4), (2, 1, 5), (3, 4, 8), (1, 3, 4)))
    name, warp = paint(rng)
    weft = varied(rng, warp, 0.3) if happens(rng, 0.55) else paint(rng)[1]
    bulge, hairy = between(rng, 0.5, 1.0), between(rng, 0.02, 0.12)
    irregular, wavy = between(rng, 0.01, 0.12), between(rng, 0.002, 0.016)
    stripe = int(rng.integers(4, 14)) if happens(rng, 0.25) else 0
    stripe_color = PAINTS[pick(rng, tuple(PAINTS))]
    gloss = between(rng, 0.03, 0.25)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -2, 2))
        scale = np.float32(threads / 2)
        u = (x + np.float32(wavy) * Texture("soft", 0.5).field(shot, side)) * scale + np.float32(
            500 + between(shot, 0, 8)
        )
        v = (y + np.float32(wavy) * Texture("soft", 0.5).field(shot, side)) * scale + np.float32(
            500 + between(shot, 0, 8)
        )
        (i, in_u), (j, in_v) = counted(u), counted(v)
        tones = 1 + np.float32(irregular) * shot.standard_normal((2, 1024), dtype=np.float32)
        over = (i + step * j) % period < over_count
        a, b = in_u - np.float32(0.5), in_v - np.float32(0.5)
        across, along = np.where(over, a, b), np.where(over, b, a)
        crown = np.sqrt(np.maximum(1 - 3.4 * across * across, 0.03)) * (1 - 1.2 * along * along)
        surface = Surface.blank(side, weft, gloss=gloss)
        surface.paint(over.astype(np.float32), warp)
        if stripe:
            surface.paint(((i % stripe == 0) & over).astype(np.float32), stripe_color)
        fibres = Texture("white", 0.4).field(shot, side)
        tone = np.where(over, tones[0][i % 1024], tones[1][j % 1024])
        surface.tint(tone * (0.4 + 0.6 * crown) * (1 + np.float32(hairy) * fibres))
        surface.height += np.float32(bulge * 0.5 / threads) * crown + 0.0006 * fibres
        return surface

    noun = f"{name} {pick(rng, ('fabric', 'cloth', 'textile', 'canvas', 'woven fabric'))}"
    return Blueprint(noun, draw, (*SOFT_SHEET, "misprint"), full_frame=True)


def tiles(rng: np.random.Generator) -> Blueprint:
    """Tiles, bricks or mosaic with joints."""
    material = materials.some(rng, (materials.ceramic, materials.stone, materials.ceramic))
    grout = materials.stone(rng)
    across, down = scaled(rng, 1.2, 9), scaled(rng, 1.2, 9)
    down = across if happens(rng, 0.6) else down
    bond = pick(rng, (0.0, 0.0, 0.5, 0.33))
    joint, turn = between(rng, 0.02, 0.05), pick(rng, (0.0, 0.0, 45.0, between(rng, 0, 90)))
    spread = between(rng, 0.02, 0.25)
    bevel = between(rng, 0.02, 0.08)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn)
        v = y * np.float32(down / 2) + np.float32(20 + between(shot, 0, 1))
        row, down_in = counted(v)
        u = (
            x * np.float32(across / 2)
            + np.float32(20 + between(shot, 0, 1))
            + (np.float32(bond) * row).astype(np.float32)
        )
        column, across_in = counted(u)
        in_u = np.minimum(across_in, 1 - across_in) * np.float32(2 / across)
        in_v = np.minimum(down_in, 1 - down_in) * np.float32(2 / down)
        distance = np.float32(joint) - np.minimum(in_u, in_v)
        surface = grout.coat(shot, side)
        glazed = material.coat(shot, side)
        tones = np.exp(np.float32(spread) * shot.standard_normal((64, 64), dtype=np.float32))
        glazed.albedo *= np.clip(tones[row % 64, column % 64], 0.4, 1.8)
        raised = smoothstep(0.0, -bevel, distance)
        glazed.height += np.float32(0.04) * raised
        inside = cover(distance, side)
        lay(surface, glazed, inside)
        return surface

    noun = f"{material.word} {pick(rng, ('tiles', 'tile', 'wall tile', 'floor'))}"
    noun = noun.replace(" tiles", " tile wall")
    return Blueprint(noun, draw, (*HARD_SHEET, "missing part"), full_frame=True)


def mesh(rng: np.random.Generator) -> Blueprint:
    """Perforated sheet, expanded metal, woven wire: a lattice over something dark or light."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.plastic, materials.painted))
    under = materials.some(rng, materials.ALL)
    dark = between(rng, 0.05, 0.6)
    count, ratio = scaled(rng, 4, 16), pick(rng, (1.0, 1.0, between(rng, 1.2, 2.2)))
    shape, shear = pick(rng, ("round", "square", "wire", "wire")), pick(rng, (0.0, 0.0, 0.5))
    turn, open_share = pick(rng, (0.0, 45.0, 45.0, between(rng, 0, 90))), between(rng, 0.45, 0.8)
    thick = between(rng, 0.3, 0.8)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn + between(shot, -2, 2))
        bends = _bends(damage, x, y)
        scale = np.float32(count / 2)
        v = (y * np.float32(ratio) + bends) * scale + np.float32(40 + between(shot, 0, 1))
        u = (x + 0.7 * bends) * scale + np.float32(40 + between(shot, 0, 1)) + np.float32(shear) * np.floor(v)
        i, j = np.floor(u), np.floor(v)
        a, b = u - i - np.float32(0.5), v - j - np.float32(0.5)
        if shape == "wire":
            width = np.float32((1 - open_share) / 2)
            warp, weft = 0.5 - np.abs(a), 0.5 - np.abs(b)  # distance from the wires' middle lines
            distance = np.minimum(warp, weft) - width
            up = np.where((i + j) % 2 == 0, 1, -1) * np.cos(np.pi * a) * np.cos(np.pi * b)
            bulge = np.sqrt(np.maximum(width * width - np.minimum(warp, weft) ** 2, 0)) + 0.3 * width * up
        else:
            hole = np.sqrt(a * a + b * b) if shape == "round" else np.maximum(np.abs(a), np.abs(b))
            distance = np.float32(open_share / 2) - hole
            bulge = np.float32(0.2) * smoothstep(0.0, -0.08, distance)
        lattice = cover(distance * np.float32(2 / count), side)
        if damage and damage.kind == "missing part":
            lattice = lattice * (1 - _gap(damage, i, j))
        surface = under.coat(shot, side)
        surface.albedo *= np.float32(dark)
        surface.height -= np.float32(0.08)
        wire = material.coat(shot, side)
        wire.height += (np.float32(2 * thick / count) * bulge).astype(np.float32)
        lay(surface, wire, lattice)
        return surface

    word = "mesh" if shape == "wire" else "perforated sheet"
    noun = f"{material.word} {pick(rng, (word, 'grid', 'grille'))}"
    return Blueprint(
        noun,
        draw,
        ("missing part", "bent", "contamination", "stain", "hole", "colour shift", "dent"),
        ("missing part", "bent"),
        full_frame=True,
    )


def _bends(damage: Damage | None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if damage is None or damage.kind != "bent":
        return np.zeros_like(x)
    at = between(damage.rng, -0.6, 0.6), between(damage.rng, -0.6, 0.6)
    width = 0.12 + 0.2 * damage.severity
    near = np.exp(-((x - np.float32(at[0])) ** 2 + (y - np.float32(at[1])) ** 2) / np.float32(width * width))
    return (np.float32(0.05 + 0.2 * damage.severity) * near).astype(np.float32)


def _gap(damage: Damage, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Wires that are not there, around one place of the lattice."""
    side = len(i)
    row, column = (int(side * between(damage.rng, 0.2, 0.8)) for _ in range(2))
    reach = 0.6 + 2.2 * damage.severity
    away = np.hypot(i - i[row, column], j - j[row, column])
    return (away < reach).astype(np.float32)
