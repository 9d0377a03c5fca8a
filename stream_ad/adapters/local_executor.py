"""Jobs as processes of this machine, at most one for each device."""

import logging
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from stream_ad.domain.job import Ended, Job
from stream_ad.errors import Unavailable

log = logging.getLogger(__name__)

#: of what a process wrote to stderr, kept as its last words
LAST_LINES = 40
MAX_WIDTH = 1000
#: how long the rest of a dead process's words is waited for, seconds: a grandchild may hold the pipe open
READ_S = 2.0
#: of the service manager; a child that used them would speak for us
NOT_INHERITED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")


class LocalExecutor:
    """`domain.ports.Executor` by subprocesses.

    A process hears of our end by its standard input, which closes then, whatever we died of. What it writes is
    passed on line by line; the end of its stderr is kept, because a crash in native code leaves its words there.
    """

    def __init__(
        self,
        command: Sequence[str],
        slots: Sequence[str],
        *,
        device_variable: str = "STREAM_AD_BACKBONE__DEVICE",
        show: Callable[[str], None] | None = None,
    ) -> None:
        """`command`: what runs a job when its number and the worker's name are added. `slots`: a device each."""
        self._command, self._slots = list(command), list(slots)
        self._device_variable, self._show = device_variable, show
        self._processes: dict[str, _Process] = {}
        self._stopping = False

    def free(self) -> int:
        return 0 if self._stopping else len(self._slots) - len(self._processes)

    def place(self, job: Job, worker: str) -> None:
        slots = list(self._slots)
        for process in self._processes.values():
            slots.remove(process.slot)
        if not slots or self._stopping:
            raise Unavailable(f"job {job.id} needs a free slot, all {len(self._slots)} are taken; wait for one")
        inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        try:
            self._processes[worker] = _Process(
                [*self._command, str(job.id), "--worker", worker],
                job.id,
                slots[0],
                # a crash in native code tells where it was
                {**inherited, "PYTHONFAULTHANDLER": "1", self._device_variable: slots[0]},
                self._show,
            )
        except OSError as error:  # no memory, or too many processes
            raise Unavailable(f"a process for job {job.id} cannot be started: {error}") from error

    def ended(self) -> list[Ended]:
        gone = {worker: process for worker, process in self._processes.items() if not process.lives}
        for worker in gone:
            del self._processes[worker]
        return [Ended(process.job_id, worker, process.how()) for worker, process in gone.items()]

    def stop(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            process.send(signal.SIGTERM)

    def kill(self, worker: str) -> None:
        if worker in self._processes:
            self._processes[worker].send(signal.SIGKILL)

    def close(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            process.send(signal.SIGKILL)
        for process in self._processes.values():
            process.how()
        self._processes.clear()


class _Process:
    def __init__(
        self,
        command: Sequence[str],
        job_id: int,
        slot: str,
        environment: Mapping[str, str],
        show: Callable[[str], None] | None,
    ) -> None:
        self.job_id, self.slot = job_id, slot
        self._show = show
        self._popen = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C reaches us alone; we tell it in order
            start_new_session=True,
        )
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), name=f"output of job {job_id}", daemon=True)
            for stream, kept in ((self._popen.stdout, None), (self._popen.stderr, self._last))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def lives(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)  # no error when it is gone

    def how(self) -> str | None:
        """How it died; None: in order. Waits for its end."""
        code = self._popen.wait()
        for reader in self._readers:
            reader.join(READ_S)
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        if code == 0:
            return None
        last = [line for line in self._last if line.strip()]
        if code > 0 and last:  # the end of a message or of a trace says most
            return "\n".join([f"{described(code)}: {last[-1].strip()}", *last[:-1]])
        return "\n".join([described(code), *last])

    def _read(self, stream: IO[bytes], kept: deque[str] | None) -> None:
        # a line without an end is cut, so that it does not fill the memory
        with stream:
            while line := stream.readline(8 * MAX_WIDTH):
                text = line.decode(errors="replace").rstrip("\r\n")
                if kept is not None:
                    kept.append(text[:MAX_WIDTH])
                if self._show is not None:
                    self._show(text)


def described(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if -code == signal.SIGKILL:
        return f"killed by {name}: by somebody, or by the system because memory ran out"
    return f"killed by {name}"
