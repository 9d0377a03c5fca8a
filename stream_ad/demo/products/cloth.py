"""Denim: a 2/1 twill of indigo warp and pale weft that fills the picture, over a dark roller."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from stream_ad.demo import marks
from stream_ad.demo.noise import fbm, grain
from stream_ad.demo.product import Defect, Fixture, Lamp, Product
from stream_ad.demo.surface import Surface, cover, grid, smoothstep, turned

THREADS = 30  # across the picture
INDIGO, PALE, ROLLER = (0.040, 0.072, 0.185), (0.43, 0.43, 0.40), (0.012, 0.012, 0.013)
SPARE = 12  # threads beyond the picture's edge, for turned cloth

Field = Float32[np.ndarray, "side side"]


class _Weave(NamedTuple):
    """Where every pixel is in the weave: number of its threads, and place across each, -0.5 to 0.5."""

    warp: np.ndarray
    weft: np.ndarray
    across_warp: Field
    across_weft: Field


def draw(rng: np.random.Generator, side: int, defect: Defect | None) -> Surface:
    kind, luck = defect if defect else ("", rng)
    x, y = turned(*grid(side), float(rng.uniform(-3, 3)))
    scale = THREADS / 2 * float(rng.uniform(0.97, 1.03))
    offset = rng.uniform(0, 3, 2)
    # hand of the cloth: threads never run quite straight
    u = (x + 0.010 * fbm(rng, side, cells=3, octaves=3)) * np.float32(scale) + np.float32(
        offset[0] + THREADS / 2 + SPARE
    )
    v = (y + 0.010 * fbm(rng, side, cells=3, octaves=3)) * np.float32(scale) + np.float32(
        offset[1] + THREADS / 2 + SPARE
    )
    count = THREADS + 4 * SPARE
    warp_width, weft_width = (1 + 0.07 * rng.normal(0, 1, (2, count))).astype(np.float32)
    warp_tone, weft_tone = (1 + 0.06 * rng.normal(0, 1, (2, count))).astype(np.float32)
    warp_lift = np.zeros(count, dtype=np.float32)

    weave = _Weave(
        np.floor(u).astype(np.int32), np.floor(v).astype(np.int32), u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    )
    over = (weave.warp + weave.weft) % 3 != 0
    present = np.ones_like(u)
    fat = np.zeros_like(u)
    if kind in ("broken_thread", "weave_fault", "slub"):
        # how far along, and which thread, seen from the middle of the picture
        thread = int(scale * luck.uniform(-0.55, 0.55) + offset[0] + THREADS / 2 + SPARE)
        start = scale * float(luck.uniform(-0.6, 0.1)) + float(offset[1]) + THREADS / 2 + SPARE
        if kind == "broken_thread":
            inside = (weave.warp == thread) & (v > start) & (v < start + float(luck.uniform(6, 12)))
            present = np.where(inside, 0, 1).astype(np.float32)
        elif kind == "slub":
            length = float(luck.uniform(5, 10))
            swell = np.exp(-(((v - start - length / 2) / np.float32(length / 3)) ** 2))
            distance = (u - np.float32(thread + 0.5)) / (1 + 0.9 * swell)
            fat = swell * (np.abs(distance) < 0.5) * np.sqrt(np.maximum(1 - 4 * distance * distance, 0))
            fat = np.where(swell > 0.12, fat, 0).astype(np.float32)
        else:
            threads, length = int(luck.integers(2, 4)), int(luck.integers(7, 13))
            inside = (np.abs(weave.warp - thread) < threads) & (v > np.floor(start)) & (v < np.floor(start) + length)
            over = np.where(inside, (weave.warp - thread) % 2 == 0, over)

    cloth = _woven(rng, side, weave, over & (present > 0), (warp_width, weft_width), (warp_tone, weft_tone), warp_lift)
    if kind == "broken_thread":
        _fray(cloth, luck, 1 - present, weave)
    elif kind == "slub":
        cloth.paint(np.minimum(1.5 * fat, 1), np.array(INDIGO) * 1.7, gloss=0.05)
        cloth.height += 0.035 * fat
    elif kind == "stain":
        _stain(cloth, luck)
    elif kind == "hole":
        _hole(cloth, luck)
    return cloth


def _woven(
    rng: np.random.Generator,
    side: int,
    weave: _Weave,
    over: np.ndarray,
    widths: tuple[np.ndarray, np.ndarray],
    tones: tuple[np.ndarray, np.ndarray],
    lift: np.ndarray,
) -> Surface:
    fibres = grain(rng, side, size=0.006)
    across = np.where(over, weave.across_warp / widths[0][weave.warp], weave.across_weft / widths[1][weave.weft])
    along = np.where(over, weave.across_weft, weave.across_warp)
    bulge = np.sqrt(np.maximum(1 - 3.6 * across * across, 0.02))
    # plies are twisted: fine ridges that lean across the thread
    twist = np.cos(2 * np.pi * (2.0 * along + 1.1 * across)).astype(np.float32)
    crown = 1 - 1.1 * along * along * np.where(over, 0.6, 1.4).astype(np.float32)
    height = 0.020 * bulge * crown + 0.010 * over + 0.0016 * twist + 0.0007 * fibres

    cloth = Surface.blank(side, PALE, gloss=0.06)
    tone = np.where(over, tones[0][weave.warp], tones[1][weave.weft])
    cloth.paint(over.astype(np.float32), INDIGO)
    cloth.tint(tone * (1 + 0.10 * fibres + 0.10 * twist + 0.05 * fbm(rng, side, cells=3)) * (0.45 + 0.55 * bulge))
    cloth.height = cv2.GaussianBlur(height.astype(np.float32), (0, 0), 0.0026 * side / 2)
    return cloth


def _fray(cloth: Surface, luck: np.random.Generator, gap: Field, weave: _Weave) -> None:
    cloth.tint(1 - 0.35 * gap)
    cloth.height -= 0.012 * gap
    rows, columns = np.nonzero(gap > 0)
    if len(rows) == 0:
        return
    for index in (0, -1):
        end = (columns[index] * 2 / cloth.side - 1, rows[index] * 2 / cloth.side - 1)
        for _ in range(int(luck.integers(2, 4))):
            hair = marks.wander(luck, end, float(luck.uniform(0, 360)), float(luck.uniform(0.06, 0.14)), wobble=25.0)
            _lay(cloth, marks.stroke(cloth.side, hair, 0.007, taper=True))


def _lay(cloth: Surface, hair: Field) -> None:
    cloth.paint(hair, np.array(INDIGO) * 2.4, gloss=0.05)
    cloth.height += 0.012 * hair


def _stain(cloth: Surface, luck: np.random.Generator) -> None:
    at = float(luck.uniform(-0.6, 0.6)), float(luck.uniform(-0.6, 0.6))
    spot = marks.blob(luck, cloth.side, at, float(luck.uniform(0.12, 0.24)), ragged=0.2)
    soaked = smoothstep(0.015, -0.03, spot + 0.015 * fbm(luck, cloth.side, cells=10))
    strength = float(luck.uniform(0.55, 0.8)) * (0.75 + 0.25 * smoothstep(-0.08, 0.0, spot))
    cloth.albedo *= 1 - soaked * strength * np.array((0.62, 0.78, 0.95), dtype=np.float32)[:, None, None]
    cloth.gloss += 0.2 * soaked


def _hole(cloth: Surface, luck: np.random.Generator) -> None:
    at = float(luck.uniform(-0.6, 0.6)), float(luck.uniform(-0.6, 0.6))
    radius = float(luck.uniform(0.06, 0.12))
    hole = marks.blob(luck, cloth.side, at, radius, ragged=0.25)
    inside = cover(hole, cloth.side, softness=0.012)
    cloth.paint(inside, ROLLER, gloss=0.3, height=-0.05)
    for _ in range(int(luck.integers(7, 13))):
        angle = float(luck.uniform(0, 360))
        turn = np.deg2rad(angle)
        edge = at[0] + float(np.cos(turn)) * radius, at[1] + float(np.sin(turn)) * radius
        inwards = angle + 180 + float(luck.uniform(-40, 40))
        hair = marks.stroke(
            cloth.side, marks.wander(luck, edge, inwards, radius * float(luck.uniform(0.5, 1.3))), 0.009, taper=True
        )
        cloth.paint(hair, PALE if luck.random() < 0.6 else np.array(INDIGO) * 2, gloss=0.05, height=0.0)


CLOTH = Product(
    name="cloth",
    class_name="woven cloth",
    defects=("broken_thread", "weave_fault", "slub", "stain", "hole"),
    draw=draw,
    table=None,
    fixture=Fixture(degrees=0, shift=0, scale=0),  # the web runs on: `draw` turns and shifts the weave itself
    lamp=Lamp(azimuth=-135, elevation=46, key=0.95, dome=0.5),
)
