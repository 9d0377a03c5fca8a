"""From the folders that a person names to the pictures that a job needs: which to learn from, which to judge by."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stream_ad.adapters.heldout import HeldoutFolder, read_heldout
from stream_ad.adapters.image_folders import ImageFolder, find_pictures, try_pictures
from stream_ad.adapters.masks import read_roi
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import ImageSet, Mask, Picture
from stream_ad.domain.task import Task
from stream_ad.errors import DataError, OverlappingSplits, TooFewImages
from stream_ad.evaluation.splits import LabelledSet, check_disjoint, reserve, split_halves, synthetic_heldout
from stream_ad.services.work import Heldout, TaskImages

#: fewer give no threshold that means anything (`services.learning`)
MIN_LEARNED = 4
MIN_APART = 2
#: pictures decoded before a job is queued: a few seconds of work
MAX_TRIED = 100


@dataclass(frozen=True, slots=True)
class Checked:
    """What a new task's job is given, and what was found, in words."""

    payload: Mapping[str, Any]
    summary: str


class _Opened(NamedTuple):
    """The two folders of a task."""

    normals: ImageFolder
    heldout: HeldoutFolder | None


class _Divided(NamedTuple):
    """What to learn from, and what to judge by."""

    normals: ImageSet
    heldout: LabelledSet
    roi: Mask | None


class TaskImageReader:
    """Opens pictures of tasks and keeps what it opened last: every job needs the held-out sets of all tasks again."""

    def __init__(
        self,
        *,
        share: float,
        per_image: int,
        max_pixels: int,
        grey_bits: int | None = None,
        cache_mb: float = 64.0,
        keep: int = 64,
    ) -> None:
        self._share, self._per_image = share, per_image
        self._decoding: dict[str, Any] = {"max_pixels": max_pixels, "grey_bits": grey_bits}
        self._cache_mb, self._keep = cache_mb, keep
        self._kept: OrderedDict[str, tuple[TaskImages, LabelledSet]] = OrderedDict()

    def read(self, task: Task, payload: Mapping[str, Any]) -> TaskImages:
        """The pictures that a job's payload names, decoded and found disjoint.

        Raises:
            DataError: a folder is gone or empty, a file is no picture, or a picture is in two sets.
        """
        key = _key(task, payload)
        if key not in self._kept:
            self._kept[key] = self._read(task, payload)
            while len(self._kept) > self._keep:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def heldout(self, task: Task, payload: Mapping[str, Any]) -> LabelledSet:
        """Both halves of the pictures to judge by, for showing them. Nothing is checked against what was learned.

        Raises:
            DataError: as `read`.
        """
        kept = self._kept.get(_key(task, payload))
        return kept[1] if kept else self._divide(task, payload).heldout

    def check(self, task: Task, *, images: Path, heldout: Path | None, roi: Path | None, **more: Any) -> Checked:
        """Whether a task can be learned from these folders, as far as a few seconds tell; the job decodes everything.

        Raises:
            DataError: as `read`.
        """
        normals, held = self._open(images, heldout)
        files = find_pictures(normals.folder)
        apart = 0 if held is not None else max(round(self._share * len(files)), MIN_APART)
        if len(files) - apart < MIN_LEARNED:
            raise TooFewImages(task.id, MIN_LEARNED + (MIN_APART if held is None else 0), len(files))
        # spread evenly, and all of a small folder; the job decodes the rest
        try_pictures(files[:: -(-len(files) // MAX_TRIED)], **self._decoding)
        summary = f"{len(files)} pictures in {normals.folder}"
        if heldout is not None:
            # of an MVTec-like data set only this part is held out; its training pictures lie beside it
            inside = heldout / "test"
            others = find_pictures(inside if inside.is_dir() else heldout)
            _check_files(normals.folder, files, heldout, others)
            summary += f", held-out ones in {heldout}"
        else:
            summary += f", about {apart} of them kept apart to judge by, with painted defects"
        if roi is not None:
            read_roi(roi)
        paths = {"images": images, "heldout": heldout, "roi": roi}
        payload = {name: str(path.absolute()) if path is not None else None for name, path in paths.items()}
        return Checked({**payload, **more}, summary)

    def _open(self, images: Path, heldout: Path | None) -> _Opened:
        options = {**self._decoding, "cache_mb": self._cache_mb}
        return _Opened(ImageFolder(images, **options), None if heldout is None else read_heldout(heldout, **options))

    def _read(self, task: Task, payload: Mapping[str, Any]) -> tuple[TaskImages, LabelledSet]:
        divided = self._divide(task, payload, check=True)
        halves = split_halves(divided.heldout)
        heldout = Heldout(halves[Half.REGRESSION], halves[Half.TEST])
        return TaskImages(divided.normals, heldout, divided.roi), divided.heldout

    def _divide(self, task: Task, payload: Mapping[str, Any], *, check: bool = False) -> _Divided:
        paths = {name: Path(payload[name]) if payload.get(name) else None for name in ("images", "heldout", "roi")}
        if paths["images"] is None:
            raise DataError(f"the job of task {task.id!r} names no folder of images; add the task again")
        roi = read_roi(paths["roi"]) if paths["roi"] else None
        folder, given = self._open(paths["images"], paths["heldout"])
        if given is None:
            if len(folder) < MIN_LEARNED + MIN_APART:
                raise TooFewImages(task.id, MIN_LEARNED + MIN_APART, len(folder))
            normals, apart = reserve(folder, self._share, at_least=MIN_APART)
            return _Divided(normals, synthetic_heldout(apart, seed=task.seed, per_image=self._per_image, roi=roi), roi)
        if check:
            check_disjoint(
                {f"--images {folder.folder}": folder.named_ids, f"--heldout {paths['heldout']}": given.named_ids}
            )
        if any(given.defective):
            return _Divided(folder, given, roi)
        # good ones alone cannot show that a defect is found
        painted = synthetic_heldout(_Normals(given), seed=task.seed, per_image=self._per_image, roi=roi)
        return _Divided(folder, painted, roi)


class _Normals:
    """A held-out set of good parts as an `ImageSet`."""

    def __init__(self, heldout: HeldoutFolder) -> None:
        self._heldout = heldout

    def __len__(self) -> int:
        return len(self._heldout)

    def __getitem__(self, index: int) -> Picture:
        return self._heldout[index].pixels

    @property
    def ids(self) -> Sequence[str]:
        return self._heldout.ids


def _check_files(first: Path, files: list[Path], second: Path, others: list[Path]) -> None:
    """A quick look for files that are in both; the job compares decoded pixels."""
    sizes = {file.stat().st_size for file in others}
    same_size = [file for file in files if file.stat().st_size in sizes]
    if not same_size:
        return
    hashes = {_file_hash(file): file for file in same_size}
    pairs = [(hashes[found], file) for file in others if (found := _file_hash(file)) in hashes]
    if pairs:
        raise OverlappingSplits(
            f"{len(pairs)} pictures are in --images {first} and in --heldout {second}, for one {pairs[0][0]} ="
            f" {pairs[0][1]}. Remove them from one of the two: figures on learned pictures mean nothing"
        )


def _file_hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _key(task: Task, payload: Mapping[str, Any]) -> str:
    return f"{task.id} {json.dumps(dict(payload), sort_keys=True)} {_signature(payload)}"


def _signature(payload: Mapping[str, Any]) -> str:
    """Changes when a file comes, goes or is written in the folders that a payload names."""
    digest = hashlib.sha256()
    for name in ("images", "heldout", "roi"):
        path = Path(payload.get(name) or "/nonexistent")
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            status = file.lstat()  # a broken link is none of our business
            digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
