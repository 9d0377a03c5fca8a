"""Entries as safetensors files named by the sha256 of their bytes.

One file an entry: `arrays/<name>` and `calibration/<name>` are tensors, everything else is one canonical JSON text in
the header, so that equal entries are equal bytes. Files are written once and never changed: a crash leaves at most a
temporary file that nobody reads.

Large arrays are mapped when they are asked for, so that a bank of 10,000 tasks (13 GB) neither fills the memory nor
holds 10,000 files open, and several scorers share one copy. What is small is read at once.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import safetensors.numpy

from stream_ad.adapters.durable import write_durably
from stream_ad.domain.bank import BankEntry, BranchScale, Calibration, FeatureSpec
from stream_ad.domain.task import Task
from stream_ad.errors import BankError

T = TypeVar("T")

#: one key only: the serializer keeps no order among several
METADATA_KEY = "stream-ad entry"
FORMAT = 1
SMALL_BYTES = 8192  # arrays up to this are kept in memory: what start-up and every picture need of every task
MAPPED_FILES = 128  # entries mapped at a time, each with an open file; arrays in use keep theirs beyond that
CALIBRATION_ARRAYS = ("scores", "map_peaks", "key_distances", "embedding_distances")
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}


class FileEntryStore:
    """`domain.ports.EntryStore` in a folder on a local disk. Threads may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: entries in use, so that the next bank shares them with this one and reads only what is new
        self._loaded: WeakValueDictionary[str, BankEntry] = WeakValueDictionary()
        self._mapping = lru_cache(maxsize=MAPPED_FILES)(self._map)

    def put(self, entry: BankEntry) -> BankEntry:
        """Store durably; the entry with its `sha256`.

        Raises:
            BankError: an array's type cannot be stored, a number is not finite, or the folder cannot be written.
        """
        data = entry_bytes(entry)
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        try:
            if not self._is_stored(path, sha256):  # a damaged one is written anew
                self.root.mkdir(parents=True, exist_ok=True)
                write_durably(path, data)
        except OSError as error:
            raise BankError(
                f"the entry of task {entry.task.id!r} ({len(data):,} bytes) could not be stored in {self.root}:"
                f" {error.strerror}; free space there or give the folder another place"
            ) from error
        return dataclasses.replace(entry, sha256=sha256)

    def get(self, sha256: str) -> BankEntry:
        """The entry, its arrays read-only; large ones are mapped when they are asked for.

        Raises:
            BankError: the file is missing or its content does not have this hash; later, when an array is asked for,
                the file is gone.
        """
        if (loaded := self._loaded.get(sha256)) is not None:
            return loaded
        content = self._with_file(sha256, Path.read_bytes)  # not mapped: hashing a mapping would make it resident
        came = hashlib.sha256(content).hexdigest()
        if came != sha256:
            raise BankError(
                f"entry file {self.path(sha256)} is damaged: its content has the hash {came}; restore it from a"
                " backup, or learn the task again"
            )
        entry = _entry(content, sha256, self._mapping)
        self._loaded[sha256] = entry
        return entry

    def made_with(self, sha256: str) -> tuple[str, str | None]:
        """The entry's detector and the hash of the shared weights that it names; only the file's header is read.

        Raises:
            BankError: the file is missing, or its header is damaged.
        """
        return self._with_file(sha256, _made_with)

    def _is_stored(self, path: Path, sha256: str) -> bool:
        """Whether the file is there and whole; it then counts as stored now, so that retention leaves it alone."""
        try:
            with contextlib.suppress(PermissionError):  # another user's; retention, if it is ours, is as well
                os.utime(path)
            return _file_sha256(path) == sha256
        except FileNotFoundError:
            return False

    def path(self, sha256: str) -> Path:
        """The file of an entry, whether it is there or not."""
        return self.root / f"{sha256}.safetensors"

    def _map(self, sha256: str) -> mmap.mmap:
        def mapped(path: Path) -> mmap.mmap:
            with path.open("rb") as file:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        return self._with_file(sha256, mapped)

    def _with_file(self, sha256: str, read: Callable[[Path], T]) -> T:
        path = self.path(sha256)
        try:
            return read(path)
        except FileNotFoundError as error:
            raise BankError(f"entry {sha256} is not in {self.root}; restore that folder from a backup") from error
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise BankError(f"entry file {path} cannot be read: {error}; restore it from a backup") from error


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of one entry by name: small ones here, the others in the mapped file."""

    def __init__(
        self,
        small: Mapping[str, np.ndarray],
        large: Mapping[str, "_Place"],
        mapping: Callable[[str], mmap.mmap],
        sha256: str,
    ) -> None:
        self._small, self._large, self._mapping, self._sha256 = small, large, mapping, sha256

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self._small:
            return self._small[name]
        return self._large[name].view(self._mapping(self._sha256))

    def __contains__(self, name: object) -> bool:
        return name in self._small or name in self._large

    def __iter__(self) -> Iterator[str]:
        return iter(sorted([*self._small, *self._large]))

    def __len__(self) -> int:
        return len(self._small) + len(self._large)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies in a file."""

    dtype: np.dtype
    shape: tuple[int, ...]
    #: bytes from the file's start
    offset: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    def view(self, content: "mmap.mmap | bytes") -> np.ndarray:
        """The tensor without a copy; read-only, since the content is."""
        return np.frombuffer(content, self.dtype, self.count, self.offset).reshape(self.shape)


def entry_bytes(entry: BankEntry) -> bytes:
    """The entry as a file; equal entries give equal bytes, in whatever order their parts were put in.

    Raises:
        BankError: an array's type cannot be stored, or a number is not finite.
    """
    tensors = {f"arrays/{name}": _storable(name, array) for name, array in entry.arrays.items()}
    for name in CALIBRATION_ARRAYS:
        tensors[f"calibration/{name}"] = _storable(name, getattr(entry.calibration, name))
    try:
        header = json.dumps(_header(entry), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise BankError(
            f"the calibration of task {entry.task.id!r} must be finite numbers; got {entry.calibration.score_scales}"
            f" and {entry.calibration.map_scales}; look at its normal images"
        ) from error
    return safetensors.numpy.save(dict(sorted(tensors.items())), metadata={METADATA_KEY: header})


def _header(entry: BankEntry) -> dict[str, Any]:
    calibration = entry.calibration
    return {
        "format": FORMAT,
        "task": {
            "id": entry.task.id,
            "class_name": entry.task.class_name,
            "product_ids": list(entry.task.product_ids),
            "cameras": list(entry.task.cameras),
            "false_alarm_rate": float(entry.task.false_alarm_rate),
        },
        "detector": entry.detector,
        "features": dataclasses.asdict(entry.features),
        "shared_weights": entry.shared_weights,
        "splits": dict(entry.splits),
        "score_scales": _scales_to_json(calibration.score_scales),
        "map_scales": _scales_to_json(calibration.map_scales),
        "out_of_fold": calibration.out_of_fold,
    }


def _scales_to_json(scales: Mapping[str, BranchScale]) -> dict[str, list[float]]:
    return {name: [float(s.center), float(s.scale), float(s.weight)] for name, s in scales.items()}


def _scales_from_json(scales: Mapping[str, list[float]]) -> Mapping[str, BranchScale]:
    return MappingProxyType({name: BranchScale(*numbers) for name, numbers in scales.items()})


def _storable(name: str, array: np.ndarray) -> np.ndarray:
    little = array.dtype.newbyteorder("<")
    if little not in DTYPES.values():
        raise BankError(
            f"array {name!r} has type {array.dtype}; only {', '.join(map(str, DTYPES.values()))} are stored"
        )
    # not ascontiguousarray: it makes a vector of a scalar
    return np.asarray(array, dtype=little, order="C")


def _entry(content: bytes, sha256: str, mapping: Callable[[str], mmap.mmap]) -> BankEntry:
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header.pop("__metadata__")[METADATA_KEY])
    if about["format"] != FORMAT:
        raise BankError(f"entry {sha256} has format {about['format']}, this program reads {FORMAT}; use a newer one")
    places = {
        name: _Place(DTYPES[tensor["dtype"]], tuple(tensor["shape"]), 8 + size + tensor["data_offsets"][0])
        for name, tensor in header.items()
    }
    calibration = {name: _kept(places.pop(f"calibration/{name}"), content) for name in CALIBRATION_ARRAYS}
    arrays = {name.removeprefix("arrays/"): place for name, place in places.items()}
    small = {name: _kept(place, content) for name, place in arrays.items() if _is_small(place)}
    large = {name: place for name, place in arrays.items() if not _is_small(place)}
    task = about["task"]
    return BankEntry(
        task=Task(**{**task, "product_ids": tuple(task["product_ids"]), "cameras": tuple(task["cameras"])}),
        detector=about["detector"],
        arrays=_Arrays(small, large, mapping, sha256),
        calibration=Calibration(
            score_scales=_scales_from_json(about["score_scales"]),
            map_scales=_scales_from_json(about["map_scales"]),
            out_of_fold=about["out_of_fold"],
            **calibration,
        ),
        features=FeatureSpec(**about["features"]),
        shared_weights=about["shared_weights"],
        splits=MappingProxyType(about["splits"]),
        sha256=sha256,
    )


def _made_with(path: Path) -> tuple[str, str | None]:
    """What a file says that its entry was made with. Raises: ValueError: nothing that can be read."""
    with path.open("rb") as file:
        size = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
        try:
            about = json.loads(json.loads(file.read(size))["__metadata__"][METADATA_KEY])
            return about["detector"], about["shared_weights"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"its header says nothing of an entry ({error})") from error


def _is_small(place: _Place) -> bool:
    return place.count * place.dtype.itemsize <= SMALL_BYTES


def _kept(place: _Place, content: bytes) -> np.ndarray:
    """A read-only copy of a tensor, so that the file's content can go."""
    array = place.view(content).copy()
    array.flags.writeable = False
    return array


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
