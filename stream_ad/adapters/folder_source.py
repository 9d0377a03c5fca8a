"""A watched folder as a stream. The ledger gives each (path, sha256) an offset, so a restart repeats nothing.

A file that is overwritten with other content is a new record. The first sub-folder of a picture is its camera.
"""

import hashlib
import logging
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters.folder_scan import FolderScan, Found
from stream_ad.domain.message import Record
from stream_ad.domain.ports import Clock, FileLedger
from stream_ad.errors import Unavailable

log = logging.getLogger(__name__)

SCAN_EVERY_S = 0.2
#: files hashed between two looks at the folder, so that a restart on a full folder does not keep new files waiting
HASHED_AT_ONCE = 200
LAG_LIMIT = 10_000
#: a file that cannot be read is tried again after the first delay, then after twice the one before, up to the second
RETRY_FIRST_S, RETRY_AT_MOST_S = 0.5, 60.0


class Unreadable(NamedTuple):
    """A file that could not be read, as it was then."""

    file: Found
    delay_s: float
    #: by `Clock.elapsed`
    again: float


class FolderSource:
    """`domain.ports.Source` on a folder and everything below it; one partition, 0.

    `topic` names the folder in the database; two folders need two names.
    """

    def __init__(
        self,
        folder: Path,
        ledger: FileLedger,
        clock: Clock,
        *,
        topic: str,
        settle_s: float = 0.5,
        max_bytes: int = 64 * 1024**2,
    ) -> None:
        self._folder, self._ledger, self._clock, self._topic = folder, ledger, clock, topic
        self._max_bytes = max_bytes
        self._scan = FolderScan(folder, settle_s=settle_s)
        self.stalls = 0  # a folder has no connection
        self._next_scan: float | None = None
        #: as they were when they were last hashed; no need to read them again
        self._hashed: dict[str, Found] = {}
        self._unreadable: dict[str, Unreadable] = {}
        self._known_paths: set[str] | None = None
        self._position = 0  # the offset after the last one polled
        self._in_hand: list[int] = []  # polled, not committed
        self._paused = False

    def poll(self, max_items: int, timeout_s: float) -> list[Record]:
        until = self._clock.elapsed() + timeout_s
        while True:
            if not self._paused:
                self._look()
                pending = self._ledger.pending(self._topic, len(self._in_hand) + max_items)
                fresh = [file for file in pending if file[0] >= self._position][:max_items]
                if fresh:
                    records = [self._record(*file) for file in fresh]
                    self._position = fresh[-1][0] + 1
                    self._in_hand += [offset for offset, _, _ in fresh]
                    return records
            left_s = until - self._clock.elapsed()
            if left_s <= 0:
                return []
            self._clock.sleep(min(left_s, SCAN_EVERY_S))

    def commit(self, up_to: Mapping[tuple[str, int], int]) -> None:
        for (topic, _), offset in up_to.items():
            self._ledger.done(topic, offset)
            self._in_hand = [polled for polled in self._in_hand if polled >= offset]

    def lost(self) -> set[tuple[str, int]]:
        return set()

    @property
    def assigned(self) -> bool:
        return True

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def lag(self) -> Mapping[tuple[str, int], int]:
        """Files registered and not yet polled, counted up to 10,000."""
        pending = self._ledger.pending(self._topic, len(self._in_hand) + LAG_LIMIT)
        return {(self._topic, 0): sum(offset >= self._position for offset, _, _ in pending)}

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self) -> None:
        """Register complete files that are new or changed."""
        now = self._clock.elapsed()
        if self._next_scan is not None and now < self._next_scan:
            return
        complete = self._scan.complete(self._clock)
        paths = {file.path for file in complete}
        self._unreadable = {path: failed for path, failed in self._unreadable.items() if path in paths}
        found = [file for file in complete if self._hashed.get(file.path) != file and not self._waits(file, now)]
        known = self._known_paths
        if known is None:
            known = self._known_paths = {path for path, _ in self._ledger.known(self._topic)}
        # after a restart, files that are surely new come before those that may have changed meanwhile
        found.sort(key=lambda file: file.path in known)
        hashed: list[tuple[Found, str]] = []
        for file in found[:HASHED_AT_ONCE]:
            try:
                hashed.append((file, self._hash(file)))
                self._unreadable.pop(file.path, None)
            except OSError as error:
                self._put_off(file, error)
        if hashed:
            self._ledger.register(self._topic, [(file.path, sha256) for file, sha256 in hashed], self._clock.now())
            self._hashed |= {file.path: file for file, _ in hashed}
        if len(found) <= HASHED_AT_ONCE:
            # a folder of 100,000 files takes a while to look at; look for at most a fifth of the time
            took_s = self._clock.elapsed() - now
            self._next_scan = self._clock.elapsed() + max(SCAN_EVERY_S, 4 * took_s)

    def _waits(self, file: Found, now: float) -> bool:
        """Whether it is too early to try an unreadable file again; one that changed since is tried at once."""
        failed = self._unreadable.get(file.path)
        return failed is not None and failed.file == file and now < failed.again

    def _put_off(self, file: Found, error: OSError) -> None:
        before = self._unreadable.get(file.path)
        if before is None:
            log.warning("cannot read %s yet: %s; it is tried again until it can be read", file.path, error)
        delay_s = RETRY_FIRST_S if before is None else min(2 * before.delay_s, RETRY_AT_MOST_S)
        self._unreadable[file.path] = Unreadable(file, delay_s, self._clock.elapsed() + delay_s)

    def _hash(self, file: Found) -> str:
        with (self._folder / file.path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def _record(self, offset: int, path: str, sha256: str) -> Record:
        value, error, modified = None, None, None
        try:
            status = (self._folder / path).lstat()
            modified = datetime.fromtimestamp(status.st_mtime, UTC)
            if not stat.S_ISREG(status.st_mode):
                error = "is no longer a file"
            elif status.st_size > self._max_bytes:
                error = f"has {status.st_size:,} bytes, allowed are {self._max_bytes:,}"
            else:
                value = (self._folder / path).read_bytes()
                if hashlib.sha256(value).hexdigest() != sha256:
                    # the new content is a record of its own
                    value, error = None, "was overwritten before it was read"
        except OSError as cause:
            if not self._folder.is_dir():
                raise Unavailable(f"the folder {self._folder} is away: {cause}; make or mount it") from cause
            error = f"could not be read: {cause.strerror}"
        # people look for a file by its name, so the message is named by it; another content is another message
        headers = {"ce_id": f"{path}@{sha256[:12]}", "ce_subject": path, "sha256": sha256}
        camera, below, _ = path.partition("/")
        if below:
            headers["camera"] = camera
        if error is not None:
            headers["stream_ad.source_error"] = f"the picture {path} {error}; put it there again"
        return Record(
            topic=self._topic,
            partition=0,
            offset=offset,
            # not the path: a key names the camera where no header does
            key=camera.encode() if below else None,
            value=value,
            headers={name: text.encode() for name, text in headers.items()},
            timestamp=modified,
        )
