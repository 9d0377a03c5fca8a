"""Sets of pictures, as detectors and the evaluation see them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, UInt8

Picture = UInt8[np.ndarray, "_height _width 3"]
"""A decoded picture, RGB, 8 bits a channel, of any size: those of one batch need not agree, hence the underscores."""

Mask = Bool[np.ndarray, "height width"]

MIN_IMAGES = 4  # good parts; fewer give no threshold that means anything


@runtime_checkable
class ImageSet(Protocol):
    """Pictures that are sized, in a fixed order, and can be read again.

    Nothing says that they are in memory: 100,000 fit, because readers take them in batches.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Picture: ...

    @property
    def ids(self) -> Sequence[str]:
        """sha256 of each picture's decoded pixels, in order: by this, sets are checked to be disjoint."""
        ...


@dataclass(frozen=True, slots=True)
class Subset:
    """Some pictures of a set, in the order of `indices`."""

    images: ImageSet
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Picture:
        return self.images[self.indices[index]]

    @property
    def ids(self) -> Sequence[str]:
        ids = self.images.ids
        return [ids[index] for index in self.indices]


@dataclass(frozen=True, slots=True, eq=False)
class HeldoutImage:
    """One picture with its truth."""

    #: sha256 of the decoded pixels; for a synthetic picture, of its original's id and what was painted on it
    id: str
    pixels: Picture
    defective: bool
    #: where the defect is, at the picture's size; None: nobody marked it
    mask: Mask | None
    #: "good", or the kind of defect
    kind: str
    #: the defect was painted by us: AUROC on such images is never AUROC on real defects
    synthetic: bool = False


@runtime_checkable
class HeldoutSet(Protocol):
    """Held-out pictures with their truth; read lazily, in a fixed order."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> HeldoutImage: ...

    @property
    def ids(self) -> Sequence[str]: ...

    @property
    def defective(self) -> Sequence[bool]: ...


@runtime_checkable
class LabelledSet(HeldoutSet, Protocol):
    """A held-out set that knows the kind of each picture without opening it."""

    @property
    def kinds(self) -> Sequence[str]:
        """ "good", or the kind of defect."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSubset:
    """Some pictures of a labelled set, in the order of `indices`; a `LabelledSet`."""

    images: LabelledSet
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> HeldoutImage:
        return self.images[self.indices[index]]

    @property
    def ids(self) -> Sequence[str]:
        ids = self.images.ids
        return [ids[index] for index in self.indices]

    @property
    def kinds(self) -> Sequence[str]:
        kinds = self.images.kinds
        return [kinds[index] for index in self.indices]

    @property
    def defective(self) -> Sequence[bool]:
        flags = self.images.defective
        return [flags[index] for index in self.indices]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Sets of pictures one after the other, as one."""

    sets: Sequence[ImageSet]

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def __getitem__(self, index: int) -> Picture:
        images, place = _place(self.sets, index)
        return images[place]

    @property
    def ids(self) -> Sequence[str]:
        return [id for images in self.sets for id in images.ids]


@dataclass(frozen=True, slots=True, eq=False)
class JoinedHeldout:
    """Held-out sets one after the other, as one `LabelledSet`."""

    sets: Sequence[LabelledSet]

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    def __getitem__(self, index: int) -> HeldoutImage:
        images, place = _place(self.sets, index)
        return images[place]

    @property
    def ids(self) -> Sequence[str]:
        return [id for images in self.sets for id in images.ids]

    @property
    def kinds(self) -> Sequence[str]:
        return [kind for images in self.sets for kind in images.kinds]

    @property
    def defective(self) -> Sequence[bool]:
        return [bad for images in self.sets for bad in images.defective]


Sets = TypeVar("Sets", ImageSet, LabelledSet)


def _place(sets: Sequence[Sets], index: int) -> tuple[Sets, int]:
    for images in sets:
        if index < len(images):
            return images, index
        index -= len(images)
    raise IndexError(index)


def split_hash(ids: Sequence[str]) -> str:
    """One hash for a set of picture ids, whatever their order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
