"""Continual visual inspection of production lines: one bank, one entry per product line, nothing forgotten unseen.

>>> from stream_ad import open_workbench, plot
>>> bench = open_workbench(backbone="small")
>>> len(bench.bank)
0
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_ad.api import Workbench, load_bank, open_workbench, plot, read_picture, read_pictures

# A scorer and a worker share a plant PC's few cores: OpenMP threads that spin while they wait for each other stall
# both, on two virtual cores more than tenfold. Read by torch when it loads, which is later; a user's own choice stands.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__all__ = ["Workbench", "load_bank", "open_workbench", "plot", "read_picture", "read_pictures"]


def __getattr__(name: str) -> Any:
    # on demand: `import stream_ad` alone must not load torch, the light commands start without it
    if name in __all__:
        return getattr(import_module("stream_ad.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
