"""From light to pixels: optics, sensor, 8 bits."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from stream_ad.demo.surface import grid
from stream_ad.domain.images import Picture

FULL_WELL = 9000.0  # electrons at white; sets the shot noise
READ_NOISE = 14.0  # electrons


class Exposure(NamedTuple):
    """What differs from shot to shot."""

    gain: float
    balance: tuple[float, float, float]  # red, green, blue
    defocus: float  # deviation of the blur, in units of 1/256 of the picture
    vignette: float  # loss of light in the corners
    center: tuple[float, float]  # of the vignette
    noise: float = 1.0  # of the sensor

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Exposure":
        red, blue = rng.normal(1, 0.008, 2)
        return cls(
            gain=float(np.clip(rng.normal(1, 0.035), 0.9, 1.1)),
            balance=(float(red), 1.0, float(blue)),
            defocus=float(rng.uniform(0.35, 0.7)),
            vignette=float(rng.uniform(0.08, 0.2)),
            center=(float(rng.normal(0, 0.06)), float(rng.normal(0, 0.06))),
        )


def photograph(
    light: Float32[np.ndarray, "3 fine fine"], size: int, exposure: Exposure, noise: np.random.Generator | None
) -> Picture:
    """The picture a sensor of `size` pixels squared takes; without sensor noise when `noise` is None."""
    x, y = grid(size)
    falloff = 1 - exposure.vignette * 0.5 * ((x - exposure.center[0]) ** 2 + (y - exposure.center[1]) ** 2)
    sigma = max(exposure.defocus * size / 256, 0.2)
    picture = np.empty((size, size, 3), dtype=np.uint8)
    for channel, (plane, balance) in enumerate(zip(light, exposure.balance, strict=True)):
        seen = cv2.GaussianBlur(cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA), (0, 0), sigma)
        seen *= falloff * np.float32(exposure.gain * balance)
        if noise is not None:
            # colour is interpolated between the sensor's pixels, so its noise is not quite white
            raw = cv2.GaussianBlur(noise.standard_normal(seen.shape, dtype=np.float32), (0, 0), 0.5)
            raw *= np.float32(1.5 * exposure.noise / FULL_WELL)
            seen += raw * cv2.sqrt(np.maximum(seen, 0) * FULL_WELL + READ_NOISE**2)
        picture[..., channel] = _developed(seen)
    return picture


_STEPS = 4096  # of the tone curve's table


def _tone_curve() -> np.ndarray:
    linear = np.linspace(0, 2, _STEPS)
    # highlights roll off instead of being cut at white
    rolled = np.where(linear < 0.8, linear, 0.8 + 0.2 * (1 - np.exp(-(linear - 0.8) / 0.2)))
    srgb = np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * rolled ** (1 / 2.4) - 0.055)
    return np.round(srgb * 255).clip(0, 255).astype(np.uint8)


_CURVE = _tone_curve()


def _developed(linear: Float32[np.ndarray, "size size"]) -> UInt8[np.ndarray, "size size"]:
    index = np.clip(linear * np.float32((_STEPS - 1) / 2), 0, _STEPS - 1).astype(np.uint16)
    return _CURVE[index]
