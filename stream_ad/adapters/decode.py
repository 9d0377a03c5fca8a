"""Encoded bytes as a picture, refused when in doubt. Training and serving both come through here.

What is done to every picture, once and the same everywhere:

- JPEG, PNG, BMP, TIFF and WebP, found by content; never by a file's name. One page, one frame.
- The size in the header is checked before anything is decoded, so a "bomb" costs nothing; so is what else a header can
  ask for (`hostile.py`).
- A JPEG must decode without a single warning: a body that is damaged but complete is refused, where Pillow would give
  grey blocks and no error.
- A PNG's checksums must be right. BMP, TIFF and WebP have none that would tell.
- EXIF orientation is applied; EXIF that cannot be read says nothing, as if it were not there.
- Alpha (RGBA, LA, transparent palettes) is composited onto black.
- CMYK, palette, grey and black-and-white pictures become RGB; colour profiles are ignored.
- 16-bit grey is scaled by the depth of the data, never clipped. The depth is `grey_bits`; without it each file is
  looked at alone: if no value exceeds 4095 it holds 12-bit data and is divided by 16, otherwise by 256. That is not
  safe for a camera of any other depth, nor for 16-bit pictures that may be darker than 4095 / 65535 everywhere: say
  the depth.
- 16 bits a channel in colour are cut to the upper 8, as Pillow does.

JPEG goes through libjpeg-turbo (`jpeg.py`), which gives the very pixels that Pillow gives, two to four times as fast;
everything else goes through Pillow. Both let other threads run meanwhile.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps

from stream_ad.adapters.hostile import Refused, check_png, check_png_sums, check_tiff, webp_canvas
from stream_ad.adapters.jpeg import MAGIC, decode_jpeg, jpeg_size
from stream_ad.domain.images import Picture
from stream_ad.errors import UndecodableImage

#: what Pillow decodes
FORMATS = ("PNG", "BMP", "TIFF", "WEBP")
TWELVE_BITS = 4095
#: bytes a pixel while it is decoded, at most: progressive 4:4:4 keeps 6 of coefficients beside the result
JPEG_BYTES, OTHER_BYTES, TRANSPARENT_BYTES = 9, 17, 33


def decode(data: bytes, *, max_pixels: int = 50_000_000, grey_bits: int | None = None) -> Picture:
    """The one picture in `data`, RGB with 8 bits a channel.

    `grey_bits` is the depth of 16-bit grey files (8 to 16), None: judged file by file. While it works it takes 3 to 6
    bytes a pixel for a JPEG, up to 17 for others, and up to 33 with transparency; 3 are the result.

    Raises:
        UndecodableImage: not a picture of a known format, damaged, truncated, with several pages, with more than
            `max_pixels` pixels, or with grey values beyond `grey_bits`.
    """
    if data[:3] == MAGIC:
        size = _jpeg_size(data, max_pixels)
        with _whole("JPEG", size, data):
            return decode_jpeg(data)
    with _opened(data, max_pixels) as image, _whole(image.format or "", image.size, data):
        _one_page(image)
        check_png_sums(data)
        image.load()
        if exif := image.info.get("exif"):
            check_tiff(exif.removeprefix(b"Exif\0\0"), max_pixels)
        ImageOps.exif_transpose(image, in_place=True)
        return _rgb8(image, grey_bits)


def memory(data: bytes, *, max_pixels: int = 50_000_000) -> int:
    """How many bytes `decode` takes at most, its result included, by the header alone; in about a millisecond.

    Raises:
        UndecodableImage: as `decode`, as far as the header tells.
    """
    if data[:3] == MAGIC:
        width, height = _jpeg_size(data, max_pixels)
        return width * height * JPEG_BYTES
    with _opened(data, max_pixels) as image:
        return image.width * image.height * (TRANSPARENT_BYTES if _is_transparent(image) else OTHER_BYTES)


def pixels(data: bytes, *, max_pixels: int = 50_000_000) -> int:
    """How many pixels the header promises. Raises: UndecodableImage: as `memory`."""
    if data[:3] == MAGIC:
        width, height = _jpeg_size(data, max_pixels)
        return width * height
    with _opened(data, max_pixels) as image:
        return image.width * image.height


def decoder_name(grey_bits: int | None) -> str:
    """What feature specs call this way of decoding; a bank is refused where another is set."""
    return "pillow-rgb8" if grey_bits is None else f"pillow-rgb8/grey{grey_bits}"


def pixel_sha256(picture: Picture) -> str:
    """A picture's id: sha256 over its shape and pixels, whatever file it came in."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in picture.shape)).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _jpeg_size(data: bytes, max_pixels: int) -> tuple[int, int]:
    try:
        size = jpeg_size(data)
    except ValueError as error:
        raise _no_picture(data, str(error)) from error
    _check_size(*size, max_pixels)
    return size


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """The picture with its header read, no larger than allowed."""
    if not data:
        raise _no_picture(data)
    try:
        if (canvas := webp_canvas(data)) is not None:
            _check_size(*canvas, max_pixels)
        check_png(data)
        check_tiff(data, max_pixels)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Refused as error:
        raise UndecodableImage(str(error)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UndecodableImage(f"needed at most {max_pixels:,} pixels; Pillow refused the header: {error}") from error
    except (UndecodableImage, MemoryError):
        raise
    except Exception as error:  # a hostile header raises anything, from SyntaxError to struct.error
        raise _no_picture(data) from error
    with image:
        _check_size(*image.size, max_pixels)
        if image.format == "BMP" and image.info.get("compression") in (1, 2):
            # unpacked in Python, pair by pair: a few megabytes would hold up all threads for seconds
            raise UndecodableImage("needed a BMP without run-length coding, got RLE; send it uncompressed, or as PNG")
        yield image


def _no_picture(data: bytes, why: str = "") -> UndecodableImage:
    came = f"{len(data):,} bytes starting with {data[:8]!r}" if data else "0 bytes"
    came += f" ({why})" if why else ""
    return UndecodableImage(f"needed a JPEG, PNG, BMP, TIFF or WEBP picture, got {came}; send one of these formats")


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UndecodableImage(
            f"needed at most {max_pixels:,} pixels, the header says {width} x {height}; send a smaller picture"
        )


@contextmanager
def _whole(format: str, size: tuple[int, int], data: bytes) -> Iterator[None]:
    """Decoders' errors as ours."""
    try:
        yield
    except (UndecodableImage, MemoryError):
        raise
    except Refused as error:
        raise UndecodableImage(str(error)) from error
    except Exception as error:  # decoders raise OSError, ValueError, EOFError, zlib.error, ...
        raise UndecodableImage(
            f"needed a whole picture, got a damaged or truncated {format} file of {len(data):,} bytes"
            f" ({size[0]} x {size[1]}): {error}; send it again"
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


def _rgb8(image: Image.Image, grey_bits: int | None) -> Picture:
    if image.mode.startswith("I"):  # I;16, I;16B, I;16L: 16 bits; I: 32 bits, holding 16 in old files
        return cv2.cvtColor(_scale_to_8_bits(np.asarray(image), grey_bits), cv2.COLOR_GRAY2RGB)
    if image.mode == "F":
        raise UndecodableImage("needed 8 or 16 bits a channel, got floating-point pixels without a known range")
    if _is_transparent(image):
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    elif image.mode == "L":
        return cv2.cvtColor(np.asarray(image), cv2.COLOR_GRAY2RGB)
    # a copy: pictures outlive the file and must be writeable for torch
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


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
