"""A bad day for three workers and two schedulers: kill -9, again and again, while twenty jobs are done.

    python -m benchmarks.job_chaos [--kills 30] [--database sqlite|postgresql] [--executor local|ray] [--seed 1]

Products are painted, learned, learned again from more pictures, retired, squeezed into a budget and measured again. A
seeded schedule kills workers, the processes of jobs, and schedulers; each is started again, as a service manager does.
Who finds a job failed because its workers died in every attempt asks for it once more. Jobs and kills keep in step, so
that a quick machine gets as many kills as a slow one; where kills of jobs are left when all have ended, products are
learned again until they are done. Then the laws of `job_chaos_laws` are checked. Exit code 1 when one is broken. With
`--executor ray` the jobs run on a cluster of two machines, as far as Ray knows, in a network of its own, and Ray's
processes and the second machine are killed as well. Writes benchmarks/results/job-chaos.json and .md; on PostgreSQL and
on Ray, the name says so.
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
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tests.ray_kit import TwoWorkers

RESULTS = Path(__file__).parent / "results"
PRODUCTS = 10
#: product without pictures
HOPELESS = PRODUCTS
#: products that are learned again, in turn
AGAIN = (0, 3, 5, 7)
#: in the order in which they are asked for, as far as what they need is there
JOBS: Sequence[tuple[JobKind, int | None]] = [
    *[(JobKind.ADAPT, number) for number in (0, 1, 2, 3, HOPELESS)],
    (JobKind.READAPT, 0), (JobKind.ADAPT, 4), (JobKind.ADAPT, 5), (JobKind.EVALUATE, None), (JobKind.READAPT, 3),
    (JobKind.ADAPT, 6), (JobKind.ADAPT, 7), (JobKind.READAPT, 5), (JobKind.ADAPT, 8), (JobKind.ADAPT, 9),
    (JobKind.READAPT, 7), (JobKind.RETIRE, 1), (JobKind.RETIRE, 8), (JobKind.SQUEEZE, None), (JobKind.EVALUATE, None),
]  # fmt: skip
#: kills that may be ahead of the jobs that ended, and jobs that may be asked for ahead of the kills
AHEAD = 3
#: of the kills, shares: a job's process, what runs it on the cluster, a machine of the cluster, a worker, a scheduler
VICTIMS = {
    "local": {"job's process": 0.5, "worker": 0.35, "scheduler": 0.15},
    "ray": {"job's process": 0.25, "Ray process": 0.25, "Ray machine": 0.1, "worker": 0.25, "scheduler": 0.15},
}
#: of these, which there are only while a job runs
OF_JOBS = ("job's process", "Ray process")
#: seconds between two kills, at least and at most
PAUSE_S = (1.0, 5.0)
#: share of the kills of jobs that may hit a process that is still starting
EARLY = 0.2
#: on a cluster a process takes longer to begin
RAY_LEASE_S = 20.0
USUAL = ("sqlite", "local")
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
    """Twenty jobs, each asked for in step with the kills and as soon as what it needs is there."""

    def __init__(self, app: App, place: Path) -> None:
        self._app, self._place = app, place
        self._next = list(JOBS)
        self.expected: dict[int, JobState] = {}
        self.failures: dict[int, str] = {}

    def tend(self, kills_done: float, *, one_more: bool) -> bool:
        """Ask for what can be asked for now; whether nothing is left to do.

        `kills_done`: share of the kills, which jobs do not leave behind. `one_more`: a job is needed to be killed, also
        when all have ended.
        """
        for job in self._app.database.jobs.all():
            if job.state is JobState.FAILED and self.expected[job.id] is not JobState.FAILED:
                self.failures[job.id] = job.message or ""
                self._app.database.jobs.requeue(job.id, self._app.clock.now())
        busy = self._busy()
        if one_more and not busy and not self._next:
            self._next.append((JobKind.READAPT, AGAIN[len(self.expected) % len(AGAIN)]))
        inside = self._app.database.banks.contents(self._app.database.banks.active_version())
        for kind, number in list(self._next):
            # where kills wait for a job to be killed, one is there
            if busy and len(self.expected) >= AHEAD + len(JOBS) * kills_done:
                break
            if kind is JobKind.SQUEEZE and busy:  # all that came before it, and then what comes after it
                break
            ready = len(inside) >= 4 if number is None else kind is JobKind.ADAPT or self._name(number) in inside
            if ready and self._asked(kind, number):
                self._next.remove((kind, number))
                busy = True
        return not (busy or self._next)

    def _busy(self) -> bool:
        return any(job.state.open for job in self._app.database.jobs.all())

    def _asked(self, kind: JobKind, number: int | None) -> bool:
        tasks, at = self._app.database.tasks, self._app.clock.now()
        try:
            if number is None:
                job = tasks.queue(None, kind, {"rows": 8 * 40} if kind is JobKind.SQUEEZE else {}, at)
            elif kind is JobKind.ADAPT:
                task = Task(id=TaskId(self._name(number)), class_name=self._name(number))
                job = tasks.add(task, kind, self._payload(task, "good", 16, vanishing=number == HOPELESS), at)
            else:
                task = tasks.get(self._name(number))
                # never the same pictures again
                payload = self._payload(task, "more", 20 + len(self.expected)) if kind is JobKind.READAPT else {}
                job = tasks.queue(task.id, kind, payload, at)
        except StreamAdError:  # the task has an open job
            return False
        self.expected[job.id] = (
            JobState.FAILED if number == HOPELESS
            else JobState.DONE if kind is JobKind.EVALUATE
            else JobState.PUBLISHED
        )  # fmt: skip
        return True

    def _payload(self, task: Task, folder: str, count: int, *, vanishing: bool = False) -> Mapping[str, Any]:
        """`vanishing`: its pictures are gone before anyone can read them."""
        images = paint(self._place / folder / task.id, int(task.id.removeprefix("product")), count)
        payload = self._app.check_folders(task, images=images, heldout=None, roi=None, detector=None).payload
        for picture in images.iterdir() if vanishing else []:
            picture.unlink()
        return payload

    @staticmethod
    def _name(number: int) -> str:
        return f"product{number}"


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


def far_enough(jobs: Sequence[Job], share: float, now: datetime) -> set[int]:
    """Running jobs that have taken this share of the time of a whole one, which the jobs that ended tell."""
    took = [(job.finished_at - job.started_at).total_seconds() for job in jobs if job.finished_at and job.started_at]
    least = share * median(took) if took else 0.0
    return {
        job.id
        for job in jobs
        if job.state is JobState.RUNNING and job.started_at and (now - job.started_at).total_seconds() >= least
    }


class Killer:
    """Kills by a seeded schedule."""

    def __init__(
        self,
        app: App,
        place: Path,
        services: Sequence[Service],
        kills: int,
        seed: int,
        cluster: "TwoWorkers | None",
    ) -> None:
        draw = random.Random(seed)
        self._app, self._place, self._services, self._draw, self._cluster = app, place, services, draw, cluster
        victims = VICTIMS["local" if cluster is None else "ray"]
        kinds = [kind for kind, share in victims.items() for _ in range(round(share * kills))][:kills]
        kinds += ["job's process"] * (kills - len(kinds))
        draw.shuffle(kinds)
        self.asked = Counter(kinds)
        self._plan = kinds
        self.done: Counter[str] = Counter()
        self._early, self._share = False, 0.5
        self._next_at = time.monotonic() + draw.uniform(*PAUSE_S)

    @property
    def share_done(self) -> float:
        return self.done.total() / max(self.asked.total(), 1)

    @property
    def finished(self) -> bool:
        return not self._plan

    @property
    def needs_a_job(self) -> bool:
        """Whether the next kill is of what only a job has."""
        return bool(self._plan) and self._plan[0] in OF_JOBS

    def tend(self) -> None:
        jobs = self._app.database.jobs.all()
        ended = sum(not job.state.open for job in jobs)
        allowed = AHEAD + self.asked.total() * ended / len(JOBS)
        if not self._plan or time.monotonic() < self._next_at or self.done.total() >= allowed:
            return
        kind = self._plan[0]
        if kind == "job's process":
            processes = processes_of(self._place, "job", "run")
            # not always when it has just begun
            far = far_enough(jobs, self._share, self._app.clock.now())
            victims = sorted(pid for pid, line in processes.items() if job_of(line) in far)
            if not victims and self._early:
                victims = sorted(processes)
            if not self._killed_one_of(victims):
                return
        elif kind == "Ray process":
            from tests.ray_kit import processes_of_jobs

            if not self._killed_one_of(sorted(processes_of_jobs())):
                return
        elif kind == "Ray machine":
            assert self._cluster is not None
            self._cluster.lose_the_second_machine()
            self._cluster.bring_it_back()
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

    def _killed_one_of(self, victims: Sequence[int]) -> bool:
        """Not when there is none, or it has just ended: soon there is another."""
        if not victims:
            return False
        try:
            os.kill(self._draw.choice(victims), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


def run(
    place: Path, url: str | None, cluster: "TwoWorkers | None" = None, *, kills: int, seed: int, limit_s: float
) -> Mapping[str, Any]:
    """All that the run left behind, judged."""
    place.mkdir(parents=True)
    settings = {**SETTINGS, **({"database": {"url": url}} if url else {})}
    if cluster is not None:
        on_ray = {"executor": "ray", "slots": ["cpu", "cpu"], "ray_address": cluster.address, "lease_s": RAY_LEASE_S}
        settings["jobs"] = {**SETTINGS["jobs"], **on_ray}
    config = place / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    command(place, "init")
    services = [Service(f"worker{n}", ["worker"], place) for n in range(3)]
    services += [Service(f"scheduler{n}", ["scheduler"], place) for n in range(2)]
    began, codes = time.monotonic(), dict[str, int | None]()
    with App(load_settings(config)) as app:
        queue = Queue(app, place)
        killer = Killer(app, place, services, kills, seed, cluster)
        with Looks(config) as looks:
            try:
                while True:
                    for service in services:
                        service.tend()
                    idle = queue.tend(killer.share_done, one_more=killer.needs_a_job)
                    if idle and killer.finished:
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
    starts = sum(figures["starts"].values())
    deaths, taken = figures["deaths that were written down"], figures["attempts that took over what was learned"]
    lines = [
        f"{figures['jobs']} jobs ({kinds}) by 3 workers and 2 schedulers on {figures['database']}, executor"
        f" {figures['executor']}, seed {figures['seed']}, {figures['seconds']} s, {starts} starts. Killed with kill -9:"
        f" {kills}. {deaths} deaths are told in the jobs' logs; {taken} attempts took over what an earlier one had"
        " learned.",
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
    parser.add_argument("--executor", choices=list(VICTIMS), default="local")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-s", type=float, default=3600.0)
    parser.add_argument("--keep", type=Path, help="folder to leave everything in, for a look")
    asked = parser.parse_args(arguments)
    if asked.executor == "ray" and not asked.inside:
        from tests.network_namespace import ENTER

        given = [*(sys.argv[1:] if arguments is None else arguments), "--inside"]
        module = [sys.executable, "-m", "benchmarks.job_chaos", *given]
        return subprocess.run([*ENTER, sys.executable, "-m", "tests.network_namespace", *module]).returncode
    name = "-".join(["job-chaos", *(part for part in (asked.database, asked.executor) if part not in USUAL)])
    with ExitStack() as opened:
        scratch = asked.keep or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if asked.database == "postgresql":
            url = opened.enter_context(database_of(opened.enter_context(postgres(scratch / "postgres"))))
        cluster = None
        if asked.executor == "ray":
            from tests.ray_kit import cluster_of_two

            cluster = opened.enter_context(cluster_of_two())
        figures = run(scratch / "plant", url, cluster, kills=asked.kills, seed=asked.seed, limit_s=asked.limit_s)
    figures = {
        "code": code_version(),
        "database": asked.database,
        "executor": asked.executor,
        "seed": asked.seed,
        **figures,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    (RESULTS / f"{name}.md").write_text(markdown(figures))
    print(markdown(figures))
    return int(any(law["broken"] for law in figures["laws"]))


if __name__ == "__main__":
    sys.exit(main())
