"""What may be deleted of the files that a line leaves: pictures of the inbox that have a verdict, and overlays.

Sizes are in gigabytes of 10^9 bytes. Memory does not grow with the number of files.
"""

import contextlib
import hashlib
import heapq
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters.folder_scan import picture_files
from stream_ad.adapters.retention_rows import DoneFile, DoneFiles
from stream_ad.domain.retention import Pruned

GB = 1e9


class Overlays:
    """Drawn pictures, by the time when they were drawn. Results that name one keep its name."""

    name = "overlays"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        total = 0

        def counted() -> Iterator[_File]:
            nonlocal total
            for file in _files(self._folder):
                total += file.size
                yield file

        # the oldest alone are remembered, in a dry run all
        oldest = sorted(counted()) if dry_run else heapq.nsmallest(limit + 1, counted())
        excess = 0.0 if most is None else total - most * GB
        count = freed = 0
        for file in oldest:
            if freed >= excess and (before is None or file.at >= before):
                break
            if count == limit and not dry_run:
                return Pruned(self.name, count, freed, more=True)
            if not dry_run:
                file.path.unlink(missing_ok=True)
                self._remove_empty(file.path.parent)
            count, freed = count + 1, freed + file.size
        return Pruned(self.name, count, freed)

    def _remove_empty(self, folder: Path) -> None:
        with contextlib.suppress(OSError):  # not empty
            while folder != self._folder:
                folder.rmdir()
                folder = folder.parent


class InboxPictures:
    """Pictures of the watched folder that have a verdict, by the time when they were first seen.

    Kept are: what waits or is being scored, what has an open dead letter (its file is needed to try again), and a file
    whose content is not that of the verdict.
    """

    name = "pictures"

    def __init__(self, folder: Path, done: DoneFiles) -> None:
        self._folder, self._done = folder, done

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        excess = 0.0 if most is None else sum(file.size for file in picture_files(self._folder)) - most * GB
        count = freed = 0
        offset = -1
        while rows := self._done.after(offset):
            gone: list[int] = []
            try:
                for row in rows:
                    if freed >= excess and (before is None or row.at >= before):
                        return Pruned(self.name, count, freed)
                    if count >= limit and not dry_run:
                        return Pruned(self.name, count, freed, more=True)
                    offset = row.offset
                    size = self._remove(row, dry_run)
                    if size is None:
                        continue
                    gone.append(row.offset)
                    count, freed = count + (size >= 0), freed + max(size, 0)
            finally:
                if not dry_run:
                    self._done.forget(gone)
        return Pruned(self.name, count, freed)

    def _remove(self, row: DoneFile, dry_run: bool) -> int | None:
        """Bytes that were freed; -1: there was no such file any more; None: it stays."""
        if row.open_letter:
            return None
        path = self._folder / row.path
        try:
            status = path.lstat()
        except FileNotFoundError:
            return -1
        if row.replaced:
            return -1  # the file is that of a later row
        if status.st_mtime > row.at.timestamp() and not _has_content(path, row.sha256):
            return None  # not looked at yet
        if not dry_run and not _take_away(path, status):
            return None
        return status.st_size


class _File(NamedTuple):
    at: datetime
    path: Path
    size: int


def _files(folder: Path) -> Iterator[_File]:
    """Every file below a folder that is or may not be there; links are no files."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield from _files(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield _File(datetime.fromtimestamp(status.st_mtime, UTC), Path(entry.path), status.st_size)


def _has_content(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _take_away(path: Path, seen: os.stat_result) -> bool:
    """Delete the file that was seen, and not one that a camera puts in its place at this moment."""
    aside = path.with_name(f".{path.name}.old")  # hidden, so no scan takes it for a picture
    try:
        path.rename(aside)
    except FileNotFoundError:
        return False
    now = aside.stat(follow_symlinks=False)
    if (now.st_ino, now.st_size, now.st_mtime_ns) == (seen.st_ino, seen.st_size, seen.st_mtime_ns):
        aside.unlink()
        return True
    if not path.exists():
        aside.rename(path)
    return False
