"""A product with the pictures to learn it from and those to judge by, whichever data set it came out of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stream_ad.domain.images import ImageSet, LabelledSet


@runtime_checkable
class Named(Protocol):
    """A set of pictures that knows each one's file."""

    @property
    def named_ids(self) -> Mapping[str, str]:
        """Each picture's id, by its file."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """One product of an inspection data set. Its pictures are opened when they are asked for, not before."""

    #: a plain name, unique among the products that were found together; fit for a task's id
    id: str
    #: the noun that fills text prompts, e.g. "metal nut"
    class_name: str
    #: how the files lie: "mvtec", "visa", "btad", "real-iad", "kolektorsdd", "kolektorsdd2", "dagm", "isic", "polyps",
    #: or "brain"
    layout: str
    #: the published data set that the product belongs to, e.g. "MVTec AD"; None: not known
    dataset: str | None
    #: normal pictures; empty for a set that only judges
    train: ImageSet
    test: LabelledSet
    #: the published split as a whole, so that published figures are for the same pictures; else they are context
    complete: bool
    #: the product's name within `dataset`, as publications print it, e.g. "bottle"
    category: str | None = None
    #: what has to stand beside figures of this product, as a sentence; empty: nothing
    note: str = ""

    def named_ids(self) -> Mapping[str, Mapping[str, str]]:
        """Each set's ids by file, to check that none is in both. Opens every picture."""
        sets = {f"the training pictures of {self.id}": self.train, f"the test pictures of {self.id}": self.test}
        return {
            name: one.named_ids if isinstance(one, Named) else {f"number {i}": id for i, id in enumerate(one.ids)}
            for name, one in sets.items()
        }
