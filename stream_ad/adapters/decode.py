"""Encoded bytes as a picture, refused when in doubt. Training and serving both come through here.

What is done to every picture, once and the same everywhere:

- JPEG, PNG, BMP, TIFF and WebP, found by content; never by a file's name. One page, one frame.
- The size in the header is checked before anything is decoded, so a "bomb" costs nothing. So are a TIFF's tiles, and
  the scans of a progressive JPEG.
- A JPEG must decode without a single warning: a body that is damaged but complete is refused, where Pillow would give
  grey blocks and no error.
- EXIF orientation is applied.
- Alpha (RGBA, LA, transparent palettes) is composited onto black.
- CMYK, palette, grey and black-and-white pictures become RGB; colour profiles are ignored.
- 16-bit grey is scaled by the depth of the data, never clipped. The depth is `grey_bits`; without it each file is
  looked at alone: if no value exceeds 4095 it holds 12-bit data and is divided by 16, otherwise by 256. That is not
  safe for a camera of any other depth, nor for 16-bit pictures that may be darker than 4095 / 65535 everywhere: say
  the depth.
- 16 bits a channel in colour are cut to the upper 8, as Pillow does.

JPEG goes through libjpeg-turbo directly (simplejpeg), which gives the very pixels that Pillow gives, two to four times
as fast; CMYK, where the two round differently, stays with Pillow. Both let other threads run meanwhile.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Shaped
from PIL import ExifTags, Image, ImageOps

from stream_ad.domain.images import Picture
from stream_ad.errors import UndecodableImage

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
TWELVE_BITS = 4095
#: encoders make about ten; thousands of empty ones, each a pass over all pixels, are an attack
MAX_JPEG_SCANS = 100
START_OF_SCAN = b"\xff\xda"

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


def decode(data: bytes, *, max_pixels: int = 50_000_000, grey_bits: int | None = None) -> Picture:
    """The one picture in `data`, RGB with 8 bits a channel.

    `grey_bits` is the depth of 16-bit grey files (8 to 16), None: judged file by file. Takes up to about 4 times the
    bytes of the result (3 a pixel) while it works.

    Raises:
        UndecodableImage: not a picture of a known format, damaged, truncated, with several pages, with more than
            `max_pixels` pixels, or with grey values beyond `grey_bits`.
    """
    with _opened(data, max_pixels) as image, _whole(image, data):
        if image.format in ("JPEG", "MPO"):
            return _jpeg(image, data, max_pixels)
        _one_page(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb8(image, grey_bits)


def pixels(data: bytes, *, max_pixels: int = 50_000_000) -> int:
    """How many pixels the header promises, in about 0.1 ms; decoding takes 3 to 12 bytes of memory for each.

    Raises:
        UndecodableImage: as `decode`, as far as the header tells.
    """
    with _opened(data, max_pixels) as image:
        return image.width * image.height


def pixel_sha256(picture: Picture) -> str:
    """A picture's id: sha256 over its shape and pixels, whatever file it came in."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in picture.shape)).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _one_of() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The picture with its header read, no larger than allowed."""
    if not data:
        raise UndecodableImage(f"needed a {_one_of()} picture, got 0 bytes; send the file's content")
    if (canvas := _webp_canvas(data)) is not None:
        _check_size(*canvas, max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UndecodableImage(f"needed at most {max_pixels:,} pixels; Pillow refused the header: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # a hostile header raises anything, from SyntaxError to struct.error
        raise UndecodableImage(
            f"needed a {_one_of()} picture, got {len(data):,} bytes starting with {data[:8]!r};"
            " send one of these formats"
        ) from error
    with image:
        _check_size(*image.size, max_pixels)
        if image.format == "TIFF":
            _check_tiles(image, max_pixels)
        elif image.format == "BMP" and image.info.get("compression") in (1, 2):
            # unpacked in Python, pair by pair: a few megabytes would hold up all threads for seconds
            raise UndecodableImage("needed a BMP without run-length coding, got RLE; send it uncompressed, or as PNG")
        yield image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UndecodableImage(
            f"needed at most {max_pixels:,} pixels, the header says {width} x {height}; send a smaller picture"
        )


def _webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP file. Pillow reserves eight bytes a pixel already when it opens one."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _check_tiles(image: Image.Image, max_pixels: int) -> None:
    """One tile is unpacked at a time, and may be larger than the picture."""
    tags = getattr(image, "tag_v2", {})
    width, height = tags.get(322, 1), tags.get(323, 1)  # TileWidth, TileLength
    if not (isinstance(width, int) and isinstance(height, int)) or width * height > max_pixels:
        raise UndecodableImage(f"needed tiles of at most {max_pixels:,} pixels, the header says {width} x {height}")


@contextmanager
def _whole(image: Image.Image, data: bytes) -> Iterator[None]:
    """Decoders' errors as ours."""
    try:
        yield
    except (UndecodableImage, MemoryError):
        raise
    except Exception as error:  # decoders raise OSError, ValueError, EOFError, zlib.error, ...
        raise UndecodableImage(
            f"needed a whole picture, got a damaged or truncated {image.format} file of {len(data):,} bytes"
            f" ({image.width} x {image.height}): {error}; send it again"
        ) from error


def _one_page(image: Image.Image) -> None:
    """Any other page or frame could be the one that matters."""
    if image.format == "TIFF":
        try:
            image.seek(1)  # and not `n_frames`, which would walk through millions
        except EOFError:
            return
        frames = "several pages"
    elif (count := getattr(image, "n_frames", 1)) != 1:
        frames = f"{count} frames"
    else:
        return
    raise UndecodableImage(f"needed one picture, got a {image.format} file with {frames}; send them one by one")


def _jpeg(image: Image.Image, data: bytes, max_pixels: int) -> Picture:
    """The first picture of a JPEG file; an MPO is one with previews behind it."""
    if image.info.get("progressive") and (scans := data.count(START_OF_SCAN)) > MAX_JPEG_SCANS:
        raise UndecodableImage(f"needed at most {MAX_JPEG_SCANS} scans, got a JPEG with {scans}; encode it anew")
    # what is decoded is what was checked: two libraries may read a hostile header in two ways
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    _check_size(width, height, max_pixels)
    if image.mode == "CMYK":
        simplejpeg.decode_jpeg(data, "CMYK")  # for its warnings
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image.convert("RGB"))
    picture = simplejpeg.decode_jpeg(data, "RGB")
    upright = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if upright is None else np.ascontiguousarray(upright(picture))


def _rgb8(image: Image.Image, grey_bits: int | None) -> Picture:
    if image.mode.startswith("I"):  # I;16, I;16B, I;16L: 16 bits; I: 32 bits, holding 16 in old files
        return cv2.cvtColor(_scale_to_8_bits(np.asarray(image), grey_bits), cv2.COLOR_GRAY2RGB)
    if image.mode == "F":
        raise UndecodableImage("needed 8 or 16 bits a channel, got floating-point pixels without a known range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    elif image.mode == "L":
        return cv2.cvtColor(np.asarray(image), cv2.COLOR_GRAY2RGB)
    # a copy: pictures outlive the file and must be writeable for torch
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _scale_to_8_bits(
    values: Shaped[np.ndarray, "height width"], bits: int | None
) -> Shaped[np.ndarray, "height width"]:
    low, peak = int(values.min()), int(values.max())
    largest = 65535 if bits is None else 2**bits - 1
    if low < 0 or peak > largest:
        said = (
            "send 8 or 16 bits a pixel" if bits is None else f"backbone.grey_bits is {bits}: check the camera's depth"
        )
        raise UndecodableImage(f"needed grey values of 0 to {largest}, got {low} to {peak}; {said}")
    if bits is None:
        bits = 12 if peak <= TWELVE_BITS else 16
    return (values >> (bits - 8)).astype(np.uint8)
