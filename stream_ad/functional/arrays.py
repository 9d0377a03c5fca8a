"""Arrays of a bank as tensors."""

import weakref

import numpy as np
import torch
from torch import Tensor

_kept: dict[tuple[int, str], Tensor] = {}


def as_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on a device. One that is read-only, as those of a stored entry, is brought there once.

    torch knows no read-only tensors and warns when it shares memory with such an array, so it gets a copy, which
    lives as long as the array. A writable array is shared as it is.

    >>> keys = np.arange(3.0)
    >>> keys.flags.writeable = False
    >>> as_tensor(keys, torch.device("cpu")) is as_tensor(keys, torch.device("cpu"))
    True
    """
    if array.flags.writeable:
        return torch.from_numpy(array).to(device)
    key = (id(array), str(device))
    if (kept := _kept.get(key)) is None:
        kept = _kept[key] = torch.from_numpy(array.copy()).to(device)
        weakref.finalize(array, _kept.pop, key, None)
    return kept
