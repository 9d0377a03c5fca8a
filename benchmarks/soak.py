"""A scorer over many small messages: does its memory grow, do its file handles, does it fall behind?

    python -m benchmarks.soak [--messages 200000] [--rate 60]

A camera sends pictures of about 1 KB at a constant rate, whatever the scorer does; one `stream-ad serve` works on
them, and every second it is written down what it takes and how far behind it is. After the first tenth, which fills
caches, a line is fitted through the medians of twenty equal parts. Exit code 1 when something grows, or when a
message has no verdict in the end. Writes benchmarks/results/soak.json and .md.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import theilslopes
from sqlalchemy import Engine, create_engine, text

from benchmarks.chaos import Feed, Plan, scores, url_of
from benchmarks.stream_plant import SESSION, Camera, Scorer, teach, write_settings
from stream_ad.app import code_version
from tests.broker import broker, create_topic

RESULTS = Path(__file__).parent / "results"
PARTS = 20
WARM_UP = 0.1
#: what a growth over the whole run must reach to be one, beside being certain
MATERIAL = {"anonymous_mb": 10.0, "rss_mb": 10.0, "handles": 2.0, "threads": 1.0, "behind": 500.0}
UNITS = {
    "anonymous_mb": "memory not backed by files, MB",
    "rss_mb": "resident memory, MB",
    "handles": "open file handles",
    "threads": "threads",
    "behind": "messages without a verdict (lag)",
}


@dataclass(frozen=True, slots=True)
class Growth:
    """A line through the medians of equal parts of a run."""

    #: medians of the first and the last part
    first: float
    last: float
    most: float
    #: over the whole of what was fitted: Theil-Sen slope times its length, and its 95 % interval
    growth: float
    low: float
    high: float

    def grows(self, material: float) -> bool:
        """More than nothing with certainty, and enough to matter."""
        return self.low > 0 and self.growth >= material


def growth(done: Sequence[float], values: Sequence[float]) -> Growth:
    """How `values` changed with the messages `done`, the warm-up left out.

    Medians of parts, not single samples: neighbours in time are alike, and the interval would be too narrow.

    Raises:
        ValueError: fewer than two samples a part.
    """
    x, y = np.asarray(done, float), np.asarray(values, float)
    warm = x >= WARM_UP * x.max()
    x, y = x[warm], y[warm]
    if len(x) < 2 * PARTS:
        raise ValueError(f"needed at least {2 * PARTS} samples after the warm-up, got {len(x)}")
    parts = np.array_split(np.arange(len(x)), PARTS)
    middle = np.array([np.median(y[part]) for part in parts])
    where = np.array([np.median(x[part]) for part in parts])
    slope, _, low, high = theilslopes(middle, where)
    length = where[-1] - where[0]
    return Growth(
        float(middle[0]),
        float(middle[-1]),
        float(y.max()),
        *(float(value * length) for value in (slope, low, high)),
    )


def soak(place: Path, bootstrap: str, plan: Plan, rate: float) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Samples, one a second, and what came of it."""
    for topic, partitions in (("images", plan.partitions), ("results", 1), ("images.dlq", 1)):
        create_topic(bootstrap, topic, partitions)
    write_settings(
        place,
        data_dir="data",
        # the smallest pictures that the untrained backbone can see
        backbone={"image_size": 48},
        # patient, so that batches are full at a constant rate
        stream={"source": "kafka", "batch_size": 32, "linger_ms": 300},
        kafka={"bootstrap": bootstrap, "topic": "images", "results_topic": "results", "group": "line", **SESSION},
    )
    teach(place, side=plan.side)
    scorer = Scorer(place, place.with_name("scorer.log"))
    camera = Camera(bootstrap, "images", plan.partitions)
    feed = Feed(camera, plan, scratched=0.01)
    engine = create_engine(url_of(place, None))
    samples: list[dict[str, float]] = []
    try:
        scorer.start()
        feed.start()
        while not scores(scorer):
            time.sleep(0.1)
        begun = told = time.monotonic()
        give_up = begun + 5 * plan.images / rate + 300
        done = 0
        while done < plan.images and time.monotonic() < give_up:
            time.sleep(1.0)
            elapsed = time.monotonic() - begun
            feed.due = min(plan.images, round(rate * elapsed))
            done, usage = verdicts_of(engine), scorer.observe()
            if usage is None or feed.failed:
                raise RuntimeError(f"needed a scorer and a camera to the end: {feed.failed or 'the scorer ended'}")
            taken = {key: value for key, value in asdict(usage).items() if key in UNITS}
            samples.append({"at_s": elapsed, "sent": feed.sent, "done": done, "behind": feed.sent - done, **taken})
            if time.monotonic() - told > 15:
                told = time.monotonic()
                print(json.dumps({key: round(value, 1) for key, value in samples[-1].items()}), flush=True)
        lasted_s = time.monotonic() - begun
        code = scorer.stop()
        return samples, {
            "without_verdict": plan.images - verdicts_of(engine),
            "exit_code": code,
            "lasted_s": lasted_s,
            "cpu_ms_per_message": 1000 * scorer.cpu_s / plan.images,
        }
    finally:
        feed.stop()
        camera.close()
        scorer.end()
        engine.dispose()


def verdicts_of(engine: Engine) -> int:
    """Records with a result or a dead letter."""
    with engine.connect() as connection:
        return sum(
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in ("results", "dead_letters")
        )


def markdown(report: Mapping[str, Any]) -> str:
    ended = report["ended"]
    lines = [
        f"{report['messages']:,} messages of {report['bytes']:,.0f} bytes at {report['rate']:g} a second on"
        f" {report['partitions']} partitions; {ended['cpu_ms_per_message']:.1f} ms of CPU a message;"
        f" {ended['without_verdict']} without a verdict, exit code {ended['exit_code']}.",
        "",
        "| | first part | last part | most | growth over the run (95 %) | |",
        "|---|---|---|---|---|---|",
    ]
    for name, fit in report["growth"].items():
        verdict = "**grows**" if fit["grows"] else "does not grow"
        lines.append(
            f"| {UNITS[name]} | {fit['first']:.1f} | {fit['last']:.1f} | {fit['most']:.1f} |"
            f" {fit['growth']:+.2f} ({fit['low']:+.2f} to {fit['high']:+.2f}) | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=60.0, help="messages a second; below what the machine can do")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--poison", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "soak.json")
    chosen = parser.parse_args()
    plan = Plan(images=chosen.messages, partitions=chosen.partitions, poison=chosen.poison, seed=chosen.seed, side=32)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        place = folder / "line"
        place.mkdir()
        samples, ended = soak(place, stack.enter_context(broker()), plan, chosen.rate)
    fits = {
        name: growth([sample["done"] for sample in samples], [sample[name] for sample in samples]) for name in UNITS
    }
    report = {
        "messages": plan.images,
        "bytes": float(np.mean([len(Feed.record(number, plan, 0.01).value) for number in range(200)])),
        "rate": chosen.rate,
        "partitions": plan.partitions,
        "ended": ended,
        "growth": {name: asdict(fit) | {"grows": fit.grows(MATERIAL[name])} for name, fit in fits.items()},
        "samples": samples[:: max(1, len(samples) // 200)],
        "provenance": {"code": code_version(), "cores": os.cpu_count(), "broker": "tansu 0.6.0 (memory)"},
    }
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    chosen.output.write_text(json.dumps(report, indent=1) + "\n")
    chosen.output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))
    grown = any(fit["grows"] for fit in report["growth"].values())
    sys.exit(grown or bool(ended["without_verdict"]) or bool(ended["exit_code"]))


if __name__ == "__main__":
    main()
