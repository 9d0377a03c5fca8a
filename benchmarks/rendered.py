"""A table that anybody can reproduce, with nothing private: rendered products and a backbone without training.

    python -m benchmarks.rendered

Renders the demo's products, runs `stream-ad bench continual` on them and keeps its figures in
benchmarks/results/continual-rendered.json and .md. `tiny` sees texture and colour, no objects and no words: the figures
show that the machinery works, not how well products are inspected.
"""

import tempfile
from pathlib import Path

from benchmarks.command_line import run_and_keep
from stream_ad.demo import PRODUCTS, write_product

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
        run_and_keep(
            [
                *("bench", "continual", "--data", str(folder / "rendered"), "--backbone", "tiny"),
                *("--detectors", ",".join(METHODS), "--output", str(output)),
            ],
            output,
        )


if __name__ == "__main__":
    run()
