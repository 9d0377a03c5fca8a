"""A green printed circuit board with an SMD controller, resistors and capacitors."""

from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from stream_ad.demo import marks, tables
from stream_ad.demo.noise import fbm, grain
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, box, cover, disc, grid, mottled, rounded, smoothstep, turned

BOARD = (0.86, 0.74)  # half width, half height
MASK_GREEN, OVER_COPPER = (0.016, 0.105, 0.045), (0.055, 0.215, 0.085)
COPPER, TIN, SILK, LAMINATE = (0.72, 0.38, 0.20), (0.72, 0.72, 0.70), (0.72, 0.74, 0.70), (0.40, 0.34, 0.17)

CHIP = (0.02, -0.06)
PINS = tuple((CHIP[0] + side * 0.245, CHIP[1] - 0.21 + 0.07 * row) for side in (-1, 1) for row in range(7))

# x, y, degrees, half length, body colour
RESISTOR, CAPACITOR = (0.022, 0.022, 0.024), (0.46, 0.32, 0.18)
PASSIVES = (
    (-0.62, -0.50, 0.0, 0.072, RESISTOR),
    (-0.62, -0.36, 0.0, 0.072, RESISTOR),
    (-0.62, -0.22, 0.0, 0.072, CAPACITOR),
    (-0.62, 0.02, 90.0, 0.072, CAPACITOR),
    (-0.46, 0.40, 0.0, 0.085, RESISTOR),
    (-0.20, 0.40, 0.0, 0.085, CAPACITOR),
    (0.06, 0.40, 0.0, 0.085, RESISTOR),
    (0.56, -0.44, 90.0, 0.085, CAPACITOR),
    (0.70, -0.44, 90.0, 0.085, RESISTOR),
    (0.60, -0.10, 0.0, 0.085, RESISTOR),
    (0.60, 0.06, 0.0, 0.085, RESISTOR),
)
TRACES = (
    *(
        ((-0.225, -0.27 + 0.07 * i), (-0.36 - 0.03 * (i % 2), -0.27 + 0.07 * i), (-0.52, -0.50 + 0.14 * i))
        for i in range(3)
    ),
    *(
        ((-0.225, -0.06 + 0.07 * i), (-0.34, -0.06 + 0.07 * i), (-0.46 - 0.04 * i, 0.14), (-0.46 - 0.04 * i, 0.60))
        for i in range(3)
    ),
    *(((0.265, -0.27 + 0.07 * i), (0.40 + 0.03 * i, -0.27 + 0.07 * i), (0.52, -0.12 + 0.06 * i)) for i in range(5)),
    *(((-0.34 + 0.13 * i, 0.42), (-0.34 + 0.13 * i, 0.60)) for i in range(5)),
    ((-0.10, -0.62), (0.34, -0.62), (0.46, -0.52), (0.56, -0.52)),
    ((-0.10, -0.56), (0.30, -0.56), (0.42, -0.44), (0.42, -0.36), (0.56, -0.36)),
    ((-0.10, -0.50), (0.24, -0.50), (0.36, -0.38), (0.36, -0.30)),
    ((0.68, -0.10), (0.76, -0.02), (0.76, 0.30), (0.60, 0.44)),
    ((0.68, 0.06), (0.70, 0.24), (0.52, 0.40)),
)
VIAS = ((-0.10, -0.62), (-0.10, -0.56), (-0.10, -0.50), (0.36, -0.30), (0.60, 0.44), (0.52, 0.40), (-0.30, -0.56))
HEADER = tuple((-0.55 + 0.13 * i, 0.60) for i in range(9))
MOUNTS = tuple((sx * 0.77, sy * 0.65) for sx in (-1, 1) for sy in (-1, 1))
TRACE_WIDTH = 0.022


@lru_cache(maxsize=4)
def _bare(side: int) -> tuple[Surface, np.ndarray]:
    """The board without components, equal for every part, and the cover of its traces."""
    x, y = grid(side)
    board = Surface.blank(side, MASK_GREEN, gloss=0.42)
    outline = box(x, y, *BOARD, corner=0.05)
    copper = marks.union([marks.stroke(side, np.array(path), TRACE_WIDTH) for path in TRACES])
    pour = cover(np.maximum(box(x - np.float32(0.16), y - np.float32(0.24), 0.30, 0.07, 0.02), -outline - 0.9), side)
    copper = np.maximum(copper, pour)
    board.paint(copper, OVER_COPPER)
    relief = 0.03 * rounded(outline, 0.012) + 0.0035 * marks.soft(copper, 0.006)
    board.height += relief.astype(np.float32)
    for via_x, via_y in VIAS:
        _ring(board, via_x, via_y, 0.026, 0.011)
    for pin_x, pin_y in HEADER:
        _ring(board, pin_x, pin_y, 0.046, 0.020)
    for text, at, size in (
        ("SA-7", (0.54, 0.63), 0.55),
        ("R1", (-0.80, -0.48), 0.5),
        ("C3", (-0.80, 0.02), 0.5),
        ("U1", (0.22, -0.36), 0.55),
        ("L2", (0.70, -0.24), 0.5),
    ):
        _print(board, text, at, size)
    frame = np.abs(box(x - np.float32(CHIP[0]), y - np.float32(CHIP[1]), 0.31, 0.28)) - np.float32(0.004)
    board.paint(0.8 * cover(frame, side), SILK, gloss=0.1)
    drilled = np.minimum.reduce([disc(x - np.float32(mx), y - np.float32(my), 0.052) for mx, my in MOUNTS])
    board.paint(cover(drilled - 0.03, side), TIN, gloss=0.5, metal=0.8)
    board.alpha = cover(np.maximum(outline, -drilled), side)
    return board, copper


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    bare, copper = _bare(side)
    board = bare.copy()
    board.tint(float(rng.uniform(0.9, 1.1)) * (1 + 0.05 * fbm(rng, side, cells=3)))
    board.height += 0.0005 * fbm(rng, side, cells=8)
    if kind == "open_trace":
        _open(board, luck)
    elif kind == "short":
        _short(board, luck)
    _chip(board, rng)
    gone = int(luck.integers(len(PASSIVES))) if kind == "missing_component" else -1
    askew = int(luck.integers(len(PASSIVES))) if kind == "shifted_component" else -1
    for index, (x, y, degrees, length, color) in enumerate(PASSIVES):
        slack = rng.normal(0, 1, 4)
        dx, dy, turn = slack[0] * 0.003, slack[1] * 0.003, slack[2] * 1.2
        _lands(board, x, y, degrees, length)
        if index == gone:
            continue
        if index == askew:
            turn = float(luck.choice([-1, 1])) * float(luck.uniform(22, 50))
            dx, dy = (float(v) for v in luck.normal(0, 0.018, 2))
        tone = np.asarray(color) * (1 + 0.06 * slack[3])
        _passive(board, x + dx, y + dy, degrees + turn, length, tone)
    if kind == "solder_bridge":
        _bridge(board, luck)
    elif kind == "scratch":
        _scratch(board, luck, copper)
    return board


def _ring(board: Surface, x: float, y: float, radius: float, hole: float) -> None:
    window, dx, dy = board.around(x, y, radius + 0.02)
    board.paint(cover(disc(dx, dy, radius), board.side), TIN, gloss=0.6, metal=0.85, window=window)
    board.paint(cover(disc(dx, dy, hole), board.side), (0.02, 0.02, 0.02), gloss=0.1, metal=0.0, window=window)


def _print(board: Surface, text: str, at: tuple[float, float], size: float) -> None:
    canvas = np.zeros((board.side, board.side), dtype=np.uint8)
    origin = int((at[0] + 1) * board.side / 2), int((at[1] + 1) * board.side / 2)
    thickness = max(round(board.side / 340), 1)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size * board.side / 512, 255, thickness, cv2.LINE_AA)
    board.paint(canvas.astype(np.float32) * np.float32(0.9 / 255), SILK, gloss=0.1)


def _chip(board: Surface, rng: np.random.Generator) -> None:
    side = board.side
    for x, y in PINS:
        window, dx, dy = board.around(x, y, 0.08)
        body = box(dx, dy, 0.058, 0.018, 0.005)
        board.paint(
            cover(body, side), TIN, gloss=0.62, metal=0.9, height=0.045 + 0.018 * rounded(body, 0.015), window=window
        )
    x, y = CHIP[0] + float(rng.normal(0, 0.002)), CHIP[1] + float(rng.normal(0, 0.002))
    window, dx, dy = board.around(x, y, 0.31)
    dx, dy = turned(dx, dy, float(rng.normal(0, 0.4)))
    body = box(dx, dy, 0.205, 0.255, 0.012)
    tone = 0.021 * (1 + 0.12 * grain(rng, side, size=0.006)[window])
    top = 0.115 * rounded(body, 0.03) - 0.006 * cover(disc(dx + np.float32(0.14), dy + np.float32(0.19), 0.026), side)
    board.paint(cover(body, side), mottled((1.0, 1.0, 1.05), tone), gloss=0.22, metal=0.0, height=top, window=window)
    for row, width in ((-0.05, 0.12), (0.02, 0.09), (0.09, 0.11)):  # laser marking, too small to read
        line = box(dx - np.float32(0.01), dy - np.float32(row), width, 0.014)
        letters = np.sin(dx * np.float32(210)) + np.sin(dx * np.float32(97) + np.float32(row * 60)) > 0.1
        board.paint(0.55 * cover(line, side) * letters, (0.16, 0.16, 0.16), window=window)


def _lands(board: Surface, x: float, y: float, degrees: float, length: float) -> None:
    window, dx, dy = board.around(x, y, length + 0.09)
    u, v = turned(dx, dy, degrees)
    pads = box(np.abs(u) - np.float32(length), v, 0.034, 0.042, 0.008)
    # a fillet of solder, highest in the middle
    height = 0.032 + 0.016 * rounded(pads, 0.03)
    board.paint(cover(pads, board.side), TIN, gloss=0.6, metal=0.9, height=height, window=window)


def _passive(board: Surface, x: float, y: float, degrees: float, length: float, color: np.ndarray) -> None:
    window, dx, dy = board.around(x, y, length + 0.09)
    u, v = turned(dx, dy, degrees)
    body = box(u, v, length, 0.040, 0.006)
    top = 0.085 * rounded(body, 0.022)
    board.paint(cover(body, board.side), color, gloss=0.38, metal=0.0, height=top, window=window)
    caps = np.maximum(body, np.float32(length * 0.66) - np.abs(u))
    board.paint(cover(caps, board.side), TIN, gloss=0.55, metal=0.85, window=window)


def _middle_of_trace(luck: np.random.Generator, shortest: float) -> tuple[np.ndarray, float]:
    """A point in the middle of a long straight piece of trace, and the piece's direction in degrees."""
    pieces = [(np.array(a), np.array(b)) for path in TRACES for a, b in pairwise(path)]
    pieces = [(a, b) for a, b in pieces if np.linalg.norm(b - a) > shortest]
    a, b = pieces[int(luck.integers(len(pieces)))]
    return a + (b - a) * luck.uniform(0.35, 0.65), float(np.rad2deg(np.arctan2(*(b - a)[::-1])))


def _open(board: Surface, luck: np.random.Generator) -> None:
    at, degrees = _middle_of_trace(luck, 0.2)
    window, dx, dy = board.around(float(at[0]), float(at[1]), 0.12)
    u, v = turned(dx, dy, degrees)
    gap = cover(
        box(u, v, float(luck.uniform(0.045, 0.075)), float(luck.uniform(0.03, 0.042)), 0.015),
        board.side,
        softness=0.008,
    )
    # the etchant went under the mask, which flaked off
    board.paint(gap, LAMINATE, gloss=0.08, window=window)
    board.height[window] -= 0.005 * gap


def _short(board: Surface, luck: np.random.Generator) -> None:
    row, right = int(luck.integers(4)), bool(luck.integers(2))
    x = CHIP[0] + (0.335 if right else -0.335) + float(luck.uniform(-0.02, 0.02))
    y = PINS[row][1]
    window, dx, dy = board.around(x, y + 0.035, 0.12)
    wave = 0.008 * np.sin(dy * np.float32(60) + np.float32(luck.uniform(0, 6)))
    spur = cover(box(dx + wave, dy, float(luck.uniform(0.024, 0.042)), 0.055, 0.01), board.side)
    board.paint(spur, COPPER, gloss=0.4, metal=0.6, window=window)
    board.height[window] += 0.004 * spur


def _bridge(board: Surface, luck: np.random.Generator) -> None:
    row, count = int(luck.integers(5)), int(luck.integers(2, 4))
    side_x = 0.275 * float(luck.choice([-1, 1]))
    x, y = CHIP[0] + side_x, PINS[row][1] + 0.035 * (count - 1)
    window, dx, dy = board.around(x, y, 0.2)
    angle = np.arctan2(dy, dx)
    lumpy = 0.010 * np.sin(3 * angle + np.float32(luck.uniform(0, 6))) + 0.006 * np.sin(5 * angle)
    blob = box(dx, dy, float(luck.uniform(0.034, 0.05)), 0.037 * count, 0.024) + lumpy
    height = 0.06 + 0.035 * rounded(blob, 0.035)
    board.paint(cover(blob, board.side), TIN, gloss=0.75, metal=0.9, height=height, window=window)


def _scratch(board: Surface, luck: np.random.Generator, copper: np.ndarray) -> None:
    start = float(luck.uniform(-0.5, 0.5)), float(luck.uniform(-0.4, 0.4))
    # towards the middle, or it could miss the board
    inwards = float(np.rad2deg(np.arctan2(-start[1], -start[0]))) + float(luck.uniform(-60, 60))
    path = marks.wander(luck, start, inwards, float(luck.uniform(0.45, 0.75)), wobble=3.0)
    groove = marks.stroke(board.side, path, float(luck.uniform(0.02, 0.032)))
    groove = groove * smoothstep(-1.8, -0.4, fbm(luck, board.side, cells=20))
    flat = board.height < 0.06  # components stand above the blade
    groove = groove * flat
    board.paint(
        groove,
        np.where(copper[None] > 0.5, np.array(COPPER)[:, None, None], np.array(LAMINATE)[:, None, None]),
        gloss=0.3,
    )
    board.height -= 0.004 * groove


PCB = Product(
    name="pcb",
    class_name="printed circuit board",
    defects=("missing_component", "shifted_component", "open_trace", "short", "solder_bridge", "scratch"),
    draw=draw,
    table=tables.mat,
    fixture=Fixture(degrees=2.5, shift=0.03, scale=0.015, zoom=1.06),
    lamp=Lamp(azimuth=-60, elevation=55, key=0.95, dome=0.5),
)
