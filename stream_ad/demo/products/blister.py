"""A blister pack: ten coral tablets under clear domes on knurled foil."""

from functools import lru_cache

import cv2
import numpy as np

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, box, cover, disc, grid, rounded, smoothstep, turned

CARD = (0.90, 0.60)  # half width, half height
POCKETS = tuple((-0.66 + 0.33 * column, row * 0.27) for row in (-1, 1) for column in range(5))
POCKET_RADIUS, PILL_RADIUS = 0.145, 0.108
CORAL = (0.72, 0.235, 0.135)
OTHER_COLORS = ((0.66, 0.62, 0.22), (0.22, 0.40, 0.62), (0.74, 0.72, 0.66))
FOIL = (0.80, 0.81, 0.82)


@lru_cache(maxsize=4)
def _card(side: int) -> Surface:
    """The foil with its print, equal for every part."""
    x, y = grid(side)
    card = Surface.blank(side, FOIL, gloss=0.35, metal=0.75)
    outline = box(x, y, *CARD, corner=0.09)
    knurl = np.sin((x + y) * np.float32(72)) * np.sin((x - y) * np.float32(72))
    card.height = (0.02 * rounded(outline, 0.012) + 0.0016 * knurl).astype(np.float32)
    card.alpha = cover(outline, side)
    canvas = np.zeros((side, side), dtype=np.uint8)
    for column in range(3):
        at = int((0.22 + 0.48 * column) * side / 2), int(1.018 * side / 2)
        cv2.putText(
            canvas,
            "AXOL 500",
            at,
            cv2.FONT_HERSHEY_SIMPLEX,
            0.42 * side / 512,
            255,
            max(round(side / 420), 1),
            cv2.LINE_AA,
        )
    card.paint(canvas.astype(np.float32) * np.float32(0.85 / 255), (0.03, 0.07, 0.25), gloss=0.1, metal=0.0)
    score = np.exp(-((x / np.float32(0.008)) ** 2)) * 0.003  # where it may be broken in two
    card.height -= score
    return card


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    card = _card(side).copy()
    # foil is never flat once it has been sealed
    card.height += 0.0045 * fbm(rng, side, cells=5, octaves=3)
    card.tint(1 + 0.03 * fbm(rng, side, cells=4))
    struck = (
        int(luck.integers(len(POCKETS)))
        if kind in ("empty_pocket", "broken_pill", "wrong_pill", "crushed_pocket")
        else -1
    )
    texture = grain(rng, side, size=0.008)
    for index, (x, y) in enumerate(POCKETS):
        slack, degrees = rng.normal(0, 1, 3), rng.uniform(0, 180)
        damage = kind if index == struck else ""
        _seat(card, x, y)
        if damage != "empty_pocket":
            color = np.asarray(CORAL) * (1 + 0.03 * slack[2])
            if damage == "wrong_pill":
                color = np.asarray(OTHER_COLORS[int(luck.integers(len(OTHER_COLORS)))])
            _pill(card, x + 0.009 * slack[0], y + 0.009 * slack[1], color, texture, degrees, damage, luck)
        _dome(card, x, y, damage, luck)
    if kind == "punctured_foil":
        _puncture(card, luck)
    return card


def _seat(card: Surface, x: float, y: float) -> None:
    window, dx, dy = card.around(x, y, 0.2)
    rim = disc(dx, dy, POCKET_RADIUS)
    card.paint(0.35 * cover(rim, card.side), (0.55, 0.56, 0.57), window=window)


def _pill(
    card: Surface,
    x: float,
    y: float,
    color: np.ndarray,
    texture: np.ndarray,
    degrees: float,
    damage: str,
    luck: np.random.Generator,
) -> None:
    window, dx, dy = card.around(x, y, 0.2)
    u, _ = turned(dx, dy, degrees)
    shape = disc(dx, dy, PILL_RADIUS)
    crumbs = None
    if damage == "broken_pill":
        p, q = turned(dx, dy, float(luck.uniform(0, 360)))
        jagged = 0.012 * np.sin(q * np.float32(70) + np.float32(luck.uniform(0, 6))) + 0.008 * np.sin(
            q * np.float32(160)
        )
        shape = np.maximum(shape, p + jagged - np.float32(luck.uniform(-0.015, 0.05)))
        crumbs = smoothstep(1.3, 1.7, texture[window]) * (p > 0.02) * cover(disc(dx, dy, 0.11), card.side)
    groove = np.exp(-((u / np.float32(0.010)) ** 2))
    top = (
        0.035
        + 0.045 * np.sqrt(np.maximum(1 - (dx * dx + dy * dy) / np.float32(1.25 * PILL_RADIUS**2), 0))
        - 0.010 * groove
    )
    top *= rounded(shape, 0.02)
    speckle = 1 + 0.035 * texture[window]
    card.paint(
        cover(shape, card.side),
        color[:, None, None] * speckle,
        gloss=0.16,
        metal=0.0,
        height=top.astype(np.float32),
        window=window,
    )
    if crumbs is not None:
        card.paint(crumbs, color, gloss=0.1, metal=0.0, height=0.04, window=window)


def _dome(card: Surface, x: float, y: float, damage: str, luck: np.random.Generator) -> None:
    """Clear film over the pocket: it adds a shoulder, highlights, and a little haze."""
    window, dx, dy = card.around(x, y, 0.21)
    distance = disc(dx, dy, POCKET_RADIUS)
    shoulder = np.exp(-((distance / np.float32(0.014)) ** 2))
    card.height[window] += 0.016 * shoulder
    inside = cover(distance, card.side, softness=0.02)
    card.paint(0.10 * inside, (0.8, 0.82, 0.84), window=window)
    card.gloss[window] += (0.62 - card.gloss[window]) * np.maximum(0.75 * inside, shoulder)
    if damage == "crushed_pocket":
        p, q = turned(dx, dy, float(luck.uniform(0, 360)))
        folds = np.sin(p * np.float32(luck.uniform(50, 80)) + 3 * np.sin(q * np.float32(22)))
        card.height[window] += inside * (0.012 * folds - 0.03 * smoothstep(-0.05, 0.06, p)).astype(np.float32)
        card.paint(0.45 * inside * smoothstep(0.2, 0.9, folds), (0.85, 0.86, 0.88), gloss=0.8, window=window)


def _puncture(card: Surface, luck: np.random.Generator) -> None:
    column, spread = int(luck.integers(4)), luck.uniform(-0.03, 0.03, 2)
    at = -0.495 + 0.33 * column + float(spread[0]), float(luck.choice([-0.27, 0.0, 0.27])) + float(spread[1])
    hole = marks.blob(luck, card.side, at, float(luck.uniform(0.028, 0.05)), ragged=0.35)
    tear = marks.crack(
        luck, card.side, at, float(luck.uniform(0, 360)), float(luck.uniform(0.10, 0.18)), width=0.02, branches=1
    )
    opening = np.maximum(cover(hole, card.side), tear)
    lip = marks.soft(opening, 0.016)
    card.height += 0.02 * lip
    card.paint(opening, (0.022, 0.020, 0.020), gloss=0.05, metal=0.0)


BLISTER = Product(
    name="blister",
    class_name="blister pack of tablets",
    defects=("empty_pocket", "broken_pill", "wrong_pill", "punctured_foil", "crushed_pocket"),
    draw=draw,
    table=tables.tray,
    fixture=Fixture(degrees=4, shift=0.03, scale=0.02),
    lamp=Lamp(azimuth=-110, elevation=50, key=0.8, dome=0.5),
)
