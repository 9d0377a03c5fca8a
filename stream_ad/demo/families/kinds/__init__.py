"""Kinds of products: each a function from random numbers to the blueprint of one family."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from stream_ad.demo.families.blueprint import Blueprint
from stream_ad.demo.families.kinds import (
    assemblies,
    castings,
    electrics,
    foods,
    links,
    packs,
    plates,
    reliefs,
    rings,
    rods,
    sheets,
    small,
    vessels,
)

Kind = Callable[[np.random.Generator], Blueprint]

#: by name, in the order in which family numbers take turns: parts and full-frame sheets alternate
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "washer": rings.washer,
        "wood": sheets.wood,
        "plate": plates.plate,
        "metal sheet": sheets.metal_sheet,
        "bolt": rods.bolt,
        "fabric": sheets.fabric,
        "cap": vessels.cap,
        "leather": sheets.leather,
        "capsule": small.capsule,
        "tiles": sheets.tiles,
        "bracket": plates.bracket,
        "mesh": sheets.mesh,
        "tube": rods.tube,
        "stone": sheets.stone,
        "nut": rings.nut,
        "soft sheet": sheets.soft_sheet,
        "pill": small.pill,
        "panel": sheets.panel,
        "bottle": vessels.bottle,
        "carpet": reliefs.carpet,
        "button": vessels.button,
        "embossed sheet": reliefs.embossed,
        "board": electrics.board,
        "solar cell": electrics.solar_cell,
        "housing": castings.housing,
        "weld": castings.weld,
        "label": packs.label,
        "printed sheet": packs.printed_sheet,
        "cable": electrics.cable,
        "grains": reliefs.grains,
        "wheel": castings.wheel,
        "crumpled": reliefs.crumpled,
        "kernel": foods.kernel,
        "carbon fibre": reliefs.carbon_fibre,
        "terminal": electrics.terminal,
        "batch": foods.batch,
        "chip": electrics.chip,
        "bubble wrap": packs.bubble_wrap,
        "tray": packs.tray,
        "tool": castings.tool,
        "assembly": assemblies.assembly,
        "pouch": packs.pouch,
        "pasta": foods.pasta,
        "chain": links.chain,
    }
)

#: kinds that only the held-out split shows
HELD_OUT: Mapping[str, Kind] = MappingProxyType(
    {
        "gear": rings.gear,
        "lens": vessels.lens,
        "spring": links.spring,
        "knitting": reliefs.knitting,
        "zipper": links.zipper,
        "terrazzo": reliefs.terrazzo,
        "biscuit": foods.biscuit,
        "brush": links.brush,
    }
)
