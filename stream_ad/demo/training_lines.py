"""The generator's families as lines to train on, rendered by processes beside the one that trains."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait

import cv2
import numpy as np

from stream_ad.demo.families import Split, caption, family
from stream_ad.training.lines import Line, Shot

FAINTEST = 0.2  # severity of the least that is learned from
AHEAD = 4  # lines of each process that wait to be taken


def rendered_line(split: Split, index: int, *, shots: int, size: int) -> Line:
    """Line number `index`: half of its photographs good, then damaged ones, the kinds in turn."""
    chosen = family(split, index)
    rng = np.random.default_rng([7, index])
    first = int(rng.integers(2**30))
    kinds = [str(kind) for kind in rng.permutation(list(chosen.defects))]
    made = []
    for shot in range(shots):
        bad = shot - shots // 2
        defect = kinds[bad % len(kinds)] if bad >= 0 else None
        severity = float(rng.uniform(FAINTEST, 1.0))
        picture, mask = chosen.render(first + shot, size=size, defect=defect, severity=severity)
        made.append(Shot(picture, mask, defect, caption(chosen.noun, defect, severity, rng, mask=mask)))
    return Line(chosen.noun, made)


def stream(split: Split, start: int, *, shots: int, size: int, processes: int) -> Generator[Line, None, None]:
    """Lines from number `start` on, without end, in order, whatever the number of processes."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin) as pool:
        waiting: deque[Future[Line]] = deque()
        index = start
        try:
            while True:
                while len(waiting) < AHEAD * processes:
                    waiting.append(pool.submit(rendered_line, split, index, shots=shots, size=size))
                    index += 1
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()


def said(noun: str, defect: str | None, rng: np.random.Generator) -> str:
    """A caption of some picture of a product."""
    return caption(noun, defect, float(rng.uniform(FAINTEST, 1.0)), rng)


def _begin() -> None:
    """In a new process: one thread, and an end when whoever trains is gone, however that came about."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    assert parent is not None, "renderers are processes of another"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
