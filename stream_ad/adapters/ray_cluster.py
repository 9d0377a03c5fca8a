"""What is said to a Ray cluster. A cluster places processes; which job is whose, the jobs table says.

`ray` is imported where it is used: it is an extra.
"""

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple

from stream_ad.adapters.local_executor import NOT_INHERITED
from stream_ad.errors import Unavailable

#: names the device in the environment of a job's process
DEVICE = "STREAM_AD_BACKBONE__DEVICE"
#: Ray sets the first of these to its own idea of a process; a job gets what its placer has, for the same figures
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: how long the cluster's head may take to answer, seconds
ANSWER_S = 5.0
#: lines that wait to be asked for; of more, the oldest are lost
MAX_LINES = 10_000
MAX_WIDTH = 8000
#: how long the rest of a dead process's words is waited for, seconds: a grandchild may hold the pipe open
READ_S = 2.0


class Share(NamedTuple):
    """What a job takes of a machine of the cluster."""

    cpus: float
    #: of one GPU; 0: it runs on the CPU
    gpus: float

    @classmethod
    def of(cls, device: str, *, cpus: float, gpus: float) -> "Share":
        return cls(cpus, gpus if device.startswith("cuda") else 0.0)

    @property
    def options(self) -> dict[str, float]:
        """As Ray calls it."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus}


def device_there(device: str) -> str:
    """What a device is called on a machine of the cluster: Ray shows a job its own GPU alone, as the first one."""
    return "cuda" if device.startswith("cuda") else device


def connect(address: str) -> None:
    """Use the cluster from this process, once.

    Raises:
        Unavailable: none answers there; or another Ray or Python than this one's does.
    """
    # what Ray's own code writes about the network would be taken for a job's last words
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        host, _, port = address.rpartition(":")
        if host:  # Ray itself asks for a minute before it gives up
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise Unavailable(
            f"jobs.ray_address needs the address of a Ray cluster, but {address} is none: {reason(error)}; start Ray on"
            " this machine with `ray start`"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in kept.items():  # Ray takes them
                signal.signal(number, handler)


def reason(error: Exception) -> str:
    """In one line, without a traceback: what was raised over there, or what became of the process."""
    cause = getattr(error, "cause", None)
    words = " ".join(str(cause or error).split())[:500]
    return f"{type(cause).__name__}: {words}" if cause else words


def environment_sent() -> dict[str, str]:
    """Of this process's environment what a job needs of it elsewhere: its settings, and how many threads it may use."""
    ours = {name: value for name, value in os.environ.items() if name.startswith("STREAM_AD_") or name in THREADS}
    if DEVICE in ours:
        ours[DEVICE] = device_there(ours[DEVICE])
    return {"PYTHONFAULTHANDLER": "1", **ours}


class Glance(NamedTuple):
    """What a process did since the last look."""

    #: its lines, each with whether it is of stderr
    lines: Sequence[tuple[bool, str]]
    #: None: it runs
    code: int | None


class RemoteProcess:
    """An actor: one command on the machine where Ray put it. Every call returns at once.

    When Ray's process of it dies, the command is killed: were it to give its job back in order, one that fills the
    memory, for which Ray ends its own process, would come again for ever.
    """

    def start(self, command: Sequence[str], environment: Mapping[str, str], *, python: str, folder: str) -> str:
        """Start it in a folder; the machine's name. `python`: the interpreter of who asks, ours stands in for it.

        Raises:
            OSError: it cannot be started; this machine has no such folder.
        """
        inherited = {name: value for name, value in os.environ.items() if name not in (*THREADS, *NOT_INHERITED)}
        self._lines: deque[tuple[bool, str]] = deque(maxlen=MAX_LINES)
        self._popen = subprocess.Popen(
            [sys.executable if part == python else part for part in command],
            cwd=folder,
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_the_parent if sys.platform == "linux" else None,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream, stream is self._popen.stderr), daemon=True)
            for stream in (self._popen.stdout, self._popen.stderr)
        ]
        for reader in self._readers:
            reader.start()
        return socket.gethostname()

    def look(self) -> Glance:
        """What it did since the last look."""
        code = self._popen.poll()
        if code is not None:
            for reader in self._readers:
                reader.join(READ_S)
        return Glance([self._lines.popleft() for _ in range(len(self._lines))], code)

    def send(self, number: int) -> None:
        """Send it a signal; no error when it is gone."""
        self._popen.send_signal(number)

    def _read(self, stream: IO[bytes], of_stderr: bool) -> None:
        with stream:
            while line := stream.readline(MAX_WIDTH):
                self._lines.append((of_stderr, line.decode(errors="replace").rstrip("\r\n")))


#: loaded beforehand, because between fork and exec next to nothing is safe
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _die_with_the_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def new_process(share: Share) -> Any:
    """An actor handle of `RemoteProcess`; Ray never starts it a second time."""
    import ray

    actor: Any = ray.remote(RemoteProcess)
    return actor.options(**share.options, max_restarts=0, max_task_retries=0).remote()
