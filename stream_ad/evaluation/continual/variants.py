"""Every method that the benchmark knows, by name, and what is behind it under a preset.

A variant is a detector with options at an image size, and a family: how it lives through a sequence of tasks. A name
that ends in `@budget` is the same method in a fixed number of rows for all tasks together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from stream_ad.detectors.registry import DETECTORS
from stream_ad.domain.bank import BankEntry, BranchScale
from stream_ad.errors import ConfigError
from stream_ad.presets import DEPARTURES, FULL, detector_options

BUDGET = "@budget"
#: px, of every preset: finer read-outs take tiles of this size
IMAGE_SIZE = 224
#: the baseline, whatever the preset
BASELINE: Mapping[str, Any] = {"coreset_rows": 196, "blocks": (5,), "scales": (1,), "whitening": 0, "top_k": 3}
#: the block whose patches are the routing keys
KEY_BLOCK = 5
#: k of Eq. 15 in every entry as it is learned
STEEPNESS = 1.5
#: text prompts are learned at this weight where an ablation needs them and the preset has none
TEXT_WEIGHT = 0.1


class Family(StrEnum):
    BANK = "bank"  # one entry per task, found by the router
    SEQUENCE = "sequence"  # only the last task's memory
    REPLAY = "replay"  # one memory, made anew at each step from the new task and some kept pictures
    SHARED = "shared"  # one memory, its rows chosen again at each step from the old ones and the new task's


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A method before it has learned anything."""

    name: str
    family: Family
    detector: str
    options: Mapping[str, Any]
    #: one line for a reader
    about: str
    #: px, along each side
    image_size: int = IMAGE_SIZE
    #: the block whose patches are the routing keys
    key_block: int = KEY_BLOCK
    #: changes an entry after it was learned; its threshold then means nothing
    changed: "Callable[[BankEntry], BankEntry] | None" = None
    #: rows of all tasks together are bounded
    budgeted: bool = False

    @property
    def told(self) -> Mapping[str, Any]:
        """The options as JSON has them; a folder of shared weights by its name, which is its content's hash."""
        return {key: value.name if isinstance(value, Path) else value for key, value in self.options.items()}

    @property
    def rows(self) -> int:
        """Rows of one task's memory when it is learned, of each level."""
        return int(self.options.get("coreset_rows", 0))


COMPARED = (
    "cmpmb",
    "cmpmb_no_prompts",
    "cmpmb_no_text",
    "patchcore",
    "patchcore_same",
    "sequence",
    "patchcore_replay",
    "shared_coreset",
)
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
BLOCKS = (1, 3, 5, 7, 9)
STEEPNESSES = (0.5, 1.0, 1.5, 3.0)
ABLATIONS = (
    "cmpmb_full",
    "cmpmb_no_anm",
    *(f"cmpmb_alpha_{alpha:g}" for alpha in ALPHAS),
    *(f"cmpmb_block_{block}" for block in BLOCKS),
    *(f"cmpmb_k_{k:g}" for k in STEEPNESSES),
)
#: methods of a run that names none
DEFAULT = (*COMPARED, *(name + BUDGET for name in COMPARED))
#: the same of the preset that holds the paper's literal settings: one row per departure of ours
PAPER = "paper"
OF_PAPER = ("cmpmb", *(f"paper_{name}" for name in DEPARTURES), "patchcore")


def chosen(
    names: Sequence[str] | None,
    preset: str,
    *,
    depth: int,
    ablations: bool = False,
    weights: Mapping[str, Path] | None = None,
) -> list[Variant]:
    """The methods of those names under a preset, in their order; None: all that are always compared.

    `depth`: blocks of the backbone; `ablations` of blocks that it does not have are left out; `weights`: folders of
    shared ones, by the detector that they are for.

    Raises:
        ConfigError: there is no such preset or method, or one is named twice.
    """
    known = _known(preset, depth, weights or {})
    wanted = list(names or (OF_PAPER if preset == PAPER else DEFAULT))
    wanted += [name for name in ABLATIONS if ablations and name in known and name not in wanted]
    if repeated := sorted({name for name in wanted if wanted.count(name) > 1}):
        raise ConfigError(f"--detectors names {repeated[0]!r} twice; give each once")
    return [_variant(name, known) for name in wanted]


def _variant(name: str, known: Mapping[str, Variant]) -> Variant:
    base, at, end = name.partition("@")
    if base not in known or at + end not in ("", BUDGET):
        raise ConfigError(
            f"there is no method {name!r}; choose among {', '.join(known)}, each also with {BUDGET} behind its name"
        )
    made = known[base]
    if not at:
        return made
    if not made.rows:
        raise ConfigError(f"{base!r} keeps no rows, so there is no {name!r}; leave {BUDGET} out")
    return replace(made, name=name, budgeted=True, about=f"{made.about}, in a fixed number of rows for all tasks")


def _known(preset: str, depth: int, weights: Mapping[str, Path]) -> Mapping[str, Variant]:
    options = detector_options(preset, depth=depth)
    cmpmb, same = dict(options["cmpmb"]), dict(options["patchcore"])

    def bank(name: str, about: str, own: Mapping[str, Any], **more: Any) -> Variant:
        return Variant(name=name, family=Family.BANK, options=own, about=about, **{"detector": "cmpmb", **more})

    def single(name: str, family: Family, about: str) -> Variant:
        return Variant(name=name, family=family, detector="patchcore", options=same, about=about)

    with_text = cmpmb | {"text_weight": cmpmb["text_weight"] or TEXT_WEIGHT}
    rows, block = BASELINE["coreset_rows"], BASELINE["blocks"][0]
    found = [
        bank("cmpmb", "the preset as it is" if preset != PAPER else "the paper's literal settings", cmpmb),
        bank("cmpmb_full", "with visual prompts and text, whatever the preset leaves out", cmpmb | dict(FULL)),
        bank("cmpmb_no_prompts", "without visual prompts", cmpmb | {"prompt_steps": 0}),
        bank("cmpmb_no_text", "without text (UCAD-like)", cmpmb | {"text_weight": 0.0}),
        bank("patchcore", f"PatchCore per task, {rows} rows of block {block}", BASELINE, detector="patchcore"),
        bank("patchcore_same", "PatchCore per task on the preset's own features", same, detector="patchcore"),
        single("sequence", Family.SEQUENCE, "PatchCore trained in sequence: the last task's memory alone"),
        single("patchcore_replay", Family.REPLAY, "PatchCore*: one memory of the new task and replayed pictures"),
        single("shared_coreset", Family.SHARED, "one shared incremental coreset, no task id (CADIC-like)"),
        bank("cmpmb_no_anm", "raw scores summed, without normalisation", with_text, changed=without_normalisation),
        *(
            bank(f"cmpmb_alpha_{a:g}", f"visual weight {a:g} (Eq. 16)", with_text, changed=visual_weight(a))
            for a in ALPHAS
        ),
        *(
            bank(f"cmpmb_block_{b}", f"block {b} alone, 0-based, keys too", cmpmb | {"blocks": (b,)}, key_block=b)
            for b in BLOCKS
            if b < depth
        ),
        *(bank(f"cmpmb_k_{k:g}", f"k = {k:g} (Eq. 15)", with_text, changed=steepness(k)) for k in STEEPNESSES),
    ]
    named = {variant.name for variant in found}
    found += [  # a detector that was added to the registry is compared by its name
        bank(name, f"{name} per task", {**options.get(name, {}), **_trained(name, weights)}, detector=name)
        for name in DETECTORS
        if name not in named
    ]
    if preset == PAPER:
        found.append(bank(PAPER, "the paper's literal settings", cmpmb))
        found += [
            bank(f"paper_{name}", f"the paper's settings but {_said(changes)}", cmpmb | dict(changes))
            for name, changes in DEPARTURES.items()
        ]
    return {variant.name: variant for variant in found}


def _trained(name: str, weights: Mapping[str, Path]) -> Mapping[str, Any]:
    return {"weights": weights[name]} if name in weights else {}


def _said(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.items())


# --- ablations of the fusion: the branches stay, only how they are put together changes ---------------


def visual_weight(alpha: float) -> Callable[[BankEntry], BankEntry]:
    """alpha of Eq. 16, the weight of the visual branch."""
    weights = {"visual": alpha, "text": 1 - alpha}
    return lambda entry: _rescaled(entry, lambda name, s: BranchScale(s.center, s.scale, weights[name]))


def steepness(k: float) -> Callable[[BankEntry], BankEntry]:
    """k of Eq. 15."""
    return lambda entry: _rescaled(entry, lambda name, s: BranchScale(s.center, s.scale * STEEPNESS / k, s.weight))


def without_normalisation(entry: BankEntry) -> BankEntry:
    """Eq. 16 on raw scores: alpha S_V + (1 - alpha) S_T, without Eq. 15.

    Log-odds of a sigmoid so flat that it is straight: proportional to the sum, to eight digits.
    """
    return _rescaled(entry, lambda name, s: BranchScale(0.0, 1e5, s.weight))


def _rescaled(entry: BankEntry, change: Callable[[str, BranchScale], BranchScale]) -> BankEntry:
    calibration = entry.calibration
    return replace(
        entry,
        calibration=replace(
            calibration,
            score_scales={name: change(name, scale) for name, scale in calibration.score_scales.items()},
            map_scales={name: change(name, scale) for name, scale in calibration.map_scales.items()},
        ),
    )
