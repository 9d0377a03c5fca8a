"""How many pictures the publications say each product has. A folder with other counts is another split.

Sources: MVTec AD, Bergmann et al., CVPR 2019, Table 1. VisA, Zou et al., ECCV 2022, and its `1cls.csv`. MPDD, Jezek et
al., ICUMT 2021, Table I. BTAD, Mishra et al., ISIE 2021. DTD-Synthetic (Aota et al., WACV 2023) prints no counts per
texture, so none can be called complete.
"""

from typing import NamedTuple


class Counts(NamedTuple):
    train: int
    good: int
    defective: int


class Category(NamedTuple):
    counts: Counts | None
    #: folders of defects, by which a folder that has lost pictures is still known; empty: the name says enough
    kinds: frozenset[str] = frozenset()


def _category(train: int, good: int, defective: int, kinds: str = "") -> Category:
    return Category(Counts(train, good, defective), frozenset(kinds.split()))


MVTEC_AD = {
    "bottle": _category(209, 20, 63, "broken_large broken_small contamination"),
    "cable": _category(
        *(224, 58, 92),
        "bent_wire cable_swap combined cut_inner_insulation cut_outer_insulation missing_cable missing_wire"
        " poke_insulation",
    ),
    "capsule": _category(219, 23, 109, "crack faulty_imprint poke scratch squeeze"),
    "carpet": _category(280, 28, 89, "color cut hole metal_contamination thread"),
    "grid": _category(264, 21, 57, "bent broken glue metal_contamination thread"),
    "hazelnut": _category(391, 40, 70, "crack cut hole print"),
    "leather": _category(245, 32, 92, "color cut fold glue poke"),
    "metal_nut": _category(220, 22, 93, "bent color flip scratch"),
    "pill": _category(267, 26, 141, "color combined contamination crack faulty_imprint pill_type scratch"),
    "screw": _category(320, 41, 119, "manipulated_front scratch_head scratch_neck thread_side thread_top"),
    "tile": _category(230, 33, 84, "crack glue_strip gray_stroke oil rough"),
    "toothbrush": _category(60, 12, 30, "defective"),
    "transistor": _category(213, 60, 40, "bent_lead cut_lead damaged_case misplaced"),
    "wood": _category(247, 19, 60, "color combined hole liquid scratch"),
    "zipper": _category(
        240, 32, 119, "broken_teeth combined fabric_border fabric_interior rough split_teeth squeezed_teeth"
    ),
}
CONVERTED = "bad anomaly ko"  # the kind that converters to the MVTec layout write
VISA = {
    "candle": _category(900, 100, 100, CONVERTED),
    "capsules": _category(542, 60, 100, CONVERTED),
    "cashew": _category(450, 50, 100, CONVERTED),
    "chewinggum": _category(453, 50, 100, CONVERTED),
    "fryum": _category(450, 50, 100, CONVERTED),
    "macaroni1": _category(900, 100, 100, CONVERTED),
    "macaroni2": _category(900, 100, 100, CONVERTED),
    "pcb1": _category(904, 100, 100, CONVERTED),
    "pcb2": _category(901, 100, 100, CONVERTED),
    "pcb3": _category(905, 101, 100, CONVERTED),
    "pcb4": _category(904, 101, 100, CONVERTED),
    "pipe_fryum": _category(450, 50, 100, CONVERTED),
}
MPDD = {
    "bracket_black": _category(289, 32, 47, "hole scratches"),
    "bracket_brown": _category(185, 26, 51, "bend_and_parts_mismatch parts_mismatch"),
    "bracket_white": _category(110, 30, 30, "defective_painting scratches"),
    "connector": _category(128, 30, 14, "parts_mismatch"),
    "metal_plate": _category(54, 26, 71, "major_rust scratches total_rust"),
    "tubes": _category(122, 32, 69, "anomalous flattening"),
}
BTAD = {
    "01": _category(400, 21, 49, CONVERTED),
    "02": _category(399, 30, 200, CONVERTED),
    "03": _category(1000, 400, 41, CONVERTED),
}
DTD_SYNTHETIC = {
    texture: Category(None)
    for texture in (
        *("Blotchy_099", "Fibrous_183", "Marbled_078", "Matted_069", "Mesh_114", "Perforated_037"),
        *("Stratified_154", "Woven_001", "Woven_068", "Woven_104", "Woven_125", "Woven_127"),
    )
}
#: nothing is learned from them; MPA's Appendix A has the same counts
MEDICAL = {
    "ISIC": _category(0, 0, 379),
    "CVC-ClinicDB": _category(0, 0, 612),
    "CVC-ColonDB": _category(0, 0, 380),
    "Kvasir": _category(0, 0, 1000),
    "Endo": _category(0, 0, 200),
    "EndoScene": _category(0, 0, 60),
    "HeadCT": _category(0, 100, 100),
    "BrainMRI": _category(0, 98, 155),
    "Br35H": _category(0, 1500, 1500),
}
