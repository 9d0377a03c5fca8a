"""Figures that a command of the real command line makes, kept with the results of this repository."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stream_ad.cli import main

RESULTS = Path(__file__).parent / "results"


def run_and_keep(arguments: Sequence[str], output: Path) -> None:
    """Run a command that writes `output` (JSON) and a Markdown beside it, and copy both to the results.

    Raises:
        SystemExit: the command failed.
    """
    try:
        main(list(arguments))
    except SystemExit as ended:  # the command line always ends so
        if ended.code:
            raise
    RESULTS.mkdir(exist_ok=True)
    for ending in (".json", ".md"):
        shutil.copy(output.with_suffix(ending), RESULTS)
