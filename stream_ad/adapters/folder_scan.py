"""Which files of a watched folder are pictures, and complete."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stream_ad.domain.ports import Clock
from stream_ad.errors import Unavailable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
TEMPORARY_PREFIXES = (".", "~", "_tmp", "tmp_")


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """A picture file as one look at the folder saw it. Ordered by age, then by name."""

    modified_ns: int
    path: str  # relative to the folder, with "/"
    size: int


class FolderScan:
    """Looks at a folder again and again.

    A file is complete when its size and time of modification stayed the same for `settle_s`; one that was last
    written more than `settle_s` ago (found at the start, or renamed into place) needs only a second look, and none
    at the first scan. A writer that pauses for longer than `settle_s` should write under another name and rename.

    Hidden and temporary names (`.x`, `~x`, `tmp_x`, `x.png.part`), other suffixes and links are no pictures.
    """

    def __init__(self, folder: Path, *, settle_s: float) -> None:
        self._folder, self._settle_s = folder, settle_s
        self._seen: dict[str, tuple[Found, float]] = {}
        self._first = True

    def complete(self, clock: Clock) -> list[Found]:
        """Every complete picture file, oldest first.

        Raises:
            Unavailable: the folder is away.
        """
        now, elapsed = clock.now().timestamp(), clock.elapsed()
        seen: dict[str, tuple[Found, float]] = {}
        complete: list[Found] = []
        for found in picture_files(self._folder):
            before = self._seen.get(found.path)
            unchanged = before is not None and before[0] == found
            since = before[1] if before is not None and unchanged else elapsed
            seen[found.path] = (found, since)
            old = now - found.modified_ns / 1e9 >= self._settle_s
            settled = unchanged and elapsed - since >= self._settle_s
            if settled or (old and (unchanged or self._first)):
                complete.append(found)
        self._seen, self._first = seen, False
        return sorted(complete)


def picture_files(folder: Path) -> Iterator[Found]:
    """Every picture file below a folder, in no order.

    Raises:
        Unavailable: the folder is missing or cannot be read.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise Unavailable(f"the folder {folder} is away: {error.strerror}; make or mount it") from error
    yield from _below(entries, "")


def _below(entries: list[os.DirEntry[str]], inside: str) -> Iterator[Found]:
    for entry in entries:
        if entry.name.startswith(TEMPORARY_PREFIXES) or not entry.name.isprintable():
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(list(os.scandir(entry)), f"{inside}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and Path(entry.name).suffix.lower() in SUFFIXES:
                status = entry.stat(follow_symlinks=False)
                yield Found(status.st_mtime_ns, f"{inside}{entry.name}", status.st_size)
        except OSError:  # removed since, or not for us to read: the next look decides
            continue
