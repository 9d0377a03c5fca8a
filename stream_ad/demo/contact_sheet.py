"""Many pictures on one: rows with a label, columns with a heading."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stream_ad.domain.images import Picture

BACKGROUND, TEXT = (24, 26, 29), (238, 238, 238)
GAP = 6
HEADING = 22


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Picture]]],
    *,
    columns: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    cell: int = 160,
) -> Picture:
    """The rows' pictures in a grid, each fitted into a square of `cell` pixels without distortion.

    A row is as high as its highest picture. `columns` are headings from the left; `captions` stand under the
    pictures, row by row. Rows may differ in length.

    Raises:
        ValueError: there is no row, or `cell` is below 16.
    """
    if not rows or cell < 16:
        raise ValueError(f"a contact sheet needs a row and cells of at least 16 px, got {len(rows)} rows of {cell} px")
    font = ImageFont.load_default(14)
    small = ImageFont.load_default(12)
    label_width = 2 * GAP + int(max(font.getlength(label) for label, _ in rows))
    across = max(len(columns), *(len(pictures) for _, pictures in rows), 1)
    below = 16 if captions else 0
    top = GAP + (HEADING if columns else 0)
    width = label_width + across * (cell + GAP)
    fitted_rows = [[_fitted(picture, cell) for picture in pictures] for _, pictures in rows]
    heights = [max((len(picture) for picture in fitted), default=cell) for fitted in fitted_rows]
    height = top + sum(heights) + len(rows) * (below + GAP)

    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(columns):
        text = _fitting(heading, font, cell)
        draw.text((label_width + column * (cell + GAP) + cell // 2, top // 2 + 2), text, TEXT, font, anchor="mm")
    y = top
    for row, (label, _) in enumerate(rows):
        tall = heights[row]
        draw.text((GAP, y + tall // 2), label, TEXT, font, anchor="lm")
        for column, fitted in enumerate(fitted_rows[row]):
            x = label_width + column * (cell + GAP)
            offset = (cell - fitted.shape[1]) // 2, (tall - fitted.shape[0]) // 2
            sheet.paste(Image.fromarray(fitted), (x + offset[0], y + offset[1]))
            if row < len(captions) and column < len(captions[row]):
                text = _fitting(captions[row][column], small, cell)
                draw.text((x + cell // 2, y + tall + below // 2 + 1), text, TEXT, small, anchor="mm")
        y += tall + below + GAP
    return np.array(sheet)


def _fitted(picture: Picture, cell: int) -> Picture:
    height, width = picture.shape[:2]
    scale = cell / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    while text and font.getlength(text) > room:
        text = text[:-2].rstrip(".") + "."
    return text
