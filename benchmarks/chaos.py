"""A bad month for three scorers, in minutes: they are killed, cut off, locked out, and given hopeless pictures.

    python -m benchmarks.chaos [--images 20000] [--kills 50] [--database sqlite|postgresql] [--seed 1]

A camera sends pictures to a topic while a seeded schedule does what plants do: kill -9, connections that are reset,
refused, frozen or half-open, a database that somebody else locks, another bank, a full disk. Then the backlog is
worked off, the scorers are asked to stop, and the laws of `chaos_laws` are checked against one undisturbed scorer on
the same records. Exit code 1 when a law is broken. Writes benchmarks/results/chaos-DATABASE.json and .md.

The full disk is a real one: `data_dir` is a small tmpfs in a mount namespace of this process, which needs root or
user namespaces; where neither is allowed, say --full-disks 0.
"""

import argparse
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine, create_engine, make_url, text

from benchmarks.chaos_laws import (
    Law,
    Place,
    Row,
    Verdicts,
    as_in_a_clean_run,
    done_as_planned,
    ends_well,
    every_record_once,
    letters_sent,
    memory_is_bounded,
    nothing_is_left,
    poison_and_nothing_else,
    shown_once,
    torn_lines,
)
from benchmarks.stream_plant import (
    COMMAND,
    SESSION,
    Camera,
    Scorer,
    committed,
    environment,
    read_topic,
    teach,
    write_settings,
)
from benchmarks.stream_records import POISON, Planned, message_id, planned, poison_of
from stream_ad.app import code_version
from tests.broker import broker_behind, create_topic
from tests.postgres import database_of, postgres
from tests.wire import Wire

RESULTS = Path(__file__).parent / "results"
TOPIC, GROUP = "images", "line"
#: between which the plant changes: with and without the rare product
BANKS = (2, 3)
#: how a connection is cut, in turn
CUTS = ("reset", "refused", "frozen", "half-open")
#: of the small disk; below it scorers take nothing more
MIN_FREE_MB = 16
#: what stays in one go with a sink, so may be repeated by each death
AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything; the seed decides when, for how long and to whom."""

    images: int = 20_000
    partitions: int = 8
    scorers: int = 3
    kills: int = 50
    cuts: int = 10
    locks: int = 5
    swaps: int = 20
    full_disks: int = 1
    poison: float = 0.02
    seed: int = 1
    #: mean time between two faults
    gap_s: float = 8.0
    #: pixels of a picture's side
    side: int = 64
    disk_mb: int = 384
    #: what stands at the start, before anything is sent at the camera's pace
    backlog: float = 0.1

    @property
    def faults(self) -> dict[str, int]:
        return {
            "kill": self.kills,
            "cut": self.cuts,
            "lock": self.locks,
            "swap": self.swaps,
            "full disk": self.full_disks,
        }


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    kind: str
    #: how long it lasts
    seconds: float
    #: which scorer, or in which manner
    choice: int


def schedule(plan: Plan) -> list[Fault]:
    """The faults in order of time. Gaps are seeded: some faults follow at once, so they meet each other's wake."""
    rng = np.random.default_rng(plan.seed)
    kinds = [kind for kind, count in plan.faults.items() for _ in range(count)]
    rng.shuffle(kinds)
    at_s = np.cumsum(rng.gamma(2.0, plan.gap_s / 2, len(kinds)))
    lasts = {"cut": (0.5, 8.0), "lock": (2.0, 14.0), "full disk": (15.0, 20.0)}
    numbers = Counter[str]()
    faults = []
    for moment, kind in zip(at_s.tolist(), kinds, strict=True):
        choice = numbers[kind] if kind in ("cut", "swap") else int(rng.integers(plan.scorers))
        numbers[kind] += 1
        faults.append(Fault(moment, str(kind), float(rng.uniform(*lasts.get(kind, (0.0, 0.0)))), choice))
    return faults


class Feed(threading.Thread):
    """The camera in a thread of its own, which a wire that is cut may hold up; sends what is due."""

    def __init__(self, camera: Camera, plan: Plan, *, scratched: float = 0.15) -> None:
        super().__init__(name="camera", daemon=True)
        self.due, self.failed = 0, ""
        self._camera, self._plan, self._scratched, self._over = camera, plan, scratched, threading.Event()

    @property
    def sent(self) -> int:
        return self._camera.sent

    def run(self) -> None:
        try:
            while not self._over.is_set():
                first = self._camera.sent
                numbers = range(first, min(self.due, first + 200))
                if records := [self.record(number, self._plan, self._scratched) for number in numbers]:
                    self._camera.send(records)
                else:
                    self._over.wait(0.05)
        except Exception as error:  # told to the main thread, which ends the run
            self.failed = f"{type(error).__name__}: {error}"

    def stop(self) -> None:
        self._over.set()
        self.join(70)

    @staticmethod
    def record(number: int, plan: Plan, scratched: float) -> Planned:
        return planned(number, seed=plan.seed, side=plan.side, poison=plan.poison, scratched=scratched)


@dataclass
class Chaos:
    """Does the faults; each returns at once, and those that last end in `end`."""

    plan: Plan
    place: Path
    wire: Wire
    engine: Engine
    scorers: Sequence[Scorer]
    done: Counter[str] = field(default_factory=Counter)
    #: records begun and not ended, by any scorer and by those that died before, summed over the moments of the kills:
    #: a record counts at each kill that it met
    in_hand: int = 0
    deaths_at_start: int = 0
    _ends: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _swap: "tuple[int, subprocess.Popen[bytes]] | None" = None
    _locked: bool = False
    _ballast: Path | None = None

    def do(self, fault: Fault) -> bool:
        """False: not now, try again."""
        match fault.kind:
            case "kill":
                return self._kill(fault.choice)
            case "cut":
                self._cut(CUTS[fault.choice % len(CUTS)], fault.seconds)
            case "lock":
                return self._lock(fault.seconds)
            case "swap":
                return self._use(BANKS[fault.choice % len(BANKS)])
            case "full disk":
                self._fill(fault.seconds)
        self.done[fault.kind] += 1
        return True

    def tick(self) -> None:
        """End what lasted long enough, and see to what goes on by itself."""
        due = [end for at, end in self._ends if at <= time.monotonic()]
        self._ends = [(at, end) for at, end in self._ends if at > time.monotonic()]
        for end in due:
            end()
        self._see_to_swap()
        if self._ballast is not None:
            fill(self._ballast)

    def end(self) -> None:
        for _, end in self._ends:
            end()
        self._ends = []
        while self._swap is not None:
            self._see_to_swap()
            time.sleep(0.1)

    def rows(self) -> tuple[int, int, int]:
        """Results, dead letters, and records begun but not ended; the last known while somebody locks the database."""
        if not (self._locked and self.engine.dialect.name == "postgresql"):
            with self.engine.connect() as connection:
                self._rows = tuple(
                    connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                    for table in ("results", "dead_letters", "attempts")
                )
        return self._rows

    _rows: tuple[int, int, int] = (0, 0, 0)

    def _kill(self, choice: int) -> bool:
        """One that works, or, when all are only just starting, any: every fourth kill does not wait for more."""
        ready = [scorer for scorer in self.scorers if scores(scorer)]
        if not ready and self.done["kill"] % 4:
            return False
        victim = (ready or self.scorers)[choice % len(ready or self.scorers)]
        self.deaths_at_start += not ready
        self.in_hand += self.rows()[2]
        victim.kill()
        victim.start()
        self.done["kill"] += 1
        return True

    def _cut(self, manner: str, seconds: float) -> None:
        until = time.monotonic() + seconds
        match manner:
            case "reset":
                self.wire.cut()
            case "refused":
                self.wire.refuse()
                self._ends.append((until, self.wire.accept))
            case "frozen":
                self.wire.freeze()
                self._ends.append((until, self.wire.thaw))
            case "half-open":
                self.wire.strand()

    def _lock(self, seconds: float) -> bool:
        """What a backup tool or a careless colleague does: hold the database's write lock."""
        if self.engine.dialect.name == "sqlite":
            connection = sqlite3.connect(str(self.engine.url.database), timeout=2.0, isolation_level=None)
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                connection.close()
                return False

            def unlock() -> None:
                connection.execute("ROLLBACK")
                connection.close()

        else:
            session = self.engine.connect()
            session.execute(text("LOCK TABLE results, dead_letters, attempts, outbox IN ACCESS EXCLUSIVE MODE"))
            self._locked = True

            def unlock() -> None:
                session.rollback()
                session.close()
                self._locked = False

        self._ends.append((time.monotonic() + seconds, unlock))
        self.done["lock"] += 1
        return True

    def _use(self, version: int) -> bool:
        if self._swap is not None:
            return False
        self._swap = version, self._bank_use(version)
        return True

    def _bank_use(self, version: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*COMMAND, "bank", "use", str(version), "--reason", "chaos"],
            cwd=self.place,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _see_to_swap(self) -> None:
        """A person whose command was refused, because the database was locked, gives it again."""
        if self._swap is None or (code := self._swap[1].poll()) is None:
            return
        version = self._swap[0]
        self._swap = None if code == 0 else (version, self._bank_use(version))
        self.done["swap"] += code == 0

    def _fill(self, seconds: float) -> None:
        self._ballast = ballast = self.place / "data" / "ballast"
        fill(ballast)

        def empty() -> None:
            self._ballast = None
            ballast.unlink()

        self._ends.append((time.monotonic() + seconds, empty))


def fill(ballast: Path) -> None:
    """Take what is left of a volume, to the last byte."""
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        status = os.statvfs(ballast)
        if (free := status.f_bavail * status.f_frsize) > 0:
            os.posix_fallocate(file.fileno(), file.tell(), free)
        while file.write(bytes(4096)):
            pass


def scores(scorer: Scorer) -> bool:
    """Whether it said since its last start that it scores."""
    with scorer.log.open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 200_000))
        return b"scoring " in log.read().rpartition(b"--- start ")[2]


# --- the run --------------------------------------------------------------------------------------


def run(plan: Plan, place: Path, database: str | None, *, limit_s: float) -> tuple[list[Law], dict[str, Any]]:
    """All of it; the laws, and figures that are no laws."""
    with ExitStack() as open_until_end:
        wire = open_until_end.enter_context(Wire())
        open_until_end.enter_context(broker_behind(wire))
        for topic, partitions in ((TOPIC, plan.partitions), ("results", 1), (f"{TOPIC}.dlq", 1)):
            create_topic(wire.address, topic, partitions)
        install(place, wire.address, database)
        say("teaching three products")
        teach(place, side=plan.side)
        clean_place = place.with_name("clean")
        if database is None:
            shutil.copytree(place, clean_place)
        else:
            clean_place.mkdir()
            install(clean_place, wire.address, None)
            teach(clean_place, side=plan.side)
        camera = Camera(wire.address, TOPIC, plan.partitions)
        open_until_end.callback(camera.close)
        scorers = [Scorer(place, place.with_name(f"scorer-{n}.log")) for n in range(plan.scorers)]
        engine = create_engine(url_of(place, database))
        open_until_end.callback(engine.dispose)
        chaos = Chaos(plan, place, wire, engine, scorers)
        for scorer in scorers:
            open_until_end.callback(scorer.end)
        figures, exit_codes = disturb(plan, chaos, camera, limit_s=limit_s)
        say("the faults are over and the scorers have ended; now the clean runs")

        records = read_topic(wire.address, TOPIC, plan.partitions, least=plan.images)
        truth = {(record.partition, record.offset): header(record, "ce_id") for record in records}
        found = verdicts(engine)
        clean_peak, clean = 0.0, {}
        for bank in BANKS:
            clean[bank], scorer = clean_run(clean_place, wire.address, bank)
            open_until_end.callback(scorer.end)
            clean_peak = max(clean_peak, scorer.peak_rss_mb)
            figures[f"clean_cpu_s_bank_{bank}"] = scorer.cpu_s
        deaths = chaos.done["kill"] + chaos.done["full disk"] + sum(len(s.own_ends) for s in scorers)
        figures |= {"done": dict(chaos.done), "clean_peak_rss_mb": clean_peak}
        return laws(plan, chaos, wire.address, truth, found, clean, clean_peak, exit_codes, deaths), figures


def laws(
    plan: Plan,
    chaos: Chaos,
    bootstrap: str,
    truth: Mapping[Place, str],
    found: Verdicts,
    clean: Mapping[int, Verdicts],
    clean_peak: float,
    exit_codes: Sequence[int],
    deaths: int,
) -> list[Law]:
    poison = {number: poison_of(number, seed=plan.seed, share=plan.poison) for number in range(plan.images)}
    stages = {message_id(number): POISON[wrong] for number, wrong in poison.items() if wrong}
    shown = [json.loads(r.value) for r in read_topic(bootstrap, "results", 1, least=len(found.rows))]
    dead = [
        (int(header(r, "__connect.errors.partition")), int(header(r, "__connect.errors.offset")))
        for r in read_topic(bootstrap, f"{TOPIC}.dlq", 1, least=len(found.letters))
    ]
    lines, torn = json_lines(chaos.place / "data" / "results.jsonl")
    with chaos.engine.connect() as connection:
        left = {t: connection.execute(text(f"SELECT count(*) FROM {t}")).scalar_one() for t in ("outbox", "attempts")}
    # one a death on average, and one death that comes while a backlog goes out by the full hand
    repeats = deaths + AT_ONCE
    return [
        every_record_once(truth, found),
        poison_and_nothing_else(truth, stages, found),
        as_in_a_clean_run(found, {bank: verdicts.rows for bank, verdicts in clean.items()}),
        shown_once("results topic", shown, found.rows, repeats_allowed=repeats),
        letters_sent(dead, found.letters, repeats_allowed=repeats),
        shown_once("results.jsonl", lines, found.rows, repeats_allowed=repeats),
        torn_lines(torn, deaths),
        nothing_is_left(
            **left, committed=committed(bootstrap, GROUP, TOPIC, plan.partitions), records=len(truth)
        ),
        memory_is_bounded([scorer.peak_rss_mb for scorer in chaos.scorers], clean_peak),
        ends_well([code for scorer in chaos.scorers for code in scorer.own_ends], exit_codes),
        done_as_planned(plan.faults, chaos.done),
    ]  # fmt: skip


def disturb(plan: Plan, chaos: Chaos, camera: Camera, *, limit_s: float) -> tuple[dict[str, Any], list[int]]:
    """Feed and disturb, then let the scorers work off what is left; figures, and their exit codes."""
    faults = schedule(plan)
    lasts_s = faults[-1].at_s if faults else plan.images / 200
    feed = Feed(camera, plan)
    feed.due = round(plan.backlog * plan.images)
    feed.start()
    for scorer in chaos.scorers:
        scorer.start()
    while not any(scores(scorer) for scorer in chaos.scorers):  # the first start reads everything from the disk
        time.sleep(0.1)
        for scorer in chaos.scorers:
            scorer.revive()
    begun = time.monotonic()
    waited_s = 0.0  # for a fault that could not be done yet; all that follow are that much later
    told = 0.0
    handles = 0
    while (elapsed := time.monotonic() - begun) < limit_s:
        share = min(1.0, (elapsed - waited_s) / lasts_s)
        feed.due = max(feed.due, round(plan.images * (plan.backlog + (1 - plan.backlog) * share)))
        if feed.failed:
            raise RuntimeError(f"the camera could not send: {feed.failed}")
        chaos.tick()
        for scorer in chaos.scorers:
            scorer.revive()
            if (usage := scorer.observe()) is not None:
                handles = max(handles, usage.handles)
        if faults and elapsed - waited_s >= faults[0].at_s:
            if chaos.do(faults[0]):
                faults.pop(0)
            else:
                waited_s += 0.1
        if elapsed - told > 10:
            told = elapsed
            results, letters, begun_on = chaos.rows()
            say(
                f"{elapsed:4.0f} s: {feed.sent} sent, {results} results, {letters} dead letters, {begun_on} in hand;"
                f" done: {dict(chaos.done)}; {len(faults)} to come"
            )
            if not faults and results + letters >= plan.images:
                break
        time.sleep(0.1)
    chaos.end()
    feed.stop()
    exit_codes = [scorer.stop() for scorer in chaos.scorers]
    return {
        "lasted_s": time.monotonic() - begun,
        "faults_s": lasts_s + waited_s,
        "in_hand_at_kills": chaos.in_hand,
        "kills_at_start": chaos.deaths_at_start,
        "starts": sum(scorer.starts for scorer in chaos.scorers),
        "scorers_cpu_s": sum(scorer.cpu_s for scorer in chaos.scorers),
        "handles_most": handles,
        "peak_rss_mb": [scorer.peak_rss_mb for scorer in chaos.scorers],
        "overlays_failed": dict(Counter(reason for scorer in chaos.scorers for reason in no_overlay(scorer.log))),
    }, exit_codes


def clean_run(place: Path, bootstrap: str, bank: int) -> tuple[Verdicts, Scorer]:
    """The same records by one scorer that nobody disturbs, all by one bank."""
    mine = place.with_name(f"clean-{bank}")
    shutil.copytree(place, mine)
    install(mine, bootstrap, None, group=f"clean-{bank}")
    ran = subprocess.run([*COMMAND, "bank", "use", str(bank)], cwd=mine, env=environment(), capture_output=True)
    if ran.returncode:
        raise RuntimeError(f"`stream-ad bank use {bank}` ended with {ran.returncode}: {ran.stderr.decode()[-800:]}")
    scorer = Scorer(mine, mine.with_name(f"clean-{bank}.log"), ("--idle", "10"))
    scorer.start()
    if code := scorer.wait(1800):
        raise RuntimeError(f"the clean run ended with {code}, see {scorer.log}")
    engine = create_engine(url_of(mine, None))
    try:
        return verdicts(engine), scorer
    finally:
        engine.dispose()


def install(place: Path, bootstrap: str, database: str | None, *, group: str = GROUP) -> None:
    """The configuration; `data` is where everything goes that a full disk is about."""
    disturbed = group == GROUP
    others = "" if disturbed else f".{group}"
    write_settings(
        place,
        data_dir="data",
        database={"url": database},
        # of the clean runs only the rows are wanted
        stream={"source": "kafka", "min_free_mb": MIN_FREE_MB} | ({} if disturbed else {"overlays": "none"}),
        kafka={
            "bootstrap": bootstrap,
            "topic": TOPIC,
            "results_topic": f"results{others}",
            "dead_letter_topic": f"{TOPIC}.dlq{others}",
            "group": group,
            "stalled_s": 10,
            **SESSION,
        },
    )


def url_of(place: Path, database: str | None) -> str:
    if database is None:
        return f"sqlite:///{place / 'data' / 'stream_ad.db'}"
    return make_url(database).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def verdicts(engine: Engine) -> Verdicts:
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                'SELECT "partition", "offset", message_id, camera, declared_product, task, score, threshold, verdict,'
                " alarm, bank_version FROM results"
            )
        )
        scored = {(row[0], row[1]): Row(*row[2:]) for row in rows}
        letters = connection.execute(text('SELECT "partition", "offset", stage FROM dead_letters'))
        return Verdicts(scored, {(row[0], row[1]): row[2] for row in letters})


def no_overlay(log: Path) -> Iterator[str]:
    """Why overlays failed: the last line of each stack trace, without what differs from picture to picture."""
    failed = False
    with log.open(errors="replace") as lines:
        for line in lines:
            if "no overlay for" in line:
                failed = True
            elif failed and re.match(r"[A-Za-z_.]+(Error|Exception|Unavailable)\b", line):
                yield re.sub(r"'[^']*'", "...", line.strip())
                failed = False


def json_lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Documents, and how many lines are none."""
    documents, torn = [], 0
    with file.open("rb") as lines:
        for line in lines:
            try:
                documents.append(json.loads(line))
            except ValueError:
                torn += 1
    return documents, torn


def header(record: Any, name: str) -> str:
    return dict(record.headers)[name].decode()


# --- the report -----------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any]) -> str:
    plan, figures = report["plan"], report["figures"]
    lines = [
        f"{plan['images']:,} pictures on {plan['partitions']} partitions, {plan['scorers']} scorers,"
        f" {report['database']}; seed {plan['seed']}, {figures['lasted_s']:.0f} s, {figures['starts']} starts,"
        f" {figures['scorers_cpu_s']:.0f} s of CPU. Faults done: "
        + ", ".join(f"{count} x {kind}" for kind, count in figures["done"].items())
        + f"; {figures['in_hand_at_kills']:,} records noted as begun and not ended, summed over the kills.",
        "",
        "| law | found | |",
        "|---|---|---|",
        *(
            f"| {law['promise']} | {law['found']} | {'**broken**' if law['broken'] else 'holds'} |"
            for law in report["laws"]
        ),
    ]
    return "\n".join(lines) + "\n"


def say(what: str) -> None:
    print(what, flush=True)


def in_a_namespace() -> None:
    """This very command again in a mount namespace of its own."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--mount", "--propagation", "private", sys.executable, "-m", "benchmarks.chaos"]
    if subprocess.run([*command[: 3 + len(as_root) + 1], "true"], check=False).returncode:
        sys.exit("needed root or user namespaces for a full disk (unshare failed); or say --full-disks 0")
    os.execvp(command[0], [*command, *sys.argv[1:], "--mounted"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--limit", type=float, default=2400.0, help="seconds after which what is left is given up")
    parser.add_argument("--keep", type=Path, help="folder for all that is made; default: a temporary one")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--mounted", action="store_true", help=argparse.SUPPRESS)
    chosen = vars(parser.parse_args())
    plan = Plan(**{name: chosen[name] for name in asdict(Plan())})
    if plan.full_disks and not chosen["mounted"]:
        in_a_namespace()
    output = chosen["output"] or RESULTS / f"chaos-{chosen['database']}.json"
    with ExitStack() as stack:
        folder = chosen["keep"] or Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        place = folder.resolve() / "line"
        (place / "data").mkdir(parents=True)
        if chosen["mounted"]:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={plan.disk_mb}m", "tmpfs", str(place / "data")]
            subprocess.run(mount, check=True)
            stack.callback(subprocess.run, ["umount", "--lazy", str(place / "data")], check=False)
        database = None
        if chosen["database"] == "postgresql":
            database = stack.enter_context(database_of(stack.enter_context(postgres(folder / "postgres"))))
        found, figures = run(plan, place, database, limit_s=chosen["limit"])
    report = {
        "plan": asdict(plan),
        "database": chosen["database"],
        "laws": [asdict(law) for law in found],
        "figures": figures,
        "provenance": {"code": code_version(), "cores": os.cpu_count(), "broker": "tansu 0.6.0 (memory)"},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))
    sys.exit(any(law.broken for law in found))


if __name__ == "__main__":
    main()
