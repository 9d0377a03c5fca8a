"""What parts are made of: each material is a colour, a finish and some layers of texture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from stream_ad.demo.families.chance import between, happens, pick, scaled
from stream_ad.demo.families.colors import Color, linear, paint, varied
from stream_ad.demo.families.textures import Texture, turned_marks
from stream_ad.demo.surface import Surface, grid, mottled, smoothstep


class Layer(NamedTuple):
    """A texture that changes brightness and height."""

    texture: Texture
    tint: float
    relief: float = 0.0


class Patches(NamedTuple):
    """A second material where a texture is above a level: rust, veins, speckles."""

    texture: Texture
    low: float
    high: float
    color: Color
    gloss: float
    metal: float
    relief: float = 0.0


@dataclass(frozen=True, slots=True)
class Material:
    """One family's material; every coat of it is a little different."""

    #: for captions: "steel", "red plastic"
    word: str
    color: Color
    gloss: float
    metal: float = 0.0
    layers: tuple[Layer, ...] = ()
    patches: tuple[Patches, ...] = ()
    #: strength and fineness of a lathe's rings, 0 none
    rings: tuple[float, float] = (0.0, 0.0)
    #: how unevenly it mirrors its surroundings: large soft lights and darks that no relief explains
    mirroring: float = 0.0

    def coat(self, rng: np.random.Generator, side: int) -> Surface:
        """A sheet of it that fills the raster."""
        # single pieces of a lot differ a little
        surface = Surface.blank(side, varied(rng, self.color, 0.03), gloss=self.gloss, metal=self.metal)
        factor = np.ones((side, side), dtype=np.float32)
        for texture, tint, relief in self.layers:
            field = texture.field(rng, side)
            if tint:
                factor += np.float32(tint) * field
            if relief:
                surface.height += np.float32(relief) * field
        if self.rings[0]:
            field = turned_marks(rng, side, self.rings[1])
            factor += np.float32(self.rings[0]) * field
            # a turned face glints in two opposite sectors
            x, y = grid(side)
            sectors = 2 * (x * np.float32(np.cos(glint := between(rng, 0, 3))) + y * np.float32(np.sin(glint))) ** 2
            factor += np.float32(1.5 * self.mirroring) * (sectors / (x * x + y * y + np.float32(0.02)) - 1)
            surface.height += np.float32(0.006 * self.rings[0]) * field
        if self.mirroring:
            lights = Texture("soft", 0.11, between(rng, 0, 180), 2.0).field(rng, side)
            factor *= np.maximum(1 + np.float32(self.mirroring) * lights, 0.3)
        surface.tint(factor)
        for patch in self.patches:
            amount = smoothstep(patch.low, patch.high, patch.texture.field(rng, side))
            surface.paint(amount, mottled(patch.color, np.maximum(factor, 0.02)), gloss=patch.gloss, metal=patch.metal)
            if patch.relief:
                surface.height += np.float32(patch.relief) * amount
        return surface


def _turn(rng: np.random.Generator) -> float:
    return between(rng, 0, 180)


def _uneven(rng: np.random.Generator, amount: float = 0.05) -> Layer:
    """Handling, age, uneven light: no real surface is of one colour."""
    return Layer(Texture("cloud", scaled(rng, 0.15, 0.6), _turn(rng)), amount * scaled(rng, 0.4, 2))


# --- metals -----------------------------------------------------------------------------------------------------

_METALS: dict[str, tuple[Color, float]] = {  # colour and how much a mirror
    "steel": (linear(150, 152, 156), 0.7),
    "stainless steel": (linear(178, 180, 182), 0.8),
    "aluminium": (linear(190, 192, 196), 0.6),
    "zinc": (linear(168, 172, 178), 0.6),
    "iron": (linear(92, 90, 90), 0.5),
    "brass": (linear(196, 160, 84), 0.75),
    "copper": (linear(190, 112, 78), 0.75),
    "bronze": (linear(140, 104, 66), 0.6),
    "chrome": (linear(202, 206, 210), 0.95),
    "gold plated": (linear(214, 170, 84), 0.85),
    "black oxide steel": (linear(50, 50, 54), 0.45),
    "titanium": (linear(140, 136, 132), 0.6),
}


def metal(rng: np.random.Generator) -> Material:
    """Some metal with some finish: brushed, cast, blasted, turned, polished, galvanised, rusty."""
    name = pick(rng, tuple(_METALS))
    color, mirror = _METALS[name]
    base = Material(name, varied(rng, color), gloss=between(rng, 0.25, 0.6), metal=mirror * between(rng, 0.6, 1))
    finish = pick(rng, (brushed, cast, blasted, lathed, polished, rolled, worn))
    if name in ("zinc", "steel") and happens(rng, 0.3):
        finish = galvanised
    if name in ("steel", "iron") and happens(rng, 0.25):
        finish = rusty
    material = finish(rng, base)
    return replace(material, mirroring=material.metal * material.gloss * between(rng, 0.3, 1.1))


def brushed(rng: np.random.Generator, base: Material) -> Material:
    turn = pick(rng, (0.0, 90.0, _turn(rng)))
    strength = scaled(rng, 0.04, 0.16)
    return replace(
        base,
        word=pick(rng, ("brushed ", "")) + base.word,
        layers=(
            Layer(Texture("grain", between(rng, 0.4, 1.0), turn, scaled(rng, 8, 40)), strength, 0.02 * strength),
            Layer(Texture("rough", 0.3, turn, 12), 0.5 * strength),
            _uneven(rng),
        ),
    )


def cast(rng: np.random.Generator, base: Material) -> Material:
    relief = scaled(rng, 0.0008, 0.004)
    return replace(
        base,
        word=pick(rng, ("cast ", "cast ", "")) + base.word,
        gloss=between(rng, 0.1, 0.35),
        metal=base.metal * 0.5,
        layers=(
            Layer(Texture("rough", scaled(rng, 0.3, 0.9)), 0.06, relief),
            Layer(Texture(pick(rng, ("grain", "fine bumps", "white")), between(rng, 0.3, 0.7)), 0.06, 0.5 * relief),
            _uneven(rng, 0.08),
        ),
    )


def blasted(rng: np.random.Generator, base: Material) -> Material:
    return replace(
        base,
        word=pick(rng, ("matt ", "")) + base.word,
        gloss=between(rng, 0.1, 0.3),
        metal=base.metal * 0.6,
        layers=(Layer(Texture("grain", between(rng, 0.5, 1.0)), scaled(rng, 0.03, 0.1), 0.0008), _uneven(rng)),
    )


def lathed(rng: np.random.Generator, base: Material) -> Material:
    return replace(
        base,
        word=pick(rng, ("machined ", "turned ", "")) + base.word,
        gloss=between(rng, 0.4, 0.7),
        layers=(Layer(Texture("grain", 0.6), 0.02, 0.0002), _uneven(rng)),
        rings=(scaled(rng, 0.03, 0.12), scaled(rng, 0.4, 2.0)),
    )


def polished(rng: np.random.Generator, base: Material) -> Material:
    return replace(
        base,
        word=pick(rng, ("polished ", "shiny ", "")) + base.word,
        gloss=between(rng, 0.6, 0.9),
        metal=min(1.0, base.metal * 1.25),
        layers=(Layer(Texture("soft", 0.5), 0.03, 0.0015), Layer(Texture("white", 0.4), 0.015)),
    )


def rolled(rng: np.random.Generator, base: Material) -> Material:
    turn = pick(rng, (0.0, 90.0))
    return replace(
        base,
        layers=(
            Layer(Texture("cloud", between(rng, 0.3, 0.8), turn, scaled(rng, 2, 6)), scaled(rng, 0.04, 0.14)),
            Layer(Texture("white", 0.4, turn, 3), 0.05, 0.0003),
        ),
    )


def worn(rng: np.random.Generator, base: Material) -> Material:
    return replace(
        base,
        gloss=between(rng, 0.2, 0.4),
        layers=(
            Layer(Texture("fibres", between(rng, 0.5, 1.3), _turn(rng), scaled(rng, 1, 3)), 0.05, 0.0002),
            Layer(Texture("rough", between(rng, 0.3, 0.8)), 0.1, 0.0006),
            _uneven(rng, 0.12),
        ),
    )


def galvanised(rng: np.random.Generator, base: Material) -> Material:
    cells = Texture(pick(rng, ("cells", "cells", "fine cells")), between(rng, 0.3, 0.9), _turn(rng), scaled(rng, 1, 2))
    return replace(
        base,
        word="galvanised " + base.word.replace("zinc", "steel"),
        gloss=0.3,
        metal=0.4,
        layers=(Layer(cells, scaled(rng, 0.15, 0.5)), Layer(Texture("rough", 0.5), 0.06, 0.0005), _uneven(rng)),
    )


def rusty(rng: np.random.Generator, base: Material) -> Material:
    rust = varied(rng, linear(128, 66, 34), 0.2)
    amount = between(rng, -0.8, 1.0)
    return replace(
        base,
        word="rusty " + base.word,
        gloss=0.12,
        metal=base.metal * 0.5,
        layers=(Layer(Texture("rough", between(rng, 0.3, 0.9)), 0.14, 0.002), _uneven(rng, 0.1)),
        patches=(
            Patches(Texture("cloud", scaled(rng, 0.3, 1.2)), amount, amount + 0.9, rust, 0.03, 0.02, 0.002),
            Patches(Texture("rough", 0.6), 1.2, 2.2, varied(rng, linear(70, 36, 22)), 0.03, 0.0, 0.001),
        ),
    )


# --- what is moulded, painted, fired ----------------------------------------------------------------------------


def plastic(rng: np.random.Generator) -> Material:
    """A moulded plastic, smooth, grained or speckled."""
    name, color = paint(rng)
    gloss = between(rng, 0.12, 0.75)
    grain = Texture(pick(rng, ("grain", "rough", "fine bumps", "fine joints")), scaled(rng, 0.3, 1.0))
    layers = (Layer(grain, scaled(rng, 0.005, 0.05), scaled(rng, 0.0001, 0.0015)), _uneven(rng, 0.03))
    patches = ()
    if happens(rng, 0.12):
        dots = Texture("grain", between(rng, 0.4, 0.8))
        patches = (Patches(dots, 1.8, 2.4, paint(rng)[1], gloss, 0.0),)
    return Material(f"{name} plastic", color, gloss, layers=layers, patches=patches)


def rubber(rng: np.random.Generator) -> Material:
    name, color = ("black", varied(rng, linear(36, 36, 38), 0.25)) if happens(rng, 0.7) else paint(rng)
    texture = Texture(pick(rng, ("grain", "rough", "white")), between(rng, 0.3, 0.9))
    layers = (Layer(texture, scaled(rng, 0.04, 0.15), scaled(rng, 0.0005, 0.002)), _uneven(rng, 0.1))
    return Material(pick(rng, (f"{name} rubber", "rubber")), color, between(rng, 0.05, 0.35), layers=layers)


def painted(rng: np.random.Generator) -> Material:
    """Sheet metal under paint: orange peel, sometimes chipped at points."""
    name, color = paint(rng)
    peel = Texture("soft", between(rng, 1.0, 2.4))
    layers = (Layer(peel, 0.0, scaled(rng, 0.0004, 0.003)), Layer(Texture("white", 0.4), 0.015), _uneven(rng, 0.03))
    word = pick(rng, ("painted", "enamelled", "powder coated", "lacquered"))
    return Material(f"{name} {word} metal", color, between(rng, 0.3, 0.85), 0.1, layers=layers)


def ceramic(rng: np.random.Generator) -> Material:
    if happens(rng, 0.55):
        name, color = ("white", varied(rng, linear(226, 222, 212))) if happens(rng, 0.5) else paint(rng)
        layers = (Layer(Texture("soft", 0.8), 0.02, 0.002), _uneven(rng, 0.04))
        speckles = Patches(Texture("grain", 0.5), 2.2, 2.8, varied(rng, linear(80, 60, 40)), 0.5, 0.0)
        patches = (speckles,) if happens(rng, 0.3) else ()
        word = pick(rng, ("ceramic", "porcelain", "glazed ceramic"))
        return Material(f"{name} {word}", color, between(rng, 0.55, 0.9), layers=layers, patches=patches)
    color = varied(rng, pick(rng, (linear(178, 100, 66), linear(196, 170, 136), linear(206, 202, 194))), 0.2)
    layers = (
        Layer(Texture("rough", between(rng, 0.4, 0.9)), 0.08, 0.0012),
        Layer(Texture("white", 0.4), 0.06, 0.0006),
        _uneven(rng, 0.06),
    )
    return Material(pick(rng, ("clay", "unglazed ceramic", "terracotta")), color, 0.08, layers=layers)


def stone(rng: np.random.Generator) -> Material:
    """Marble, granite, sandstone, slate, concrete."""
    kind = pick(rng, ("marble", "granite", "sandstone", "slate", "concrete"))
    if kind == "marble":
        light = varied(rng, pick(rng, (linear(222, 218, 210), linear(60, 62, 60), linear(190, 160, 130))), 0.15)
        vein = varied(rng, pick(rng, (linear(120, 118, 116), linear(200, 190, 170), linear(130, 90, 60))), 0.2)
        veins = Texture(pick(rng, ("ridges", "swirls")), scaled(rng, 0.2, 0.6), _turn(rng), scaled(rng, 1, 3))
        layers = (Layer(Texture("cloud", 0.3), 0.08), Layer(Texture("white", 0.5), 0.02))
        return Material(
            kind, light, between(rng, 0.3, 0.8), layers=layers, patches=(Patches(veins, 0.6, 1.6, vein, 0.5, 0.0),)
        )
    if kind == "granite":
        base = varied(rng, pick(rng, (linear(150, 146, 142), linear(90, 86, 84), linear(170, 130, 116))), 0.2)
        flakes = Texture(pick(rng, ("grain", "rough", "fine cells")), scaled(rng, 0.4, 1.2))
        patches = (
            Patches(flakes, 0.6, 0.9, varied(rng, linear(44, 42, 42), 0.3), 0.5, 0.0),
            Patches(Texture("grain", between(rng, 0.3, 0.8)), 1.1, 1.5, varied(rng, linear(220, 214, 206)), 0.6, 0.0),
        )
        return Material(kind, base, between(rng, 0.2, 0.7), layers=(Layer(flakes, 0.12), _uneven(rng)), patches=patches)
    colors = {
        "sandstone": linear(190, 160, 120),
        "slate": linear(78, 84, 90),
        "concrete": linear(150, 148, 142),
    }
    layers = (
        Layer(Texture("rough", scaled(rng, 0.2, 0.8), _turn(rng), scaled(rng, 1, 3)), 0.1, scaled(rng, 0.001, 0.006)),
        Layer(Texture("white", between(rng, 0.3, 0.6)), 0.08, 0.0008),
        _uneven(rng, 0.1),
    )
    pits = Patches(Texture("grain", 0.4), 2.0, 2.5, varied(rng, linear(70, 66, 60)), 0.02, 0.0, -0.008)
    return Material(
        kind, varied(rng, colors[kind], 0.2), 0.06, layers=layers, patches=(pits,) if kind == "concrete" else ()
    )


# --- what grew, what was spun -----------------------------------------------------------------------------------

_WOODS: dict[str, Color] = {
    "oak": linear(168, 126, 80),
    "pine": linear(212, 172, 118),
    "walnut": linear(92, 62, 42),
    "beech": linear(202, 156, 112),
    "maple": linear(222, 190, 148),
    "mahogany": linear(120, 58, 38),
    "bamboo": linear(212, 180, 116),
    "plywood": linear(196, 160, 112),
}


def wood(rng: np.random.Generator) -> Material:
    """Sawn wood: figure and pores along the grain."""
    name = pick(rng, tuple(_WOODS))
    turn = pick(rng, (0.0, 90.0, between(rng, -12, 12), between(rng, 78, 102)))
    color = varied(rng, _WOODS[name], 0.15)
    dark = tuple(c * between(rng, 0.35, 0.7) for c in color)
    figure = Texture(pick(rng, ("swirls", "cloud", "swirls")), scaled(rng, 0.25, 0.9), turn, scaled(rng, 5, 16))
    pores = Texture("grain", between(rng, 0.4, 0.9), turn, scaled(rng, 8, 26))
    layers = (
        Layer(figure, scaled(rng, 0.05, 0.2), 0.0005),
        Layer(pores, scaled(rng, 0.03, 0.1), 0.0006),
        Layer(Texture("white", 0.5, turn, 4), 0.03, 0.0002),
        _uneven(rng),
    )
    patches = (Patches(pores, 1.3, 2.2, (dark[0], dark[1], dark[2]), 0.05, 0.0, -0.001),)
    word = pick(rng, ("wood", "wooden", name, name))
    return Material(word, color, pick(rng, (0.06, 0.1, 0.35, 0.5)), layers=layers, patches=patches)


def leather(rng: np.random.Generator) -> Material:
    name, color = paint(rng) if happens(rng, 0.4) else ("brown", varied(rng, linear(110, 66, 38), 0.35))
    pebbles = Texture(
        pick(rng, ("fine joints", "joints", "fine joints", "ridges")), scaled(rng, 0.35, 1.3), _turn(rng), 1.3
    )
    layers = (
        Layer(pebbles, scaled(rng, 0.05, 0.16), scaled(rng, 0.001, 0.004)),
        Layer(Texture("rough", 0.5), 0.05, 0.0008),
        _uneven(rng, 0.08),
    )
    return Material(pick(rng, (f"{name} leather", "leather")), color, between(rng, 0.1, 0.5), layers=layers)


def felt(rng: np.random.Generator) -> Material:
    name, color = paint(rng)
    tile = pick(rng, ("fibres", "curls"))
    layers = (
        Layer(Texture(tile, between(rng, 0.3, 0.9)), scaled(rng, 0.08, 0.2), 0.002),
        Layer(Texture("white", 0.5), 0.06, 0.001),
        _uneven(rng, 0.06),
    )
    return Material(f"{name} felt", color, 0.03, layers=layers)


def cork(rng: np.random.Generator) -> Material:
    cells = Texture("fine cells", scaled(rng, 0.3, 0.8))
    dark = Patches(Texture("rough", 0.6), 1.3, 1.8, varied(rng, linear(86, 52, 30)), 0.03, 0.0, -0.004)
    layers = (Layer(cells, 0.18), Layer(Texture("rough", 0.6), 0.1, 0.002), _uneven(rng))
    return Material("cork", varied(rng, linear(188, 142, 96)), 0.04, layers=layers, patches=(dark,))


def foam(rng: np.random.Generator) -> Material:
    name, color = paint(rng)
    pores = Texture(pick(rng, ("fine bumps", "bumps", "fine joints")), scaled(rng, 0.4, 1.3))
    layers = (Layer(pores, scaled(rng, 0.05, 0.15), scaled(rng, 0.001, 0.006)), _uneven(rng))
    holes = Patches(Texture("grain", between(rng, 0.25, 0.6)), 1.4, 2.0, tuple3(color, 0.4), 0.02, 0.0, -0.01)
    return Material(f"{name} foam", color, 0.03, layers=layers, patches=(holes,))


def cardboard(rng: np.random.Generator) -> Material:
    turn = pick(rng, (0.0, 90.0))
    layers = (
        Layer(Texture("curls", between(rng, 0.4, 0.9)), scaled(rng, 0.02, 0.06), 0.0003),
        Layer(Texture("soft", 0.9, turn, 10), 0.03, scaled(rng, 0.0003, 0.002)),  # the flutes shine through
        Layer(Texture("white", 0.4), 0.02),
        _uneven(rng),
    )
    return Material("cardboard", varied(rng, linear(190, 152, 108)), 0.05, layers=layers)


def paper(rng: np.random.Generator) -> Material:
    name, color = ("white", varied(rng, linear(228, 226, 218), 0.06)) if happens(rng, 0.6) else paint(rng)
    layers = (
        Layer(Texture(pick(rng, ("fibres", "curls", "grain")), 0.6), scaled(rng, 0.006, 0.03), 0.0003),
        _uneven(rng, 0.03),
    )
    return Material(f"{name} paper", color, pick(rng, (0.04, 0.08, 0.5)), layers=layers)


def tuple3(color: Color, factor: float) -> Color:
    """`color`, darker or lighter."""
    return color[0] * factor, color[1] * factor, color[2] * factor


Maker = Callable[[np.random.Generator], Material]

HARD: tuple[Maker, ...] = (metal, metal, metal, plastic, plastic, painted, ceramic, wood)
ALL: tuple[Maker, ...] = (
    metal, metal, metal, plastic, plastic, rubber, painted, ceramic, stone, wood, leather, felt, cork, foam, cardboard,
    paper,
)  # fmt: skip


def some(rng: np.random.Generator, makers: Sequence[Maker]) -> Material:
    """A material of one of `makers`."""
    return pick(rng, makers)(rng)
