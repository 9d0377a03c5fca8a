"""Old entries shrink into a fixed number of rows, without their pictures.

A coreset's rows stand in the order in which greedy k-center took them, and that order is nested: its first r rows are
what k-center would have chosen with r rows. So an entry shrinks by keeping its first rows. Rows that came by patches
stand behind them and stay: without them the false alarms would come back.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stream_ad.domain.bank import PATCHED_ROWS, BankEntry

CORESET = "coreset"
SMALLEST = 8  # rows with which a memory still says something


def rows_of(entry: BankEntry) -> int:
    """Rows that an entry keeps of each level; 0 for a method without."""
    return len(entry.arrays[CORESET]) if CORESET in entry.arrays else 0


def shrunk(entry: BankEntry, rows: int) -> BankEntry:
    """The entry with its first `rows` rows, or itself when it has no more.

    Raises:
        ValueError: `rows` is below 1.
    """
    if rows < 1:
        raise ValueError(f"an entry needs at least one row, got {rows}")
    if rows_of(entry) <= rows:
        return entry
    coreset = np.asarray(entry.arrays[CORESET])
    patched = min(int(entry.arrays.get(PATCHED_ROWS, 0)), rows - 1)
    if not patched:
        return with_arrays(entry, {CORESET: coreset[:rows]})
    kept = np.concatenate([coreset[: rows - patched], coreset[len(coreset) - patched :]])
    return with_arrays(entry, {CORESET: kept, PATCHED_ROWS: np.array(patched)})


def with_arrays(entry: BankEntry, changed: Mapping[str, np.ndarray]) -> BankEntry:
    """The entry with other arrays, named by what it is made of."""
    made_of = hashlib.sha256(entry.sha256.encode())
    for name, array in sorted(changed.items()):
        made_of.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return replace(entry, arrays={**entry.arrays, **changed}, sha256=made_of.hexdigest())
