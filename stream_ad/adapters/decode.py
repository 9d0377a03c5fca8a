"""Encoded bytes as a picture, refused when in doubt. Training and serving both come through here.

What is done to every picture, once and the same everywhere:

- JPEG, PNG, BMP, TIFF and WebP, found by content; never by a file's name. One page, one frame.
- The size in the header is checked before anything is decoded, so a "bomb" costs nothing.
- EXIF orientation is applied.
- Alpha (RGBA, LA, transparent palettes) is composited onto black.
- CMYK, palette, grey and black-and-white pictures become RGB; colour profiles are ignored.
- 16-bit grey is scaled by the depth of the data, never clipped: if no value exceeds 4095 the file holds 12-bit data
  and is divided by 16, otherwise by 256. The rule looks at one file alone. A camera with true 16-bit data whose
  pictures are sometimes darker than 4095 / 65535 everywhere must send 8 bits.
- 16 bits a channel in colour are cut to the upper 8, as Pillow does.

A JPEG with damaged but complete entropy data decodes to garbage without an error in Pillow; such a picture is scored.
"""

import hashlib
import io

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageOps

from stream_ad.domain.images import Picture
from stream_ad.errors import UndecodableImage

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
TWELVE_BITS = 4095


def decode(data: bytes, *, max_pixels: int = 50_000_000) -> Picture:
    """The one picture in `data`, RGB with 8 bits a channel.

    Raises:
        UndecodableImage: not a picture of a known format, damaged, truncated, with several pages, or with more than
            `max_pixels` pixels.
    """
    if not data:
        raise UndecodableImage(f"needed a {_one_of()} picture, got 0 bytes; send the file's content")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UndecodableImage(f"needed at most {max_pixels:,} pixels; Pillow refused the header: {error}") from error
    except Exception as error:  # a hostile header raises anything, from SyntaxError to struct.error
        raise UndecodableImage(
            f"needed a {_one_of()} picture, got {len(data):,} bytes starting with {data[:8]!r};"
            " send one of these formats"
        ) from error

    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise UndecodableImage(
                f"needed at most {max_pixels:,} pixels, the header says {width} x {height}; send a smaller picture"
            )
        try:
            # MPO is a JPEG with previews behind the picture; any other second frame could be the one that matters
            if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) != 1:
                raise UndecodableImage(
                    f"needed one picture, got a {image.format} file with {frames}; send them one by one"
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb8(image)
        except (UndecodableImage, MemoryError):
            raise
        except Exception as error:  # decoders raise OSError, ValueError, EOFError, zlib.error, ...
            raise UndecodableImage(
                f"needed a whole picture, got a damaged or truncated {image.format} file of {len(data):,} bytes"
                f" ({width} x {height}): {error}; send it again"
            ) from error


def pixel_sha256(picture: Picture) -> str:
    """A picture's id: sha256 over its shape and pixels, whatever file it came in."""
    digest = hashlib.sha256(repr(tuple(int(side) for side in picture.shape)).encode())
    digest.update(np.ascontiguousarray(picture).data)
    return digest.hexdigest()


def _one_of() -> str:
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def _rgb8(image: Image.Image) -> Picture:
    if image.mode.startswith("I"):  # I;16, I;16B, I;16L: 16 bits; I: 32 bits, holding 16 in old files
        grey = _scale_to_8_bits(np.asarray(image))
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise UndecodableImage("needed 8 or 16 bits a channel, got floating-point pixels without a known range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    # a copy: pictures outlive the file and must be writeable for torch
    return np.array(image.convert("RGB"))


def _scale_to_8_bits(values: Shaped[np.ndarray, "height width"]) -> Shaped[np.ndarray, "height width"]:
    low, peak = int(values.min()), int(values.max())
    if low < 0 or peak > 65535:
        raise UndecodableImage(f"needed grey values of 0 to 65535, got {low} to {peak}; send 8 or 16 bits a pixel")
    return (values >> (4 if peak <= TWELVE_BITS else 8)).astype(np.uint8)
