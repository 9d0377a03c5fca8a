"""A Ray cluster of two workers on this machine. Only in a network of its own: see `tests.network_namespace`."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

#: the least that Ray takes
OBJECT_STORE_BYTES = 80_000_000
#: so many processes start that a machine at work elsewhere needs its time
LIMIT_S = 600.0


class TwoWorkers:
    """The head with one processor, and a second machine with one and a GPU, as far as Ray knows."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._lost = False
        head = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
        self._cluster: Any = started(lambda: Cluster(initialize_head=True, head_node_args={**self._machine, **head}))
        self.bring_it_back()

    @property
    def _machine(self) -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}

    @property
    def address(self) -> str:
        return self._cluster.address

    def lose_the_second_machine(self) -> None:
        """At once, as when its power fails; what Ray's process there had started goes too."""
        raylet = self._second.all_processes["raylet"][0].process.pid
        doomed = [raylet, *_below(raylet)]
        for pid in doomed:
            _kill(pid)

    def bring_it_back(self) -> None:
        """The second machine, or one like it."""
        self._second: Any = started(lambda: self._cluster.add_node(**self._machine, num_gpus=1))

    def lose_the_head(self) -> None:
        """What all of the cluster goes through; the machines stay."""
        import ray

        ray.shutdown()  # with the head, Ray ends every process that uses the cluster
        _kill(self._cluster.head_node.all_processes["gcs_server"][0].process.pid)
        self._lost = True

    def close(self) -> None:
        import ray

        if self._lost:  # nobody answers; what is left ends with the namespace
            return
        ray.shutdown()  # a process that uses a node keeps it from being removed
        self._cluster.shutdown()


def started(start: Callable[[], Any], tries: int = 4) -> Any:
    """A machine of the cluster. Ray gives it 30 s, which are not enough where much else is at work."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception:  # Ray's own is of no narrower class
            if not left:
                raise
    raise AssertionError


@contextmanager
def cluster_of_two() -> Iterator[TwoWorkers]:
    """A cluster, gone at the end with its files."""
    # short: the name of a socket may have 107 characters
    folder = tempfile.mkdtemp(prefix="ray-")
    os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
    # how long Ray waits for a lost head; a minute by itself
    os.environ |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "20"}
    cluster = TwoWorkers()
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    limit = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)


def squared_there(that: str, item: int) -> tuple[int, int] | None:
    """What the cluster is asked for: the square and the process that found it, if all goes well."""
    match that:
        case "declines":
            return None
        case "fails":
            raise ValueError("no such picture here")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            while True:
                time.sleep(0.05)
    return item * item, os.getpid()


def processes_of_jobs() -> list[int]:
    """Ray's processes that run a job's process below them."""
    return [pid for pid in _all() if _name(pid).startswith("ray::RemoteProcess")]


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _all() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except OSError:
        return ""


def _below(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for each in _all():
        try:
            parents[each] = int(Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]
