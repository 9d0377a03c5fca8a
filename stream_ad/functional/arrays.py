"""Arrays of a bank as tensors."""

from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from torch import Tensor

KEPT_BYTES = 256 << 20  # of tensors that stand for read-only arrays, on all devices together


class _Kept:
    """Tensors of read-only arrays, the least recently used forgotten beyond a size."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        #: each with its array: while that lives, nothing else can have its address
        self._kept: OrderedDict[tuple[object, ...], tuple[np.ndarray, Tensor]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, array: np.ndarray, device: torch.device) -> Tensor:
        layout = array.__array_interface__
        key = (layout["data"][0], array.shape, array.strides, layout["typestr"], str(device))
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found[1]
        tensor = torch.from_numpy(array.copy()).to(device)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = (array, tensor)
                self.bytes += tensor.nbytes
            while self.bytes > self.max_bytes and len(self._kept) > 1:
                _, (_, oldest) = self._kept.popitem(last=False)
                self.bytes -= oldest.nbytes
        return tensor


_kept = _Kept(KEPT_BYTES)


def as_tensor(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on a device. One that is read-only, as those of a stored entry, is brought there once and kept.

    torch knows no read-only tensors and warns when it shares memory with such an array, so it gets a copy; the last
    256 MiB of copies are kept, which is what a line's products need, but not all of 10,000. A writable array is
    shared as it is.

    >>> keys = np.arange(3.0)
    >>> keys.flags.writeable = False
    >>> as_tensor(keys, torch.device("cpu")) is as_tensor(keys, torch.device("cpu"))
    True
    """
    if array.flags.writeable:
        return torch.from_numpy(array).to(device)
    return _kept.get(array, device)
