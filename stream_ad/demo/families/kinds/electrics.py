"""Boards, chips, terminals, cables, solar cells."""

import cv2
import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import PAINTS, Color, linear, paint, varied
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.prints import mark, misprinted, stamped
from stream_ad.demo.families.shapes import box, circle_of, counted, disc, put, solid, spots
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid, smoothstep

TIN, GOLD, COPPER, EPOXY = linear(196, 198, 200), linear(206, 164, 84), linear(190, 108, 70), linear(34, 34, 38)
_LACQUERS = ("green", "green", "dark green", "blue", "dark blue", "black", "red", "white", "beige")


def board(rng: np.random.Generator) -> Blueprint:
    """A populated circuit board: traces, vias, chips, passives, sockets, print."""
    lacquer = pick(rng, _LACQUERS)
    color = varied(rng, PAINTS[lacquer], 0.2)
    trace_color = tuple(c * 1.45 + 0.02 for c in color)
    half = between(rng, 0.6, 0.85), between(rng, 0.42, 0.8)
    whole = happens(rng, 0.35)  # so near that the board fills the picture
    spread = (1.0, 1.0) if whole else half
    traces = [_route(rng, spread) for _ in range(int(rng.integers(10, 34)))]
    vias = [
        (between(rng, -1, 1) * spread[0] * 0.92, between(rng, -1, 1) * spread[1] * 0.92)
        for _ in range(int(rng.integers(6, 30)))
    ]
    parts = _placed_parts(rng, spread)
    words = [
        mark(rng, x, y + h + 0.045, 0.06, 0.025, linear(220, 220, 210), only="text")
        for _, (x, y), (_, h), _, _ in parts[:5]
    ]
    words.append(
        mark(
            rng,
            between(rng, -0.4, 0.4) * spread[0],
            between(rng, -0.8, 0.8) * spread[1],
            0.22,
            0.06,
            linear(225, 225, 215),
        )
    )
    metal = GOLD if happens(rng, 0.5) else TIN
    layers = (materials.Layer(Texture("white", 0.4), 0.03, 0.0003), materials.Layer(Texture("cloud", 0.3), 0.05))
    material = materials.Material("", color, between(rng, 0.2, 0.6), layers=layers)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        distance = np.full_like(x, -1.0) if whole else box(x, y, *half, 0.04)
        holes = (
            circle_of(4, 0.0)
            if whole
            else [(sx * (half[0] - 0.09), sy * (half[1] - 0.09)) for sx in (-1, 1) for sy in (-1, 1)]
        )
        if not whole:
            distance = np.maximum(distance, -spots(x, y, holes, 0.045))
        surface = solid(material, shot, distance, height=0.03, edge=0.01)
        lines = np.zeros((side, side), dtype=np.uint8)
        for path, width in traces:
            points = np.round((np.array(path) + 1) * (side / 2) * 16).astype(np.int32)
            cv2.polylines(lines, [points], False, 255, max(round(width * side / 2), 1), cv2.LINE_AA, 4)
        copper = lines.astype(np.float32) * np.float32(1 / 255)
        surface.paint(copper * surface.alpha, trace_color)
        surface.height += np.float32(0.004) * copper
        for at in vias:
            put(surface, at, (0.022, 0.022), metal, corner=0.022, height=0.036, gloss=0.5, metal=0.6)
            put(surface, at, (0.009, 0.009), (0.02, 0.02, 0.02), corner=0.009, height=0.0)
        for index, item in enumerate(words):
            ink = stamped(item, side)
            if index == len(words) - 1 and damage and damage.kind == "misprint":
                ink = misprinted(ink, damage)
            surface.paint(0.9 * ink * surface.alpha, item.ink)
        gone, askew = struck(damage, "missing part", len(parts), 3), struck(damage, "bent", len(parts), 2)
        for index, part in enumerate(parts):
            tilt = between(damage.rng, 8, 12) + 30 * damage.severity if damage and index in askew else 0.0
            _component(surface, part, index in gone, tilt + float(shot.normal(0, 1.0)))
        return surface

    noun = pick(rng, ("circuit board", "pcb", "printed circuit board", "electronic board"))
    noun = pick(rng, (f"{lacquer} {noun}", noun))
    defects = ("scratch", "crack", "stain", "hole", "missing part", "bent", "misprint", "contamination", "colour shift")
    return Blueprint(noun, draw, defects, ("missing part", "bent", "misprint"), full_frame=whole, turn=None)


def _route(rng: np.random.Generator, spread: tuple[float, float]) -> tuple[list[tuple[float, float]], float]:
    """A trace: straight pieces and 45 degree corners."""
    x, y = between(rng, -1, 1) * spread[0] * 0.9, between(rng, -1, 1) * spread[1] * 0.9
    path, direction = [(x, y)], int(rng.integers(8))
    for _ in range(int(rng.integers(2, 6))):
        turn, length = direction * np.pi / 4, scaled(rng, 0.06, 0.5)
        x = float(np.clip(x + length * np.cos(turn), -0.94 * spread[0], 0.94 * spread[0]))
        y = float(np.clip(y + length * np.sin(turn), -0.94 * spread[1], 0.94 * spread[1]))
        path.append((x, y))
        direction += pick(rng, (-1, 1, -2, 2))
    return path, pick(rng, (0.010, 0.014, 0.03))


Part = tuple[str, tuple[float, float], tuple[float, float], float, Color]  # kind, place, half size, turn, colour


def _placed_parts(rng: np.random.Generator, spread: tuple[float, float]) -> list[Part]:
    """Components that do not stand on each other."""
    parts: list[Part] = []
    for _ in range(60):
        kind = pick(rng, ("chip", "resistor", "resistor", "capacitor", "can", "socket", "led", "coil"))
        long = scaled(rng, 0.05, 0.26) if kind in ("chip", "socket") else scaled(rng, 0.035, 0.11)
        flat = long * {"chip": between(rng, 0.5, 1.0), "socket": 0.35, "can": 1.0, "coil": 1.0}.get(kind, 0.55)
        half = (long, flat) if happens(rng, 0.5) else (flat, long)
        at = between(rng, -0.85, 0.85) * spread[0], between(rng, -0.85, 0.85) * spread[1]
        inside = all(abs(at[k]) + half[k] + 0.07 < spread[k] for k in (0, 1))
        free = all(
            abs(at[0] - p[1][0]) > half[0] + p[2][0] + 0.06 or abs(at[1] - p[1][1]) > half[1] + p[2][1] + 0.06
            for p in parts
        )
        if inside and free:
            parts.append((kind, at, half, 0.0, paint(rng)[1]))
        if len(parts) >= 16:
            break
    return parts or [("chip", (0.0, 0.0), (0.15, 0.15), 0.0, EPOXY)]


def _component(surface: Surface, part: Part, missing: bool, tilt: float) -> None:
    kind, at, half, _, color = part
    wide = half[0] >= half[1]
    along = np.array([1.0, 0.0]) if wide else np.array([0.0, 1.0])
    reach = max(half)
    pads = [tuple((np.array(at) + sign * along * reach).tolist()) for sign in (-1, 1)]
    pad = (0.3 * reach, min(half)) if wide else (min(half), 0.3 * reach)
    if kind in ("chip", "socket"):
        _legs(surface, at, half, missing)
    elif kind in ("resistor", "capacitor", "led"):
        for place in pads:
            put(surface, place, pad, TIN, height=0.045, gloss=0.5, metal=0.6, domed=True)
    if missing:
        return
    if kind == "chip":
        put(surface, at, half, EPOXY, degrees=tilt, height=0.10, edge=0.015, gloss=0.2)
        corner = at[0] - 0.75 * half[0], at[1] - 0.75 * half[1]
        put(surface, corner, (0.014, 0.014), (0.1, 0.1, 0.1), corner=0.014, height=0.09)
    elif kind == "socket":
        put(surface, at, half, linear(216, 210, 196), degrees=tilt, height=0.16, edge=0.02, gloss=0.3)
        put(surface, at, (half[0] * 0.75, half[1] * 0.75), (0.06, 0.06, 0.06), degrees=tilt, height=0.08)
    elif kind in ("can", "coil"):
        radius = min(half)
        put(
            surface,
            at,
            (radius, radius),
            TIN if kind == "can" else COPPER,
            corner=radius,
            height=0.2,
            edge=0.03,
            gloss=0.6,
            metal=0.7,
        )
        put(
            surface,
            at,
            0.6 * radius,
            (0.08, 0.08, 0.08) if kind == "coil" else TIN,
            corner=radius,
            height=0.18,
            gloss=0.3,
        )
    else:
        tone = {"resistor": (0.02, 0.02, 0.022), "capacitor": linear(168, 132, 96)}.get(kind, color)
        body = (0.8 * half[0], 0.95 * half[1]) if wide else (0.95 * half[0], 0.8 * half[1])
        put(surface, at, body, tone, degrees=tilt, height=0.07, edge=0.015, gloss=0.7 if kind == "led" else 0.25)


def _legs(surface: Surface, at: tuple[float, float], half: tuple[float, float], missing: bool) -> None:
    """Pads of a chip, as one comb along two sides: cheaper than single ones."""
    wide = half[0] >= half[1]
    window, dx, dy = surface.around(*at, max(half) + 0.08)
    u, v = (dx, dy) if wide else (dy, dx)
    long, flat = (half[0], half[1]) if wide else (half[1], half[0])
    comb = np.abs(((u + 4) * np.float32(1 / 0.055)) % 1 - np.float32(0.5)) < 0.27
    inside = (np.abs(u) < long * 0.95) & (np.abs(np.abs(v) - np.float32(flat + 0.015)) < 0.035)
    surface.paint((comb & inside).astype(np.float32), TIN, gloss=0.6, metal=0.6, height=0.05, window=window)


def chip(rng: np.random.Generator) -> Blueprint:
    """One component: an epoxy body with legs on one, two or four sides, or a transistor's tab."""
    sides, legs = pick(rng, (1, 2, 2, 4)), int(rng.integers(3, 11))
    half = between(rng, 0.3, 0.5), between(rng, 0.22, 0.46)
    if sides == 4:
        half = half[0], half[0]
    reach, width = between(rng, 0.12, 0.34), min(0.05, 0.5 * half[0] / legs)
    tab = sides == 1 and happens(rng, 0.6)
    color = EPOXY if happens(rng, 0.75) else paint(rng)[1]
    layers = (materials.Layer(Texture("grain", 0.6), 0.08, 0.0008),)
    material = materials.Material("", varied(rng, color), between(rng, 0.1, 0.4), layers=layers)
    ink = linear(200, 200, 196) if sum(color) < 0.6 else linear(30, 30, 30)
    text = mark(rng, 0.0, 0.0, 0.7 * half[0], 0.22 * half[1], ink, only="text")
    rows = [
        (angle, offset)
        for angle in {1: (90,), 2: (90, 270), 4: (0, 90, 180, 270)}[sides]
        for offset in np.linspace(-0.82, 0.82, legs).tolist()
    ]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(material, shot, box(x, y, *half, 0.03), height=0.16, edge=0.03)
        if tab:
            put(surface, (0.0, -half[1] - 0.16), (half[0], 0.18), TIN, height=0.08, edge=0.02, gloss=0.5, metal=0.7)
            put(surface, (0.0, -half[1] - 0.2), (0.07, 0.07), (0.02, 0.02, 0.02), corner=0.07)
        gone, askew = struck(damage, "missing part", len(rows), 4), struck(damage, "bent", len(rows), 4)
        for index, (angle, offset) in enumerate(rows):
            if index in gone:
                continue
            turn = np.deg2rad(angle)
            along = half[0] * offset
            body = half[1] if angle in (90, 270) else half[0]
            lean = (15 + 35 * damage.severity) * float(damage.rng.choice([-1, 1])) if damage and index in askew else 0.0
            middle = body + reach / 2
            at = (
                middle * np.cos(turn)
                - along * np.sin(turn)
                + 0.5 * reach * np.sin(np.deg2rad(lean)) * abs(np.sin(turn)),
                middle * np.sin(turn)
                + along * np.cos(turn)
                + 0.5 * reach * np.sin(np.deg2rad(lean)) * abs(np.cos(turn)),
            )
            put(
                surface,
                (float(at[0]), float(at[1])),
                (reach / 2 + 0.02, width),
                TIN,
                degrees=float(angle) - lean,
                height=0.06,
                gloss=0.6,
                metal=0.7,
                edge=0.01,
            )
        ink_on = stamped(text, side)
        if damage and damage.kind == "misprint":
            ink_on = misprinted(ink_on, damage)
        surface.paint(0.85 * ink_on * surface.alpha, text.ink, gloss=0.2)
        return surface

    noun = (
        "transistor" if sides == 1 else pick(rng, ("chip", "integrated circuit", "electronic component", "ic package"))
    )
    defects = ("scratch", "crack", "stain", "missing part", "bent", "misprint", "contamination", "colour shift")
    return Blueprint(noun, draw, defects, ("missing part", "bent", "misprint"))


def terminal(rng: np.random.Generator) -> Blueprint:
    """A terminal strip or plug: a row of chambers with screws or pins."""
    count, rows = int(rng.integers(2, 9)), pick(rng, (1, 1, 2))
    body = materials.some(rng, (materials.plastic, materials.plastic, materials.rubber))
    half = between(rng, 0.55, 0.82), between(rng, 0.2, 0.5)
    pitch = 2 * half[0] / count
    style, shiny = pick(rng, ("screw", "pin", "chamber")), pick(rng, (TIN, GOLD, linear(170, 150, 90)))
    radius = min(0.36 * pitch, 0.7 * half[1] / rows)
    places = [(-half[0] + (k + 0.5) * pitch, (r - (rows - 1) / 2) * half[1]) for k in range(count) for r in range(rows)]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(body, shot, box(x, y, *half, 0.04), height=0.2, edge=0.03)
        walls = np.abs(((x + np.float32(half[0])) / np.float32(pitch) + 0.5) % 1 - 0.5)
        surface.height -= np.float32(0.03) * smoothstep(0.06, 0.02, walls) * surface.alpha
        gone, askew = struck(damage, "missing part", len(places), 3), struck(damage, "bent", len(places), 3)
        for index, at in enumerate(places):
            put(
                surface,
                at,
                (radius, radius),
                (0.015, 0.015, 0.015),
                corner=radius if style != "chamber" else 0.02,
                height=0.05,
            )
            turn = between(shot, 0, 180)
            if index in gone:
                continue
            if damage and index in askew:
                push = (0.25 + 0.5 * damage.severity) * radius
                away = damage.rng.uniform(-1, 1, 2)
                away = away / np.abs(away).max() * push
                at = at[0] + float(away[0]), at[1] + float(away[1])
            if style == "screw":
                put(surface, at, 0.8 * radius, shiny, corner=radius, height=0.16, edge=0.03, gloss=0.5, metal=0.8)
                put(surface, at, (0.7 * radius, 0.16 * radius), (0.05, 0.05, 0.05), degrees=turn, height=0.1)
            else:
                put(
                    surface,
                    at,
                    0.45 * radius,
                    shiny,
                    height=0.24,
                    edge=0.02,
                    gloss=0.6,
                    metal=0.8,
                    corner=radius if style == "pin" else 0.0,
                )
        return surface

    noun = f"{body.word} {pick(rng, ('connector', 'terminal block', 'plug', 'terminal strip', 'socket'))}"
    return Blueprint(noun, draw, BODY, ("missing part", "bent"))


def cable(rng: np.random.Generator) -> Blueprint:
    """A cable cut across: sheath, insulated cores, bundles of strands."""
    sheath = materials.some(rng, (materials.rubber, materials.plastic))
    outer, wall = between(rng, 0.7, 0.85), between(rng, 0.06, 0.16)
    count = pick(rng, (1, 2, 3, 3, 4, 5, 7))
    core = (outer - wall) * {1: 0.82, 2: 0.47, 3: 0.44, 4: 0.39, 5: 0.35, 7: 0.31}[count]
    away = 0.0 if count == 1 else outer - wall - core * 1.03
    centers = [(0.0, 0.0)] if count == 1 else circle_of(count if count < 7 else 6, away, between(rng, 0, 90))
    centers += [(0.0, 0.0)] if count == 7 else []
    colors = [paint(rng)[1] for _ in centers]
    inside, metal = between(rng, 0.5, 0.75), pick(rng, (COPPER, COPPER, TIN))
    strand = between(rng, 0.035, 0.09)
    filler = paint(rng)[1]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(sheath, shot, disc(x, y, outer), height=0.12, edge=0.02)
        put(surface, (0.0, 0.0), outer - wall, filler, corner=outer, height=0.06, gloss=0.05)
        gone, askew = struck(damage, "missing part", len(centers), 3), struck(damage, "bent", len(centers), 3)
        turn = between(shot, 0, 60)
        for index, ((cx, cy), color) in enumerate(zip(centers, colors, strict=True)):
            if index in gone:
                put(surface, (cx, cy), (core, core), (0.012, 0.012, 0.012), corner=core, height=-0.1, gloss=0.02)
                continue
            if damage and index in askew:
                push = (0.1 + 0.5 * damage.severity) * core * damage.rng.choice([-1, 1], 2)
                cx, cy = cx + float(push[0]), cy + float(push[1])
            put(surface, (cx, cy), (core, core), color, corner=core, height=0.13, edge=0.02, gloss=0.25)
            _strands(surface, (cx, cy), core * inside, strand, metal, turn)
        return surface

    noun = pick(rng, ("cable", "cable cross section", "wire bundle", "power cable", "cut cable"))
    return Blueprint(noun, draw, BODY, ("missing part", "bent"))


def _strands(
    surface: Surface, at: tuple[float, float], radius: float, strand: float, color: Color, turn: float
) -> None:
    """Closely packed wires, seen on their ends."""
    window, dx, dy = surface.around(*at, radius + 0.02)
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    u, v = (c * dx + s * dy) / np.float32(2 * strand), (c * dy - s * dx) / np.float32(1.732 * strand)
    row, in_v = counted(v)
    u = u + np.float32(0.5) * (row % 2).astype(np.float32)
    _, in_u = counted(u)
    distance = np.sqrt((in_u - 0.5) ** 2 + ((in_v - 0.5) * np.float32(0.866)) ** 2)
    face = smoothstep(0.52, 0.4, distance)
    inside = cover(disc(dx, dy, radius), surface.side)
    surface.paint(
        inside,
        np.array(color)[:, None, None].astype(np.float32) * (0.06 + 0.94 * face),
        gloss=0.5,
        metal=0.5,
        height=0.08 + 0.06 * face,
        window=window,
    )


def solar_cell(rng: np.random.Generator) -> Blueprint:
    """A solar cell from near: crystals under thin fingers and wide busbars."""
    base = varied(rng, pick(rng, (linear(28, 44, 96), linear(20, 26, 44), linear(40, 60, 120))), 0.2)
    crystals = Texture(pick(rng, ("cells", "fine cells")), between(rng, 0.4, 1.1), between(rng, 0, 180))
    layers = (materials.Layer(crystals, between(rng, 0.05, 0.5)), materials.Layer(Texture("white", 0.5), 0.04))
    material = materials.Material("", base, between(rng, 0.3, 0.7), 0.2, layers=layers)
    fingers, bars, width = scaled(rng, 14, 34), pick(rng, (1, 2, 3)), between(rng, 0.015, 0.05)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = material.coat(shot, side)
        row, place = counted((y + between(shot, 0, 1)) * np.float32(fingers / 2) + 40)
        line = smoothstep(0.16, 0.08, np.abs(place - 0.5))
        if damage and damage.kind == "misprint":
            hit, start = float(damage.rng.uniform(-0.7, 0.5)), int(damage.rng.integers(2, int(fingers) - 2))
            many, long = 1 + round(4 * damage.severity), 0.15 + 0.6 * damage.severity
            broken = (np.abs(row - row[0, 0] - start) < many) & (x > hit) & (x < hit + long)
            line = line * (1 - broken.astype(np.float32))
        surface.paint(0.8 * line, TIN, gloss=0.4, metal=0.4)
        _, across = counted((x + between(shot, -0.05, 0.05) + 1) * np.float32(bars / 2) + 8)
        bar = smoothstep(width * bars, width * bars - 0.02, np.abs(across - 0.5) * 2)
        surface.paint(bar, TIN, gloss=0.5, metal=0.6, height=0.004)
        return surface

    defects = ("scratch", "crack", "stain", "misprint", "contamination", "colour shift", "missing part")
    return Blueprint("solar cell", draw, defects, ("misprint",), full_frame=True)
