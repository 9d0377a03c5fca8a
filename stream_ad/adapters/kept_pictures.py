"""Kept pictures as files, `<folder>/<two digits>/<sha256 of the pixels>-<its own>.<suffix>`, and sheets of them."""

import contextlib
import io
import itertools
import os
import shutil
import threading
import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.adapters.durable import sync_directory
from stream_ad.domain.images import Picture
from stream_ad.domain.proposal import KeptImage
from stream_ad.errors import DataError, UndecodableImage

#: by the first bytes of a file
SUFFIXES = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"RIFF", ".webp"),
)
CELL, GAP, COLUMNS, CAPTION, HEADING = 160, 6, 6, 16, 30
BACKGROUND, TEXT, DIM = (24, 26, 29), (238, 238, 238), (165, 170, 176)


class KeptPictures:
    """`domain.discovery.KeptFiles` in a folder."""

    def __init__(self, folder: Path, tasks: Path, *, max_pixels: int, grey_bits: int | None = None) -> None:
        """The pool lies in `folder`; pictures of approved products get folders of their own in `tasks`."""
        self._folder, self._tasks = folder, tasks
        self._max_pixels, self._grey_bits = max_pixels, grey_bits

    def write(self, encoded: bytes | None, picture: Picture) -> tuple[str, str, int]:
        if encoded is None:  # what a reference led to was not kept; without loss, so the pixels stay what they are
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "PNG", compress_level=1)
            encoded = stream.getvalue()
        sha256 = pixel_sha256(picture)
        # a name of its own each time: the file of a picture that comes again may be deleted at this moment
        name = f"{sha256[:32]}-{uuid.uuid4().hex[:8]}{_suffix(encoded)}"
        path = self._folder / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            unfinished.write_bytes(encoded)
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        return str(path.relative_to(self._folder)), sha256, len(encoded)

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):  # gone, or the disk is away: a later sweep looks again
                (self._folder / path).unlink(missing_ok=True)

    def give(self, images: Sequence[KeptImage], folder: str) -> str:
        """Named by camera and place, so that people find a picture's record."""
        target = self._new(folder)
        try:
            self._fill(target, images)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return str(target)

    def take_back(self, folder: str) -> None:
        if Path(folder).parent == self._tasks:
            shutil.rmtree(folder, ignore_errors=True)

    def _new(self, name: str) -> Path:
        """A folder that nobody else has: another approval of the same name may be at work, or have died half way."""
        self._tasks.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            target = self._tasks / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                target.mkdir()
                return target
        raise AssertionError("numbers do not end")

    def _fill(self, target: Path, images: Sequence[KeptImage]) -> None:
        wanted = {}
        for image in images:
            topic, partition, offset = image.place
            name = "-".join((_plain(image.camera or "no-camera"), _plain(topic), str(partition), f"{offset:09d}"))
            wanted[f"{name}-{image.sha256[:8]}{Path(image.path).suffix}"] = image
        for name, image in wanted.items():
            self._check(image)
            _copy(self._folder / image.path, target / name)
            _sync(target / name)
        for made in (target, self._tasks):
            sync_directory(made)

    def sweep(self, known: set[str], *, before: datetime) -> int:
        swept = 0
        for file in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            if str(file.relative_to(self._folder)) in known:
                continue
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < before.timestamp():
                    file.unlink()
                    swept += 1
        return swept

    def sheet(self, path: str, images: Sequence[KeptImage], title: str) -> str | None:
        shown: list[tuple[Picture, str]] = []
        for image in images:
            with contextlib.suppress(OSError, UndecodableImage):
                shown.append((self._read(image), f"{image.camera or 'no camera'}  {image.at:%m-%d %H:%M}"))
        if not shown:
            return None
        stream = io.BytesIO()
        Image.fromarray(draw_sheet(shown, title)).save(stream, "JPEG", quality=85)
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        unfinished.write_bytes(stream.getvalue())
        unfinished.replace(file)
        return str(file)

    def _read(self, image: KeptImage) -> Picture:
        data = (self._folder / image.path).read_bytes()
        return decode(data, max_pixels=self._max_pixels, grey_bits=self._grey_bits)

    def _check(self, image: KeptImage) -> None:
        path = self._folder / image.path
        try:
            found = pixel_sha256(self._read(image))
        except (OSError, UndecodableImage) as error:
            raise DataError(f"needed the kept picture {path}, and it cannot be read: {error}; {_ADVICE}") from error
        if found != image.sha256:
            raise DataError(f"needed {path} as it was kept, pixels {image.sha256[:12]}, got {found[:12]}; {_ADVICE}")


_ADVICE = "bring the folder back from a backup, or reject the proposal and let new pictures come"


def draw_sheet(shown: Sequence[tuple[Picture, str]], title: str) -> Picture:
    """Pictures in a grid, each fitted into a square without distortion, with a line below."""
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    heading, small = ImageFont.load_default(15), ImageFont.load_default(11)
    width = max(GAP + columns * (CELL + GAP), 2 * GAP + int(heading.getlength(title)))
    sheet = Image.new("RGB", (width, HEADING + rows * (CELL + CAPTION + GAP)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, HEADING // 2), title, TEXT, heading, anchor="lm")
    for number, (picture, caption) in enumerate(shown):
        left, top = GAP + number % columns * (CELL + GAP), HEADING + number // columns * (CELL + CAPTION + GAP)
        fitted = Image.fromarray(picture)
        fitted.thumbnail((CELL, CELL))
        sheet.paste(fitted, (left + (CELL - fitted.width) // 2, top + (CELL - fitted.height) // 2))
        draw.text((left + CELL // 2, top + CELL + CAPTION // 2), caption[:28], DIM, small, anchor="mm")
    return np.array(sheet)


def _suffix(encoded: bytes) -> str:
    return next((suffix for start, suffix in SUFFIXES if encoded.startswith(start)), ".png")


def _plain(name: str) -> str:
    """Fit for a file's name."""
    return "".join(sign if sign.isalnum() or sign in "_." else "_" for sign in name)[:40].lstrip(".") or "_"


def _copy(source: Path, target: Path) -> None:
    """All of a file, safely on the disk, or nothing of it; without a second copy of its bytes where that goes."""
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        unfinished = target.with_name(f".{target.name}.unfinished")
        shutil.copyfile(source, unfinished)
        _sync(unfinished)  # before it has its name: who finds that takes it for whole
        unfinished.replace(target)


def _sync(path: Path) -> None:
    """Onto the disk: once the pool has forgotten a picture, this file is all there is of it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
