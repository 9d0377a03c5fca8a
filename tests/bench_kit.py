"""Product folders and a command line for tests of the benches that judge product by product."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stream_ad.cli import main
from tests.pictures import disc

#: exit code, stdout, and stderr with its white space folded
Run = Callable[..., tuple[int, str, str]]


def write_set(root: Path, name: str, *, train: int, good: int, bad: int, first: int) -> None:
    """Discs as MVTec AD lies, the bad ones scratched; `first`: each picture has a number of its own from there on."""
    mask = np.zeros((96, 96), np.uint8)
    mask[44:50, 30:66] = 255
    for place, count in (("train/good", train), ("test/good", good), ("test/scratch", bad)):
        for n in range(count):
            first += 1
            save(root / name / place / f"{n}.png", disc(first, scratched="scratch" in place))
            if "scratch" in place:
                save(root / name / "ground_truth/scratch" / f"{n}_mask.png", mask)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def command_line(capsys: pytest.CaptureFixture[str], *before: str) -> Run:
    """The program as a user calls it; `before`: words that each call begins with."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*before, *map(str, arguments)])
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, " ".join(told.err.split())

    return run
