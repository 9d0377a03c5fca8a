"""JPEG, decoded by libjpeg-turbo alone and only where it has nothing to complain of.

Pillow is left out: its decoder passes over a body that lost a block, and its reader of headers, written in Python, can
be kept busy. The pixels are the very ones that it gives.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from stream_ad.adapters.hostile import Refused, orientation_of
from stream_ad.domain.images import Picture

MAGIC = b"\xff\xd8\xff"
START_OF_SCAN = b"\xff\xda"
#: encoders make about ten; thousands of empty ones, each a pass over all pixels, are an attack
MAX_SCANS = 100
#: pixels of all passes together, a few seconds' work; twenty passes are always allowed
MAX_SCANNED = 1_000_000_000
MAX_SEGMENTS = 10_000
PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
APP1, APP14 = 0xE1, 0xEE

#: what EXIF's orientation asks for
UPRIGHT: Mapping[int, Callable[[Picture], Picture]] = {
    2: np.fliplr,
    3: lambda picture: np.rot90(picture, 2),
    4: np.flipud,
    5: lambda picture: picture.transpose(1, 0, 2),
    6: lambda picture: np.rot90(picture, -1),
    7: lambda picture: np.rot90(picture, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height of the first picture. Raises: ValueError: no JPEG header, or one of a kind that is not read."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    return int(width), int(height)


def decode_jpeg(data: bytes) -> Picture:
    """The first picture of a file (an MPO holds previews behind it), upright.

    Raises:
        ValueError: libjpeg-turbo warns or fails: truncated, damaged, 12 bits a channel.
        Refused: made to keep a decoder busy.
    """
    head = _head(data)
    width, height = jpeg_size(data)
    allowed = min(MAX_SCANS, max(20, MAX_SCANNED // (width * height)))
    if head.progressive and (scans := data.count(START_OF_SCAN)) > allowed:
        raise Refused(f"needed at most {allowed} scans, got a JPEG with {scans}; encode it anew")
    if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
        inks = simplejpeg.decode_jpeg(data, "CMYK")
        # libjpeg-turbo's own way to RGB rounds otherwise; Adobe writes inks inverted
        picture = np.array(Image.fromarray(255 - inks if head.adobe else inks, "CMYK").convert("RGB"))
    else:
        picture = simplejpeg.decode_jpeg(data, "RGB")
    upright = UPRIGHT.get(head.orientation)
    return picture if upright is None else np.ascontiguousarray(upright(picture))


class _Head(NamedTuple):
    progressive: bool
    adobe: bool
    orientation: int


def _head(data: bytes) -> _Head:
    """What stands in the segments before the first scan."""
    progressive, adobe, orientation, at = False, False, 1, 2
    for _ in range(MAX_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        marker = data[at + 1] if at + 4 <= len(data) and data[at] == 0xFF else 0xDA
        if marker == 0xDA:
            return _Head(progressive, adobe, orientation)
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        body = slice(at + 4, at + 2 + size)
        progressive |= marker in PROGRESSIVE
        adobe |= marker == APP14 and data[body][:5] == b"Adobe"
        if marker == APP1 and orientation == 1 and data[body][:6] == b"Exif\0\0":
            orientation = orientation_of(data[body][6:])
        at += 2 + max(size, 2)
    raise Refused(f"needed at most {MAX_SEGMENTS:,} segments before the picture, got more; encode it anew")
