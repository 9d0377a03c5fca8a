"""One command on a machine of a Ray cluster, as if it ran here: `python -m stream_ad.adapters.ray_process`.

Ray ends the process that uses it when the head of the cluster is gone for a minute, and blocks its calls until then.
So each job has a process of its own between the worker and the cluster; whoever starts it sees one process, whose
lines, exit code and death by a signal are those of the command over there.
"""

import argparse
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_ad.adapters.ray_cluster import DEVICE, Share, connect, environment_sent, new_process, reason
from stream_ad.adapters.starter import when_starter_is_gone
from stream_ad.errors import StreamAdError

#: how often the process over there is looked at, seconds
LOOK_S = 0.25
#: how long a look may take before its machine is given up, seconds; Ray itself notices a dead one sooner
PATIENCE_S = 120.0
#: exit code for a command that could not be started, or whose machine died
LOST = 3


def main(arguments: Sequence[str]) -> int:
    """Run it; its exit code, below zero for the signal that it died of."""
    parser = argparse.ArgumentParser(prog="python -m stream_ad.adapters.ray_process", description=__doc__)
    parser.add_argument("--address", default="auto")
    parser.add_argument("--cpus", type=float, default=1.0)
    parser.add_argument("--gpus", type=float, default=1.0)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)

    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    when_starter_is_gone(asked.set)
    try:
        connect(given.address)
        return _run(given.command, Share.of(os.environ.get(DEVICE, ""), cpus=given.cpus, gpus=given.gpus), asked)
    except StreamAdError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return LOST


def _run(command: Sequence[str], share: Share, asked: threading.Event) -> int:
    import ray
    from ray.exceptions import RayError

    process = new_process(share)
    try:
        started = process.start.remote(command, environment_sent(), python=sys.executable, folder=str(Path.cwd()))
        while not ray.wait([started], timeout=LOOK_S)[0]:  # until there is room for it
            if asked.is_set():
                return 0
        print(f"on {ray.get(started)}, a machine of the Ray cluster", flush=True)
        return _follow(process, asked)
    except RayError as error:
        print(
            f"error: the job could not be started on the cluster, or was lost there: {reason(error)}",
            file=sys.stderr,
            flush=True,
        )
        return LOST
    finally:
        ray.kill(process)
        ray.shutdown()


def _follow(process: Any, asked: threading.Event) -> int:
    import ray

    told = False
    while True:
        glance: Any = ray.get(process.look.remote(), timeout=PATIENCE_S)
        for of_stderr, line in glance.lines:
            print(line, file=sys.stderr if of_stderr else sys.stdout)
        sys.stdout.flush()
        sys.stderr.flush()
        if glance.code is not None:
            return glance.code
        if asked.is_set() and not told:
            process.send.remote(int(signal.SIGTERM))
            told = True
        # once it was asked to end, it is looked at as often, but `asked` no longer waits
        (threading.Event() if told else asked).wait(LOOK_S)


def end_as(code: int) -> None:
    """End this process as another one ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    end_as(main(sys.argv[1:]))
