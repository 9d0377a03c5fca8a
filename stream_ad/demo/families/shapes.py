"""Outlines and profiles that many kinds of products share. Outlines are signed distances, negative inside."""

import numpy as np
from jaxtyping import Float32, Int32

from stream_ad.demo.families.colors import Color
from stream_ad.demo.families.materials import Material
from stream_ad.demo.surface import Surface, box, cover, disc, rounded, turned

Field = Float32[np.ndarray, "rows columns"]


def polygon(x: Field, y: Field, sides: int, radius: float, degrees: float = 0.0, corner: float = 0.0) -> Field:
    """A regular polygon; `radius` reaches to its flats."""
    distance = np.full_like(x, -9)
    for index in range(sides):
        turn = np.deg2rad(degrees + 360 * index / sides)
        distance = np.maximum(distance, x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)))
    flats = distance - np.float32(radius)
    return np.maximum(flats, disc(x, y, radius * (1 + corner))) if corner else flats


def toothed(x: Field, y: Field, teeth: int, inner: float, outer: float, sharpness: float, phase: float = 0.0) -> Field:
    """A wheel with `teeth`: from sine waves (sharpness 1) to square ones (5)."""
    wave = np.sin(np.arctan2(y, x) * np.float32(teeth) + np.float32(phase))
    square = np.tanh(np.float32(sharpness) * wave) / np.float32(np.tanh(sharpness))
    return np.sqrt(x * x + y * y) - np.float32((inner + outer) / 2) - np.float32((outer - inner) / 2) * square


def lobed(x: Field, y: Field, lobes: int, radius: float, depth: float, phase: float = 0.0) -> Field:
    """A disc whose rim swings in and out."""
    wave = np.cos(np.arctan2(y, x) * np.float32(lobes) + np.float32(phase))
    return np.sqrt(x * x + y * y) - np.float32(radius) - np.float32(depth) * wave


def segment(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """A line with round ends."""
    ax, ay, bx, by = (np.float32(v) for v in (*start, *end))
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + np.float32(1e-9)), 0, 1)
    return np.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2) - np.float32(radius)


def spots(x: Field, y: Field, centers: list[tuple[float, float]], radius: float) -> Field:
    """Equal discs."""
    if not centers:
        return np.full_like(x, 9)
    return np.minimum.reduce([disc(x - np.float32(cx), y - np.float32(cy), radius) for cx, cy in centers])


def circle_of(count: int, radius: float, degrees: float = 0.0) -> list[tuple[float, float]]:
    """Points evenly around the origin."""
    turns = np.deg2rad(degrees) + 2 * np.pi * np.arange(count) / count
    return [(radius * float(np.cos(t)), radius * float(np.sin(t))) for t in turns]


def rod(distance: Field, radius: float) -> Field:
    """Height of a round bar over its outline's `distance`: a half circle of `radius`."""
    inside = np.clip(distance + np.float32(radius), 0, radius)
    return np.sqrt(np.maximum(np.float32(radius * radius) - inside * inside, 0))


def counted(coordinate: Field) -> tuple[Int32[np.ndarray, "rows columns"], Field]:
    """The number of the cell that each point is in, and where in it, 0 to 1."""
    number = np.floor(coordinate)
    return number.astype(np.int32), coordinate - number


def solid(
    material: Material,
    rng: np.random.Generator,
    distance: Field,
    *,
    height: float | Field = 0.06,
    edge: float = 0.03,
) -> Surface:
    """A body of `material` inside the outline, its upper edge rounded by `edge`."""
    side = len(distance)
    surface = material.coat(rng, side)
    surface.height += np.asarray(height, dtype=np.float32) * rounded(distance, edge)
    surface.alpha = cover(distance, side)
    return surface


def put(
    surface: Surface,
    at: tuple[float, float],
    half: tuple[float, float] | float,
    color: Color | np.ndarray,
    *,
    degrees: float = 0.0,
    corner: float = 0.0,
    height: float = 0.0,
    edge: float = 0.02,
    gloss: float = 0.2,
    metal: float = 0.0,
    domed: bool = False,
) -> None:
    """Set a small box (with `corner` as large as the smaller half: a disc or a stadium) on the surface.

    It stands `height` above the origin, its edge rounded, or `domed` like a bead of solder or a lying rod.
    """
    half = half if isinstance(half, tuple) else (half, half)
    window, dx, dy = surface.around(*at, float(np.hypot(*half)) + 0.02)
    if degrees:
        dx, dy = turned(dx, dy, degrees)
    distance = box(dx, dy, *half, min(corner, *half))
    radius = min(half)
    profile = rod(distance, radius) / np.float32(radius) if domed else rounded(distance, edge)
    amount = cover(distance, surface.side)
    surface.paint(amount, color, gloss=gloss, metal=metal, height=np.float32(height) * profile, window=window)
    surface.alpha[window] = np.maximum(surface.alpha[window], amount)


def arc(x: Field, y: Field, radius: float, half_angle: float, width: float) -> Field:
    """A bow of a circle around the origin, symmetric about the x axis, with round ends; angles in degrees."""
    turn = np.deg2rad(half_angle)
    end_x, end_y = np.float32(radius * np.cos(turn)), np.float32(radius * np.sin(turn))
    within = np.abs(np.arctan2(y, x)) < np.float32(turn)
    at_end = np.sqrt((x - end_x) ** 2 + (np.abs(y) - end_y) ** 2)
    return np.where(within, np.abs(np.sqrt(x * x + y * y) - np.float32(radius)), at_end) - np.float32(width)


def lay(under: Surface, over: Surface, amount: Field | None = None) -> None:
    """Put `over` on `under` where `over` is (or as thick as `amount`); heights are those of `over`."""
    alpha = over.alpha if amount is None else amount
    for below, above in zip(
        (*under.albedo, under.height, under.gloss, under.metal),
        (*over.albedo, over.height, over.gloss, over.metal),
        strict=True,
    ):
        below += alpha * (above - below)
    under.alpha = np.maximum(under.alpha, alpha)
