"""Weights that all tasks share, trained once: a folder named by the hash of its content, with a card.

<kind>-<first 16 digits of the sha256>/
    weights.safetensors   the arrays; what made them is JSON in the header, so that it is part of the hash
    about.json            the same JSON, and the sha256
    README.md             the card, for people
"""

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from stream_ad.domain.bank import BankEntry, FeatureSpec
from stream_ad.domain.images import split_hash
from stream_ad.errors import BankError, NoSharedWeights, WeightsError

ARRAYS_FILE, ABOUT_FILE, CARD_FILE = "weights.safetensors", "about.json", "README.md"
HEADER = "stream-ad shared weights"
FORMAT = 1
DIGITS = 16
#: of `about`: the pictures that the weights were trained on, the first digits of their ids
LEARNED = "learned_pictures"


@dataclass(frozen=True, slots=True, eq=False)
class SharedWeights:
    """What one training left; known by its `sha256`, which bank entries name."""

    #: the detector that they are for, e.g. "mpa"
    kind: str
    #: what the arrays are and what made them: shape, products, steps, seed, losses, `backbone` ...
    about: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]
    sha256: str

    @property
    def learned_pictures(self) -> Collection[str]:
        """First digits of the ids of the pictures that they were trained on."""
        return frozenset(self.about.get(LEARNED, ()))

    def require(self, kind: str, features: FeatureSpec) -> None:
        """Nothing, when they fit.

        Raises:
            WeightsError: they are another detector's, or belong to another backbone.
        """
        if self.kind != kind:
            raise WeightsError(
                f"needed shared weights of {kind!r}, got those of {self.kind!r} ({self.sha256[:DIGITS]})"
            )
        made_for = self.about["backbone"]
        if made_for["weights_sha256"] != features.weights_sha256:
            raise WeightsError(
                f"shared weights {self.sha256[:DIGITS]} of {kind!r} belong to the backbone {made_for['name']!r} "
                f"(weights {made_for['weights_sha256'][:12]}), but {features.backbone!r} (weights "
                f"{features.weights_sha256[:12]}) is in use: choose that one with backbone.id, or train others with "
                f"`stream-ad train {kind}`"
            )


class Named:
    """What a detector scores by: shared weights, if settings name some.

    Raises:
        WeightsError: they are not there, are damaged, or belong to another detector or backbone.
    """

    def __init__(self, kind: str, weights: SharedWeights | Path | None, features: FeatureSpec) -> None:
        self.kind = kind
        self.known = load(weights) if isinstance(weights, Path) else weights
        if self.known is not None:
            self.known.require(kind, features)

    @property
    def trained(self) -> SharedWeights:
        """Raises: NoSharedWeights: there are none."""
        if self.known is None:
            raise NoSharedWeights(self.kind)
        return self.known

    def require_named(self, entries: Iterable[BankEntry]) -> None:
        """Nothing, when the entries were made with these.

        Raises:
            BankError: one was made with others.
        """
        for entry in entries:
            if (named := entry.shared_weights) != self.trained.sha256:
                needed = folder_of(self.kind, named or "unnamed", Path()).name
                raise BankError(
                    f"the entry of task {entry.task.id!r} was made with the shared weights {needed}, but"
                    f" {self.trained.sha256[:DIGITS]} are in use, and no {needed} lies beside them: bring that folder"
                    f" back, or set detector.{self.kind}.weights to it"
                )


@dataclass(frozen=True, slots=True)
class Found:
    """A folder of shared weights, its arrays not yet read."""

    folder: Path
    kind: str
    sha256: str
    about: Mapping[str, Any]


def learned_from(ids: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Of `about`: the products and pictures that weights were trained on."""
    return {
        "products": {name: {"pictures": len(own), "sha256": split_hash(own)} for name, own in ids.items()},
        LEARNED: sorted({id[:DIGITS] for own in ids.values() for id in own}),
    }


def folder_of(kind: str, sha256: str, parent: Path) -> Path:
    """Where weights lie."""
    return parent / f"{kind}-{sha256[:DIGITS]}"


def folder_for(kind: str, sha256: str, chosen: Path | None, parent: Path) -> Path:
    """Where weights of this hash are looked for: in the folder that settings chose, or beside it; else in `parent`."""
    if chosen is None:
        return folder_of(kind, sha256, parent)
    told = _about(chosen)
    return chosen if told is not None and told["sha256"] == sha256 else folder_of(kind, sha256, chosen.parent)


def kind_of(detector: str) -> str:
    """The kind of the weights that an entry of this detector ("mpa/1") may name."""
    return detector.partition("/")[0]


def save(kind: str, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], card: str, parent: Path) -> Path:
    """The folder that was written in `parent`; equal weights give an equal name, and nothing is written twice.

    Raises:
        WeightsError: the folder cannot be written.
    """
    header = json.dumps({"format": FORMAT, "kind": kind, "about": about}, sort_keys=True, allow_nan=False)
    ordered = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    data = safetensors.numpy.save(ordered, metadata={HEADER: header})
    sha256 = hashlib.sha256(data).hexdigest()
    folder = folder_of(kind, sha256, parent)
    if _whole(folder):
        return folder
    partial = parent / f".partial-{folder.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_durably(partial / ARRAYS_FILE, data)
        told = {"format": FORMAT, "kind": kind, "sha256": sha256, "about": about}
        write_durably(partial / ABOUT_FILE, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())
        write_durably(partial / CARD_FILE, card.encode())
        shutil.rmtree(folder, ignore_errors=True)  # damaged ones: equal weights are made again under the same name
        partial.rename(folder)
    except OSError as error:
        raise WeightsError(f"shared weights cannot be written to {folder}: {error.strerror}; free it") from error
    return folder


def write_durably(path: Path, data: bytes) -> None:
    """The file is on disk, whole, when this returns."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _whole(folder: Path) -> bool:
    try:
        load(folder)
    except WeightsError:
        return False
    return True


def load(folder: Path) -> SharedWeights:
    """The weights in a folder.

    Raises:
        WeightsError: they are not there, are of another format, or are damaged.
    """
    path = folder / ARRAYS_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"needed shared weights in {folder}, but {path.name} cannot be read: {error.strerror}; "
            "`stream-ad weights list` shows what is here"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    told = _about(folder)
    if told is None or told["sha256"] != sha256:
        stated = "nothing readable" if told is None else told["sha256"][:DIGITS]
        raise WeightsError(
            f"shared weights in {folder} are damaged: their hash is {sha256[:DIGITS]}, {ABOUT_FILE} says {stated}; copy"
            " the folder again, or train them again"
        )
    if told["format"] != FORMAT:
        raise WeightsError(f"{folder} has format {told['format']}, this program reads {FORMAT}; use a newer one")
    if _header(data) != {"format": FORMAT, "kind": told["kind"], "about": told["about"]}:
        raise WeightsError(
            f"{folder / ABOUT_FILE} says other things than {ARRAYS_FILE}, which it was written with; copy the folder"
            " again, or train them again"
        )
    return SharedWeights(told["kind"], told["about"], safetensors.numpy.load(data), sha256)


def _header(data: bytes) -> Any:
    """What made the weights, as the file says it; the file's hash has been checked."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + length])["__metadata__"][HEADER])


def found(parent: Path) -> list[Found]:
    """The folders of shared weights in a folder, by name."""
    if not parent.is_dir():
        return []
    folders = [(folder, _about(folder)) for folder in sorted(parent.iterdir()) if (folder / ARRAYS_FILE).is_file()]
    return [Found(folder, told["kind"], told["sha256"], told["about"]) for folder, told in folders if told is not None]


def _about(folder: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((folder / ABOUT_FILE).read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and {"format", "kind", "sha256", "about"} <= told.keys() else None
