"""What an operator looks at: the picture, the same with its heat map, and the verdict in one line.

The colour scale is absolute: a colour means the same on every picture of a task, so a good part stays clear instead of
having its own noise stretched to red. With T the map value above which a pixel is anomalous and S = max(|T|, 1):

    below T - S/2   transparent           T - S/2 .. T   yellow, ever less transparent
    T               a step: orange-red, and a contour around everything above
    T .. T + S/2    red to magenta        beyond         magenta

Outside the region of interest (map value -inf) the picture is dimmed and hatched: nothing was looked at there.
"""

import io
import os
import threading
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from stream_ad.domain.images import Picture
from stream_ad.domain.message import ImageMessage
from stream_ad.domain.result import Inspection, Verdict

PANEL = 480  # px, longer side of the picture as drawn
GAP, MARGIN, BAR_WIDTH, BAR_LABELS, CAPTION = 8, 10, 14, 46, 58
MIN_WIDTH = 620  # the caption must fit

BACKGROUND = (24, 26, 29)
TEXT, DIM_TEXT = (238, 238, 238), (165, 170, 176)
ALARM_TEXT = (255, 190, 80)
VERDICT_COLORS = {
    Verdict.OK: (46, 160, 67),
    Verdict.NG: (218, 54, 51),
    Verdict.UNKNOWN: (224, 148, 16),
    Verdict.LATE: (110, 118, 129),
}

# position on the scale (0 .. 1, the threshold at 0.5), red, green, blue, opacity
STOPS = np.array(
    [
        (0.00, 255, 236, 130, 0.00),
        (0.499, 255, 214, 60, 0.45),
        (0.50, 255, 106, 20, 0.58),
        (0.75, 226, 22, 40, 0.66),
        (1.00, 168, 0, 120, 0.74),
    ]
)
# looked up, because interpolating four channels of every pixel takes longer than all the rest;
# 1025 entries put the threshold exactly on one
_TABLE = np.stack([np.interp(np.linspace(0, 1, 1025), STOPS[:, 0], STOPS[:, c]) for c in range(1, 5)], axis=1).astype(
    np.float32
)


class ColorScale(NamedTuple):
    """Map values between which colours change."""

    low: float
    threshold: float
    high: float

    @classmethod
    def of(cls, threshold: float) -> "ColorScale":
        half = max(abs(threshold), 1.0) / 2
        return cls(threshold - half, threshold, threshold + half)

    def colors(self, values: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape 4"]:
        """Red, green, blue (0 to 255) and opacity (0 to 1); -inf and all below `low` are transparent."""
        position = np.clip((values - self.low) / (self.high - self.low), 0, 1)
        return _TABLE[(position * (len(_TABLE) - 1)).astype(np.int32)]


def draw_overlay(picture: Picture, inspection: Inspection) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    """Picture and heat map side by side, colour bar, caption. The same input gives the same pixels."""
    height, width = picture.shape[:2]
    scale = PANEL / max(height, width)
    panel_width, panel_height = max(1, round(width * scale)), max(1, round(height * scale))
    small = _resize(picture, panel_width, panel_height)
    heated = _heat(small, inspection)

    total = max(2 * MARGIN + 2 * panel_width + 2 * GAP + BAR_WIDTH + BAR_LABELS, MIN_WIDTH)
    canvas = Image.new("RGB", (total, panel_height + 2 * MARGIN + CAPTION), BACKGROUND)
    left = (total - (2 * panel_width + 2 * GAP + BAR_WIDTH + BAR_LABELS)) // 2
    canvas.paste(Image.fromarray(small), (left, MARGIN))
    canvas.paste(Image.fromarray(heated), (left + panel_width + GAP, MARGIN))
    draw = ImageDraw.Draw(canvas)
    if inspection.map_threshold is not None and inspection.map is not None:
        bar = (left + 2 * (panel_width + GAP), MARGIN, panel_height)
        _color_bar(canvas, draw, ColorScale.of(inspection.map_threshold), *bar)
    else:
        middle = (left + panel_width + GAP + panel_width // 2, MARGIN + panel_height // 2)
        draw.text(middle, "no map", fill=DIM_TEXT, font=ImageFont.load_default(15), anchor="mm")
    _caption(draw, inspection, panel_height + 2 * MARGIN, total)
    return np.array(canvas)


def overlay_jpeg(picture: Picture, inspection: Inspection, *, quality: int = 82) -> bytes:
    """The overlay as a JPEG file."""
    encoded = io.BytesIO()
    Image.fromarray(draw_overlay(picture, inspection)).save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


class OverlayFolder:
    """Draws and keeps overlays of pictures that are not OK (or of all), named by their place in the stream.

    A picture that comes again overwrites its own file. A thousand files a folder.
    """

    def __init__(self, folder: Path, *, of_ok: bool = False) -> None:
        self._folder, self._of_ok = folder, of_ok

    def __call__(self, message: ImageMessage, picture: Picture, inspection: Inspection) -> str | None:
        """The file's path, or None when the picture is OK and those are not kept."""
        if inspection.verdict == Verdict.OK and not self._of_ok:
            return None
        record = message.record
        topic = "".join(c if c.isalnum() or c in "-_." else "_" for c in record.topic).lstrip(".") or "_"
        folder = self._folder / topic / f"{record.partition}-{record.offset // 1000:06d}"
        path = folder / f"{record.partition}-{record.offset:09d}.jpg"
        _write(path, overlay_jpeg(picture, inspection, quality=88))
        return str(path)


def _write(path: Path, data: bytes) -> None:
    """All of the file or, on a full disk, nothing of it."""
    # two scorers may draw one picture, when partitions change hands
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            unfinished.write_bytes(data)
        except FileNotFoundError:  # retention took the empty folder away at this moment
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _resize(picture: Picture, width: int, height: int) -> UInt8[np.ndarray, "drawn_height drawn_width 3"]:
    shrinks = width < picture.shape[1]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _heat(picture: Picture, inspection: Inspection) -> Picture:
    if inspection.map is None or inspection.map_threshold is None:
        return (picture * 0.35).astype(np.uint8)
    height, width = picture.shape[:2]
    outside = np.isneginf(inspection.map)
    scale = ColorScale.of(inspection.map_threshold)
    finite = np.where(outside, scale.low, np.clip(np.nan_to_num(inspection.map), scale.low, scale.high))
    values = cv2.resize(finite.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    hidden = cv2.resize(outside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    values[hidden] = -np.inf

    # nine tenths of most pictures stay clear, and blending all of it takes half the time of an overlay
    seen = values > scale.low
    colors = scale.colors(values[seen])
    opacity = colors[..., 3:]
    blended = picture.copy()
    blended[seen] = (picture[seen] * (1 - opacity) + colors[..., :3] * opacity).astype(np.uint8)
    if hidden.any():
        blended[hidden] = _hatched(picture)[hidden]
    return _contours(blended, values >= scale.threshold)


def _hatched(picture: Picture) -> UInt8[np.ndarray, "height width 3"]:
    height, width = picture.shape[:2]
    stripe = (np.add.outer(np.arange(height), np.arange(width)) % 12 < 2).reshape(height, width, 1)
    return np.where(stripe, 95, picture * 0.35).astype(np.uint8)


def _contours(picture: Picture, above: Bool[np.ndarray, "height width"]) -> Picture:
    lines, _ = cv2.findContours(above.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = np.ascontiguousarray(picture)
    # white in black: visible on any picture
    cv2.drawContours(drawn, lines, -1, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.drawContours(drawn, lines, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


def _color_bar(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, scale: ColorScale, left: int, top: int, height: int
) -> None:
    values = np.linspace(scale.high, scale.low, height, dtype=np.float32)
    colors = scale.colors(values)
    grey = 128.0
    column = grey * (1 - colors[:, 3:]) + colors[:, :3] * colors[:, 3:]
    strip = np.repeat(column[:, None, :], BAR_WIDTH, axis=1).astype(np.uint8)
    canvas.paste(Image.fromarray(strip), (left, top))
    middle = top + (height - 1) // 2
    draw.line((left - 3, middle, left + BAR_WIDTH + 3, middle), fill=TEXT, width=1)
    font = ImageFont.load_default(11)
    label_left = left + BAR_WIDTH + 6
    draw.text((label_left, middle), _number(scale.threshold), fill=TEXT, font=font, anchor="lm")
    if height >= 60:  # a flat picture has room for the threshold alone
        draw.text((label_left, top), _number(scale.high), fill=DIM_TEXT, font=font, anchor="lt")
        draw.text((label_left, top + height - 1), _number(scale.low), fill=DIM_TEXT, font=font, anchor="lb")


def _caption(draw: ImageDraw.ImageDraw, inspection: Inspection, top: int, width: int) -> None:
    color = VERDICT_COLORS[inspection.verdict]
    draw.rectangle((0, top, width, top + CAPTION), fill=(34, 37, 41))
    badge_font, font, small = ImageFont.load_default(20), ImageFont.load_default(15), ImageFont.load_default(12)
    verdict = "UNKNOWN" if inspection.verdict == Verdict.UNKNOWN else str(inspection.verdict).upper()
    right = MARGIN + int(draw.textlength(verdict, font=badge_font)) + 20
    draw.rounded_rectangle((MARGIN, top + 10, right, top + CAPTION - 10), radius=6, fill=color)
    draw.text(((MARGIN + right) // 2, top + CAPTION // 2), verdict, fill="white", font=badge_font, anchor="mm")
    for line, text, of, fill in (
        (top + 19, _headline(inspection), font, TEXT),
        (top + 41, _small_print(inspection), small, DIM_TEXT),
    ):
        fill = ALARM_TEXT if of is small and inspection.alarm else fill
        draw.text((right + 14, line), _fitting(draw, text, of, width - right - 24), fill=fill, font=of, anchor="lm")


def _headline(inspection: Inspection) -> str:
    if inspection.task is None:
        return "no product is known yet"
    name = f"nearest: {inspection.task}" if inspection.verdict == Verdict.UNKNOWN else str(inspection.task)
    if inspection.score is None:
        return name
    threshold = "" if inspection.threshold is None else f" (NG above {_number(inspection.threshold)})"
    return f"{name}    score {_number(inspection.score)}{threshold}"


def _small_print(inspection: Inspection) -> str:
    parts = [f"bank {inspection.bank_version}", inspection.detector or ""]
    if inspection.p_value is not None:
        parts.insert(0, f"{inspection.p_value:.1%} of good parts score as high")
    if inspection.alarm:
        parts.insert(0, inspection.alarm)
    return "   |   ".join(part for part in parts if part)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 1000 else f"{value:.3g}"


def _fitting(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int
) -> str:
    while text and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip(".") + "."
    return text
