"""Captions: what a person would write under a photograph of a product, flawless or not."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from stream_ad.demo.families.chance import happens, pick
from stream_ad.domain.images import Mask

FLAWLESS = ("flawless", "perfect", "intact", "good", "undamaged", "clean", "normal", "faultless", "unblemished")
DAMAGED = ("damaged", "defective", "broken", "faulty", "flawed", "imperfect", "bad")
GENERIC = ("part", "object", "product", "surface", "item", "workpiece")

FAINT, STRONG = 0.35, 0.7  # severities below and above which a caption may say so


class State(NamedTuple):
    """How one kind of damage is said."""

    adjectives: tuple[str, ...]
    #: with their article
    nouns: tuple[str, ...]
    faint: tuple[str, ...]
    strong: tuple[str, ...]


STATES: Mapping[str, State] = MappingProxyType(
    {
        "scratch": State(
            ("scratched", "scuffed"), ("a scratch", "scratches", "a scratch mark"), ("faint", "thin"), ("deep", "long")
        ),
        "dent": State(("dented",), ("a dent", "a dented area"), ("slight", "shallow"), ("deep", "large")),
        "crack": State(
            ("cracked", "fractured"), ("a crack", "a fracture"), ("fine", "hairline"), ("large", "wide", "severe")
        ),
        "stain": State(
            ("stained", "spotted"), ("a stain", "a spot", "a dark spot"), ("faint", "small"),
            ("heavy", "large"),
        ),
        "hole": State(("punctured", "perforated"), ("a hole", "a puncture"), ("small", "tiny"), ("large", "big")),
        "missing part": State(
            ("incomplete", "chipped"), ("a missing part", "a missing piece", "a piece broken off"),
            ("small",), ("large", "big"),
        ),
        "bent": State(
            ("bent", "deformed", "crooked"), ("a bend", "a deformation"), ("slight",), ("strong", "severe")
        ),
        "misprint": State(
            ("misprinted", "badly printed"), ("a misprint", "a printing defect", "a faulty print"), ("slight", "faint"),
            ("severe", "obvious"),
        ),
        "contamination": State(
            ("contaminated", "dirty", "soiled"),
            ("contamination", "foreign matter", "dirt", "a foreign body", "particles"), ("slight", "little"),
            ("heavy", "much"),
        ),
        "colour shift": State(
            ("discoloured", "off-colour", "faded"), ("a colour shift", "a wrong colour", "a discoloration"),
            ("slight", "faint"), ("strong", "obvious"),
        ),
    }
)  # fmt: skip

# {a_...} stands for words with their article
_WHOLE = (
    "{a_noun}, {good}", "{a_good_noun}", "a photo of {a_good_noun}", "a photo of {a_noun} without any defect",
    "{a_noun} without damage", "{a_noun} in perfect condition", "a picture of {a_good_noun}", "{a_good_generic}",
    "a photo of {a_good_generic}, {a_noun}", "{a_noun} with no flaw", "a close-up photo of {a_good_noun}",
)  # fmt: skip
_HURT = (
    "a photo of {a_adjective_noun}", "{a_adjective_noun}", "a photo of {a_noun} with {flaw}", "{a_noun} with {flaw}",
    "{a_noun}, {adjective}", "{a_damaged_noun} with {flaw}", "a photo of {a_damaged_noun}, {adjective}",
    "a picture of {a_adjective_noun}", "{flaw} on {a_noun}", "a close-up photo of {flaw} on {a_noun}",
    "{a_damaged_generic} with {flaw}", "{a_adjective_generic}", "a photo of {a_noun} showing {flaw}",
)  # fmt: skip
_WHERE = ("{a_noun} with {flaw} {place}", "a photo of {a_noun} with {flaw} {place}", "{flaw} {place} of {a_noun}")

#: heads of nouns that take no "a"
_UNCOUNTED = frozenset((
    "gravel", "granulate", "pellets", "pebbles", "grains", "discs", "sticks", "blocks", "rings", "candies",
    "wood", "leather", "wool", "knitting", "fabric", "cloth", "textile", "canvas", "paper", "foil", "film",
    "wrap", "wrapping", "metal", "macaroni",
))  # fmt: skip


def caption(
    noun: str, defect: str | None, severity: float, rng: np.random.Generator, *, mask: Mask | None = None
) -> str:
    """One of many captions of a product, lower case ASCII; with `mask` now and then with the place of the damage.

    Raises:
        KeyError: `defect` is not one of DEFECTS.
    """
    generic = pick(rng, GENERIC)
    if defect is None:
        good = pick(rng, FLAWLESS)
        words = {"a_noun": _a(noun), "good": good}
        words |= {"a_good_noun": _a(f"{good} {noun}"), "a_good_generic": _a(f"{good} {generic}")}
        return pick(rng, _WHOLE).format(**words)
    state = STATES[defect]
    adjective, damaged = pick(rng, state.adjectives), pick(rng, DAMAGED)
    words = {"a_noun": _a(noun), "adjective": adjective, "flaw": _flaw(state, severity, rng)}
    words |= {"a_adjective_noun": _a(f"{adjective} {noun}"), "a_adjective_generic": _a(f"{adjective} {generic}")}
    words |= {"a_damaged_noun": _a(f"{damaged} {noun}"), "a_damaged_generic": _a(f"{damaged} {generic}")}
    words["place"] = place(mask) if mask is not None else ""
    if words["place"] and happens(rng, 0.25):
        return pick(rng, _WHERE).format(**words)
    return pick(rng, _HURT).format(**words)


def place(mask: Mask) -> str:
    """Where in the picture the damage is: "at the top left", "in the middle"; empty for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return ""
    y, x = float(rows.mean()) / mask.shape[0], float(columns.mean()) / mask.shape[1]
    vertical = "top" if y < 0.36 else "bottom" if y > 0.64 else ""
    horizontal = "left" if x < 0.36 else "right" if x > 0.64 else ""
    words = f"{vertical} {horizontal}".strip()
    return f"at the {words}" if words else "in the middle"


def _flaw(state: State, severity: float, rng: np.random.Generator) -> str:
    noun = pick(rng, state.nouns)
    if severity < FAINT and happens(rng, 0.6):
        degree = pick(rng, state.faint)
    elif severity > STRONG and happens(rng, 0.6):
        degree = pick(rng, state.strong)
    else:
        return noun
    article, _, bare = noun.rpartition("a ") if noun.startswith("a ") else ("", "", noun)
    return _a(f"{degree} {bare}") if noun.startswith("a ") else f"{degree} {article}{bare}"


def _a(words: str) -> str:
    """`words` with the indefinite article, if there is one of it."""
    head = words.partition(" of ")[0].partition(" on ")[0].rpartition(" ")[2]
    if head in _UNCOUNTED:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
