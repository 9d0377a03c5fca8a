"""Pictures that people spoke of, as they came: files named by their content."""

import hashlib
from pathlib import Path, PurePosixPath

from stream_ad.adapters.durable import write_durably
from stream_ad.errors import DataError

#: how a file of each format begins; people open these files
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


class FeedbackPictures:
    """`domain.ports.PictureStore` in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, data: bytes) -> str:
        """Raises: DataError: the folder cannot be written."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{sha256[:2]}/{sha256}{_suffix(data)}"
        path = self.root / name
        try:
            if not _is(path, sha256):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_durably(path, data)
        except OSError as error:
            raise DataError(f"the picture could not be kept in {self.root}: {error}; free space there") from error
        return name

    def get(self, name: str) -> bytes:
        path = self.root / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"the picture {path} is gone: {error.strerror}; restore it from a backup") from error
        if hashlib.sha256(data).hexdigest() != PurePosixPath(name).stem:
            raise DataError(f"the picture {path} is damaged; restore it from a backup")
        return data


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _suffix(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for start, suffix in SUFFIXES.items() if data.startswith(start)), ".img")
