"""Stops work before a volume is full: a database that cannot write its log, or half an overlay, helps nobody."""

import os
from collections.abc import Sequence
from pathlib import Path

from stream_ad.errors import Unavailable

MB = 1024**2
#: work goes on when so much more than the limit is free, so that it does not stop and go with every picture
HYSTERESIS = 1.1


class DiskGuard:
    """Called often (it takes microseconds): says nothing, or raises.

    `folders` are where something is written; one that is not there yet counts as its nearest parent.
    """

    def __init__(self, folders: Sequence[Path], *, min_free_mb: float) -> None:
        self._folders, self._min_free = tuple(dict.fromkeys(folders)), min_free_mb * MB
        self._full = False

    def __call__(self) -> None:
        """Raises: Unavailable: a volume has too little room, or is away. Nothing is lost; call again later."""
        if not self._min_free:
            return
        needed = self._min_free * (HYSTERESIS if self._full else 1.0)
        for folder in self._folders:
            free = _free_bytes(folder)
            if free < needed:
                self._full = True
                raise Unavailable(
                    f"the disk of {folder} has {free / MB:,.0f} MB free, work needs {needed / MB:,.0f}"
                    " (stream.min_free_mb); make room, or set bounds in `retention`"
                )
        self._full = False


def _free_bytes(folder: Path) -> int:
    """What this user may still write."""
    for place in (folder, *folder.parents):
        try:
            status = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Unavailable(f"the disk of {folder} is away: {error.strerror}; mount it again") from error
        return status.f_bavail * status.f_frsize
    raise Unavailable(f"there is no disk for {folder}; mount it")
