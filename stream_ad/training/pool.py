"""The lines that are learned from at the moment: a ring of fixed size on disk, so that a run resumes where it stopped.

Rendering is slower than a step of a small model. Each step takes a few new lines into the ring, where they displace the
oldest, and learns from a random choice of it: a picture is seen several times, in other crops and light, then never
again.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int8, UInt8

from stream_ad.training.lines import Line

FLAWLESS = -1


class Drawn(NamedTuple):
    """Some lines of the ring."""

    nouns: Sequence[str]
    captions: Sequence[Sequence[str]]
    pictures: UInt8[np.ndarray, "lines shots size size 3"]
    masks: Bool[np.ndarray, "lines shots size size"]
    #: index into the words of defects; -1: flawless
    kinds: Int8[np.ndarray, "lines shots"]


class Pool:
    """A ring of `capacity` lines in a folder; `taken` lines have gone into it since the beginning."""

    def __init__(self, folder: Path, *, capacity: int, shots: int, size: int, defects: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.capacity, self.defects = folder, capacity, list(defects)
        self._pictures = _mapped(folder / "pictures.npy", np.uint8, (capacity, shots, size, size, 3))
        self._masks = _mapped(folder / "masks.npy", np.bool_, (capacity, shots, size, size))
        self._kinds = _mapped(folder / "kinds.npy", np.int8, (capacity, shots))
        self._words: list[tuple[str, list[str]]] = []
        self.taken = 0
        self._restore()

    def __len__(self) -> int:
        return min(self.taken, self.capacity)

    def take(self, line: Line) -> None:
        """The next line of the stream."""
        place = self.taken % self.capacity
        for column, shot in enumerate(line.shots):
            self._pictures[place, column] = shot.picture
            self._masks[place, column] = shot.mask
            self._kinds[place, column] = FLAWLESS if shot.defect is None else self.defects.index(shot.defect)
        words = (line.noun, [shot.caption for shot in line.shots])
        self._words[place : place + 1] = [words]
        self.taken += 1

    def draw(self, rng: np.random.Generator, lines: int, good: int, damaged: int) -> Drawn:
        """Different lines at random, as many as there are at most, each with some of its photographs, good ones first.

        The first half of a line is good (`lines.Line`).
        """
        places = rng.permutation(len(self))[:lines]
        half = self._kinds.shape[1] // 2
        shots = np.stack(
            [np.append(rng.permutation(half)[:good], half + rng.permutation(half)[:damaged]) for _ in places]
        )
        at = places[:, None], shots
        return Drawn(
            [self._words[place][0] for place in places],
            [[self._words[place][1][shot] for shot in row] for place, row in zip(places, shots, strict=True)],
            self._pictures[at],
            self._masks[at],
            self._kinds[at],
        )

    def save(self) -> None:
        """So that the ring can be opened again as it is now."""
        for array in (self._pictures, self._masks, self._kinds):
            array.flush()
        partial = self.folder / "words.json.partial"
        partial.write_text(json.dumps({"taken": self.taken, "words": self._words}))
        partial.rename(self.folder / "words.json")

    def _restore(self) -> None:
        path = self.folder / "words.json"
        if path.is_file():
            kept = json.loads(path.read_text())
            self.taken = kept["taken"]
            self._words = [(noun, captions) for noun, captions in kept["words"]]


def _mapped(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    if path.is_file():
        found = np.lib.format.open_memmap(path, mode="r+")
        if found.shape == shape and found.dtype == dtype:
            return found
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
