"""A disk that fills up stops the work before anything is lost, and room on it lets it go on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stream_ad.adapters.disk import DiskGuard
from stream_ad.errors import Unavailable
from tests.full_disk import PICTURES

ROOT = Path(__file__).parents[1]
#: a mount of its own, seen by nobody else and gone with the process; no rights are needed where user namespaces are on
ON_A_SMALL_DISK = 'mount -t tmpfs -o size=32m none "$1" && exec "$2" -m tests.full_disk "$1"'
IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def test_the_limit_of_free_room_is_said_with_what_to_do(tmp_path: Path):
    free_mb = shutil.disk_usage(tmp_path).free / 1024**2
    DiskGuard([tmp_path], min_free_mb=1.0)()
    with pytest.raises(Unavailable, match=r"MB free, work needs .*stream\.min_free_mb.*`retention`"):
        DiskGuard([tmp_path / "a" / "b"], min_free_mb=2 * free_mb + 1000)()


def test_no_limit_means_no_look_at_the_disk():
    DiskGuard([Path("/proc/none")], min_free_mb=0.0)()


def test_a_disk_that_went_away_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def stale(path: object) -> os.statvfs_result:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "statvfs", stale)
    with pytest.raises(Unavailable, match="Stale file handle; mount it again"):
        DiskGuard([tmp_path], min_free_mb=1.0)()


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What `tests/full_disk.py` saw on a disk of 32 MB."""
    folder = tmp_path_factory.mktemp("disk")
    try:
        subprocess.run([*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a mount of its own (Linux with user namespaces, util-linux): {error}")
    run = subprocess.run(
        [*IN_A_NAMESPACE, "sh", "-c", ON_A_SMALL_DISK, "sh", str(folder), sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_work_stops_when_too_little_is_free_and_goes_on_only_with_some_more(said):
    assert said["roomy"] == said["roomy again"] == "done"
    assert said["tight"].startswith("Unavailable")
    assert said["barely more"].startswith("Unavailable"), "else it would stop and go with every picture"


def test_what_a_full_disk_cannot_take_is_refused_whole_and_can_be_sent_again(said):
    assert said["saved while full"].startswith("Unavailable"), "passing, so the stream waits and keeps its records"
    assert said["letters while full"] == 0
    assert (said["saved afterwards"], said["letters afterwards"]) == ("done", 1)
    assert said["database"] == "ok"


def test_a_full_disk_leaves_no_half_overlay(said):
    assert "No space left" in said["drawn while full"]
    assert said["left of overlays"] == []


def test_a_stream_on_a_full_disk_takes_nothing_in_and_resumes_without_loss(said):
    assert said["scored before there was room"] == 0
    assert said["waits for the disk"] == 1
    assert said["offsets"] == list(range(PICTURES))
    assert said["overlays"] == said["not OK"] > 0
