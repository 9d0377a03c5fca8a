"""A zinc-plated hexagon screw that lies on a belt, turned anyhow."""

import numpy as np

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain, streaks
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, cover, grid, mottled, smoothstep

HEAD, FLANGE, TIP = (-0.82, -0.60), (-0.60, -0.55), 0.80
HEAD_RADIUS, FLANGE_RADIUS, CORE, CREST = 0.25, 0.31, 0.115, 0.148
THREAD_FROM, PITCH = -0.28, 0.068
ZINC = (0.56, 0.55, 0.51)


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    x, y = grid(side)
    phase = float(rng.uniform(0, 1))
    facet = float(rng.uniform(-0.35, 0.35))  # how far the head is rolled
    if kind == "bent_tip":
        start = float(luck.uniform(0.18, 0.38))
        bend = float(luck.choice([-1, 1])) * float(luck.uniform(0.45, 0.95))
        y = y - np.float32(bend) * np.maximum(x - np.float32(start), 0) ** 2
    tip = float(luck.uniform(0.40, 0.60)) if kind == "broken_tip" else TIP

    shank = _shank(x, y, phase, tip, kind, luck, side)
    height, distance = _revolved(shank, y)
    head = np.maximum(
        np.abs(x - np.float32(sum(HEAD) / 2)) - np.float32((HEAD[1] - HEAD[0]) / 2), np.abs(y) - HEAD_RADIUS
    )
    flange = np.maximum(
        np.abs(x - np.float32(sum(FLANGE) / 2)) - np.float32((FLANGE[1] - FLANGE[0]) / 2), np.abs(y) - FLANGE_RADIUS
    )
    height = np.where(head < 0, _hexagon(x, y, facet), height)
    height = np.where(flange < 0, 0.9 * np.sqrt(np.maximum(FLANGE_RADIUS**2 - y * y, 0)), height)
    distance = np.minimum(distance, np.minimum(head, flange))

    screw = Surface.blank(side, ZINC, gloss=0.42, metal=0.92)
    screw.tint(
        float(rng.uniform(0.94, 1.06)) * (1 + 0.05 * fbm(rng, side, cells=6) + 0.04 * grain(rng, side, size=0.006))
    )
    screw.height = (0.62 * height + 0.0009 * streaks(rng, side, length=0.03, width=0.004)).astype(np.float32)
    screw.alpha = cover(distance, side)
    if kind == "scratched_head":
        _scratch(screw, luck)
    elif kind == "rust":
        _rust(screw, luck)
    return screw


def _shank(
    x: np.ndarray, y: np.ndarray, phase: float, tip: float, kind: str, luck: np.random.Generator, side: int
) -> np.ndarray:
    """Radius of the shank at every point; negative beyond its end."""
    # a thread is a helix: seen from the side, its crests lean
    turns = (x + np.float32(0.11) * y) / np.float32(PITCH) + np.float32(phase)
    wave = np.abs(2 * (turns - np.floor(turns)) - 1)
    crest = smoothstep(0.12, 0.92, wave)
    crest *= smoothstep(THREAD_FROM, THREAD_FROM + 0.05, x)
    if kind == "thread_damage":
        middle, half = float(luck.uniform(-0.1, 0.42)), float(luck.uniform(0.09, 0.16))
        edge = float(luck.choice([-1, 1])) * float(luck.uniform(0.0, 0.06))
        upper = smoothstep(-0.05, 0.03, (y - np.float32(edge)) * float(luck.choice([-1, 1])))
        crushed = smoothstep(half, half * 0.7, np.abs(x - np.float32(middle))) * upper
        crest = crest * (1 - crushed) + crushed * (0.25 + 0.16 * fbm(luck, side, cells=24, octaves=3))
    radius = CORE + (CREST - CORE) * crest + 0.012 * (x < THREAD_FROM)
    cone = np.clip((np.float32(TIP) - x) / np.float32(0.22), 0, 1) ** 0.75
    end = np.full_like(y, tip)
    if kind == "broken_tip":
        end = end + 0.03 * np.sin(y * np.float32(45) + np.float32(luck.uniform(0, 6))) + 0.15 * y
    return np.where((x > -0.56) & (x < end), radius * cone, -1).astype(np.float32)


def _revolved(radius: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of a body of revolution that lies on the table, and the distance to its outline."""
    body = np.sqrt(np.maximum(radius * radius - y * y, 0)) * (radius > 0)
    return body, np.abs(y) - radius


def _hexagon(x: np.ndarray, y: np.ndarray, roll: float) -> np.ndarray:
    """Height of the head: three flats of a hexagon, chamfered to the end."""
    apothem = HEAD_RADIUS * 0.88
    flats = []
    for angle in (roll, roll - np.pi / 3, roll + np.pi / 3):
        # the plane through the flat: height such that (y, height) . normal = apothem
        flats.append(np.float32(apothem / np.cos(angle)) - np.float32(np.tan(angle)) * y)
    top = np.minimum.reduce(flats)
    chamfer = np.sqrt(np.maximum(1 - np.clip((np.float32(HEAD[0] + 0.07) - x) / np.float32(0.09), 0, 1) ** 2, 0))
    return np.maximum(top, 0.05) * chamfer


def _scratch(screw: Surface, luck: np.random.Generator) -> None:
    lines = []
    for _ in range(int(luck.integers(3, 6))):
        start = float(luck.uniform(-0.80, -0.66)), float(luck.uniform(-0.18, 0.18))
        path = marks.wander(luck, start, float(luck.uniform(-70, 70)), float(luck.uniform(0.10, 0.2)), wobble=5.0)
        lines.append(marks.stroke(screw.side, path, float(luck.uniform(0.018, 0.03)), taper=True))
    x, _ = grid(screw.side)
    groove = marks.union(lines) * (x < HEAD[1] + 0.02)
    screw.height -= 0.012 * groove
    screw.paint(groove, (0.16, 0.155, 0.15), gloss=0.2, metal=0.3)


def _rust(screw: Surface, luck: np.random.Generator) -> None:
    at = float(luck.uniform(-0.6, 0.4)), float(luck.uniform(-0.05, 0.05))
    spot = marks.blob(luck, screw.side, at, float(luck.uniform(0.10, 0.2)), ragged=0.25)
    patchy = smoothstep(-1.2, -0.2, fbm(luck, screw.side, cells=18) - np.float32(3) * np.clip(spot / 0.1 + 0.4, 0, 3))
    amount = patchy * smoothstep(0.03, -0.02, spot)
    mottle = 1 + 0.3 * fbm(luck, screw.side, cells=28, octaves=3)
    screw.paint(0.95 * amount, mottled((0.26, 0.085, 0.022), np.maximum(mottle, 0.3)), gloss=0.03, metal=0.02)
    screw.height += 0.004 * amount * mottle


SCREW = Product(
    name="screw",
    class_name="metal screw",
    defects=("thread_damage", "bent_tip", "broken_tip", "scratched_head", "rust"),
    draw=draw,
    table=tables.belt,
    fixture=Fixture(degrees=180, shift=0.05, scale=0.02, zoom=1.06),
    lamp=Lamp(azimuth=-100, elevation=55, key=0.85, dome=0.45),
)
