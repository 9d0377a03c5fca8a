"""What pictures of no known product leave behind: a thread of its own keeps them, and never costs a verdict.

It takes a picture only when it has room, so a disk or a database that is slow or away costs pictures of the pool, of
which there are many, and nothing else.
"""

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from jaxtyping import Float32

from stream_ad.domain.discovery import KeptFiles, KeptImageRepository, PoolBounds
from stream_ad.domain.images import Picture
from stream_ad.domain.message import ImageMessage
from stream_ad.domain.ports import Clock
from stream_ad.domain.proposal import KeptImage
from stream_ad.domain.result import Inspection

log = logging.getLogger(__name__)

Keep = Callable[[ImageMessage, Picture, Inspection], None]
"""Takes what a picture of no known product leaves behind, or leaves it; returns at once and never raises."""

WAITING = 32  # pictures that wait for the thread, at most
WAITING_BYTES = 128 * 1024**2
TOGETHER = 16  # pictures of one transaction
FULL_REST_S = 2.0  # a camera whose pictures make older ones go gives one so often: a pool is not a recording
GIVE_UP_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _Left:
    message: ImageMessage
    picture: Picture
    embedding: Float32[np.ndarray, " joint"]
    features: str
    at: datetime


class Keeper:
    """Its thread begins with the first picture, and ends with `close`."""

    def __init__(
        self, images: KeptImageRepository, files: KeptFiles, clock: Clock, *, bounds: PoolBounds = PoolBounds()
    ) -> None:
        self._images, self._files, self._clock, self._bounds = images, files, clock, bounds
        self._waiting: queue.Queue[_Left | None] = queue.Queue(WAITING)
        self._bytes = 0
        self._one_at_a_time = threading.Lock()
        self._thread: threading.Thread | None = None
        #: by camera, until when nothing of it is taken, by `Clock.elapsed`
        self._resting: dict[str | None, float] = {}
        #: pictures kept, and those left because there was no room or the disk or the database was away
        self.kept = 0
        self.left = 0

    def __call__(self, message: ImageMessage, picture: Picture, inspection: Inspection) -> None:
        """As `Keep`: one whose inspection has no embedding is of a known product."""
        if inspection.embedding is None or self._rests(message.camera):
            return
        one = _Left(message, picture, inspection.embedding, inspection.features, self._clock.now())
        with self._one_at_a_time:
            if self._bytes and self._bytes + picture.nbytes > WAITING_BYTES:
                self.left += 1
                return
            try:
                self._waiting.put_nowait(one)
            except queue.Full:
                self.left += 1
                return
            self._bytes += picture.nbytes
            if self._thread is None:
                self._thread = self._begun()

    def close(self) -> None:
        """Keep what waits, for a few seconds at most."""
        with self._one_at_a_time:
            thread, self._thread = self._thread, None
        if thread is not None:
            try:
                self._waiting.put(None, timeout=GIVE_UP_S)
            except queue.Full:
                log.warning("the disk or the database is too slow: %d unknown pictures are not kept", WAITING)
                return
            thread.join(GIVE_UP_S)

    def _begun(self) -> threading.Thread | None:
        thread = threading.Thread(target=self._work, name="keep", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more threads; what waits is for one begun later
            log.warning("pictures of unknown products wait to be kept: %s", error)
            return None
        return thread

    def _rests(self, camera: str | None) -> bool:
        return self._clock.elapsed() < self._resting.get(camera, 0.0)

    def _work(self) -> None:
        while True:
            batch, ends = self._take()
            if batch:
                try:
                    self._keep(batch)
                except Exception as error:  # whatever the disk or the database do, verdicts go on
                    self.left += len(batch)
                    log.warning("%d pictures of unknown products are not kept: %s", len(batch), error)
                with self._one_at_a_time:
                    self._bytes -= sum(one.picture.nbytes for one in batch)
            if ends:
                return

    def _take(self) -> tuple[list[_Left], bool]:
        """What waits, at least one; whether nothing comes after it."""
        batch: list[_Left] = []
        while len(batch) < TOGETHER:
            try:
                one = self._waiting.get(block=not batch)
            except queue.Empty:
                break
            if one is None:
                return batch, True
            batch.append(one)
        return batch, False

    def _keep(self, batch: Sequence[_Left]) -> None:
        # files first: a row without a file could not be shown, a file without a row is swept
        images = [self._image(one) for one in batch]
        needless = self._images.keep(images, self._bounds)
        self._files.remove(needless)
        self.kept += len(images)
        if len(needless) >= len(images):
            until = self._clock.elapsed() + FULL_REST_S
            self._resting = {one.message.camera: until for one in batch}

    def _image(self, one: _Left) -> KeptImage:
        record = one.message.record
        path, sha256, size_bytes = self._files.write(record.value or None, one.picture)
        return KeptImage(
            id=0,
            place=record.place,
            camera=one.message.camera,
            path=path,
            sha256=sha256,
            size_bytes=size_bytes,
            embedding=one.embedding,
            features=one.features,
            at=one.at,
        )
