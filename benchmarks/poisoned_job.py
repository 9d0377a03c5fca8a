"""A job made to forget: the training folder of a new product holds pictures of a known one.

    python -m benchmarks.poisoned_job --data DIR [--backbone ID] [--weights DIR] [--foreign 60,20,0]

Three products are learned. Then a fourth comes, again and again, each time with fewer pictures of a known product among
its own, and the gate must refuse what would hurt. While the worst of these jobs is judged, a scorer in a process of its
own inspects the stream: no picture of it may be judged by any other bank than the published one, and a picture that
comes again must get the very same score. At last a person overrides the gate, which shows on the test half that the
harm was real, and goes back.

Pictures to learn from are training pictures; the halves are the data sets' own test pictures. Nothing is tuned here.
Writes benchmarks/results/poisoned-job.json and .md. Takes about four minutes of two cores.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_ad.adapters.image_folders import find_pictures
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.decision import Judgement
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import Task, TaskId

RESULTS = Path(__file__).parent / "results"
KNOWN = ("mvtec_bottle", "magnetic_tile", "mpdd_metal_plate")
NEW, VICTIM = "kolektorsdd", "magnetic_tile"
LEARNED, OWN = 30, 20
#: pictures of each known product that the stream shows, in every round
SHOWN = 4


def training(data: Path, name: str) -> list[Path]:
    return sorted(find_pictures(data / name / "train"))


def copied(files: Sequence[Path], folder: Path, prefix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, file in enumerate(files):
        shutil.copy(file, folder / f"{prefix}-{number:03}{file.suffix}")


def learn(app: App, name: str, images: Path, heldout: Path) -> Job:
    """Queue the task and do its job here; the job as it ended."""
    task = Task(id=TaskId(name), class_name=name.replace("_", " "))
    checked = app.check_folders(task, images=images, heldout=heldout, roi=None, detector="patchcore")
    job = app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now())
    app.worker().run(drain=True)
    return app.database.jobs.get(job.id)


# --- the stream beside it -------------------------------------------------------------------------


class Watched:
    """`stream-ad serve` in a process of its own, fed with the same pictures again and again."""

    def __init__(self, app: App, pictures: Sequence[Path]) -> None:
        self._app, self._pictures = app, pictures
        self._stop = threading.Event()
        self._rounds = 0
        self._feeder = threading.Thread(target=self._feed)

    def __enter__(self) -> "Watched":
        inbox = self._app.settings.inbox
        inbox.mkdir(parents=True, exist_ok=True)
        self._log = (self._app.settings.data_dir / "serve.log").open("w")
        self._serve = subprocess.Popen(
            [sys.executable, "-m", "stream_ad.cli", "serve"], stdout=self._log, stderr=self._log
        )
        self._feeder.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._feeder.join()
        self._serve.terminate()
        self._serve.wait(timeout=120)
        self._log.close()

    def _feed(self) -> None:
        while not self._stop.is_set():
            for number, picture in enumerate(self._pictures):
                place = self._app.settings.inbox / f"r{self._rounds:03}-{number:03}{picture.suffix}"
                part = place.with_name(f".{place.name}.part")
                shutil.copy(picture, part)
                part.rename(place)
            self._rounds += 1
            while len(self._results()) < self._rounds * len(self._pictures) and not self._stop.wait(0.5):
                assert self._serve.poll() is None, "the scorer ended; see serve.log"

    def _results(self) -> list[InspectionResult]:
        return self._app.database.results.recent(100_000)

    def wait_for_a_round(self) -> None:
        """Until the scorer has loaded its bank and judged every picture once."""
        while len(self._results()) < len(self._pictures):
            assert self._serve.poll() is None, "the scorer ended; see serve.log"
            time.sleep(1)

    def seen(self, job: Job) -> dict[str, Any]:
        """What the scorer said while this job ran."""
        assert job.started_at is not None
        assert job.finished_at is not None
        results = [r for r in self._results() if job.started_at <= r.scored_at <= job.finished_at]
        by_picture: dict[str, set[Any]] = {}
        for result in self._results():
            by_picture.setdefault(result.message_id.rpartition("@")[2], set()).add(
                (result.score, result.verdict, result.task)
            )
        return {
            "verdicts_while_it_ran": len(results),
            "by_bank": dict(Counter(str(r.bank_version) for r in results)),
            "pictures": len(by_picture),
            "pictures_with_one_score_throughout": sum(len(said) == 1 for said in by_picture.values()),
        }


# --- one job --------------------------------------------------------------------------------------


def row_of(app: App, foreign: int, job: Job, test: Evaluation) -> dict[str, Any]:
    judged = Judgement.of_checkpoint(job.checkpoint)
    assert judged is not None
    assert job.started_at is not None
    assert job.finished_at is not None
    change = judged.decision.changes[TaskId(VICTIM)]
    outcomes = test.tasks[TaskId(VICTIM)].outcomes
    return {
        "foreign": foreign,
        "own": OWN,
        "job": job.id,
        "state": str(job.state),
        "breaches": [f"{b.task}: {b.rule} {b.amount:.3g} of {b.allowed:.3g}" for b in judged.decision.breaches],
        "reasons": list(judged.decision.reasons),
        "victim_taken": sum(change.taken_by.values()),
        "victim_pictures": change.n_images,
        "victim_auroc_before": change.auroc_before,
        "victim_auroc_after": change.auroc_after,
        "victim_harmful_flips": change.harmful_flips,
        "test_taken": sum(str(o.routed_task) != VICTIM for o in outcomes),
        "test_pictures": len(outcomes),
        "left_out": len(app.database.entries.get(judged.entries[TaskId(str(job.task))]).suspects),
        "seconds": (job.finished_at - job.started_at).total_seconds(),
    }


def verdicts(app: App, data: Path) -> dict[str, Any]:
    """What the bank in use says of the victim's good and defective test-half pictures."""
    last = [e for e in app.database.evaluations.all(Half.TEST) if e.published][-1]
    outcomes = last.tasks[TaskId(VICTIM)].outcomes
    return {
        "bank": last.bank_version,
        "recognised": sum(str(o.routed_task) == VICTIM for o in outcomes),
        "pictures": len(outcomes),
        "defects_called_ok": sum(o.defective and o.routed_verdict == Verdict.OK for o in outcomes),
        "defects": sum(o.defective for o in outcomes),
        "good_called_ng": sum(not o.defective and o.routed_verdict != Verdict.OK for o in outcomes),
        "good": sum(not o.defective for o in outcomes),
    }


def run(data: Path, counts: Sequence[int], scratch: Path) -> dict[str, Any]:
    with App(load_settings(None)) as app:
        app.make_database()
        pictures = {name: training(data, name) for name in (*KNOWN, NEW)}
        for name in KNOWN:
            copied(pictures[name][:LEARNED], scratch / name, name)
            job = learn(app, name, scratch / name, data / name)
            assert job.state is JobState.PUBLISHED, job.message
        stream = [
            file
            for name in KNOWN
            for file in sorted(find_pictures(data / name / "test"))[
                :: max(1, len(find_pictures(data / name / "test")) // SHOWN)
            ][:SHOWN]
        ]
        before = verdicts(app, data)
        rows = []
        watched: dict[str, Any] = {}
        for place, foreign in enumerate(sorted(counts, reverse=True)):
            folder = scratch / f"new-{foreign}"
            copied(pictures[NEW][:OWN], folder, NEW)
            # other pictures of the known product than it was learned from
            copied(pictures[VICTIM][LEARNED : LEARNED + foreign], folder, VICTIM)
            name = f"{NEW}_{foreign}"
            base = app.database.banks.active_version()
            if place == 0:
                with Watched(app, stream) as scorer:
                    scorer.wait_for_a_round()
                    job = learn(app, name, folder, data / NEW)
                watched = scorer.seen(job)
            else:
                job = learn(app, name, folder, data / NEW)
            test = next(e for e in reversed(app.database.evaluations.all(Half.TEST)) if e.job_id == job.id)
            rows.append(row_of(app, foreign, job, test))
            print(f"{foreign} foreign pictures: {job.state}; {job.message}", flush=True)
            if job.state is JobState.PUBLISHED:  # the next one comes to the same three products
                app.database.banks.use(base, who="benchmark", reason="the next folder", at=app.clock.now())
        worst = next(row for row in rows if row["state"] == "rejected")
        app.database.jobs.override(worst["job"], "benchmark", "to see the harm", app.clock.now())
        app.worker().run(drain=True)
        overridden = app.database.jobs.get(worst["job"])
        harmed = verdicts(app, data)
        app.database.banks.use(3, who="benchmark", reason="seen enough", at=app.clock.now())
        measured = app.database.tasks.queue(None, JobKind.EVALUATE, {}, app.clock.now())
        app.worker().run(drain=True)
        return {
            "about": {**app.provenance(), "known": KNOWN, "new": NEW, "victim": VICTIM, "learned": LEARNED, "own": OWN},
            "before": before,
            "rows": rows,
            "watched": watched,
            "overridden": {"state": str(overridden.state), "message": overridden.message, **harmed},
            "after_going_back": {"message": app.database.jobs.get(measured.id).message, **verdicts(app, data)},
        }


def table(report: dict[str, Any]) -> str:
    about, watched, before = report["about"], report["watched"], report["before"]
    lines = [
        f"Known: {', '.join(about['known'])}, {about['learned']} good pictures each; {about['new']} comes with pictures"
        f" of {about['victim']} among its own {about['own']}. patchcore, {about['features']}.",
        "",
        f"| {about['victim']} in the folder | the job | taken from {about['victim']} (regression half) | its AUROC |"
        " taken, test half | left out as suspects |",
        "|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        learned = row["foreign"] + row["own"]
        lines.append(
            f"| {row['foreign']} of {learned} | {row['state']} | {row['victim_taken']} of {row['victim_pictures']} |"
            f" {row['victim_auroc_before']:.3f} to {row['victim_auroc_after']:.3f} |"
            f" {row['test_taken']} of {row['test_pictures']} | {row['left_out']} |"
        )
    after, back = report["overridden"], report["after_going_back"]
    banks = ", ".join(f"bank {name}: {count}" for name, count in watched["by_bank"].items())
    lines += [
        "",
        f"While the first of these jobs was learned and judged, the scorer gave {watched['verdicts_while_it_ran']}"
        f" verdicts ({banks}); of {watched['pictures']} pictures shown again and again"
        f" {watched['pictures_with_one_score_throughout']} got one and the same score throughout.",
        "",
        "What the gate had kept away, on the test half, once a person overrode it:",
        "",
        f"| bank | {about['victim']} recognised | its defects called OK | its good parts called NG |",
        "|---|---|---|---|",
    ]
    for name, row in (("before", before), ("overridden", after), ("after going back", back)):
        lines.append(
            f"| {name} ({row['bank']}) | {row['recognised']} of {row['pictures']} |"
            f" {row['defects_called_ok']} of {row['defects']} | {row['good_called_ng']} of {row['good']} |"
        )
    lines += ["", f"The job that measured again after going back: {back['message']}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backbone", default="local-dir:deit-tiny-clip")
    parser.add_argument("--weights", type=Path, default=Path("stream-ad-data/weights"))
    parser.add_argument("--foreign", default="60,20,0", help="pictures of the known product in the folder, job by job")
    options = parser.parse_args()
    backbone = options.backbone
    if backbone.startswith("local-dir:"):
        backbone = f"local-dir:{(options.weights / backbone.removeprefix('local-dir:')).absolute()}"
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.update(
            STREAM_AD_DATA_DIR=str(Path(scratch) / "data"),
            STREAM_AD_BACKBONE__ID=backbone,
            STREAM_AD_BACKBONE__WEIGHTS_DIR=str(options.weights.absolute()),
            STREAM_AD_BACKBONE__THREADS="1",
            STREAM_AD_BACKBONE__DEVICE="cpu",
            STREAM_AD_DETECTOR__NAME="patchcore",
        )
        report = run(options.data, [int(count) for count in options.foreign.split(",")], Path(scratch))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "poisoned-job.json").write_text(json.dumps(report, indent=1, default=str) + "\n")
    (RESULTS / "poisoned-job.md").write_text(table(report))
    print(table(report))


if __name__ == "__main__":
    main()
