"""Headers that cost a decoder more than the picture could: found before Pillow reads them.

Pillow walks through headers in Python and copies what they point to: a million chunks of a PNG take it ten seconds, and
a TIFF whose thousand tags all point to the same forty megabytes takes forty gigabytes.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
#: writers make chunks of 8 kB and more
MAX_CHUNKS = 20_000
#: of all tags together: a strip or a tile has two
MAX_TAG_VALUES = 1_000_000
ORIENTATION, TILE_WIDTH, TILE_LENGTH = 274, 322, 323
#: bytes of one value, by TIFF's number of the type
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


class Refused(ValueError):
    """The header asks for what no picture needs; the message says what."""


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file; None: it is none. Pillow reserves 8 bytes a pixel when it opens one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def check_png(data: bytes) -> None:
    """Raises: Refused: more chunks than any picture has."""
    if sum(1 for _ in _chunks(data)) >= MAX_CHUNKS:
        raise Refused(f"needed at most {MAX_CHUNKS:,} chunks, got a PNG with more; encode it anew")


def check_png_sums(data: bytes) -> None:
    """Compares the checksums of all chunks; Pillow does not look at those of the pixels.

    Raises: ValueError: one is wrong.
    """
    view = memoryview(data)
    for at, size in _chunks(data):
        came, needed = zlib.crc32(view[at + 4 : at + 8 + size]), data[at + 8 + size : at + 12 + size]
        if came.to_bytes(4, "big") != needed:
            raise ValueError(f"the checksum of chunk {data[at + 4 : at + 8]!r} at byte {at:,} is wrong")


def _chunks(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each chunk of a PNG begins, and how long its body is, as far as they are there."""
    at = len(PNG_MAGIC)
    for _ in range(MAX_CHUNKS if data[:at] == PNG_MAGIC else 0):
        if at + 12 > len(data):
            return
        size = int.from_bytes(data[at : at + 4], "big")
        yield at, size
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + size


def check_tiff(data: bytes, max_pixels: int) -> None:
    """The first page of a TIFF file; an EXIF block is one too.

    Raises:
        Refused: its tags share their bytes, are too many, or one tile (unpacked at once) has more than `max_pixels`.
    """
    total_bytes = values = 0
    tile = {TILE_WIDTH: 1, TILE_LENGTH: 1}
    for tag in _tags(data):
        total_bytes += tag.count * TYPE_BYTES.get(tag.type, 1)
        values += tag.count if tag.type not in (1, 2, 7) else 1  # those stay bytes
        if tag.number in tile:
            tile[tag.number] = tag.value
    if total_bytes > len(data) + 1024:
        raise Refused(
            f"needed tags within {len(data):,} bytes, got {total_bytes:,}; send the whole file, no tags overlapping"
        )
    if values > MAX_TAG_VALUES:
        raise Refused(f"needed at most {MAX_TAG_VALUES:,} values in tags, got {values:,}; use larger strips")
    width, height = tile[TILE_WIDTH], tile[TILE_LENGTH]
    if width * height > max_pixels:
        raise Refused(f"needed tiles of at most {max_pixels:,} pixels, the header says {width} x {height}")


def orientation_of(exif: bytes) -> int:
    """What an EXIF block says of how the camera was held; 1, upright, when it cannot be read."""
    return next((tag.value for tag in _tags(exif) if tag.number == ORIENTATION and tag.type == 3), 1)


class _Tag(NamedTuple):
    number: int
    type: int
    count: int
    value: int  # of a single SHORT or LONG; else meaningless


def _tags(data: bytes) -> Iterator[_Tag]:
    """Tags of the first page, as far as they are there."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return
    (version,) = struct.unpack_from(f"{order}H", data, 2)
    if version not in (42, 43):
        return
    entry, number_of = (f"{order}HHL", f"{order}H") if version == 42 else (f"{order}HHQ", f"{order}Q")
    (at,) = struct.unpack_from(f"{order}L", data, 4) if version == 42 else struct.unpack_from(f"{order}Q", data, 8)
    if at + struct.calcsize(number_of) > len(data):
        return
    (count,) = struct.unpack_from(number_of, data, at)
    at += struct.calcsize(number_of)
    head = struct.calcsize(entry)
    size = head + (4 if version == 42 else 8)
    for start in range(at, min(at + count * size, len(data) - size + 1), size):
        number, type, values = struct.unpack_from(entry, data, start)
        (value,) = struct.unpack_from(f"{order}{'H' if type == 3 else 'L'}", data, start + head)
        yield _Tag(number, type, values, value)
