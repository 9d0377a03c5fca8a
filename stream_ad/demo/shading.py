"""Light on a surface: Lambert and Blinn-Phong, cast shadows, dark corners, what metal mirrors."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

from stream_ad.demo.surface import Surface

Field = Float32[np.ndarray, "side side"]
Rows = Float32[np.ndarray, "rows side"]

STRIP = 48  # rows shaded at a time, so that what is computed stays in the cache
SHADOW_REACH = 0.22  # how far a shadow falls at most
SHADOW_STEPS = 7
CORNER_RADIUS = 0.045  # from how far around a height darkens a corner


class Light(NamedTuple):
    """A key light far away, and a dome."""

    azimuth: float  # degrees, 0 = from the right, -90 = from the top of the picture
    elevation: float  # degrees above the table
    key: float
    dome: float


def shade(surface: Surface, light: Light) -> Float32[np.ndarray, "3 side side"]:
    """Linear colours of the lit surface, about 0 to 1, highlights above. Overwrites the surface's colours."""
    side = surface.side
    azimuth, elevation = np.deg2rad(light.azimuth), np.deg2rad(light.elevation)
    to_light = np.array(
        [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)], np.float32
    )
    lit, open_sky = _shadows(surface.height, to_light)
    relief = _Relief(
        slope_x=cv2.Sobel(surface.height, cv2.CV_32F, 1, 0, ksize=3, scale=side / 16),
        slope_y=cv2.Sobel(surface.height, cv2.CV_32F, 0, 1, ksize=3, scale=side / 16),
        lit=lit,
        open_sky=open_sky,
        gloss=surface.gloss,
        metal=surface.metal,
    )
    for top in range(0, side, STRIP):
        rows = slice(top, top + STRIP)
        diffuse, highlight = _reflected(_Relief(*(plane[rows] for plane in relief)), to_light, light)
        seen = surface.albedo[:, rows]
        seen *= diffuse
        seen += highlight
    return surface.albedo


class _Relief(NamedTuple):
    """What light meets, for some rows of the picture."""

    slope_x: Rows
    slope_y: Rows
    lit: Rows  # share of the key light that arrives
    open_sky: Rows  # share of the dome's
    gloss: Rows
    metal: Rows


def _reflected(relief: _Relief, to_light: Float32[np.ndarray, " 3"], light: Light) -> tuple[Rows, Rows]:
    """Light to be multiplied with the colour, and highlights, which are white."""
    slope_x, slope_y, lit, open_sky, gloss, metal = relief
    half_way = to_light + np.array([0, 0, 1], np.float32)  # the camera looks straight down
    half_way /= np.linalg.norm(half_way)
    normal_z = 1 / cv2.sqrt(slope_x * slope_x + slope_y * slope_y + 1)

    facing = np.maximum((to_light[2] - slope_x * to_light[0] - slope_y * to_light[1]) * normal_z, 0) * lit
    sky = open_sky * (0.55 + 0.45 * normal_z)
    diffuse = light.dome * sky + light.key * facing
    if metal.any():
        mirrored = _surroundings(slope_x, slope_y, normal_z, to_light)
        mirrored *= (0.35 * lit + 0.65) * (0.4 + 0.6 * sky) * (light.key + light.dome)
        diffuse += metal * (mirrored - diffuse)

    halfness = (half_way[2] - slope_x * half_way[0] - slope_y * half_way[1]) * normal_z
    sharpness = 10 * cv2.exp(gloss * float(4.5 * np.log(2)))
    # exp(-k (1 - cos)) is close to cos^k and far cheaper with an exponent per pixel
    highlight = cv2.exp(np.minimum((halfness - 1) * sharpness, 0))
    highlight *= gloss * gloss * (0.9 * light.key) * lit
    return diffuse, highlight


def _shadows(height: Field, to_light: Float32[np.ndarray, " 3"]) -> tuple[Field, Field]:
    """How much of the key light, and of the dome, reaches each point. At half the resolution: both are soft."""
    side = len(height)
    half = side // 2
    small = cv2.resize(height, (half, half), interpolation=cv2.INTER_AREA)
    across = float(np.hypot(to_light[0], to_light[1]))
    direction, rise = to_light[:2] / across, float(to_light[2]) / across

    blocked = np.zeros((half, half), dtype=np.float32)
    for step in range(1, SHADOW_STEPS + 1):
        reach = SHADOW_REACH * (step / SHADOW_STEPS) ** 2
        shift = np.array([[1, 0, direction[0] * reach * half / 2], [0, 1, direction[1] * reach * half / 2]])
        towards = cv2.warpAffine(
            small, shift, (half, half), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        blocked = np.maximum(blocked, towards - small - np.float32(reach * rise))
    shadow = cv2.GaussianBlur(np.clip(blocked / 0.02, 0, 0.85), (0, 0), 0.012 * half / 2)

    around = cv2.GaussianBlur(small, (0, 0), CORNER_RADIUS * half / 2)
    open_sky = 1 / (1 + 9 * np.maximum(around - small, 0) + 4 * np.maximum(around - small - 0.01, 0))
    lit = cv2.resize(1 - shadow, (side, side), interpolation=cv2.INTER_LINEAR)
    return lit, cv2.resize(open_sky, (side, side), interpolation=cv2.INTER_LINEAR)


def _surroundings(slope_x: Rows, slope_y: Rows, normal_z: Rows, to_light: Float32[np.ndarray, " 3"]) -> Rows:
    """Brightness of a hall as a mirror shows it: a lamp on the light's side, a bright wall opposite, grey between."""
    across = to_light[:2] / np.hypot(to_light[0], to_light[1])
    bent = -2 * normal_z * normal_z * (slope_x * across[0] + slope_y * across[1])
    lamp = cv2.exp(-(((bent - 0.55) / 0.28) ** 2))
    wall = cv2.exp(-(((bent + 0.75) / 0.22) ** 2))
    return 0.20 + 0.16 * normal_z + 0.95 * lamp + 0.38 * wall
