"""Springs, chains, zippers: one element again and again along a line."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.kinds.sheets import fabric
from stream_ad.demo.families.shapes import box, cover, put, rod, segment, solid
from stream_ad.demo.surface import Surface, grid


def spring(rng: np.random.Generator) -> Blueprint:
    """A coil spring on its side, sometimes conical."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.painted))
    turns, wire = int(rng.integers(4, 13)), between(rng, 0.022, 0.05)
    radius, taper, end = between(rng, 0.2, 0.5), pick(rng, (0.0, 0.0, between(rng, -0.3, 0.3))), between(rng, 0.6, 0.82)
    lean = between(rng, 0.3, 0.6)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        if damage and damage.kind == "bent":  # pulled apart from some turn on
            at, far = between(damage.rng, -0.4, 0.2), np.float32(0.1 + 0.25 * damage.severity)
            y = y - far * np.maximum(x - np.float32(at), 0) * np.float32(pick(damage.rng, (-2.0, 2.0)))
        pitch = 2 * end / turns
        r = np.float32(radius) * (1 + np.float32(taper) * x)
        distance, height = np.full_like(x, 9), np.full_like(x, -1)
        for sign in (-1, 1):  # behind, then before
            # the wire crosses from edge to edge: x runs with the height over the axis
            wave = x - sign * np.float32(lean * pitch / 2) * np.clip(y / r, -1, 1) + np.float32(pitch / 4 * sign)
            near = np.abs((wave / np.float32(pitch) + 40) % 1 - 0.5) * np.float32(pitch) - np.float32(wire)
            near = np.maximum(near, np.maximum(np.abs(y) - r - np.float32(wire), np.abs(x) - np.float32(end)))
            level = (
                rod(near, wire) + sign * np.sqrt(np.maximum(1 - (y / r) ** 2, 0)) * r * 0.4 + 0.3 * np.float32(radius)
            )
            height = np.where((near < 0) & (level > height), level, height)
            distance = np.minimum(distance, near)
        part = solid(material, shot, distance, height=0.0)
        part.height = (0.5 * part.height + np.maximum(height, 0)).astype(np.float32)
        part.albedo *= np.clip(0.35 + height / np.float32(0.6 * radius), 0.3, 1.1)
        return part

    return Blueprint(
        f"{material.word} {pick(rng, ('spring', 'coil spring', 'compression spring'))}",
        draw,
        ("bent", "scratch", "stain", "contamination", "missing part", "colour shift", "crack"),
        ("bent",),
    )


def chain(rng: np.random.Generator) -> Blueprint:
    """Round, oval or roller links, in one or more strands."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.plastic))
    links, strands = int(rng.integers(3, 8)), pick(rng, (1, 1, 2, 3))
    half = 0.95 / links * between(rng, 1.05, 1.3)
    flat, wire = half * between(rng, 0.45, 0.8), half * between(rng, 0.14, 0.24)
    places = [
        ((k + 0.5) * 1.9 / links - 0.95, (s - (strands - 1) / 2) * 2.6 * flat, k % 2)
        for s in range(strands)
        for k in range(links)
    ]
    roller = happens(rng, 0.35)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        gone, askew = struck(damage, "missing part", len(places), 2), struck(damage, "bent", len(places), 3)
        base = material.coat(shot, side)
        base.alpha[:] = 0
        for order in (0, 1):
            for index, (cx, cy, odd) in enumerate(places):
                if odd != order or index in gone:
                    continue
                lean = (20 + 40 * damage.severity) if damage and index in askew else 0.0
                _link(base, (cx, cy), half, flat, wire, roller, bool(odd), lean + float(shot.normal(0, 2)), x, y)
        return base

    return Blueprint(
        f"{material.word} {pick(rng, ('chain', 'link chain', 'drive chain' if roller else 'chain'))}",
        draw,
        ("missing part", "bent", "scratch", "crack", "stain", "contamination", "colour shift"),
        ("missing part", "bent"),
    )


def _link(
    base: Surface,
    at: tuple[float, float],
    half: float,
    flat: float,
    wire: float,
    roller: bool,
    odd: bool,
    lean: float,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    window, dx, dy = base.around(*at, 1.1 * half + wire)
    turn = np.deg2rad(lean)
    u = np.float32(np.cos(turn)) * dx + np.float32(np.sin(turn)) * dy
    v = np.float32(np.cos(turn)) * dy - np.float32(np.sin(turn)) * dx
    if roller:
        distance = segment(u, v, (-half * 0.7, 0.0), (half * 0.7, 0.0), flat * (0.8 if odd else 0.6))
        level = np.float32(0.10 if odd else 0.05) + 0.2 * rod(distance, wire)
    elif odd:  # stands upright: seen from above it is a bar
        distance = segment(u, v, (-half * 0.8, 0.0), (half * 0.8, 0.0), wire)
        level = 0.1 + rod(distance, wire)
    else:
        middle = segment(u, v, (-half + flat, 0.0), (half - flat, 0.0), flat - wire)
        distance = np.abs(middle) - np.float32(wire)
        level = rod(distance, wire)
    amount = cover(distance, base.side)
    base.height[window] += amount * (level.astype(np.float32) - base.height[window])
    base.albedo[:, window[0], window[1]] *= 1 - 0.25 * amount * (0.0 if odd else 1.0)
    base.alpha[window] = np.maximum(base.alpha[window], amount)


def zipper(rng: np.random.Generator) -> Blueprint:
    """A zip: two rows of teeth between tapes of cloth."""
    tape = fabric(rng)
    material = materials.some(rng, (materials.metal, materials.plastic))
    count, half, tall = int(rng.integers(10, 24)), between(rng, 0.06, 0.14), between(rng, 0.6, 0.85)
    shade = material.color
    places = [((-1 if k % 2 else 1) * 0.5 * half, -0.98 + (k + 0.5) * 1.96 / count) for k in range(count)]
    dark = between(rng, 0.4, 1.0)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, _ = grid(side)
        surface = tape.draw(shot, side, None)
        surface.albedo *= np.float32(dark)
        middle = np.exp(-((x / np.float32(2.2 * half)) ** 2))
        surface.height += np.float32(0.03) * middle
        surface.albedo *= 1 - np.float32(0.4) * middle
        gone, askew = struck(damage, "missing part", count, 5), struck(damage, "bent", count, 5)
        for index, at in enumerate(places):
            if index in gone:
                continue
            lean = float(damage.rng.choice([-1, 1])) * (20 + 40 * damage.severity) if damage and index in askew else 0.0
            put(
                surface,
                at,
                (1.1 * half, tall / count),
                shade,
                degrees=lean,
                corner=0.4 / count,
                height=0.11,
                edge=0.02,
                gloss=material.gloss,
                metal=material.metal,
            )
        return surface

    return Blueprint(
        f"{material.word} zipper",
        draw,
        ("missing part", "bent", "stain", "hole", "contamination", "colour shift"),
        ("missing part", "bent"),
        full_frame=True,
    )


def brush(rng: np.random.Generator) -> Blueprint:
    """A brush from above: tufts of bristles in a handle."""
    handle = materials.some(rng, (materials.plastic, materials.wood))
    bristles = materials.plastic(rng)
    columns, rows = int(rng.integers(3, 6)), int(rng.integers(4, 9))
    half = 0.16 * columns * 0.9, min(0.12 * rows, 0.84)
    tuft = 0.9 * min(half[0] / columns, half[1] / rows)
    places = [
        ((c + 0.5) / columns * 1.8 * half[0] - 0.9 * half[0], (r + 0.5) / rows * 1.8 * half[1] - 0.9 * half[1])
        for c in range(columns)
        for r in range(rows)
    ]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        surface = solid(handle, shot, box(x, y, half[0] + 0.05, half[1] + 0.05, 0.15), height=0.06, edge=0.04)
        hairs = materials.Texture("white", 0.5).field(shot, side)
        gone, askew = struck(damage, "missing part", len(places), 4), struck(damage, "bent", len(places), 6)
        for index, at in enumerate(places):
            put(surface, at, 0.6 * tuft, (0.02, 0.02, 0.02), corner=tuft, height=0.03)
            if index in gone:
                continue
            move = shot.normal(0, 0.10 * tuft, 2)
            if damage and index in askew:
                move = move + damage.rng.choice([-1, 1], 2) * tuft * (0.4 + damage.severity)
            put(
                surface,
                (at[0] + float(move[0]), at[1] + float(move[1])),
                (tuft, tuft),
                varied_tuft(bristles.color, index),
                corner=tuft,
                height=0.2,
                domed=True,
            )
        ends = (surface.height > 0.08).astype(np.float32)
        surface.height += np.float32(0.012) * ends * hairs
        surface.albedo *= np.clip(1 + np.float32(0.3) * ends * hairs, 0.2, 1.8)
        return surface

    return Blueprint(
        f"{handle.word} brush",
        draw,
        ("missing part", "bent", "stain", "contamination", "colour shift", "crack"),
        ("missing part", "bent"),
    )


def varied_tuft(color: tuple[float, float, float], index: int) -> np.ndarray:
    """Tufts differ a little in tone, always in the same way."""
    return np.array(color) * (0.85 + 0.3 * ((index * 7) % 5) / 5)
