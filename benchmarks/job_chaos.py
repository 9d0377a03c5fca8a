"""A bad day for three workers and two schedulers: kill -9, again and again, while twenty jobs are done.

    python -m benchmarks.job_chaos [--kills 30] [--database sqlite|postgresql] [--seed 1]

Products are painted, learned, learned again from more pictures, retired, squeezed into a budget and measured again. A
seeded schedule kills workers, the processes of jobs, and schedulers; each is started again, as a service manager does.
Who finds a job failed because its workers died in every attempt asks for it once more. Then the laws of
`job_chaos_laws` are checked. Exit code 1 when one is broken. Writes benchmarks/results/job-chaos.json and .md, on
PostgreSQL job-chaos-postgresql.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw
from sqlalchemy import text

from benchmarks import job_chaos_laws as laws
from benchmarks.stream_plant import COMMAND, command, environment
from stream_ad.app import App, code_version
from stream_ad.config import load_settings
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import StreamAdError
from tests.postgres import database_of, postgres

RESULTS = Path(__file__).parent / "results"
PRODUCTS = 10
#: of the kills, shares: a job's process, a worker, a scheduler
VICTIMS = {"job's process": 0.5, "worker": 0.35, "scheduler": 0.15}
#: seconds between two kills, at least and at most
PAUSE_S = (2.0, 10.0)
#: share of the kills of jobs that may hit a process that is still starting
EARLY = 0.2
#: kills that are kept for the last jobs
LATE_KILLS = 8
#: jobs in all, and kills that may be ahead of the jobs that ended
JOBS, AHEAD = 20, 3
SETTINGS: Mapping[str, Any] = {
    "backbone": {"id": "tiny", "image_size": 64, "threads": 1},
    "detector": {"name": "patchcore", "coreset_rows": 64},
    "calibration": {"folds": 2},
    "routing": {"refuse": False},
    # the gate is not what is tried here, and an untrained backbone cannot promise what it asks
    "gate": {"max_forgetting": 1, "max_flips": 1, "max_false_alarm_rise": 1, "max_routing_loss": 1,
             "min_routing_accuracy": 0},
    "jobs": {"lease_s": 10.0, "poll_s": 0.5},
    "scheduler": {"lease_s": 3.0, "evaluation": None, "sweep": "every 2 s", "report": None, "verification": None},
}  # fmt: skip


def paint(folder: Path, product: int, count: int, *, first: int = 0) -> Path:
    """Good pictures that even an untrained backbone can tell from another product's."""
    folder.mkdir(parents=True, exist_ok=True)
    hue = [int(value) for value in np.random.default_rng(product).integers(20, 235, 6)]
    for number in range(first, first + count):
        image = Image.new("RGB", (96, 96), tuple(hue[:3]))
        draw = ImageDraw.Draw(image)
        for at in range(0, 96, 8 + 3 * product):
            draw.line((at, 0, at if product % 2 else 96 - at, 95), fill=tuple(hue[3:]), width=2 + product % 4)
        noisy = np.asarray(image, float) + np.random.default_rng([product, number]).normal(0, 4, (96, 96, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@dataclass(slots=True)
class Service:
    """A process that is started again whenever it ended."""

    name: str
    arguments: Sequence[str]
    place: Path
    process: "subprocess.Popen[bytes] | None" = None
    starts: int = 0
    killed: bool = False
    gave_up: list[str] = field(default_factory=list)

    def tend(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            if not self.killed:
                self.gave_up.append(f"{self.name}: exit code {self.process.returncode}")
            self.process = None
        if self.process is None:
            self.killed = False
            self.starts += 1
            with (self.place / f"{self.name}.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*COMMAND, "--config", str(self.place / "config.yaml"), *self.arguments],
                    cwd=self.place, env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.killed = True
        self.process.kill()
        self.process.wait()

    def end(self) -> int | None:
        """Its exit code when asked to end; None: it did not."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


class Queue:
    """Twenty jobs, each asked for as soon as what it needs is there."""

    def __init__(self, app: App, place: Path) -> None:
        self._app, self._place = app, place
        self.expected: dict[int, JobState] = {}
        self.failures: dict[int, str] = {}
        for number in range(PRODUCTS):
            self._adapt(number)
        hopeless = self._adapt(PRODUCTS, expected=JobState.FAILED)
        for picture in (place / "good" / self._name(PRODUCTS)).iterdir():
            picture.unlink()
        self._hopeless = hopeless.id
        again = [(JobKind.READAPT, number) for number in (0, 3, 5, 7)]
        self._next: list[tuple[JobKind, int | None]] = [*again[:2], (JobKind.EVALUATE, None), *again[2:]]
        self._last: list[tuple[JobKind, int | None]] = [
            (JobKind.RETIRE, 1), (JobKind.RETIRE, 8), (JobKind.SQUEEZE, None), (JobKind.EVALUATE, None),
        ]  # fmt: skip

    @staticmethod
    def _name(number: int) -> str:
        return f"product{number}"

    def _adapt(self, number: int, expected: JobState = JobState.PUBLISHED) -> Job:
        name = self._name(number)
        task = Task(id=TaskId(name), class_name=name)
        folder = paint(self._place / "good" / name, number, 16)
        payload = self._app.check_folders(task, images=folder, heldout=None, roi=None, detector=None).payload
        job = self._app.database.tasks.add(task, JobKind.ADAPT, payload, self._app.clock.now())
        self.expected[job.id] = expected
        return job

    def tend(self, late: bool) -> bool:
        """Ask for what can be asked for now; the last jobs when it is `late`. Whether nothing is left to do."""
        jobs = self._app.database.jobs.all()
        for job in jobs:
            if job.state is JobState.FAILED and job.id != self._hopeless:
                self.failures[job.id] = job.message or ""
                self._app.database.jobs.requeue(job.id, self._app.clock.now())
        inside = self._app.database.banks.contents(self._app.database.banks.active_version())
        idle = not any(job.state.open for job in jobs)
        waiting = self._next or (self._last if late or idle else [])
        for kind, number in list(waiting):
            name = None if number is None else TaskId(self._name(number))
            if name is not None and name not in inside:
                continue
            if name is None and len(inside) < 4:
                continue
            if kind is JobKind.SQUEEZE and any(each.state.open for each in jobs):
                continue
            try:
                job = self._app.database.tasks.queue(name, kind, self._payload(kind, number), self._app.clock.now())
            except StreamAdError:  # the task has an open job
                continue
            waiting.remove((kind, number))
            self.expected[job.id] = JobState.DONE if kind is JobKind.EVALUATE else JobState.PUBLISHED
            jobs = self._app.database.jobs.all()
        return not (self._next or self._last or any(job.state.open for job in jobs))

    def _payload(self, kind: JobKind, number: int | None) -> Mapping[str, Any]:
        if kind is JobKind.READAPT:
            assert number is not None
            name = self._name(number)
            folder = paint(self._place / "more" / name, number, 20)
            task = self._app.database.tasks.get(name)
            return self._app.check_folders(task, images=folder, heldout=None, roi=None, detector=None).payload
        return {"rows": 8 * 40} if kind is JobKind.SQUEEZE else {}


class Looks:
    """Looks at the active bank again and again, as a scorer does."""

    def __init__(self, config: Path) -> None:
        self.seen: list[tuple[int, str | None]] = []
        self._config, self._stop = config, threading.Event()
        self._thread = threading.Thread(target=self._run, name="looks at the active bank")

    def __enter__(self) -> "Looks":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        loaded: set[int] = set()
        with App(load_settings(self._config)) as app:
            while not self._stop.wait(0.25):
                version = app.database.banks.active_version()
                problem = None
                if version not in loaded:
                    try:
                        app.database.banks.load(version)
                    except StreamAdError as error:
                        problem = str(error)
                    loaded.add(version)
                self.seen.append((version, problem))


def processes_of(place: Path, *words: str) -> dict[int, str]:
    """Command lines, by process, that name this place's settings and these words."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place / "config.yaml") in line and all(f" {word} " in line for word in words):
            found[int(folder.name)] = line
    return found


def job_of(line: str) -> int | None:
    """The job that a process of this command line does."""
    found = re.search(r" job run .*?(\d+) --worker ", line)
    return int(found[1]) if found else None


class Killer:
    """Kills by a seeded schedule."""

    def __init__(self, app: App, place: Path, services: Sequence[Service], kills: int, seed: int) -> None:
        draw = random.Random(seed)
        self._app, self._place, self._services, self._draw = app, place, services, draw
        kinds = [kind for kind, share in VICTIMS.items() for _ in range(round(share * kills))][:kills]
        kinds += ["job's process"] * (kills - len(kinds))
        draw.shuffle(kinds)
        self.asked = Counter(kinds)
        self._plan = kinds
        self.done: Counter[str] = Counter()
        self._early, self._share = False, 0.5
        self._next_at = time.monotonic() + draw.uniform(*PAUSE_S)

    @property
    def left(self) -> int:
        return len(self._plan)

    def tend(self) -> None:
        jobs = self._app.database.jobs.all()
        ended = sum(not job.state.open for job in jobs)
        allowed = AHEAD + self.asked.total() * ended / JOBS
        if not self._plan or time.monotonic() < self._next_at or self.done.total() >= allowed:
            return
        kind = self._plan[0]
        if kind == "job's process":
            processes = processes_of(self._place, "job", "run")
            # not always when it has just begun
            far = {job.id for job in jobs if job.state is JobState.RUNNING and job.progress >= self._share}
            victims = sorted(pid for pid, line in processes.items() if job_of(line) in far)
            if not victims and self._early:
                victims = sorted(processes)
            if not victims:
                return  # soon there is one
            try:
                os.kill(self._draw.choice(victims), signal.SIGKILL)
            except ProcessLookupError:
                return
        else:
            alive = [each for each in self._services if each.name.startswith(kind) and each.process is not None]
            if not alive:
                return
            self._draw.choice(alive).kill()
        self._plan.pop(0)
        self.done[kind] += 1
        self._early = self._draw.random() < EARLY
        self._share = self._draw.uniform(0.0, 0.9)
        self._next_at = time.monotonic() + self._draw.uniform(*PAUSE_S)


def run(place: Path, url: str | None, *, kills: int, seed: int, limit_s: float) -> Mapping[str, Any]:
    """All that the run left behind, judged."""
    place.mkdir(parents=True)
    settings = {**SETTINGS, **({"database": {"url": url}} if url else {})}
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    command(place, "init")
    services = [Service(f"worker{n}", ["worker"], place) for n in range(3)]
    services += [Service(f"scheduler{n}", ["scheduler"], place) for n in range(2)]
    began, codes = time.monotonic(), dict[str, int | None]()
    with App(load_settings(config)) as app:
        queue = Queue(app, place)
        killer = Killer(app, place, services, kills, seed)
        with Looks(config) as looks:
            try:
                while True:
                    for service in services:
                        service.tend()
                    finished = queue.tend(late=killer.left <= LATE_KILLS)
                    if finished:  # kills that are left show in a law
                        break
                    killer.tend()
                    if time.monotonic() - began > limit_s:
                        print(f"not done after {limit_s:g} s", file=sys.stderr)
                        break
                    time.sleep(0.2)
            finally:
                for service in services:
                    codes[service.name] = service.end()
        return judged(app, place, queue, killer, looks, services, codes, time.monotonic() - began)


def judged(
    app: App,
    place: Path,
    queue: Queue,
    killer: Killer,
    looks: Looks,
    services: Sequence[Service],
    codes: Mapping[str, int | None],
    seconds: float,
) -> Mapping[str, Any]:
    jobs, versions = sorted(app.database.jobs.all(), key=lambda job: job.id), app.database.banks.versions()
    with app.database.engine.connect() as connection:
        audit = list(connection.scalars(text("SELECT subject FROM audit WHERE action = 'publish'")))
        leases = connection.scalar(text("SELECT count(*) FROM jobs WHERE lease_until IS NOT NULL")) or 0
    evaluations = [(each.job_id, str(half)) for half in Half for each in app.database.evaluations.all(half)]
    logs = "\n".join(job.log_tail or "" for job in jobs)
    found = [
        laws.right_end(jobs, queue.expected),
        laws.published_once(jobs, versions, audit),
        laws.measured_once(jobs, evaluations),
        laws.active_is_published(looks.seen, versions),
        laws.within_attempts(jobs),
        laws.failed_only_by_deaths(queue.failures),
        laws.nothing_runs(list(processes_of(place).values()), sum(job.state.open for job in jobs), leases),
        laws.gave_up([end for service in services for end in service.gave_up]),
        laws.ended_in_order(codes),
        laws.all_done(killer.asked, killer.done),
    ]
    return {
        "jobs": len(jobs),
        "kinds": dict(Counter(str(job.kind) for job in jobs)),
        "kills": dict(killer.done),
        "starts": {service.name: service.starts for service in services},
        "attempts that took over what was learned": logs.count("already"),
        "deaths that were written down": logs.count("killed by SIGKILL"),
        "seconds": round(seconds),
        "laws": [asdict(law) for law in found],
    }


def markdown(figures: Mapping[str, Any]) -> str:
    kills = ", ".join(f"{count} x {kind}" for kind, count in figures["kills"].items())
    kinds = ", ".join(f"{count} {kind}" for kind, count in figures["kinds"].items())
    lines = [
        f"{figures['jobs']} jobs ({kinds}) by 3 workers and 2 schedulers on {figures['database']}, seed"
        f" {figures['seed']}, {figures['seconds']} s, {sum(figures['starts'].values())} starts. Killed with kill -9:"
        f" {kills}. {figures['deaths that were written down']} deaths are told in the jobs' logs;"
        f" {figures['attempts that took over what was learned']} attempts took over what an earlier one had learned.",
        "",
        "| law | found | |",
        "|---|---|---|",
        *(
            f"| {law['promise']} | {law['found']} | {'BROKEN' if law['broken'] else 'holds'} |"
            for law in figures["laws"]
        ),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=3600.0)
    parser.add_argument("--keep", type=Path, help="folder to leave everything in, for a look")
    asked = parser.parse_args(arguments)
    name = "job-chaos" if asked.database == "sqlite" else "job-chaos-postgresql"
    with ExitStack() as opened:
        scratch = asked.keep or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if asked.database == "postgresql":
            url = opened.enter_context(database_of(opened.enter_context(postgres(scratch / "postgres"))))
        figures = run(scratch / "plant", url, kills=asked.kills, seed=asked.seed, limit_s=asked.limit_s)
    figures = {"code": code_version(), "database": asked.database, "seed": asked.seed, **figures}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown(figures))
    print(markdown(figures))
    return int(any(law["broken"] for law in figures["laws"]))


if __name__ == "__main__":
    sys.exit(main())
