"""What a production line does to pictures without harming a part: five corruptions at five severities, exactly defined.

kind     what changes                       severity 1, 2, 3, 4, 5
noise    Gaussian noise, each channel       standard deviation 3, 6, 12, 20, 30 grey levels
blur     Gaussian blur (out of focus)       sigma 0.3, 0.6, 1, 1.5, 2.2 % of the shorter side
light    exposure, up or down               0.1, 0.2, 0.4, 0.6, 0.9 stops: grey levels times 2 ^ (+-stops / 2.2)
jpeg     compression, chroma halved         quality 80, 60, 40, 25, 15 (libjpeg's scale, as cv2 writes it)
shift    moved, edges mirrored              1, 2, 4, 6, 9 % of the diagonal, in any direction

Lengths are shares of the picture, so that a severity is the same after a picture is squashed to the input size.
Direction, sign and noise depend on the seed alone, not on the severity: along a curve one picture gets worse in one
way. Severity 0 is the picture itself.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

CORRUPTIONS = ("noise", "blur", "light", "jpeg", "shift")
SEVERITIES = (1, 2, 3, 4, 5)

NOISE_LEVELS = (3.0, 6.0, 12.0, 20.0, 30.0)  # grey levels
BLUR_SIGMAS = (0.003, 0.006, 0.010, 0.015, 0.022)  # of the shorter side
LIGHT_STOPS = (0.1, 0.2, 0.4, 0.6, 0.9)
DISPLAY_GAMMA = 2.2  # grey levels are light to the power 1 / 2.2
JPEG_QUALITIES = (80, 60, 40, 25, 15)
SHIFT_LENGTHS = (0.01, 0.02, 0.04, 0.06, 0.09)  # of the diagonal

Pixels = UInt8[np.ndarray, "height width 3"]


class Corrupted(NamedTuple):
    picture: UInt8[np.ndarray, "height width 3"]
    #: the defect where it now is; None: there was none to move
    mask: Bool[np.ndarray, "height width"] | None


def corrupt(
    picture: UInt8[np.ndarray, "height width 3"],
    kind: str,
    severity: int,
    *,
    seed: int,
    mask: Bool[np.ndarray, "height width"] | None = None,
) -> Corrupted:
    """The picture after one corruption, of the same size; a mask moves along. Same arguments, same pixels.

    Raises:
        ValueError: no such kind, or a severity that is not 0 to 5.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"kinds of corruption are {', '.join(CORRUPTIONS)}; got {kind!r}")
    if severity not in (0, *SEVERITIES):
        raise ValueError(f"severities are 0 (none) to {SEVERITIES[-1]}; got {severity}")
    if severity == 0:
        return Corrupted(picture, mask)
    rng = np.random.default_rng([seed, CORRUPTIONS.index(kind)])
    if kind == "shift":
        move = _move((picture.shape[0], picture.shape[1]), SHIFT_LENGTHS[severity - 1], rng)
        moved = None if mask is None else _warp(mask.astype(np.uint8), move, cv2.INTER_NEAREST).astype(bool)
        return Corrupted(_warp(picture, move, cv2.INTER_LINEAR), moved)
    return Corrupted(_RECOLOUR[kind](picture, severity, rng), mask)


def _noise(picture: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    return _to_uint8(picture + np.float32(NOISE_LEVELS[severity - 1]) * noise)


def _blur(picture: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    sigma = BLUR_SIGMAS[severity - 1] * min(picture.shape[:2])
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _light(picture: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    stops = LIGHT_STOPS[severity - 1] * float(rng.choice([-1, 1]))
    return _to_uint8(picture * np.float32(2 ** (stops / DISPLAY_GAMMA)))


def _jpeg(picture: Pixels, severity: int, rng: np.random.Generator) -> Pixels:
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITIES[severity - 1]]
    _, data = cv2.imencode(".jpg", picture[..., ::-1], quality)  # cv2 means BGR
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1])


def _move(shape: tuple[int, int], share: float, rng: np.random.Generator) -> np.ndarray:
    angle = float(rng.uniform(0, 2 * np.pi))
    length = share * float(np.hypot(shape[0], shape[1]))
    return np.array([[1, 0, length * np.cos(angle)], [0, 1, length * np.sin(angle)]])


def _warp(picture: np.ndarray, move: np.ndarray, interpolation: int) -> np.ndarray:
    height, width = picture.shape[:2]
    return cv2.warpAffine(picture, move, (width, height), flags=interpolation, borderMode=cv2.BORDER_REFLECT)


def _to_uint8(values: np.ndarray) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


_RECOLOUR: Mapping[str, Callable[[Pixels, int, np.random.Generator], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "light": _light,
    "jpeg": _jpeg,
}
