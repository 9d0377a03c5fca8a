"""Labels that only a mask tells: sets in which every picture has one, all black where nothing is wrong."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stream_ad.adapters.masks import read_mask


def marked(masks: Sequence[Path]) -> list[bool]:
    """Whether each mask marks something. Opens all of them, a millisecond or two each; no picture.

    Raises:
        DataError: a file is no mask.
    """
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # decoders release the interpreter's lock
        return list(pool.map(lambda mask: bool(read_mask(mask).any()), masks))
