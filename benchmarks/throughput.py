"""What `serve` costs beside the bare forward, from Kafka and from a folder.

    python -m benchmarks.throughput [--backbone ID] [--name NAME] [options of `stream-ad bench throughput`]

Starts a Kafka-compatible broker (tansu, in memory) on loopback, or takes the one of STREAM_AD_TEST_BOOTSTRAP, and
runs `stream-ad bench throughput`. Figures: benchmarks/results/throughput-NAME.json and .md; pictures and banks are kept
below --state, a folder outside the repository.
"""

import argparse
import re
import tempfile
from pathlib import Path

import yaml

from benchmarks.command_line import run_and_keep
from tests.broker import SESSION, broker


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="random:ViT-B-16")
    parser.add_argument("--name", help="of the results. Default: the backbone's")
    parser.add_argument("--threads", type=int, help="of torch. Default: its own choice")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--state", type=Path, help="folder for pictures and banks. Default: made anew")
    options, more = parser.parse_known_args()
    name = options.name or re.split("[:/]", options.backbone)[-1].lower()
    with tempfile.TemporaryDirectory() as made, broker() as bootstrap:
        folder = options.state or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "throughput.yaml"
        settings = {
            "data_dir": str(folder / "data"),
            "detector": {"preset": options.preset},
            "kafka": {"bootstrap": bootstrap, **SESSION},
            "backbone": {"threads": options.threads},
        }
        config.write_text(yaml.safe_dump(settings))
        output = folder / f"throughput-{name}.json"
        command = ["bench", "throughput", "--config", str(config), "--output", str(output)]
        run_and_keep([*command, "--backbone", options.backbone, *more], output)


if __name__ == "__main__":
    run()
