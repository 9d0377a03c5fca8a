"""The end of a job's log, kept in its row while the job runs: whoever asks reads it, on whatever machine it runs."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stream_ad.domain.job import Job

MAX_LINES = 200
#: a longer line is cut
MAX_WIDTH = 1000


class JobLog(logging.Handler):
    """Keeps the last lines that this package logs, behind those of earlier attempts."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        # to the thousandth of a second: who follows a log tells lines apart by it
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._lines: deque[str] = deque((job.log_tail or "").splitlines(), maxlen=MAX_LINES)
        self._guard = threading.Lock()
        self._written = self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self.format(record))

    def add(self, text: str) -> None:
        """Keep these lines too."""
        with self._guard:
            for line in text.splitlines():
                self._lines.append(line if len(line) <= MAX_WIDTH else line[:MAX_WIDTH] + " ...")
                self._count += 1

    @property
    def text(self) -> str:
        with self._guard:
            return "\n".join(self._lines)

    def flush_to(self, write: Callable[[str], bool]) -> None:
        """Write it down, if there is something new."""
        with self._guard:
            count, text = self._count, "\n".join(self._lines)
        if count != self._written and write(text):
            self._written = count


@contextmanager
def logging_of(job: Job) -> Iterator[JobLog]:
    """Keeps what this package logs inside the block."""
    kept = JobLog(job)
    logger = logging.getLogger("stream_ad")
    level = logger.level
    if not logger.isEnabledFor(logging.INFO):  # nobody set it: a terminal that shows no log still leaves one behind
        logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    try:
        yield kept
    finally:
        logger.removeHandler(kept)
        logger.setLevel(level)


def new_lines(seen: list[str], now: list[str]) -> list[str]:
    """What of the log's end `now` came after the end `seen` earlier; both are the last lines of one growing text."""
    for overlap in range(min(len(seen), len(now)), 0, -1):
        if seen[-overlap:] == now[:overlap]:
            return now[overlap:]
    return now
