"""Biscuits, kernels, pasta and batches of such things: nothing here is quite round or quite the same twice."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage, struck
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.colors import linear, paint, varied
from stream_ad.demo.families.shapes import arc, box, circle_of, disc, lobed, put, rod, solid, spots
from stream_ad.demo.families.textures import Texture
from stream_ad.demo.surface import Surface, grid, smoothstep, turned

FOOD = ("crack", "hole", "stain", "missing part", "contamination", "colour shift", "dent")


def biscuit(rng: np.random.Generator) -> Blueprint:
    """A biscuit, cracker or cookie: browned edges, docking holes, chips."""
    dough = varied(rng, pick(rng, (linear(214, 166, 104), linear(196, 134, 72), linear(92, 58, 38))), 0.15)
    layers = (
        materials.Layer(Texture("rough", between(rng, 0.3, 0.8)), 0.08, between(rng, 0.003, 0.008)),
        materials.Layer(Texture("grain", 0.5), 0.07, 0.002),
        materials.Layer(Texture("cloud", 0.3), 0.1),
    )
    material = materials.Material("", dough, 0.08, layers=layers)
    shape, half = pick(rng, ("round", "box", "wavy")), (between(rng, 0.55, 0.8), between(rng, 0.4, 0.75))
    rows = int(rng.integers(2, 5))
    docks = [((c - (rows - 1) / 2) * 0.3, (r - (rows - 1) / 2) * 0.3) for c in range(rows) for r in range(rows)]
    docked, chips = happens(rng, 0.5), int(rng.integers(0, 12)) if happens(rng, 0.5) else 0
    chip_color = pick(rng, (linear(52, 30, 22), linear(120, 30, 34), paint(rng)[1]))

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        wobble = np.float32(0.012) * Texture("soft", 0.25).field(shot, side)
        if shape == "box":
            distance = box(x, y, *half, 0.08)
        else:
            distance = lobed(x, y, 24, half[0], 0.03) if shape == "wavy" else disc(x, y, half[0])
        distance = distance + wobble
        part = solid(material, shot, distance, height=0.12, edge=0.12)
        part.albedo *= 1 - np.float32(0.35) * smoothstep(-0.2, 0.0, distance)
        if docked:
            pits = smoothstep(0.05, 0.02, spots(x, y, docks, 0.0)) * part.alpha
            part.height -= np.float32(0.05) * pits
            part.albedo *= 1 - np.float32(0.4) * pits
        for _ in range(chips):
            at = between(shot, -0.7, 0.7) * half[0], between(shot, -0.7, 0.7) * half[1 if shape == "box" else 0]
            if shape == "box" or np.hypot(*at) < half[0] - 0.1:
                size = between(shot, 0.035, 0.08)
                put(
                    part,
                    at,
                    (size, size * 0.8),
                    chip_color,
                    degrees=between(shot, 0, 180),
                    corner=0.6 * size,
                    height=0.16,
                    domed=True,
                )
        return part

    return Blueprint(pick(rng, ("biscuit", "cookie", "cracker", "wafer")), draw, FOOD)


def kernel(rng: np.random.Generator) -> Blueprint:
    """A nut, bean, seed or stone fruit: an egg with a grain, a cap or a furrow."""
    colors = {
        "hazelnut": linear(150, 92, 50),
        "almond": linear(164, 100, 56),
        "bean": linear(120, 40, 36),
        "walnut": linear(176, 134, 88),
        "coffee bean": linear(66, 40, 26),
        "olive": linear(78, 92, 36),
        "potato": linear(186, 150, 96),
        "chestnut": linear(84, 42, 26),
        "pea": linear(120, 150, 60),
        "cashew": linear(214, 182, 136),
    }
    name = pick(rng, tuple(colors))
    half, egg = (between(rng, 0.5, 0.78), between(rng, 0.4, 0.66)), between(rng, 0.0, 0.35)
    turn = between(rng, 0, 180)
    layers = (
        materials.Layer(Texture("cloud", between(rng, 0.2, 0.5), turn, between(rng, 1, 5)), between(rng, 0.06, 0.2)),
        materials.Layer(Texture("rough", 0.5), 0.06, between(rng, 0.0008, 0.006)),
        materials.Layer(Texture("grain", 0.5, turn, between(rng, 3, 14)), between(rng, 0.02, 0.12), 0.0008),
    )
    material = materials.Material("", varied(rng, colors[name], 0.2), between(rng, 0.1, 0.6), layers=layers)
    cap, furrow = happens(rng, 0.4), happens(rng, 0.35)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = turned(*grid(side), turn)
        a, b = half[0] * between(shot, 0.93, 1.04), half[1] * between(shot, 0.93, 1.04)
        around = np.sqrt((x / np.float32(a)) ** 2 + (y / (np.float32(b) * (1 + np.float32(egg) * x))) ** 2)
        around += np.float32(0.02) * Texture("soft", 0.25).field(shot, side)
        part = solid(material, shot, (around - 1) * np.float32(b), height=0.0)
        part.height += np.float32(0.55 * b) * np.sqrt(np.maximum(1 - around * around, 0))
        if cap:
            pale = smoothstep(0.35 * a, 0.55 * a, x + np.float32(0.04) * Texture("cloud", 0.4).field(shot, side))
            part.paint(0.6 * pale * part.alpha, np.minimum(np.array(material.color) * 1.7 + 0.05, 0.9), gloss=0.05)
        if furrow:
            line = np.exp(-(((y + 0.06 * np.sin(4 * x)) / np.float32(0.03)) ** 2)) * (around < 0.9)
            part.height -= (np.float32(0.06) * line).astype(np.float32)
            part.albedo *= 1 - np.float32(0.4) * line.astype(np.float32)
        return part

    return Blueprint(name, draw, (*FOOD, "scratch", "misprint") if happens(rng, 0.2) else (*FOOD, "scratch"))


def pasta(rng: np.random.Generator) -> Blueprint:
    """A bent tube: pasta, gummi rings, hooks of dough or plastic."""
    name, color = pick(
        rng,
        (
            ("macaroni", linear(224, 180, 90)),
            ("gummi ring", paint(rng)[1]),
            ("plastic hook", paint(rng)[1]),
            ("cashew nut", linear(214, 180, 134)),
            ("rubber hose", linear(40, 40, 42)),
        ),
    )
    radius, width, half = between(rng, 0.35, 0.55), between(rng, 0.12, 0.24), between(rng, 50, 150)
    ridges = between(rng, 20, 50) if happens(rng, 0.4) else 0.0
    layers = (materials.Layer(Texture("rough", 0.4), 0.05, 0.001), materials.Layer(Texture("cloud", 0.3), 0.06))
    material = materials.Material("", varied(rng, color), between(rng, 0.15, 0.7), layers=layers)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        x = x - np.float32(0.25 * radius)
        distance = arc(x, y, radius * between(shot, 0.95, 1.05), half * between(shot, 0.93, 1.05), width)
        part = solid(material, shot, distance, height=0.0)
        part.height += np.float32(0.75) * rod(distance, width)
        if ridges:
            part.height += np.float32(0.008) * np.cos(np.sqrt(x * x + y * y) * np.float32(ridges * 2)) * part.alpha
        return part

    return Blueprint(name, draw, (*FOOD, "bent", "scratch"))


def batch(rng: np.random.Generator) -> Blueprint:
    """Several equal small things side by side, each lying as it fell."""
    material = materials.some(rng, materials.ALL)
    count = pick(rng, (3, 4, 5, 6, 8))
    size = between(rng, 0.12, 0.2)
    shape = pick(rng, ("disc", "stick", "box", "ring", "star"))
    half = {"stick": (1.5 * size, 0.4 * size), "box": (size, 0.7 * size)}.get(shape, (size, size))
    corner = {"stick": 0.4 * size, "box": 0.1 * size}.get(shape, size)
    places = circle_of(count if count < 6 else count - 1, 0.56, between(rng, 0, 90)) + (
        [(0.0, 0.0)] if count >= 6 else []
    )
    domed, height = happens(rng, 0.5), between(rng, 0.06, 0.2)
    name = {"disc": "discs", "stick": "sticks", "box": "blocks", "ring": "rings", "star": "candies"}[shape]

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        surface = material.coat(shot, side)
        texture = surface.albedo.copy()
        surface.alpha[:] = 0
        gone = struck(damage, "missing part", len(places), 3)
        for index, at in enumerate(places):
            spot = at[0] + float(shot.normal(0, 0.025)), at[1] + float(shot.normal(0, 0.025))
            degrees = between(shot, 0, 180)
            if index in gone:
                continue
            put(
                surface,
                spot,
                half,
                material.color,
                degrees=degrees,
                corner=corner,
                height=height,
                edge=0.3 * size,
                gloss=material.gloss,
                metal=material.metal,
                domed=domed,
            )
            if shape in ("ring", "star"):
                window, dx, dy = surface.around(*spot, size)
                away = lobed(dx, dy, 3 if shape == "star" else 1, 0.4 * size, 0.1 * size)
                surface.height[window] -= np.float32(0.6 * height) * smoothstep(0.02, -0.02, away)
                if shape == "ring":
                    surface.alpha[window] *= smoothstep(-0.01, 0.01, away)
        surface.albedo[:] = texture
        return surface

    defects = ("missing part", "crack", "stain", "contamination", "colour shift", "scratch", "hole")
    return Blueprint(f"{material.word} {name}", draw, defects, ("missing part",))
