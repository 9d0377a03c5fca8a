"""Jobs as processes of a Ray cluster, for plants that outgrow one machine."""

import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from stream_ad.adapters.local_executor import LocalExecutor
from stream_ad.adapters.ray_cluster import DEVICE
from stream_ad.errors import ConfigError


def ray_executor(
    command: Sequence[str],
    slots: Sequence[str],
    *,
    address: str = "auto",
    cpus: float = 1.0,
    gpus: float = 1.0,
    show: Callable[[str], None] | None = None,
) -> LocalExecutor:
    """`domain.ports.Executor` by a cluster: of each job a small process here that stands for the one there.

    Placing, looking after and burying are those of the local executor, so both give the same states and the same
    banks. Ray's part is to find a machine with `cpus` processors and, where the slot is a GPU, `gpus` of one. It
    repeats nothing by itself.

    Raises:
        ConfigError: Ray is not installed.
    """
    require_ray()
    through = [sys.executable, "-m", "stream_ad.adapters.ray_process"]
    options = ["--address", address, "--cpus", str(cpus), "--gpus", str(gpus), "--"]
    return LocalExecutor([*through, *options, *command], slots, device_variable=DEVICE, show=show)


def require_ray() -> None:
    """Raises: ConfigError: Ray is not installed."""
    if find_spec("ray") is None:
        raise ConfigError("jobs.executor ray needs Ray, which is not installed: pip install 'stream-ad[ray]'")
