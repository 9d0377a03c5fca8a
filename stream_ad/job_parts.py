"""Where jobs run, from settings. The part of `app.py` that knows the executors.

Nothing here loads torch: a worker only starts processes.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stream_ad.config import Settings
from stream_ad.domain.evaluation import TaskEvaluation
from stream_ad.domain.images import HeldoutSet
from stream_ad.domain.ports import Executor, Progress
from stream_ad.domain.task import TaskId

if TYPE_CHECKING:
    from stream_ad.inspection import BankModel


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


class Common(NamedTuple):
    """What a machine of a cluster needs to evaluate any task of a bank; it reads entries and pictures itself."""

    settings: Settings
    #: of the bank
    version: int
    #: hashes of its entries
    entries: Sequence[str]
    #: of the job: what measures with anything else does not measure for it
    provenance: Mapping[str, Any]


def evaluate_with_cluster(
    there: Callable[[Common, tuple[TaskId, HeldoutSet]], TaskEvaluation | None],
    settings: Settings,
    model: "BankModel",
    heldout: Mapping[TaskId, HeldoutSet],
    progress: Progress,
    provenance: Mapping[str, Any],
) -> Mapping[TaskId, TaskEvaluation]:
    """As `evaluation.protocol.evaluate`, the tasks shared with what a Ray cluster has to spare; the same figures."""
    from stream_ad.adapters.ray_cluster import Share
    from stream_ad.adapters.ray_map import map_on_cluster
    from stream_ad.evaluation.protocol import evaluate

    pictures, seen = sum(len(images) for images in heldout.values()), dict.fromkeys(heldout, 0)

    def here(item: tuple[TaskId, HeldoutSet], look: Callable[[], None]) -> TaskEvaluation:
        task, images = item

        def told(stage: str, done: int, total: int) -> None:
            seen[task] = done
            progress(stage, sum(seen.values()), pictures)
            look()

        return evaluate(model, {task: images}, told)[task]

    jobs, items = settings.jobs, list(heldout.items())
    common = Common(settings, model.bank.version, [entry.sha256 for entry in model.bank], dict(provenance))
    share = Share.of(settings.backbone.device, cpus=jobs.ray_cpus, gpus=jobs.ray_gpus)
    found = map_on_cluster(there, common, items, here, address=jobs.ray_address, share=share)
    progress("evaluate", pictures, pictures)
    return dict(zip(heldout, found, strict=True))
