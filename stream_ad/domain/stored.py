"""What is stored by its hash, so that one can see whether it still is what it was."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable


class Wrong(NamedTuple):
    """One stored thing that is not what it was."""

    place: str
    #: what was found, and what to do, in a sentence
    what: str
    #: gone altogether, not changed
    missing: bool


@runtime_checkable
class Stored(Protocol):
    """One kind of what is stored by hash."""

    @property
    def name(self) -> str:
        """For people: "entries"."""
        ...

    def check(self) -> Iterable[Wrong | None]:
        """One thing after the other: None where it is what it was. Lazy: each is read when it is asked for.

        What is deleted meanwhile, as it may be, is not missing.
        """
        ...
