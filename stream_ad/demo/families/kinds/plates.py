"""Plates, brackets and what is cut from sheet."""

import numpy as np

from stream_ad.demo.families import materials
from stream_ad.demo.families.blueprint import Blueprint, Damage
from stream_ad.demo.families.chance import between, happens, pick
from stream_ad.demo.families.kinds.rings import BODY
from stream_ad.demo.families.prints import mark, misprinted, stamped
from stream_ad.demo.families.shapes import box, circle_of, disc, polygon, segment, solid, spots
from stream_ad.demo.surface import Surface, grid, smoothstep


def plate(rng: np.random.Generator) -> Blueprint:
    """A flat plate of some outline with a pattern of holes, sometimes stamped or printed."""
    material = materials.some(rng, materials.ALL)
    shape = pick(rng, ("box", "box", "disc", "polygon", "slot"))
    half = between(rng, 0.5, 0.82), between(rng, 0.3, 0.75)
    corner, sides = between(rng, 0.01, 0.25), int(rng.integers(3, 9))
    thick, edge = between(rng, 0.02, 0.09), between(rng, 0.006, 0.04)
    radius = between(rng, 0.03, 0.09)
    pattern = pick(rng, ("corners", "circle", "grid", "middle", "none"))
    inset = 1.8 * radius + 0.5 * corner
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(1, 5))
    stamp = (
        mark(rng, 0.0, between(rng, -0.2, 0.2), 0.6 * half[0], 0.3 * half[1], (0.02, 0.02, 0.02))
        if happens(rng, 0.4)
        else None
    )
    ink = pick(rng, ((0.02, 0.02, 0.02), (0.8, 0.8, 0.8), None))

    def outline(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if shape == "disc":
            return disc(x, y, half[0])
        if shape == "polygon":
            return polygon(x, y, sides, 0.8 * half[0], corner=0.2)
        if shape == "slot":
            return box(x, y, half[0], half[1] * 0.6, min(half[1] * 0.6, half[0]) * 0.98)
        return box(x, y, *half, min(corner, *half))

    low = 0.6 if shape == "slot" else 1.0
    if shape in ("disc", "polygon"):
        centers = circle_of(pick(rng, (3, 4, 6, 8)), 0.6 * half[0])
    elif pattern == "corners":
        centers = [(sx * (half[0] - inset), sy * (low * half[1] - inset)) for sx in (-1, 1) for sy in (-1, 1)]
    elif pattern == "grid":
        xs = np.linspace(-0.7 * half[0], 0.7 * half[0], columns)
        ys = np.linspace(-0.6 * half[1], 0.6 * half[1], rows) if rows > 1 else np.zeros(1)
        centers = [(float(cx), float(cy)) for cx in xs for cy in ys]
    else:
        centers = circle_of(pick(rng, (3, 4, 6)), 0.5 * min(half)) if pattern == "circle" else [(0.0, 0.0)]
    if pattern == "none":
        centers = []
    if stamp and any(abs(cy - stamp.y) < radius + stamp.height for _, cy in centers):
        stamp = None

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        distance = np.maximum(outline(x, y), -spots(x, y, centers, radius))
        part = solid(material, shot, distance, height=thick, edge=edge)
        if stamp:
            amount = stamped(stamp, side)
            if damage and damage.kind == "misprint":
                amount = misprinted(amount, damage)
            amount = amount * part.alpha
            if ink:
                part.paint(0.9 * amount, ink, gloss=0.2, metal=0.0)
            else:
                part.height -= 0.012 * amount
                part.albedo *= 1 - np.float32(0.35) * amount
        return part

    words = ("plate", "panel", "cover plate", "flange", "sheet metal part" if material.metal > 0.2 else "shim", "lid")
    extra, own = (("misprint",), ("misprint",)) if stamp else ((), ())
    return Blueprint(f"{material.word} {pick(rng, words)}", draw, (*BODY, *extra), own)


def bracket(rng: np.random.Generator) -> Blueprint:
    """An angle, a T, a hook or a bar linkage of sheet, with a bend and holes."""
    material = materials.some(rng, (materials.metal, materials.metal, materials.painted, materials.plastic))
    wide = between(rng, 0.10, 0.2)
    shape = pick(rng, ("L", "T", "U", "Z", "link", "Y"))
    a, b = between(rng, 0.5, 0.72), between(rng, 0.4, 0.66)
    ends = {
        "L": [((-a, b), (-a, -b)), ((-a, b), (a, b))],
        "T": [((-a, -b), (a, -b)), ((0.0, -b), (0.0, b))],
        "U": [((-a, -b), (-a, b)), ((-a, b), (a, b)), ((a, b), (a, -b))],
        "Z": [((-a, -b), (0.0, -b)), ((0.0, -b), (0.0, b)), ((0.0, b), (a, b))],
        "link": [((-a, 0.0), (a, 0.0))],
        "Y": [((0.0, 0.0), p) for p in circle_of(3, a)],
    }[shape]
    square, bend = happens(rng, 0.5), between(rng, -0.3, 0.3)
    thick, hole = between(rng, 0.03, 0.09), wide * between(rng, 0.35, 0.6)
    holes = [p for line in ends for p in line] + ([(0.0, 0.0)] if shape == "link" and happens(rng, 0.5) else [])
    gusset = happens(rng, 0.3)

    def draw(shot: np.random.Generator, side: int, damage: Damage | None) -> Surface:
        x, y = grid(side)
        body = np.minimum.reduce([segment(x, y, *line, wide) for line in ends])
        if square:
            boxes = [
                box(
                    x - np.float32((p[0] + q[0]) / 2),
                    y - np.float32((p[1] + q[1]) / 2),
                    abs(p[0] - q[0]) / 2 + wide,
                    abs(p[1] - q[1]) / 2 + wide,
                    0.03,
                )
                for p, q in ends
                if p[0] == q[0] or p[1] == q[1]
            ]
            body = np.minimum.reduce([body, *boxes])
        distance = np.maximum(body, -spots(x, y, holes, hole))
        # one leg stands up: the sheet is bent along a line
        upright = smoothstep(bend, bend + 0.06, y if shape != "link" else x)
        height = thick + np.float32(0.16) * upright
        part = solid(material, shot, distance, height=height.astype(np.float32), edge=0.02)
        if gusset:
            part.height += np.float32(0.05) * smoothstep(0.05, 0.0, np.abs(body + np.float32(wide))) * part.alpha
        return part

    words = ("bracket", "mounting bracket", "lever") if shape != "link" else ("link", "bar", "lever", "strap")
    return Blueprint(f"{material.word} {pick(rng, words)}", draw, BODY)
