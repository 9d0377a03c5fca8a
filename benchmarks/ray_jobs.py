"""The same jobs by processes of this machine and by a Ray cluster of two workers: the same bank, byte for byte.

    python -m benchmarks.ray_jobs [--data DIR] [--weights DIR] [--train 16] [--held 6]

Of every data set some training pictures are learned and some test pictures judge, half of them defective: this shows
that it does not matter where a job runs, not how well products are inspected. Threads are pinned to one, the features
are float32. The cluster runs in a network of its own, because Ray listens on every address and asks nobody who he is;
the benchmark enters one by itself.

Writes benchmarks/results/ray-jobs.json and .md.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stream_ad.adapters.heldout import heldout_files
from stream_ad.adapters.image_folders import find_pictures
from stream_ad.adapters.ray_cluster import connect
from stream_ad.app import App, evaluated_there
from stream_ad.config import load_settings
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.job import JobKind
from stream_ad.domain.task import Task, TaskId
from stream_ad.job_parts import Common
from stream_ad.services.heldout import heldout_of

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
#: the cheaper one; what is compared is where jobs run
DETECTOR = "patchcore"
#: how many jobs at a time; here they would take the processor from each other, so it is one
SLOTS = {"local": ["cpu"], "ray": ["cpu", "cpu"]}
#: what a job's log says of an evaluation that it shared
ELSEWHERE = re.compile(r"(\d+) of (\d+) evaluations were done elsewhere")


class Made(NamedTuple):
    """What an executor's jobs left."""

    bank: str
    #: hash of each task's entry
    entries: dict[str, str]
    #: of the newest bank, by half, as text: equal texts are equal figures
    figures: dict[str, str]
    states: dict[str, int]
    attempts: int
    seconds: float
    #: lines of the worker's log that tell where jobs ran, and what the cluster evaluated for others
    told: list[str]


def subset(source: Path, target: Path, *, train: int, held: int) -> None:
    """Some pictures of a data set, in the same layout."""
    for file in find_pictures(source / "train" / "good")[:train]:
        _copy(file, target / "train" / "good" / file.name)
    files = heldout_files(source)
    for defective in (False, True):
        chosen = [file for file in files if (file.picture.parent.name != "good") == defective][:held]
        for file in chosen:
            _copy(file.picture, target / file.picture.relative_to(source))
            if file.mask is not None:
                _copy(file.mask, target / file.mask.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def make(folder: Path, products: Sequence[Path], *, backbone: dict[str, Any], address: str | None) -> Made:
    """A new plant that learns the products by `stream-ad worker`, on a cluster where an address is given."""
    executor = "local" if address is None else "ray"
    folder.mkdir(parents=True)
    config = folder / "config.yaml"
    jobs = {"executor": executor, "slots": SLOTS[executor], "ray_address": address or "auto", "lease_s": 600.0}
    settings = {"data_dir": "data", "backbone": {**backbone, "threads": 1}, "jobs": jobs, "reports": {"write": False}}
    config.write_text(yaml.safe_dump(settings))
    with App(load_settings(config)) as app:
        app.make_database()
        for product in products:
            task = Task(id=TaskId(product.name), class_name=product.name.replace("_", " "))
            images = product / "train" / "good"
            checked = app.check_folders(task, images=images, heldout=product, roi=None, detector=DETECTOR)
            app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
        before = time.monotonic()
        command = [sys.executable, "-m", "stream_ad.cli", "--config", str(config), "worker", "--drain"]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - before
        done = app.database.jobs.all()
        if ran.returncode != 0:
            raise SystemExit(f"{executor}: the worker ended with {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
        bank = app.database.banks.load()
        newest = {half: app.database.evaluations.all(half)[-1] for half in Half}
        states = [str(job.state) for job in done]
        return Made(
            bank=bank.sha256,
            entries={entry.task.id: entry.sha256 for entry in bank},
            figures={half.value: figures_of(newest[half]) for half in Half},
            states={state: states.count(state) for state in sorted(set(states))},
            attempts=sum(job.attempts for job in done),
            seconds=seconds,
            told=[line for line in ran.stderr.splitlines() if "of the Ray cluster" in line or "elsewhere" in line],
        )


def figures_of(evaluation: Evaluation) -> str:
    """All that was measured of every picture of every task, as one text."""
    tasks = {task: dataclasses.asdict(measured) for task, measured in sorted(evaluation.tasks.items())}
    return json.dumps(tasks, sort_keys=True, default=str)


def measured_there(folder: Path, half: Half, address: str) -> str:
    """The bank's figures, each task's measured by a process of the cluster and by nobody else."""
    import ray

    connect(address)
    with App(load_settings(folder / "config.yaml")) as app:
        bank = app.database.banks.load()
        newest = app.database.evaluations.all(half)[-1]
        common = Common(app.settings, bank.version, [entry.sha256 for entry in bank], app.provenance())
        remote = ray.remote(evaluated_there)
        found = {}
        for task in bank.entries:
            images = heldout_of(task, app.storage, app.work())
            found[task] = ray.get(remote.remote(common, (task, getattr(images, half.value))))
        return figures_of(dataclasses.replace(newest, tasks=found))


def run(arguments: argparse.Namespace) -> None:
    """Both, and the comparison."""
    from tests.ray_kit import cluster_of_two

    sets = sorted(path for path in arguments.data.iterdir() if (path / "train" / "good").is_dir())
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ray-jobs-")))
        for source in sets:
            subset(source, scratch / "products" / source.name, train=arguments.train, held=arguments.held)
        products = [scratch / "products" / source.name for source in sets]
        weights = arguments.weights.absolute()
        backbone = {"id": f"local-dir:{weights}", "device": "cpu"} if weights.is_dir() else {"id": "tiny"}
        with cluster_of_two() as cluster:
            ray = make(scratch / "ray", products, backbone=backbone, address=cluster.address)
            there = {half.value: measured_there(scratch / "ray", half, cluster.address) for half in Half}
        print(f"ray: {len(ray.entries)} tasks in {ray.seconds:.0f} s, bank {ray.bank[:16]}", flush=True)
        local = make(scratch / "local", products, backbone=backbone, address=None)
        print(f"local: {len(local.entries)} tasks in {local.seconds:.0f} s, bank {local.bank[:16]}", flush=True)
    same = {
        "bank": local.bank == ray.bank,
        "entries": {task: ray.entries.get(task) == sha256 for task, sha256 in local.entries.items()},
        "figures": {half: ray.figures[half] == text for half, text in local.figures.items()},
        "figures of processes of the cluster": {half: there[half] == text for half, text in local.figures.items()},
    }
    report = {
        "products": [product.name for product in products],
        "pictures": {"train": arguments.train, "held of each kind": arguments.held},
        "backbone": Path(backbone["id"]).name,
        "threads": 1,
        "ray": version("ray"),
        "torch": version("torch"),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        "same": same,
        **{name: _shown(made) for name, made in (("local", local), ("on ray", ray))},
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ray-jobs.json").write_text(json.dumps(report, indent=2) + "\n")
    (RESULTS / "ray-jobs.md").write_text(_markdown(report, local, ray))
    if not (same.pop("bank") and all(all(each.values()) for each in same.values())):
        raise SystemExit("error: the two banks, or their figures, are not the same")


def _shown(made: Made) -> dict[str, Any]:
    hashes = {half: hashlib.sha256(text.encode()).hexdigest() for half, text in made.figures.items()}
    return {**made._asdict(), "figures": hashes, "seconds": round(made.seconds)}


def _markdown(report: dict[str, Any], local: Made, ray: Made) -> str:
    yes = {True: "the same", False: "**not the same**"}
    rows = [
        f"| {task} | `{sha256[:16]}` | {yes[report['same']['entries'][task]]} |"
        for task, sha256 in local.entries.items()
    ]
    shared = [found for line in ray.told if (found := ELSEWHERE.search(line))]
    pictures, cores = report["pictures"]["train"], os.cpu_count()
    halves = report["same"]["figures"].items()
    measured = report["same"]["figures of processes of the cluster"].items()
    return "\n".join(
        [
            "# The same jobs here and on a Ray cluster",
            "",
            f"{len(local.entries)} data sets, {pictures} training pictures each, `{report['backbone']}`, one thread,",
            f"Ray {report['ray']}; `python -m benchmarks.ray_jobs`.",
            "",
            "| task | sha256 of its entry, learned here | on the cluster |",
            "|---|---|---|",
            *rows,
            "",
            f"- bank `{local.bank[:16]}` here, `{ray.bank[:16]}` on the cluster: {yes[report['same']['bank']]}",
            *(f"- figures of every picture, {half} half: {yes[equal]}" for half, equal in halves),
            *(f"- measured by a process of the cluster, {half} half: {yes[equal]}" for half, equal in measured),
            f"- jobs here: {local.states}, {local.attempts} attempts; there: {ray.states}, {ray.attempts} attempts",
            f"- {sum(int(found[1]) for found in shared)} of {sum(int(found[2]) for found in shared)} evaluations of a"
            " task were left to a process of the cluster by the job that needed them",
            f"- {local.seconds:.0f} s here, one job at a time; {ray.seconds:.0f} s there, two at a time, on one machine"
            f" of {cores} processors that had other work: no measure of speed",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "datasets")
    parser.add_argument("--weights", type=Path, default=ROOT.parent / "shared" / "weights" / "deit-tiny-clip")
    parser.add_argument("--train", type=int, default=16)
    parser.add_argument("--held", type=int, default=6)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.inside:
        run(arguments)
        return
    from tests.network_namespace import ENTER

    inside = [*ENTER, sys.executable, "-m", "tests.network_namespace"]
    raise SystemExit(
        subprocess.run([*inside, sys.executable, "-m", __spec__.name, *sys.argv[1:], "--inside"]).returncode
    )


if __name__ == "__main__":
    main()
