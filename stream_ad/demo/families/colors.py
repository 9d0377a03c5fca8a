"""Colours by name, as linear light."""

import numpy as np

from stream_ad.demo.families.chance import between, pick

Color = tuple[float, float, float]


def linear(red: int, green: int, blue: int) -> Color:
    """Linear light of an sRGB colour, 0 to 255 a channel."""
    srgb = np.array([red, green, blue]) / 255
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return float(light[0]), float(light[1]), float(light[2])


def varied(rng: np.random.Generator, color: Color, amount: float = 0.12) -> Color:
    """`color`, a little lighter or darker and of a slightly different hue."""
    level = float(np.exp(rng.normal(0, amount)))
    r, g, b = (max(0.004, min(0.95, c * level * float(np.exp(rng.normal(0, amount / 3))))) for c in color)
    return r, g, b


PAINTS: dict[str, Color] = {
    "red": linear(176, 34, 36),
    "dark red": linear(110, 22, 28),
    "orange": linear(222, 104, 28),
    "yellow": linear(228, 186, 38),
    "green": linear(40, 122, 62),
    "dark green": linear(22, 66, 44),
    "light green": linear(148, 190, 110),
    "turquoise": linear(40, 148, 150),
    "blue": linear(34, 78, 158),
    "dark blue": linear(22, 36, 82),
    "light blue": linear(138, 180, 214),
    "purple": linear(104, 58, 134),
    "pink": linear(222, 140, 160),
    "brown": linear(98, 62, 38),
    "beige": linear(206, 188, 154),
    "white": linear(232, 232, 228),
    "grey": linear(132, 134, 136),
    "light grey": linear(188, 190, 190),
    "dark grey": linear(70, 72, 76),
    "black": linear(32, 32, 34),
}

# what industry mostly paints with comes more often
_COMMON = (*PAINTS, "white", "white", "black", "black", "grey", "light grey", "dark grey", "blue", "red", "beige")


def paint(rng: np.random.Generator) -> tuple[str, Color]:
    """A paint's name, and one of its shades."""
    name = pick(rng, _COMMON)
    return name, varied(rng, PAINTS[name])


def anything(rng: np.random.Generator) -> Color:
    """Any colour at all, mostly dull."""
    level, strength = between(rng, 0.02, 0.75), between(rng, 0, 0.6) ** 1.5
    r, g, b = (level * (1 - strength * float(rng.random())) for _ in range(3))
    return r, g, b
