"""Damage that any surface can suffer. Each kind changes the surface in place and returns how much of each pixel it hit.

Size and contrast grow with severity; the least is about a pixel wide at 128 and of faint contrast.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
from jaxtyping import Float32

from stream_ad.demo import marks
from stream_ad.demo.families.blueprint import Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import Color, linear, paint, varied
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, cover, grid, smoothstep, turned

Field = Float32[np.ndarray, "rows columns"]
Point = tuple[float, float]
Hurt = Callable[[Surface, Damage, bool], Field]

REACH = 0.82  # damage begins within this part of the picture


def somewhere(surface: Surface, rng: np.random.Generator) -> Point:
    """A point on the part, not at its very edge if it has an inside."""
    coarse = surface.alpha[::4, ::4]
    x, y = (axis[::4, ::4] for axis in grid(surface.side))
    inside = (cv2.erode(coarse, np.ones((3, 3), np.uint8)) > 0.9) & (np.maximum(np.abs(x), np.abs(y)) < REACH)
    if not inside.any():
        inside = coarse >= min(0.9, float(coarse.max()))
    rows, columns = np.nonzero(inside)
    at = int(rng.integers(len(rows)))
    return float(x[rows[at], columns[at]]), float(y[rows[at], columns[at]])


def _on_edge(surface: Surface, rng: np.random.Generator) -> Point:
    """A point on the outline."""
    coarse = surface.alpha[::3, ::3]
    x, y = (axis[::3, ::3] for axis in grid(surface.side))
    edge = cv2.dilate(coarse, np.ones((3, 3), np.uint8)) - cv2.erode(coarse, np.ones((3, 3), np.uint8)) > 0.5
    edge &= np.maximum(np.abs(x), np.abs(y)) < REACH + 0.05
    if not edge.any():
        return somewhere(surface, rng)
    rows, columns = np.nonzero(edge)
    at = int(rng.integers(len(rows)))
    return float(x[rows[at], columns[at]]), float(y[rows[at], columns[at]])


def _local(surface: Surface, at: Point) -> np.ndarray:
    """The colour around a point."""
    window, _, _ = surface.around(*at, 0.08)
    return surface.albedo[:, window[0], window[1]].mean(axis=(1, 2))


def _contrasting(rng: np.random.Generator, color: np.ndarray, strength: float, *, lighter: float = 0.5) -> Color:
    """A lighter or darker version of `color`, as different as `strength` (0 to 1) says."""
    level = float(color.mean())
    light = level < 0.12 or (level < 0.6 and happens(rng, lighter))
    target = np.minimum(color * 1.6 + 0.25, 0.95) if light else color * 0.15
    mixed = color + (target - color) * np.float32(0.35 + 0.65 * strength)
    return float(mixed[0]), float(mixed[1]), float(mixed[2])


def _patch(rng: np.random.Generator, side: int, at: Point, radius: float, *, ragged: float) -> Field:
    """Signed distance (about) to a patch that is longer one way and ragged at its edge; negative inside."""
    x, y = grid(side)
    u, v = turned(x - np.float32(at[0]), y - np.float32(at[1]), between(rng, 0, 180))
    long = between(rng, 1.0, 1.5)
    distance = np.sqrt((u / np.float32(long)) ** 2 + (v * np.float32(long)) ** 2) - np.float32(radius)
    edge = Texture("cloud", min(0.09 / radius, 1.2), between(rng, 0, 180)).field(rng, side)
    return distance + np.float32(ragged * radius) * edge


def scratch(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """Thin grooves, nearly straight, now and then a few side by side."""
    rng, g = damage.rng, damage.severity
    at, degrees = somewhere(surface, rng), between(rng, 0, 360)
    length = (0.18 + 0.9 * g) * between(rng, 0.8, 1.2)
    turn = np.deg2rad(degrees)
    start = at[0] - 0.5 * length * float(np.cos(turn)), at[1] - 0.5 * length * float(np.sin(turn))
    width = (0.010 + 0.016 * g) * between(rng, 0.8, 1.25)
    lines = [marks.stroke(surface.side, marks.wander(rng, start, degrees, length, wobble=between(rng, 0.5, 5)), width)]
    for _ in range(int(rng.integers(0, 1 + round(3 * g)))):
        beside = start[0] + float(rng.normal(0, 0.05)), start[1] + float(rng.normal(0, 0.05))
        path = marks.wander(rng, beside, degrees + float(rng.normal(0, 5)), length * between(rng, 0.3, 0.9), wobble=3.0)
        lines.append(marks.stroke(surface.side, path, width * 0.7, taper=True))
    groove = marks.union(lines) * surface.alpha
    color = _contrasting(rng, _local(surface, at), g, lighter=0.65)
    surface.paint(groove * np.float32(0.45 + 0.5 * g), color, gloss=0.5)
    surface.height -= np.float32(0.004 + 0.01 * g) * groove
    return groove


def dent(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """A round or long hollow with a soft rim."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng)
    radius = (0.05 + 0.15 * g) * between(rng, 0.85, 1.2)
    x, y = grid(surface.side)
    u, v = turned(x - np.float32(at[0]), y - np.float32(at[1]), between(rng, 0, 180))
    v = v * np.float32(between(rng, 1.0, 1.8))
    squared = (u * u + v * v) / np.float32(radius * radius)
    hollow = cv2.exp(-1.2 * squared * squared)
    rim = cv2.exp(-6 * (cv2.sqrt(squared) - 1.15) ** 2)
    depth = np.float32(radius * (0.16 + 0.30 * g))
    surface.height += (0.15 * depth * rim - depth * hollow) * surface.alpha
    surface.albedo *= 1 - np.float32(0.06 + 0.16 * g) * hollow * surface.alpha
    return smoothstep(1.25, 0.85, squared) * surface.alpha


def crack(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """A jagged dark line that thins out and branches."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng) if full_frame or happens(rng, 0.4) else _on_edge(surface, rng)
    inwards = np.rad2deg(np.arctan2(-at[1], -at[0])) + float(rng.normal(0, 35))
    length, width = (0.2 + 0.75 * g) * between(rng, 0.85, 1.2), (0.010 + 0.018 * g) * between(rng, 0.8, 1.2)
    lines = marks.crack(
        rng, surface.side, at, float(inwards), length, width=width, branches=int(rng.integers(0, 2 + round(3 * g)))
    )
    lines = lines * surface.alpha
    local = _local(surface, at)
    dark = local * np.float32(0.12) if local.mean() > 0.06 else np.minimum(local * 3 + 0.1, 1)
    surface.paint(lines * np.float32(0.45 + 0.55 * g), dark, gloss=0.03, metal=0.0)
    surface.height -= np.float32(0.012 + 0.03 * g) * lines
    return lines


_FLUIDS = (
    linear(70, 44, 20), linear(40, 34, 30), linear(120, 74, 30), linear(150, 128, 80), linear(30, 50, 90),
    linear(120, 40, 36), linear(60, 66, 44), linear(18, 18, 20),
)  # fmt: skip


def stain(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """Something that was spilled, soaked in and dried: oil, ink, rust water, a pale tide mark."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng)
    radius = (0.06 + 0.20 * g) * between(rng, 0.85, 1.2)
    spot = _patch(rng, surface.side, at, radius, ragged=between(rng, 0.06, 0.3))
    softness = between(rng, 0.01, 0.05)
    soaked = smoothstep(softness, -softness, spot) * surface.alpha
    tide = 1 + between(rng, -0.4, 0.5) * smoothstep(-0.05, 0.0, spot)
    local = _local(surface, at)
    if local.mean() < 0.07:
        color = np.minimum(local * 2 + 0.18, 0.8)
    else:
        color = np.minimum(np.array(varied(rng, pick(rng, _FLUIDS))), 0.6 * local)
    amount = np.clip(soaked * tide * np.float32(0.22 + 0.65 * g), 0, 1)
    surface.paint(amount, color)
    surface.gloss += np.float32(between(rng, -0.1, 0.35)) * amount
    np.clip(surface.gloss, 0, 1, out=surface.gloss)
    return soaked


def hole(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """A hole that does not belong there: drilled, punched or torn."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng)
    radius = (0.035 + 0.10 * g) * between(rng, 0.85, 1.15)
    shape = _patch(rng, surface.side, at, radius, ragged=pick(rng, (0.0, 0.1, 0.25)))
    inside = cover(shape, surface.side, softness=0.015) * surface.alpha
    rim = smoothstep(0.04, 0.0, np.abs(shape)) * surface.alpha
    surface.height += np.float32(between(rng, -0.006, 0.02)) * rim
    local = _local(surface, at)
    surface.paint(0.5 * rim, local * np.float32(between(rng, 0.4, 1.3)))
    if full_frame or happens(rng, 0.5):
        dark = local * np.float32(0.08) if local.mean() > 0.02 else local + np.float32(0.06)
        surface.paint(inside * np.float32(0.7 + 0.3 * g), dark, gloss=0.02, metal=0.0)
        surface.height -= np.float32(0.05 + 0.05 * g) * inside
    else:
        surface.alpha *= 1 - inside
    return inside


def missing_part(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """A piece that broke off: at the outline of a part, out of the top layer of a sheet."""
    rng, g = damage.rng, damage.severity
    radius = (0.07 + 0.24 * g) * between(rng, 0.85, 1.15)
    at = somewhere(surface, rng) if full_frame else _on_edge(surface, rng)
    shape = _patch(rng, surface.side, at, radius, ragged=between(rng, 0.08, 0.25))
    shape += np.float32(0.012) * Texture("rough", 0.4).field(rng, surface.side)
    gone = cover(shape, surface.side, softness=0.01) * surface.alpha
    fresh = smoothstep(0.035, 0.0, shape) * surface.alpha
    local = _local(surface, at)
    if full_frame:
        ground = _contrasting(rng, local, 0.2 + 0.6 * g, lighter=0.4)
        rough = 1 + np.float32(0.15) * Texture("rough", 0.4).field(rng, surface.side)
        surface.paint(gone, np.asarray(ground, np.float32)[:, None, None] * np.maximum(rough, 0.2), gloss=0.03)
        surface.height -= np.float32(0.02 + 0.05 * g) * gone
    else:
        surface.paint(0.8 * fresh * (1 - gone), np.minimum(local * 1.35 + 0.04, 0.95), gloss=0.1)
        surface.height -= np.float32(0.3) * fresh * np.maximum(surface.height, 0)
        surface.alpha *= 1 - gone
    return gone


def bent(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """An end that leaves its line; a sheet gets a crease instead."""
    rng, g = damage.rng, damage.severity
    if full_frame:
        return _crease(surface, damage)
    solid = surface.alpha > 0.5
    x, y = grid(surface.side)
    if not solid.any():
        return np.zeros_like(surface.alpha)
    degrees = _long_axis(x[solid], y[solid]) + pick(rng, (0.0, 180.0)) + float(rng.normal(0, 12))
    middle = float(x[solid].mean()), float(y[solid].mean())
    u, _ = turned(x - np.float32(middle[0]), y - np.float32(middle[1]), degrees)
    reach = float(np.quantile(u[solid], 0.99))
    start = reach * between(rng, 0.15, 0.5)
    lift = (0.14 + 0.36 * g) * pick(rng, (-1.0, 1.0))
    beyond = np.maximum(u - np.float32(start), 0)
    push = np.float32(lift / max(reach - start, 0.05)) * beyond * beyond / (beyond + np.float32(0.08))
    turn = np.deg2rad(degrees)
    half = surface.side / 2
    # (x + dx, y + dy) is where a pixel's material was before
    dx, dy = push * np.float32(np.sin(turn)), push * np.float32(-np.cos(turn))
    columns, rows = (x + dx + 1) * np.float32(half) - 0.5, (y + dy + 1) * np.float32(half) - 0.5
    before = surface.alpha.copy()
    for plane in (*surface.albedo, surface.height, surface.gloss, surface.metal, surface.alpha):
        edge = cv2.BORDER_CONSTANT if plane is surface.alpha else cv2.BORDER_REPLICATE
        plane[:] = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=edge)
    surface.height += np.float32(0.25) * np.abs(push) * surface.alpha
    return smoothstep(0.012, 0.04, np.abs(push)) * np.maximum(before, surface.alpha)


def _long_axis(x: np.ndarray, y: np.ndarray) -> float:
    spread = np.cov(np.stack([x, y]))
    values, vectors = np.linalg.eigh(spread)
    long = vectors[:, int(np.argmax(values))]
    return float(np.rad2deg(np.arctan2(long[1], long[0])))


def _crease(surface: Surface, damage: Damage) -> Field:
    """A fold that was pressed flat again, or a wave."""
    rng, g = damage.rng, damage.severity
    at, degrees = somewhere(surface, rng), between(rng, 0, 180)
    x, y = grid(surface.side)
    u, v = turned(x - np.float32(at[0]), y - np.float32(at[1]), degrees)
    length, width = (0.25 + 0.8 * g) * between(rng, 0.8, 1.2), (0.025 + 0.035 * g) * between(rng, 0.8, 1.3)
    v = v + np.float32(between(rng, -0.4, 0.4)) * u * u
    along = smoothstep(length * 0.6, length * 0.35, np.abs(u))
    ridge = cv2.exp(-((v / np.float32(width)) ** 2)) * along
    surface.height += np.float32(pick(rng, (-1.0, 1.0)) * width * (0.35 + 0.45 * g)) * ridge
    surface.albedo *= 1 + np.float32(pick(rng, (-1.0, 0.6)) * (0.08 + 0.18 * g)) * ridge
    return smoothstep(0.2, 0.5, ridge)


def contamination(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """What fell on it: crumbs, dust, fibres, hair, droplets, chips."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng)
    local = _local(surface, at)
    kind = pick(rng, ("crumbs", "fibres", "drops", "powder", "lump"))
    color = np.array(pick(rng, (paint(rng)[1], linear(60, 44, 30), linear(200, 196, 186), linear(30, 30, 32))))
    if abs(float(color.mean()) - float(local.mean())) < 0.08:
        color = np.array(_contrasting(rng, local, 0.6))
    side = surface.side
    if kind == "fibres":
        lines = []
        for _ in range(1 + round(4 * g * between(rng, 0.5, 1.2))):
            start = at[0] + float(rng.normal(0, 0.06)), at[1] + float(rng.normal(0, 0.06))
            path = marks.wander(
                rng, start, between(rng, 0, 360), (0.16 + 0.5 * g) * between(rng, 0.6, 1.2), wobble=18.0
            )
            lines.append(marks.stroke(side, path, 0.009 + 0.010 * g))
        amount, lift, gloss = marks.union(lines), 0.015, 0.1
    elif kind == "powder":
        spot = _patch(rng, side, at, 0.07 + 0.2 * g, ragged=0.3)
        dust = Texture("white", 0.31).field(rng, side)
        amount = smoothstep(0.2, 1.2, dust - np.float32(9) * spot - np.float32(0.4))
        lift, gloss = 0.004, 0.03
    elif kind == "lump":
        spot = _patch(rng, side, at, (0.035 + 0.09 * g) * between(rng, 0.9, 1.2), ragged=0.3)
        amount, lift, gloss = cover(spot, side, softness=0.015), 0.03 + 0.05 * g, between(rng, 0.05, 0.6)
    else:
        amount = np.zeros((side, side), dtype=np.float32)
        spread = 0.04 + 0.14 * g
        for index in range(1 + round(10 * g * between(rng, 0.6, 1.2))):
            off = (0.0, 0.0) if index == 0 else (float(rng.normal(0, spread)), float(rng.normal(0, spread)))
            radius = (0.016 + 0.022 * g) * between(rng, 0.7, 1.5)
            window, dx, dy = surface.around(at[0] + off[0], at[1] + off[1], 2 * radius)
            u, v = turned(dx, dy, between(rng, 0, 180))
            squeeze = 1.0 if kind == "drops" else between(rng, 1.0, 2.2)
            shape = np.sqrt(u * u + (v * np.float32(squeeze)) ** 2) - np.float32(radius)
            amount[window] = np.maximum(amount[window], cover(shape, side, softness=0.012))
        lift, gloss = (0.012, 0.8) if kind == "drops" else (0.02, 0.1)
    amount = amount * surface.alpha
    surface.paint(amount * np.float32(0.5 + 0.5 * g), color, gloss=gloss, metal=0.0)
    surface.height += np.float32(lift) * amount
    return amount


def colour_shift(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """A wrong or faded colour over a region, or all of it."""
    rng, g = damage.rng, damage.severity
    at = somewhere(surface, rng)
    radius = (0.2 + 0.6 * g) * between(rng, 0.85, 1.25)
    spot = _patch(rng, surface.side, at, radius, ragged=between(rng, 0.03, 0.2))
    region = smoothstep(0.06, -0.06, spot) * surface.alpha
    grey = surface.albedo.mean(axis=0)
    kind = pick(rng, ("hue", "fade", "dark", "yellow"))
    if kind == "hue":
        target = surface.albedo[list(pick(rng, ((1, 2, 0), (2, 0, 1), (0, 2, 1), (1, 0, 2))))]
        tint = 1 + between(rng, 0.3, 0.8) * rng.choice([-1, 1], 3)
        target = 0.5 * target + 0.5 * grey[None] * tint[:, None, None].astype(np.float32)
    elif kind == "fade":
        target = np.minimum(0.6 * grey + 0.4 * surface.albedo + 0.16, 0.9)
    elif kind == "dark":
        target = surface.albedo * np.float32(0.4) + np.float32(0.004)
    else:
        target = surface.albedo * np.array((0.95, 0.72, 0.35), np.float32)[:, None, None] + np.float32(0.01)
    strength = region * np.float32(0.25 + 0.7 * g)
    surface.albedo += strength * (target.astype(np.float32) - surface.albedo)
    return region


def misprint(surface: Surface, damage: Damage, full_frame: bool) -> Field:
    """Ink where none belongs, for families that do not draw their own print: a smear."""
    rng, g = damage.rng, damage.severity
    at, degrees = somewhere(surface, rng), between(rng, 0, 180)
    x, y = grid(surface.side)
    u, v = turned(x - np.float32(at[0]), y - np.float32(at[1]), degrees)
    length, width = 0.1 + 0.4 * g, 0.03 + 0.06 * g
    lines = Texture("grain", 0.5, degrees, 14).field(rng, surface.side)
    inside = smoothstep(length, 0.6 * length, np.abs(u)) * smoothstep(width, 0.7 * width, np.abs(v))
    smear = smoothstep(-0.4, 0.6, lines + 2 * inside - 1.2) * inside * surface.alpha
    surface.paint(smear * np.float32(0.4 + 0.5 * g), _contrasting(rng, _local(surface, at), g))
    return smear


HURT: Mapping[str, Hurt] = MappingProxyType(
    {
        "scratch": scratch,
        "dent": dent,
        "crack": crack,
        "stain": stain,
        "hole": hole,
        "missing part": missing_part,
        "bent": bent,
        "misprint": misprint,
        "contamination": contamination,
        "colour shift": colour_shift,
    }
)
