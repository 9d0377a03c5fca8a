"""A table that anybody can reproduce, with nothing private: rendered products and a backbone without training.

    python -m benchmarks.rendered

Renders the demo's products, runs `stream-ad bench continual` on them and keeps its figures in
benchmarks/results/continual-rendered.json and .md. `tiny` sees texture and colour, no objects and no words: the figures
show that the machinery works, not how well products are inspected.
"""

import shutil
import tempfile
from pathlib import Path

from stream_ad.cli import main
from stream_ad.demo import PRODUCTS, write_product

RESULTS = Path(__file__).parent / "results"
PRODUCTS_SHOWN = ("blister", "gasket", "pcb", "screw")  # four, so that it takes minutes
METHODS = (
    *("cmpmb", "cmpmb_full", "patchcore", "patchcore_same", "sequence", "patchcore_replay", "shared_coreset"),
    *("cmpmb@budget", "patchcore@budget", "sequence@budget", "patchcore_replay@budget", "shared_coreset@budget"),
)


def run() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in PRODUCTS_SHOWN:
            write_product(folder / "rendered", PRODUCTS[name], train=24, good=12, per_defect=4, seed=1)
        output = folder / "continual-rendered.json"
        try:
            main(
                [
                    *("bench", "continual", "--data", str(folder / "rendered"), "--backbone", "tiny"),
                    *("--detectors", ",".join(METHODS), "--output", str(output)),
                ]
            )
        except SystemExit as ended:  # the command line always ends so
            if ended.code:
                raise
        RESULTS.mkdir(exist_ok=True)
        for ending in (".json", ".md"):
            shutil.copy(output.with_suffix(ending), RESULTS)


if __name__ == "__main__":
    run()
