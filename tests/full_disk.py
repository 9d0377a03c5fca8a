"""Fills the disk of a folder and says what became of verdicts and overlays; run on a small disk of its own.

python -m tests.full_disk FOLDER
"""

import json
import sys
import threading
from pathlib import Path

import numpy as np

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.decode import decode
from stream_ad.adapters.disk import DiskGuard
from stream_ad.adapters.in_memory import InMemoryBanks, InMemoryLog, InMemorySource
from stream_ad.adapters.overlay import OverlayFolder
from stream_ad.adapters.storage import Database
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.domain.result import Verdict
from stream_ad.errors import Unavailable
from stream_ad.services.streaming import Stream, StreamOptions
from tests.storage_kit import NOON
from tests.stream_kit import GreyInspector, inspection_of, png

PICTURES = 40
MIN_FREE_MB = 6.0


class Ballast:
    """A file that leaves so much room, and no more."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def leave(self, megabytes: float) -> None:
        self.throw_off()
        with (self._folder / "ballast").open("wb", buffering=0) as file:
            try:
                while DiskGuard([self._folder], min_free_mb=megabytes + 0.25)() is None:
                    file.write(bytes(256 * 1024))
            except (Unavailable, OSError):
                pass
            if megabytes == 0:
                for size in (4096, 512):
                    try:
                        while file.write(bytes(size)) == size:
                            pass
                    except OSError:
                        pass

    def throw_off(self) -> None:
        (self._folder / "ballast").unlink(missing_ok=True)


def refused(action: object) -> str:
    try:
        action()  # pyright: ignore[reportCallIssue]
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def letter(offset: int, size: int) -> DeadLetter:
    record = Record(topic="t", partition=0, offset=offset, key=None, value=bytes(size), headers={}, timestamp=None)
    return DeadLetter(record=record, stage="decode", error_class="E", reason="r", at=NOON)


def main(folder: Path) -> None:
    said: dict[str, object] = {}
    ballast = Ballast(folder)
    guard = DiskGuard([folder / "not-there-yet"], min_free_mb=MIN_FREE_MB)
    database = Database(f"sqlite:///{folder / 'stream-ad.db'}", folder / "entries", create=True)
    overlays = OverlayFolder(folder / "overlays")

    said["roomy"] = refused(guard)
    ballast.leave(MIN_FREE_MB - 1)
    said["tight"] = refused(guard)
    ballast.leave(MIN_FREE_MB + 0.3)
    said["barely more"] = refused(guard)
    ballast.throw_off()
    said["roomy again"] = refused(guard)

    # past all guards: no byte is left
    record = Record(topic="t", partition=0, offset=1, key=None, value=b"", headers={}, timestamp=None)
    message = ImageMessage(record=record, message_id="1", data=b"", camera=None, declared_product=None)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    (folder / "overlays").mkdir()
    ballast.leave(0)
    said["saved while full"] = refused(lambda: database.results.save_batch([], [letter(0, 1_000_000)], []))
    said["drawn while full"] = refused(lambda: overlays(message, noise, inspection_of(200.0, Verdict.NG)))
    said["left of overlays"] = [path.name for path in (folder / "overlays").rglob("*") if path.is_file()]
    said["letters while full"] = len(database.results.dead_letters(9))
    ballast.throw_off()
    said["saved afterwards"] = refused(lambda: database.results.save_batch([], [letter(0, 1_000_000)], []))
    said["letters afterwards"] = len(database.results.dead_letters(9))
    with database.engine.connect() as connection:
        said["database"] = connection.exec_driver_sql("PRAGMA integrity_check").scalar()

    said |= run_stream(database, overlays, guard, ballast)
    database.close()
    print(json.dumps(said))


def run_stream(database: Database, overlays: OverlayFolder, guard: DiskGuard, ballast: Ballast) -> dict[str, object]:
    """A stream whose disk is full when it starts, and gets room only when it waits for it."""
    log = InMemoryLog()
    for row in range(PICTURES):
        log.append(png(50 + 5 * (row % 20)))
    stop = threading.Event()
    clock = SystemClock()
    stream = Stream(
        source=InMemorySource(log, clock),
        inspector=GreyInspector(),
        banks=InMemoryBanks(),
        results=database.results,
        decode=decode,
        clock=clock,
        overlays=overlays,
        guard=guard,
        on_batch=lambda batch: stop.set() if stream.counters.scored >= PICTURES else None,
        options=StreamOptions(batch_size=4, linger_s=0.01, look_s=0.05),
    )
    ballast.leave(MIN_FREE_MB - 2)
    runner = threading.Thread(target=stream.run, args=(stop,), kwargs={"idle_s": 60.0})
    runner.start()
    while stream.health.waiting_for != "disk":
        stop.wait(0.01)
    waited_with = stream.counters.scored
    ballast.throw_off()
    runner.join(60)
    rows = database.results.recent(1000)
    return {
        "scored before there was room": waited_with,
        "offsets": sorted(row.offset for row in rows),
        "waits for the disk": stream.counters.retries["disk"],
        "overlays": sum(row.overlay is not None and Path(row.overlay).is_file() for row in rows),
        "not OK": sum(row.verdict != Verdict.OK for row in rows),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
