"""References reach the allowed folders and nothing else."""

import hashlib
import os
from pathlib import Path

import pytest

from stream_ad.adapters.references import FileReferences
from stream_ad.errors import DataError, Unavailable

PICTURE = b"encoded picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "allowed"
    (root / "camera 1").mkdir(parents=True)
    (root / "camera 1" / "a.png").write_bytes(PICTURE)
    (tmp_path / "secret.png").write_bytes(b"secret")
    return root


@pytest.mark.parametrize("form", ["uri", "localhost", "absolute", "relative", "with dots"])
def test_an_allowed_file_is_read_however_it_is_named(root, form):
    path = root / "camera 1" / "a.png"
    reference = {
        "uri": path.as_uri(),
        "localhost": path.as_uri().replace("file://", "file://localhost"),
        "absolute": str(path),
        "relative": "camera 1/a.png",
        "with dots": str(root / "camera 1" / ".." / "camera 1" / "a.png"),
    }[form]
    assert FileReferences([root])(reference, SHA256) == PICTURE
    assert FileReferences([root])(reference, None) == PICTURE


def test_a_relative_reference_is_looked_for_in_every_allowed_folder(root, tmp_path):
    (tmp_path / "other").mkdir()
    assert FileReferences([tmp_path / "other", root])("camera 1/a.png", SHA256) == PICTURE


@pytest.mark.parametrize(
    "reference",
    ["../secret.png", "/etc/passwd", "file:///etc/passwd", "camera 1/../../secret.png", "link.png", "", "a\0b"],
)
def test_nothing_outside_is_read(root, tmp_path, reference):
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError):
        FileReferences([root])(reference, None)


def test_a_link_to_an_allowed_file_is_read(root):
    (root / "link.png").symlink_to(root / "camera 1" / "a.png")
    assert FileReferences([root])("link.png", SHA256) == PICTURE


@pytest.mark.parametrize("reference", ["https://example.org/a.png", "s3://bucket/a.png", "file://host/a.png"])
def test_other_stores_are_not_read(root, reference):
    with pytest.raises(DataError, match="other stores are not read"):
        FileReferences([root])(reference, None)


def test_without_a_folder_nothing_is_allowed(root):
    with pytest.raises(DataError, match=r"allowed folders \(none\)"):
        FileReferences([])(str(root / "camera 1" / "a.png"), None)


def test_changed_bytes_are_refused(root):
    with pytest.raises(DataError, match="it was changed since"):
        FileReferences([root])("camera 1/a.png", "0" * 64)


def test_a_missing_file_is_refused_for_good(root):
    with pytest.raises(DataError, match="No such file"):
        FileReferences([root])("camera 1/b.png", None)


def test_a_large_file_is_refused_unread(root):
    with pytest.raises(DataError, match="needed at most 4 bytes"):
        FileReferences([root], max_bytes=4)("camera 1/a.png", None)


def test_a_pipe_is_refused_without_waiting_for_a_writer(root):
    os.mkfifo(root / "pipe.png")
    with pytest.raises(DataError, match="got something else"):
        FileReferences([root])("pipe.png", None)


def test_a_folder_is_no_file(root):
    with pytest.raises(DataError):
        FileReferences([root])("camera 1", None)


def test_a_folder_that_is_not_mounted_is_waited_for(root, tmp_path):
    with pytest.raises(Unavailable, match="mount it"):
        FileReferences([tmp_path / "unmounted"])(str(tmp_path / "unmounted" / "a.png"), None)
    # what is in the other folder does not have to wait
    assert FileReferences([tmp_path / "unmounted", root])(str(root / "camera 1" / "a.png"), None) == PICTURE
