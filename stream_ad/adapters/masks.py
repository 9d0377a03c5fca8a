"""Masks as files: where a defect is, or which part of the picture is inspected."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageOps

from stream_ad.domain.images import Mask
from stream_ad.errors import DataError

SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # lossless: around an edge JPEG leaves pixels that are nearly black
SAME_SHAPE = 0.02  # logarithm of the ratio of two aspect ratios that rounding may leave


def read_mask(file: Path, *, lossy: bool = False) -> Mask:
    """True where the file's pixels are not black (or, with an alpha channel, not transparent).

    `lossy`: JPEG masks, which some published sets have, count from half of full brightness on.

    Raises:
        DataError: no file, or no picture without losses.
    """
    least = 0
    try:
        with Image.open(file, formats=("PNG", "BMP", "TIFF", *(["JPEG"] if lossy else []))) as image:
            least = 127 if image.format == "JPEG" else 0
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image).convert("RGB")
            elif image.mode in ("P", "CMYK"):
                image = image.convert("RGB")
            values = np.asarray(image)
    except FileNotFoundError:
        raise DataError(f"needed a mask, but {file} does not exist; check the path") from None
    except Exception as error:  # decoders raise OSError, ValueError, EOFError, zlib.error, ...
        raise DataError(f"needed a PNG, BMP or TIFF mask, but {file} is none: {error}") from error
    return np.any(values.reshape(*values.shape[:2], -1) > least, axis=-1)


def fit_mask(mask: Mask, size: tuple[int, int]) -> Bool[np.ndarray, "new_height new_width"] | None:
    """The mask at another (height, width), None where its shape is another: then it belongs to another picture.

    A pixel counts from one half of its area on; where nothing is left so, every pixel that is touched counts, so that
    no defect vanishes.
    """
    if mask.shape == size:
        return mask
    (height, width), (old_height, old_width) = size, mask.shape
    if abs(np.log(height * old_width / (width * old_height))) > SAME_SHAPE:
        return None
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
    values = np.asarray(share)
    return values > 127 if (values > 127).any() else values > 0


def read_roi(file: Path) -> Mask:
    """The region of interest in a file: what is not black is inspected.

    Raises:
        DataError: no file, no picture without losses, or all of it is black.
    """
    roi = read_mask(file)
    if not roi.any():
        raise DataError(f"{file}: a region of interest needs pixels that are not black: those are inspected; got none")
    return roi
