"""Pictures behind references ("claim check"), from places that the operator allowed and nowhere else."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from stream_ad.errors import DataError, Unavailable


class References:
    """Reads each reference where it points to: an object in a store, or a file."""

    def __init__(self, files: "FileReferences", objects: Callable[[str, str | None], bytes] | None) -> None:
        self._files, self._objects = files, objects

    def __call__(self, reference: str, sha256: str | None) -> bytes:
        """The picture's bytes. Raises: as `FileReferences`."""
        if self._objects is not None and reference.startswith("s3://"):
            return self._objects(reference, sha256)
        return self._files(reference, sha256)


def unchanged(data: bytes, sha256: str | None, reference: str) -> bytes:
    """The data, when it is what the sender saw. Raises: DataError."""
    if sha256 is not None and (came := hashlib.sha256(data).hexdigest()) != sha256:
        raise DataError(f"needed {reference!r} with the sha256 {sha256}, got {came}: it was changed since; send anew")
    return data


class FileReferences:
    """Reads `file:///...`, absolute paths, and paths relative to an allowed folder.

    Links and ".." are resolved first, so what counts is where the file really is.
    """

    def __init__(self, roots: Sequence[Path], *, max_bytes: int = 64 * 1024**2) -> None:
        self._roots = tuple(roots)
        self._max_bytes = max_bytes

    def __call__(self, reference: str, sha256: str | None) -> bytes:
        """The file's bytes; their sha256 is `sha256`, unless that is None.

        Raises:
            DataError: it will never be there: outside the allowed folders, missing, not a file, too large, changed.
            Unavailable: the allowed folder itself is away (not mounted), or reading failed.
        """
        path = self._allowed(reference)
        try:
            # no following of a link put there since; no waiting for a writer should it be a pipe
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise DataError(f"needed a file at {reference!r}, got something else; refer to a picture")
                if status.st_size > self._max_bytes:
                    raise DataError(
                        f"needed at most {self._max_bytes:,} bytes, {reference!r} has {status.st_size:,};"
                        " send a smaller picture"
                    )
                data = file.read(self._max_bytes + 1)
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise DataError(f"needed a readable file at {reference!r}: {error.strerror}") from error
        except OSError as error:
            raise Unavailable(f"could not read {reference!r} now: {error}; it is tried again") from error
        return unchanged(data, sha256, reference)

    def _allowed(self, reference: str) -> Path:
        parts = urlsplit(reference)
        if parts.scheme == "file" and parts.netloc in ("", "localhost"):
            text = unquote(parts.path)
        elif parts.scheme:
            raise DataError(
                f"needed a file:// reference, a path, or s3:// where a store is allowed, got {reference!r};"
                " other stores are not read"
            )
        else:
            text = reference
        if "\0" in text:
            raise DataError(f"needed a path, got {reference!r}")
        places = []
        for given in self._roots:
            try:
                root = given.resolve(strict=True)
            except OSError as error:
                if Path(text).is_absolute() and not Path(text).is_relative_to(given.absolute()):
                    continue  # another folder's file must not wait for this one
                raise Unavailable(f"the allowed folder {given} is away: {error.strerror}; mount it") from error
            try:
                place = (root / text).resolve()
            except (OSError, RuntimeError) as error:  # a loop of links, a name too long
                raise DataError(f"needed a path, got {reference!r}: {error}") from error
            if place.is_relative_to(root):
                places.append(place)
        if places:
            return next((place for place in places if place.exists()), places[0])
        allowed = ", ".join(map(str, self._roots)) or "none"
        raise DataError(f"needed a file inside the allowed folders ({allowed}), got {reference!r}; allow its folder")
