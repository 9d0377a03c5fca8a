"""Wheels, housings, welds, tools: cast, forged and welded metal."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import Color
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.prints import mark, stamped
from stream_ad.demo.families.shapes import box, circle_of, disc, lay, polygon, segment, solid, spots
from stream_ad.demo.families.textures import Texture, turned_marks
from stream_ad.demo.surface import Surface, cover, grid, rounded, smooth_union, smoothstep, turned


def wheel(rng: np.random.Generator) -> Blueprint:
    """A wheel, pulley or fan: rim, spokes, hub, turned faces."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.painted, materials.plastic))
    count, outer = int(rng.integers(3, 10)), between(rng, 0.7, 0.84)
    rim, hub, bore = between(rng, 0.06, 0.2), between(rng, 0.16, 0.3), between(rng, 0.05, 0.12)
    width, twist = between(rng, 0.03, 0.09), pick(rng, (0.0, 0.0, between(rng, -2.0, 2.0)))
    web = happens(rng, 0.3)
    bright = pick(rng, (None, (0.62, 0.62, 0.63)))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        radius = np.sqrt(x * x + y * y)
        angle = np.arctan2(y, x) + np.float32(twist) * radius
        step = np.float32(2 * np.pi / count)
        number = np.floor(angle / step + 0.5)
        across = np.abs(np.sin(angle - number * step)) * radius
        spokes = np.maximum(
            np.maximum(across - np.float32(width), radius - np.float32(outer - rim / 2)), 0.5 * hub - radius
        )
        gone = struck(damage, "missing part", count, 2)
        if gone:
            spokes = np.where(np.isin(number.astype(np.int64) % count, list(gone)), 9, spokes).astype(np.float32)
        ring = np.maximum(disc(x, y, outer), -disc(x, y, outer - rim))
        body = smooth_union(smooth_union(spokes, ring, 0.04), disc(x, y, hub), 0.05)
        height = 0.1 * rounded(body, 0.04) + 0.06 * rounded(ring, 0.04) + 0.07 * rounded(disc(x, y, hub), 0.03)
        outline = np.maximum(disc(x, y, outer) if web else body, -disc(x, y, bore))
        part = solid(material, shot, outline, height=0.02, edge=0.02)
        part.height += height.astype(np.float32)
        if bright:
            face = cover(
                np.minimum(
                    np.abs(radius - np.float32(0.8 * hub)) - np.float32(0.12 * hub),
                    np.abs(radius - np.float32(outer - rim / 2)) - np.float32(0.3 * rim),
                ),
                side,
            )
            part.paint(
                face,
                np.array(bright)[:, None, None].astype(np.float32) * (1 + 0.06 * turned_marks(shot, side, 1.2)),
                gloss=0.5,
                metal=0.7,
            )
        return part

    words = ("wheel", "pulley", "flywheel", "handwheel", "impeller" if twist else "rim")
    return Blueprint(f"{material.word} {pick(rng, words)}", draw, BODY, ("missing part",) if not web else ())


def housing(rng: np.random.Generator) -> Blueprint:
    """A cast cover of random ribs, bosses and pockets, cast in sand or die."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.plastic, materials.painted))
    half = between(rng, 0.5, 0.8), between(rng, 0.42, 0.78)
    base = pick(rng, ("box", "disc", "oval"))
    points = (
        [(sx * half[0] * 0.82, sy * half[1] * 0.82) for sx in (-1, 1) for sy in (-1, 1)]
        if base == "box"
        else circle_of(int(rng.integers(2, 7)), 0.92 * half[1], between(rng, 0, 90))
    )
    boss, drill = between(rng, 0.09, 0.16), between(rng, 0.03, 0.06)
    ribs = [(between(rng, 0, 180), between(rng, -0.25, 0.25)) for _ in range(int(rng.integers(0, 5)))]
    circles = [
        (
            between(rng, -0.4, 0.4) * half[0],
            between(rng, -0.4, 0.4) * half[1],
            between(rng, 0.1, 0.3),
            between(rng, -0.05, 0.1),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]
    bore = circles[0][2] * between(rng, 0.3, 0.8) if happens(rng, 0.6) else 0.0
    text = mark(rng, 0.0, -0.55 * half[1], 0.35 * half[0], 0.07, (0.1, 0.1, 0.1), only="text")
    rim = between(rng, 0.04, 0.12)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        if base == "box":
            body = box(x, y, *half, 0.15)
        elif base == "disc":
            body = disc(x, y, half[1])
        else:
            body = box(x, y, half[0], half[1] * 0.75, half[1] * 0.7)
        bosses = spots(x, y, points, boss)
        outline = smooth_union(body, bosses, 0.05)
        height = 0.06 * rounded(outline, 0.03)
        edge = np.abs(outline + np.float32(rim)) - np.float32(0.4 * rim)
        height = np.maximum(height, 0.11 * rounded(edge, 0.03))
        for degrees, offset in ribs:
            _, v = turned(x, y, degrees)
            rib = np.maximum(np.abs(v - np.float32(offset)) - np.float32(0.024), outline + 0.05)
            height = np.maximum(height, 0.10 * rounded(rib, 0.03))
        for cx, cy, radius, level in circles:
            spot = np.maximum(disc(x - np.float32(cx), y - np.float32(cy), radius), outline + 0.04)
            height = np.where(spot < 0, 0.06 + np.float32(level) * rounded(spot, 0.03), height)
        height = np.maximum(height, 0.15 * rounded(bosses, 0.03))
        holes = spots(x, y, points, drill)
        if bore:
            holes = np.minimum(holes, disc(x - np.float32(circles[0][0]), y - np.float32(circles[0][1]), bore))
        part = solid(material, shot, np.maximum(outline, -holes), height=0.0)
        part.height += (height + 0.015 * stamped(text, side)).astype(np.float32)
        part.alpha = cover(np.maximum(outline, -holes), side)
        return part

    return Blueprint(f"{material.word} {pick(rng, ('housing', 'casting', 'cover', 'casing', 'base'))}", draw, BODY)


def weld(rng: np.random.Generator) -> Blueprint:
    """A weld seam between two sheets: ripples, burnt colours, spatter."""
    sheets = [materials.metal(rng), materials.metal(rng)]
    same = happens(rng, 0.75)
    turn, width = between(rng, 0, 180), between(rng, 0.08, 0.2)
    ripple, high = between(rng, 30, 80), between(rng, 0.02, 0.09)
    burnt: Color = pick(rng, ((0.5, 0.4, 0.25), (0.35, 0.4, 0.55), (0.25, 0.22, 0.2)))
    bead: Color = pick(rng, ((0.5, 0.5, 0.5), (0.3, 0.29, 0.28), (0.62, 0.6, 0.57)))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        u, v = turned(*grid(side), turn)
        v = (
            v
            + np.float32(0.02) * Texture("cloud", 0.3, turn, 3).field(shot, side)
            + np.float32(between(shot, -0.1, 0.1))
        )
        surface = sheets[0].coat(shot, side)
        if not same:
            other = sheets[1].coat(shot, side)
            far = cover(v, side)
            lay(surface, other, far)
        wide = np.float32(width) * (1 + 0.06 * Texture("grain", 0.15, turn, 2).field(shot, side))
        if damage and damage.kind == "missing part":  # the seam is interrupted
            at, long = between(damage.rng, -0.6, 0.6), 0.06 + 0.3 * damage.severity
            wide = wide * (1 - 0.95 * smoothstep(long, 0.6 * long, np.abs(u - np.float32(at))))
        heat = np.exp(-((v / np.float32(2.6 * width)) ** 2))
        surface.albedo *= 1 + np.float32(0.6) * heat * (np.array(burnt, np.float32)[:, None, None] * 2 - 1)
        inside = np.sqrt(np.maximum(1 - (v / np.maximum(wide, 0.004)) ** 2, 0))
        scales = np.cos(u * np.float32(ripple) - np.float32(8) * inside)
        amount = smoothstep(0.0, 0.4, inside)
        surface.paint(amount, bead, gloss=0.5, metal=0.5)
        surface.height += (np.float32(high) * inside * (1 + 0.16 * scales)).astype(np.float32)
        surface.albedo *= 1 + np.float32(0.12) * amount * scales
        return surface

    return Blueprint(
        f"{sheets[0].word} {pick(rng, ('weld seam', 'weld', 'welded joint'))}",
        draw,
        ("crack", "hole", "missing part", "stain", "contamination", "scratch", "colour shift"),
        ("missing part",),
        full_frame=True,
    )


def tool(rng: np.random.Generator) -> Blueprint:
    """A key, spanner, hook or blade: a handle and a head with a cut."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.plastic, materials.painted))
    grip = materials.some(rng, (materials.plastic, materials.rubber, materials.wood)) if happens(rng, 0.4) else None
    reach, width = between(rng, 0.5, 0.62), between(rng, 0.05, 0.13)
    head, shape = between(rng, 0.16, 0.28), pick(rng, ("ring", "jaw", "disc", "key", "blade"))
    tail, sides = between(rng, 0.0, 0.2), pick(rng, (0, 4, 6))
    teeth = [between(rng, 0.02, 0.12) for _ in range(5)]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        body = segment(x, y, (-reach, 0.0), (reach, 0.0), width)
        at_head = x - np.float32(reach)
        if shape == "blade":
            body = np.minimum(
                body,
                np.maximum(np.abs(y - 0.1 * x) - np.float32(head) * smoothstep(0.85, 0.0, x), np.abs(x - 0.3) - 0.5),
            )
        else:
            body = smooth_union(body, disc(at_head, y, head), 0.06)
        if tail:
            body = smooth_union(body, disc(x + np.float32(reach), y, tail), 0.05)
        cut = np.full_like(x, 9)
        if shape == "jaw":
            cut = box(at_head - np.float32(head), y, head, 0.5 * head)
        elif shape in ("ring", "key"):
            cut = polygon(at_head, y, sides, 0.55 * head) if sides else disc(at_head, y, 0.55 * head)
        if shape == "key":
            for k, deep in enumerate(teeth):
                body = np.minimum(body, box(x + np.float32(reach - 0.09 * k), y - np.float32(width), 0.036, deep))
        height = 0.1 + 0.04 * rounded(body, width)
        part = solid(material, shot, np.maximum(body, -cut), height=height.astype(np.float32), edge=0.03)
        if grip:
            over = segment(x, y, (-reach, 0.0), (-0.05, 0.0), width * 1.5)
            sleeve = solid(grip, shot, over, height=0.16, edge=0.06)
            lay(part, sleeve)
        return part

    word = {"ring": "spanner", "jaw": "wrench", "disc": "lever", "key": "key", "blade": "blade"}[shape]
    return Blueprint(f"{material.word} {word}", draw, BODY)
