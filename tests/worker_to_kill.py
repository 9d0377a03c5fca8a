"""A worker that dies by SIGKILL at a given point of its job. Run as a process of its own.

Arguments: the directory of the database, and where to die: a stage, "publishing" (inside the transaction) or
"published" (right after it).
"""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.repositories import SqlBankRepository
from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.job import Job
from stream_ad.domain.ports import Progress
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Banks:
    """The banks, but publishing is deadly."""

    def __init__(self, banks: SqlBankRepository, point: str) -> None:
        self._banks, self._point = banks, point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._banks, name)

    def publish(self, bank: Any, *, evaluations: Iterable[Evaluation], **rest: Any) -> None:
        # read inside the transaction, after the version, its entries and the end of the job were written
        self._banks.publish(bank, evaluations=self._deadly(evaluations), **rest)
        if self._point == "published":
            die()

    def _deadly(self, evaluations: Iterable[Evaluation]) -> Iterator[Evaluation]:
        for evaluation in evaluations:
            yield evaluation
            if self._point == "publishing":
                die()


def main(directory: Path, point: str) -> None:
    def watch(job: Job) -> Progress:
        def told(stage: str, done: int, total: int) -> None:
            if stage == point:
                die()

        return told

    with kit.open_storage(directory) as database:
        storage = replace(kit.storage(database), banks=Banks(database.banks, point))
        Worker(storage, kit.work(), SystemClock(), name="victim", lease_s=60.0, watch=watch).run(drain=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
