"""Writes docs/families.jpg, a contact sheet of the generator's families: `.venv/bin/python docs/families.py`.

Two pictures a family: flawless, and damaged with the damage outlined and a caption. Another sheet:
`docs/families.py --split heldout --first 0 --count 96 --output /tmp/heldout.jpg`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stream_ad.demo.families import Family, Split, caption, family, kinds

TARGET = Path(__file__).with_name("families.jpg")
CELL, LINE, GAP, ACROSS = 112, 13, 4, 5  # pixels, and families in a row
OUTLINE = (255, 0, 200)


def sheet(families: list[Family], cell: int = CELL) -> np.ndarray:
    """One picture of all `families`, and of one damage of each."""
    rows = -(-len(families) // ACROSS)
    width, height = ACROSS * (2 * cell + 3 * GAP), rows * (cell + 2 * LINE + GAP)
    canvas = Image.new("RGB", (width, height), (24, 26, 29))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(9)
    for number, chosen in enumerate(families):
        left = number % ACROSS * (2 * cell + 3 * GAP) + GAP
        top = number // ACROSS * (cell + 2 * LINE + GAP) + GAP
        rng = np.random.default_rng([1, number])
        defect, severity = chosen.defects[number % len(chosen.defects)], float(rng.uniform(0.5, 1.0))
        good = chosen.render(1, size=cell).picture
        bad, mask = chosen.render(1, size=cell, defect=defect, severity=severity)
        canvas.paste(Image.fromarray(good), (left, top))
        canvas.paste(Image.fromarray(outlined(bad, mask)), (left + cell + GAP, top))
        for line, words in enumerate((chosen.noun, caption(chosen.noun, defect, severity, rng, mask=mask))):
            words = "".join(_fitting(words, font, 2 * cell + GAP))
            draw.text((left, top + cell + 1 + line * (LINE - 2)), words, (230, 230, 230), font)
    return np.array(canvas)


def outlined(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture with a line just outside the mask, so that the damage itself stays to be seen."""
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    edges, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(picture.copy(), edges, -1, OUTLINE, 1)


def _fitting(words: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> Iterator[str]:
    for end, letter in enumerate(words, start=1):
        if font.getlength(words[:end]) > room:
            return
        yield letter


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", type=Split, default=Split.HELDOUT, choices=list(Split), help="default: heldout")
    parser.add_argument("--first", type=int, default=0, help="number of the first family; default: 0")
    parser.add_argument("--count", type=int, default=len(kinds(Split.HELDOUT)) + 3, help="default: one of each kind")
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--cell", type=int, default=CELL, help=f"side of a picture in pixels; default: {CELL}")
    chosen = parser.parse_args()
    lines = [family(chosen.split, chosen.first + number) for number in range(chosen.count)]
    Image.fromarray(sheet(lines, chosen.cell)).save(chosen.output, quality=75, optimize=True)
    print(chosen.output, chosen.output.stat().st_size)
