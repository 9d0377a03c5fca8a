"""From the folders that a person names to the pictures that a job needs: which to learn from, which to judge by."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stream_ad.adapters.heldout import HeldoutFolder, read_heldout
from stream_ad.adapters.image_folders import ImageFolder, find_pictures, try_pictures
from stream_ad.adapters.masks import read_roi
from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import MIN_IMAGES, ImageSet, Joined, JoinedHeldout, LabelledSubset, Mask, Picture, Subset
from stream_ad.domain.task import Task
from stream_ad.domain.wording import counted
from stream_ad.errors import DataError, OverlappingSplits, TooFewImages
from stream_ad.evaluation.splits import (
    LabelledSet,
    SyntheticHeldout,
    check_disjoint,
    reserve,
    split_halves,
    synthetic_heldout,
)
from stream_ad.services.work import Heldout, TaskImages

MIN_APART = 2
#: of a payload: folders that were added later, each as the first ones are named
MORE = "more"
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


class _Part(NamedTuple):
    """What to learn from, and what to judge by, of the pictures that came at one time."""

    normals: ImageSet
    heldout: LabelledSet


class _Divided(NamedTuple):
    """All parts of a task."""

    parts: Sequence[_Part]
    roi: Mask | None

    @property
    def normals(self) -> ImageSet:
        return self.parts[0].normals if len(self.parts) == 1 else Joined([part.normals for part in self.parts])

    @property
    def heldout(self) -> LabelledSet:
        return self.parts[0].heldout if len(self.parts) == 1 else JoinedHeldout([part.heldout for part in self.parts])

    def half(self, half: Half) -> LabelledSet:
        """Each part divided by itself, so that pictures that came earlier stay where they were."""
        halves = [split_halves(part.heldout)[half] for part in self.parts]
        return halves[0] if len(halves) == 1 else JoinedHeldout(halves)


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
        if len(files) - apart < MIN_IMAGES:
            raise TooFewImages(task.id, MIN_IMAGES + (MIN_APART if held is None else 0), len(files))
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
        return Checked({**_paths(images=images, heldout=heldout, roi=roi), **more}, summary)

    def check_more(self, payload: Mapping[str, Any], *, images: Path, heldout: Path | None) -> Checked:
        """Whether a known task can be learned again with these folders added; `payload`: what it was learned from.

        Pictures that are known already do no harm: the job leaves them out.

        Raises:
            DataError: as `read`; or the folders are among the task's already.
        """
        more = _paths(images=images, heldout=heldout)
        if any(more["images"] == part.get("images") for part in (payload, *payload.get(MORE, ()))):
            raise DataError(
                f"needed a folder of other pictures than those learned so far, got {images}, which is one of them; put"
                " the new pictures into a folder of their own"
            )
        normals = self._open(images, heldout).normals
        files = find_pictures(normals.folder)
        try_pictures(files[:: -(-len(files) // MAX_TRIED)], **self._decoding)
        summary = f"{len(files)} more pictures in {normals.folder}"
        if heldout is not None:
            summary += f", held-out ones in {heldout}"
        elif apart := round(self._share * len(files)):
            summary += f", about {apart} of them kept apart to judge by"
        return Checked({**payload, MORE: [*payload.get(MORE, ()), more]}, summary)

    def check_again(self, task: Task, payload: Mapping[str, Any]) -> Checked:
        """Whether a known task can be learned again from the folders that it has; the payload stays as it is.

        Raises:
            DataError: one of them is gone or empty.
        """
        try:
            opened = [self._open_named(task, part) for part in (payload, *payload.get(MORE, ()))]
            if payload.get("roi"):
                read_roi(Path(payload["roi"]))
        except DataError as error:
            raise DataError(
                f"task {task.id!r} cannot be learned again from what it was learned from: {error}. Bring it back, or"
                f" give other pictures: `stream-ad tasks add-images {task.id} --instead --images DIR`"
            ) from error
        count = sum(len(one.normals) for one in opened)
        return Checked(dict(payload), f"{counted(count, 'picture')} in {counted(len(opened), 'folder')}")

    def _open(self, images: Path, heldout: Path | None) -> _Opened:
        options = {**self._decoding, "cache_mb": self._cache_mb}
        return _Opened(ImageFolder(images, **options), None if heldout is None else read_heldout(heldout, **options))

    def _read(self, task: Task, payload: Mapping[str, Any]) -> tuple[TaskImages, LabelledSet]:
        divided = self._divide(task, payload, check=True)
        heldout = Heldout(divided.half(Half.REGRESSION), divided.half(Half.TEST))
        return TaskImages(divided.normals, heldout, divided.roi), divided.heldout

    def _divide(self, task: Task, payload: Mapping[str, Any], *, check: bool = False) -> _Divided:
        roi = read_roi(Path(payload["roi"])) if payload.get("roi") else None
        parts = [self._first(task, payload, roi, check=check)]
        for more in payload.get(MORE, ()):
            parts.append(self._further(task, more, parts, roi))
        return _Divided(parts, roi)

    def _first(self, task: Task, payload: Mapping[str, Any], roi: Mask | None, *, check: bool) -> _Part:
        """The pictures that a task came with."""
        folder, given = self._open_named(task, payload)
        if given is None:
            if len(folder) < MIN_IMAGES + MIN_APART:
                raise TooFewImages(task.id, MIN_IMAGES + MIN_APART, len(folder))
            normals, apart = reserve(folder, self._share, at_least=MIN_APART)
            return _Part(normals, self._painted(task, apart, roi))
        if check:
            check_disjoint(
                {f"--images {folder.folder}": folder.named_ids, f"--heldout {payload['heldout']}": given.named_ids}
            )
        # good ones alone cannot show that a defect is found
        return _Part(folder, given if any(given.defective) else self._painted(task, _Normals(given), roi))

    def _further(self, task: Task, more: Mapping[str, Any], parts: Sequence[_Part], roi: Mask | None) -> _Part:
        """Pictures that were added later: those that are new, divided by themselves."""
        folder, given = self._open_named(task, more)
        known = {id for part in parts for id in (*part.normals.ids, *part.heldout.ids)}
        held = _unknown(given, known) if given is not None else None
        known |= set(held.ids) if held is not None else set()
        new = Subset(folder, [place for place, id in enumerate(folder.ids) if id not in known])
        if not len(new) and not (held is not None and len(held)):
            raise DataError(
                f"needed new pictures of task {task.id!r} in {folder.folder}, all {len(folder)} there are known"
                " already; give a folder with others"
            )
        # judged as the first ones are: painted defects beside real ones would blur what a figure is of
        painted = isinstance(parts[0].heldout, SyntheticHeldout)
        if held is not None:
            plain = painted and not any(held.defective)
            return _Part(new, self._painted(task, _Normals(held), roi) if plain else held)
        if not round(self._share * len(new)):
            return _Part(new, LabelledSubset(parts[0].heldout, []))
        normals, apart = reserve(new, self._share, at_least=1)
        return _Part(normals, self._painted(task, apart, roi, per_image=self._per_image if painted else 0))

    def _painted(
        self, task: Task, normals: ImageSet, roi: Mask | None, *, per_image: int | None = None
    ) -> SyntheticHeldout:
        count = self._per_image if per_image is None else per_image
        return synthetic_heldout(normals, seed=task.seed, per_image=count, roi=roi)

    def _open_named(self, task: Task, payload: Mapping[str, Any]) -> _Opened:
        if not payload.get("images"):
            raise DataError(f"the job of task {task.id!r} names no folder of images; add the task again")
        return self._open(Path(payload["images"]), Path(payload["heldout"]) if payload.get("heldout") else None)


def _paths(**paths: Path | None) -> dict[str, str | None]:
    return {name: str(path.absolute()) if path is not None else None for name, path in paths.items()}


def _unknown(heldout: LabelledSet, known: Collection[str]) -> LabelledSubset:
    return LabelledSubset(heldout, [place for place, id in enumerate(heldout.ids) if id not in known])


class _Normals:
    """A held-out set of good parts as an `ImageSet`."""

    def __init__(self, heldout: LabelledSet) -> None:
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
    named = [part.get(name) for part in (payload, *payload.get(MORE, ())) for name in ("images", "heldout", "roi")]
    for path in (Path(name or "/nonexistent") for name in named):
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            status = file.lstat()  # a broken link is none of our business
            digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
