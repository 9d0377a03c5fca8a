"""What unknown pictures leave behind, and that it never costs a verdict. Streams run in memory."""

import threading
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pytest
from discovery_kit import around
from stream_kit import GreyInspector, Line, inspection_of, png

from stream_ad.domain.discovery import PoolBounds
from stream_ad.domain.images import Picture
from stream_ad.domain.proposal import KeptImage
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.errors import Unavailable
from stream_ad.services.keeping import WAITING, Keeper

STRANGE = 60


class Doubting(GreyInspector):
    """Pictures of one grey are of no known product."""

    def inspect(
        self, pictures: Sequence[Picture], *, declared: Sequence[str | None], cameras: Sequence[str | None]
    ) -> list[Inspection]:
        inspections = super().inspect(pictures, declared=declared, cameras=cameras)
        return [
            inspection_of(0.0, Verdict.UNKNOWN, embedding=around(0, 1)[0]) if picture[0, 0, 0] == STRANGE else one
            for picture, one in zip(pictures, inspections, strict=True)
        ]


class Pool:
    """`domain.discovery.KeptImageRepository` in a list."""

    def __init__(self) -> None:
        self.images: list[KeptImage] = []
        self.away = False
        self.gate = threading.Event()
        self.gate.set()

    def keep(self, images: Sequence[KeptImage], bounds: PoolBounds) -> list[str]:
        self.gate.wait(10)
        if self.away:
            raise Unavailable("the database is away, because a test says so")
        self.images += images
        beyond, self.images = self.images[: -bounds.images], self.images[-bounds.images :]
        return [image.path for image in beyond]

    def all(self) -> list[KeptImage]:
        return self.images

    def of(self, proposal_id: int) -> list[KeptImage]:
        return []

    def drop(self, ids: Sequence[int]) -> list[str]:
        return []

    def paths(self) -> set[str]:
        return {image.path for image in self.images}


class Files:
    """`domain.discovery.KeptFiles` in a dictionary."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | None] = {}
        self.full = False
        self.written = 0

    def write(self, encoded: bytes | None, picture: Picture) -> tuple[str, str, int]:
        if self.full:
            raise OSError(28, "No space left on device")
        self.written += 1
        path = f"{self.written}.png"
        self.files[path] = encoded
        return path, f"{self.written:064d}", len(encoded or b"")

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.files.pop(path, None)

    def give(self, images: Sequence[KeptImage], folder: str) -> str:
        return folder

    def take_back(self, folder: str) -> None:
        raise AssertionError("keeping gives nothing away")

    def sweep(self, known: set[str], *, before: datetime) -> int:
        return 0

    def sheet(self, path: str, images: Sequence[KeptImage], title: str) -> str | None:
        return None


class Kept:
    """A line whose unknown pictures are kept."""

    def __init__(self, **bounds: int) -> None:
        self.line, self.pool, self.files = Line(), Pool(), Files()
        self.keeper = Keeper(self.pool, self.files, self.line.clock, bounds=PoolBounds(**bounds))

    def run(self, *greys: int) -> None:
        """All verdicts, and whatever of the pictures is kept in the end."""
        self.line.put(*greys)
        self.line.stream(inspector=Doubting(), keep=self.keeper).run(threading.Event(), idle_s=0.5)

    @property
    def verdicts(self) -> list[Verdict]:
        return [result.verdict for _, result in sorted(self.line.results.results.items())]


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_an_unknown_picture_leaves_its_bytes_its_embedding_and_its_place(kept: Kept) -> None:
    kept.run(10, STRANGE, 20)
    kept.keeper.close()
    [image] = kept.pool.images
    assert image.place == ("images", 0, 1)
    np.testing.assert_array_equal(image.embedding, around(0, 1)[0])
    assert kept.files.files == {image.path: png(STRANGE)}
    assert kept.verdicts == [Verdict.OK, Verdict.UNKNOWN, Verdict.OK]


def test_a_known_picture_leaves_nothing(kept: Kept) -> None:
    kept.run(10, 20, 200)
    kept.keeper.close()
    assert kept.pool.images == []


def test_a_full_disk_costs_pictures_and_no_verdict(kept: Kept) -> None:
    kept.files.full = True
    kept.run(STRANGE, STRANGE, 10)
    kept.keeper.close()
    assert kept.verdicts == [Verdict.UNKNOWN, Verdict.UNKNOWN, Verdict.OK]
    assert (kept.keeper.kept, kept.keeper.left) == (0, 2)


def test_a_system_without_threads_to_spare_costs_no_verdict(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "keep":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refused)
        kept.run(STRANGE)
    kept.run(STRANGE)
    kept.keeper.close()
    assert kept.verdicts == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    assert len(kept.pool.images) == 2


def test_a_pool_that_is_away_costs_pictures_and_no_verdict_and_comes_back(kept: Kept) -> None:
    kept.pool.away = True
    kept.run(STRANGE)
    kept.keeper.close()
    kept.pool.away = False
    kept.run(STRANGE)
    kept.keeper.close()
    assert kept.verdicts == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    assert (kept.keeper.kept, kept.keeper.left) == (1, 1)


def test_a_pool_that_stands_still_holds_up_no_verdict(kept: Kept) -> None:
    kept.pool.gate.clear()
    greys = [STRANGE] * (2 * WAITING + 20)
    kept.run(*greys)
    assert kept.verdicts == [Verdict.UNKNOWN] * len(greys)
    assert kept.keeper.left > 0
    kept.pool.gate.set()
    kept.keeper.close()
    assert kept.keeper.kept + kept.keeper.left == len(greys)


def test_a_camera_whose_pictures_make_others_go_gives_fewer_of_them() -> None:
    kept = Kept(images=2)
    for count in (2, 6):  # once the pool is full, each more makes another go
        kept.run(*[STRANGE] * count)
        kept.keeper.close()
    assert len(kept.pool.images) == 2
    assert len(kept.files.files) == 2
    before = kept.keeper.kept
    kept.run(STRANGE)  # at once: it rests
    kept.keeper.close()
    assert kept.keeper.kept == before
    kept.line.clock.sleep(10.0)
    kept.run(STRANGE)
    kept.keeper.close()
    assert kept.keeper.kept == before + 1
