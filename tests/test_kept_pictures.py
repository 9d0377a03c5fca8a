"""Pictures of the pool as files."""

import os
from pathlib import Path

import numpy as np
import pytest
from discovery_kit import around
from storage_kit import NOON

from stream_ad.adapters.kept_pictures import KeptPictures
from stream_ad.domain.proposal import KeptImage


def kept(files: KeptPictures, number: int) -> KeptImage:
    path, sha256, size_bytes = files.write(None, np.full((4, 4, 3), number, np.uint8))
    return KeptImage(
        id=number,
        place=("images", 0, number),
        camera="cam1",
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        embedding=around(0, 1)[0],
        features="tiny",
        at=NOON,
    )


@pytest.mark.parametrize("links", [True, False], ids=["linked", "copied"])
def test_an_approved_picture_is_safe_on_the_disk_before_the_pool_forgets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    files = KeptPictures(tmp_path / "unknown", tmp_path / "tasks", max_pixels=100)
    images = [kept(files, number) for number in range(3)]
    synced: set[int] = set()
    sync = os.fsync

    def noted(handle: int) -> None:
        sync(handle)
        synced.add(os.fstat(handle).st_ino)

    def no_links(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(os, "fsync", noted)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    folder = Path(files.give(images, "bolt-proposal-1"))
    safe = {folder.parent, folder, *folder.iterdir()}
    assert len(safe) == 5
    assert {path.stat().st_ino for path in safe} <= synced
    synced.clear()  # the process died before its pictures were safe, and somebody approves again
    again = Path(files.give(images, "bolt-proposal-1"))
    assert again.name == "bolt-proposal-1-2"
    assert {path.stat().st_ino for path in (again, *again.iterdir())} <= synced
    files.take_back(str(again))
    assert not again.exists()
    assert folder.is_dir()
