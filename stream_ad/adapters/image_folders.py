"""Folders of pictures as image sets, decoded when they are asked for."""

import os
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.domain.images import Picture
from stream_ad.errors import DataError, NoImages, UndecodableImage

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# a folder of such a name beside good parts holds bad ones, or masks: never to be learnt as normal
NOT_NORMAL = {
    *("test", "ground_truth", "mask", "masks", "defect", "defects", "defective"),
    *("bad", "ng", "nok", "anomaly", "anomalies", "anomalous"),
}
SHOWN = 3  # files that a message names

Look = TypeVar("Look")


class ScannedFiles(ABC):
    """What is known of picture files once all of them were decoded; which they are, a set says itself."""

    @property
    @abstractmethod
    def _scanned(self) -> "Scan": ...

    def __len__(self) -> int:
        return len(self._scanned.kept)

    @property
    def ids(self) -> Sequence[str]:
        return self._scanned.ids

    @property
    def names(self) -> Sequence[str]:
        """Each picture's file."""
        return [str(file) for file in self._scanned.kept]

    @property
    def named_ids(self) -> Mapping[str, str]:
        """Each picture's id, by its file."""
        return dict(zip(self.names, self.ids, strict=True))

    @property
    def duplicates(self) -> Mapping[str, str]:
        """Files left out, each with the one that holds the same pixels."""
        return {str(file): str(first) for file, first in self._scanned.duplicates.items()}


class ImageFiles(ScannedFiles):
    """The pictures in some files, in the given order; an `ImageSet`.

    All are decoded when `ids` or the length is first asked for: exact duplicates are then left out, and named in
    `duplicates`. Pictures that were decoded are kept as long as the cache has room; do not write into them.

    Raises:
        UndecodableImage: a file is no picture; raised with the first use, for all such files at once.
    """

    def __init__(self, files: Sequence[Path], cache: "PictureCache") -> None:
        self._files, self._cache = files, cache

    def __getitem__(self, index: int) -> Picture:
        return self._cache.read(self._scanned.kept[index])

    @cached_property
    def _scanned(self) -> "Scan":
        return scan(self._files, self._cache)


class ImageFolder(ImageFiles):
    """The pictures of good parts in a folder, in the order of their names.

    The folder may hold pictures (also in folders below it), a folder `good`, or be the root of an MVTec-like data set
    (`train/good`). Its files are listed at once. Decoded pictures are kept up to `cache_mb`.

    Raises:
        NoImages: no such folder, or no picture in it.
        DataError: the folder also holds bad parts or masks.
        UndecodableImage: as `ImageFiles`.
    """

    def __init__(
        self, folder: Path, *, max_pixels: int = 50_000_000, grey_bits: int | None = None, cache_mb: float = 256.0
    ) -> None:
        self.folder = _folder_of_good_parts(require_folder(folder))
        files = find_pictures(self.folder)
        if not files:
            raise no_images(self.folder)
        super().__init__(files, PictureCache(max_pixels=max_pixels, grey_bits=grey_bits, cache_mb=cache_mb))


class PictureCache:
    """Decodes files and keeps the pictures read last, up to a bound. Threads may share it."""

    def __init__(self, *, max_pixels: int, cache_mb: float, grey_bits: int | None = None) -> None:
        self.max_pixels, self.grey_bits = max_pixels, grey_bits
        self.max_bytes = int(cache_mb * 1024**2)
        self._pictures: OrderedDict[Path, Picture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., "PictureCache"], tuple[object, ...]]:
        """To another process it goes empty."""
        return _empty_cache, (self.max_pixels, self.max_bytes / 1024**2, self.grey_bits)

    def read(self, file: Path) -> Picture:
        """The picture in a file.

        Raises:
            UndecodableImage: the file is gone or is no picture; names it.
        """
        with self._lock:
            if (picture := self._pictures.get(file)) is not None:
                self._pictures.move_to_end(file)
                return picture
        try:
            picture = decode(file.read_bytes(), max_pixels=self.max_pixels, grey_bits=self.grey_bits)
        except OSError as error:
            raise UndecodableImage(f"{file}: cannot be read: {error.strerror}") from error
        except UndecodableImage as error:
            raise UndecodableImage(f"{file}: {error}") from error
        with self._lock:
            if file not in self._pictures and picture.nbytes <= self.max_bytes:
                self._pictures[file] = picture
                self._bytes += picture.nbytes
            while self._bytes > self.max_bytes:
                self._bytes -= self._pictures.popitem(last=False)[1].nbytes
        return picture


def _empty_cache(max_pixels: int, cache_mb: float, grey_bits: int | None) -> PictureCache:
    return PictureCache(max_pixels=max_pixels, cache_mb=cache_mb, grey_bits=grey_bits)


class Scan(NamedTuple):
    """What decoding every file of a list showed."""

    kept: Sequence[Path]
    ids: Sequence[str]
    #: file left out -> file kept with the same pixels
    duplicates: Mapping[Path, Path]


def scan(files: Sequence[Path], cache: PictureCache, check: Callable[[Path, Picture], None] | None = None) -> Scan:
    """Every file's id; of equal pictures the first is kept. `check` sees each picture while it is at hand.

    Raises:
        UndecodableImage: some files are no pictures; names the first ones.
    """

    def look(file: Path) -> str | UndecodableImage:
        try:
            picture = cache.read(file)
        except UndecodableImage as error:
            return error
        if check is not None:
            check(file, picture)
        return pixel_sha256(picture)

    looks = _in_threads(look, files)
    _refuse(looks)
    first: dict[str, Path] = {}
    duplicates: dict[Path, Path] = {}
    for file, found in zip(files, looks, strict=True):
        kept = first.setdefault(str(found), file)
        if kept is not file:
            duplicates[file] = kept
    return Scan(kept=list(first.values()), ids=list(first), duplicates=duplicates)


def try_pictures(files: Sequence[Path], *, max_pixels: int, grey_bits: int | None = None) -> None:
    """Nothing, when every one of the files is a picture.

    Raises:
        UndecodableImage: some are not; names the first ones.
    """
    cache = PictureCache(max_pixels=max_pixels, grey_bits=grey_bits, cache_mb=0.0)

    def look(file: Path) -> UndecodableImage | None:
        try:
            cache.read(file)
        except UndecodableImage as error:
            return error
        return None

    _refuse(_in_threads(look, files))


def _in_threads(look: Callable[[Path], Look], files: Sequence[Path]) -> list[Look]:
    # decoders release the interpreter's lock
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(look, files))


def _refuse(looks: Sequence[object]) -> None:
    bad = [str(found) for found in looks if isinstance(found, UndecodableImage)]
    if bad:
        raise UndecodableImage(
            f"{len(bad)} of {len(looks)} files are no usable pictures: {'; '.join(bad[:SHOWN])}"
            f"{'; ...' if len(bad) > SHOWN else ''}. Remove or replace them, then try again"
        )


def find_pictures(folder: Path) -> list[Path]:
    """Files in a folder and below whose name is that of a picture, sorted; hidden ones are left out."""
    return sorted(file for file in _visible_files(folder) if file.suffix.lower() in SUFFIXES)


def require_folder(folder: Path) -> Path:
    """The folder. Raises: NoImages: it is not there, or is a file."""
    if not folder.exists():
        raise NoImages(f"needed a folder of pictures, but {folder} does not exist; check the path")
    if not folder.is_dir():
        raise NoImages(f"needed a folder of pictures, but {folder} is a file; give the folder that it is in")
    return folder


def no_images(folder: Path) -> NoImages:
    """The error for a folder without pictures; says what is there instead."""
    others = sorted(_visible_files(folder))
    found = f"found {len(others)} other files, {others[0].name} for one" if others else "the folder is empty"
    return NoImages(f"needed pictures ({', '.join(SUFFIXES)}) in {folder} or below; {found}")


def _visible_files(folder: Path) -> Iterable[Path]:
    # os.walk does not follow links to folders, so a circle of links ends
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _folder_of_good_parts(folder: Path) -> Path:
    for good in (folder / "train" / "good", folder / "good"):
        if good.is_dir():
            return good
    for file in find_pictures(folder):
        if suspects := NOT_NORMAL & {part.lower() for part in file.relative_to(folder).parts[:-1]}:
            raise DataError(
                f"needed pictures of good parts only, but {folder} holds {file.relative_to(folder)}, and a folder"
                f" {suspects.pop()!r} does not look like that; give the folder of good parts, or call it 'good'"
            )
    return folder
