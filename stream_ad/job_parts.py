"""Where jobs run, from settings. The part of `app.py` that knows the executors.

Nothing here loads torch: a worker only starts processes.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from stream_ad.config import Settings
from stream_ad.domain.ports import Executor


def slots(settings: Settings) -> Sequence[str]:
    """A device for each job that may run here at a time."""
    return settings.jobs.slots or (settings.backbone.device,)


def job_command(config: Path | None, *options: str) -> list[str]:
    """What runs a job, when its number and `--worker NAME` are added."""
    named = ["--config", str(config.absolute())] if config else []
    return [sys.executable, "-m", "stream_ad.cli", *named, "job", "run", *options]


def executor(settings: Settings, config: Path | None, show: Callable[[str], None] | None) -> Executor:
    """Where `jobs.executor` says; `show` is given every line that processes here write.

    Raises:
        ConfigError: what it takes is not installed.
    """
    command, jobs = job_command(config, "--supervised"), settings.jobs
    if jobs.executor == "ray":
        from stream_ad.adapters.ray_executor import ray_executor

        cluster = {"address": jobs.ray_address, "cpus": jobs.ray_cpus, "gpus": jobs.ray_gpus}
        return ray_executor(command, slots(settings), **cluster, show=show)
    from stream_ad.adapters.local_executor import LocalExecutor

    return LocalExecutor(command, slots(settings), show=show)
