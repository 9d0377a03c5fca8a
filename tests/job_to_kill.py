"""A job's process without pictures or networks, that behaves as it is told. Run as a process of its own.

Arguments: the directory of the database, the behaviour, the job's number, --worker, its name. Where a behaviour waits,
it first makes the file `reached-JOB` in the directory, and goes on when there is a file `go`.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stream_ad.adapters.clock import SystemClock
from stream_ad.adapters.starter import when_starter_is_gone
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.ports import Progress
from stream_ad.domain.task import Task
from stream_ad.services.work import TaskImages
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

LEASE_S = 60.0


def main(directory: Path, behaviour: str, job_id: int, name: str) -> None:
    if behaviour == "cannot start":
        print("error: needed weights, got none; pull them", file=sys.stderr)
        raise SystemExit(2)
    reached, go = directory / f"reached-{job_id}", directory / "go"

    def learned(task: Task, images: TaskImages, payload: Mapping[str, Any], progress: Progress) -> BankEntry:
        progress("adapt", 0, 1)
        with (directory / "learned").open("a") as file:
            file.write(f"{job_id}\n")
        match behaviour:
            case "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            case "crashes":
                ctypes.string_at(0)
            case "hangs":
                reached.touch()
                threading.Event().wait()
            case "waits":
                reached.touch()
                while not go.exists():
                    progress("adapt", 0, 1)
                    time.sleep(0.02)
        return kit.learned(task, images, payload, progress)

    def evaluated(*arguments: Any) -> Any:
        if behaviour == "dies once while it is judged" and not reached.exists():
            reached.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return kit.perfect(*arguments)

    logging.basicConfig(stream=sys.stdout, level=logging.INFO)
    with kit.open_storage(directory) as database:
        work = replace(kit.work(), learn=learned, evaluate=evaluated)
        worker = Worker(kit.storage(database), work, SystemClock(), name=name, lease_s=LEASE_S)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        when_starter_is_gone(worker.stop)
        worker.run_one(job_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[5])
