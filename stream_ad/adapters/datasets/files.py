"""A product as files: what every reader of a data set finds, before a picture is opened."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream_ad.adapters.datasets.published import Category, Counts
from stream_ad.adapters.heldout import HeldoutFile
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.errors import DataError

ARCHIVES = (".zip", ".tar", ".xz", ".gz", ".tgz", ".7z", ".rar")
AGAIN = "the download or the unpacking did not finish: do it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductFiles:
    """A `Product` whose pictures are still files; the fields mean the same."""

    class_name: str
    layout: str
    dataset: str | None
    category: str | None
    #: pictures of good parts
    train: Sequence[Path]
    test: Sequence[HeldoutFile]
    complete: bool
    note: str = ""


class Reader(Protocol):
    """A module that knows one layout."""

    @property
    def LOOKED_FOR(self) -> str:
        """What must be there, for messages: "VisA (split_csv/1cls.csv beside <object>/Data/Images)"."""
        ...

    def categories(self, folder: Path) -> Mapping[str, str]:
        """Products in a folder, in their order: what `read` calls each, by its id. Empty: another layout.

        Opens no picture.

        Raises:
            DataError: this is the layout, but something that all products need is missing.
        """
        ...

    def read(self, folder: Path, category: str) -> ProductFiles:
        """One product's files.

        Raises:
            DataError: pictures or labels are missing.
        """
        ...


def subfolders(folder: Path) -> list[Path]:
    """Visible folders in a folder, by name; without what an archive from a Mac leaves behind."""
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path for path in found if path.name != "__MACOSX")


def contents(folder: Path) -> str:
    """What is in a folder, for a message; archives that wait to be unpacked come first."""
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not found:
        return "an empty folder"
    packed = [name for name in found if name.lower().endswith(ARCHIVES)]
    if packed:
        return f"{packed[0]}, which is still packed: unpack it here"
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def has_pictures(folder: Path) -> bool:
    return folder.is_dir() and bool(find_pictures(folder))


def no_pictures(place: Path, folder: Path) -> DataError:
    """The error for a part of a product's folder without pictures; says what is there instead."""
    found = contents(place if place.is_dir() else folder)
    return DataError(f"needed pictures in {place}, found {found}; {AGAIN}")


def require_all(wanted: Collection[Path], present: Collection[Path], what: str) -> None:
    """Nothing, when all files are there. Raises: DataError: counts the missing ones and names one."""
    if missing := sorted(set(wanted) - set(present)):
        raise DataError(
            f"needed {what}, but {len(missing)} of {len(set(wanted))} are missing, {missing[0]} for one; {AGAIN}"
        )


def without_masks(test: Sequence[HeldoutFile]) -> int:
    """Defective pictures without a file that marks the defect."""
    return sum(file.kind != "good" and file.mask is None for file in test)


def mask_note(test: Sequence[HeldoutFile]) -> str:
    """What to say about masks; empty when each defective picture has one."""
    missing, defective = without_masks(test), sum(file.kind != "good" for file in test)
    return f"{missing} of {defective} defective pictures have no mask and do not count for pixels" if missing else ""


def judged_alone(
    class_name: str, layout: str, dataset: str, published: Mapping[str, Category], test: Sequence[HeldoutFile]
) -> ProductFiles:
    """A set that only judges: no training part is published, and perhaps no good picture; the note says what lacks."""
    good = sum(file.kind == "good" for file in test)
    known = published.get(dataset)
    counts = Counts(0, good, len(test) - good)
    notes = [] if good else ["no good picture: image metrics are not measured"]
    notes += [note] if (note := mask_note(test)) else []
    return ProductFiles(
        class_name=class_name,
        layout=layout,
        dataset=dataset,
        category=dataset,
        train=[],
        test=test,
        complete=known is not None and counts == known.counts and (good > 0 or not without_masks(test)),
        note="; ".join(notes),
    )
