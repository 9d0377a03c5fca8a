"""What a person's word on a verdict does to a bank, on real pictures.

    python -m benchmarks.feedback --data DIR [--weights DIR] [--sets mvtec_screw,magnetic_tile]

Each product is learned from its training pictures. Of its test pictures every third one comes as a stream, through the
watched folder; the others are held out and judge banks. Then, with jobs as a plant runs them:

- every false alarm of the stream is marked, and the product is patched with all of them;
- every real defect that the stream called NG is marked as a false alarm, by mistake, alone and then all together, and
  each such patch is tried on the bank before.

A patch that the gate lets through is measured on the test half, which decided nothing. Writes
benchmarks/results/feedback.json and .md. Two CPU minutes a product.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.evaluation import Evaluation, Half
from stream_ad.domain.feedback import Feedback, FeedbackKind
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.domain.task import Task, TaskId

RESULTS = Path(__file__).parent / "results"
STREAMED = 3  # every so many-th test picture
IDLE_S = 5.0


def divided(data: Path, name: str, heldout: Path, inbox: Path) -> None:
    """The test pictures of a product: some into the watched folder, the others held out."""
    for kind in sorted(path for path in (data / name / "test").iterdir() if path.is_dir()):
        for number, file in enumerate(sorted(kind.iterdir())):
            streamed = number % STREAMED == STREAMED - 1
            target = inbox / name if streamed else heldout / "test" / kind.name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / (f"{kind.name}-{file.name}" if streamed else file.name))
            mask = data / name / "ground_truth" / kind.name / f"{file.stem}_mask.png"
            if mask.is_file() and not streamed:
                place = heldout / "ground_truth" / kind.name
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(mask, place / mask.name)


def done(app: App, job: Job) -> Job:
    app.worker().run(drain=True)
    return app.database.jobs.get(job.id)


def learned(app: App, data: Path, name: str, heldout: Path) -> Job:
    task = Task(id=TaskId(name), class_name=name.replace("_", " "))
    checked = app.check_folders(task, images=data / name / "train", heldout=heldout, roi=None, detector=None)
    return done(app, app.database.tasks.add(task, JobKind.ADAPT, checked.payload, app.clock.now()))


def streamed(app: App) -> list[InspectionResult]:
    with app.stream() as stream:
        stream.run(threading.Event(), idle_s=IDLE_S)
    return app.database.results.recent(10_000)


def patched(app: App, name: str, said: Sequence[Feedback]) -> Job:
    ids = [one.id for one in said]
    return done(app, app.database.tasks.queue(TaskId(name), JobKind.PATCH, {}, app.clock.now(), feedback=ids))


def measured(app: App, name: str, job_id: int, half: Half) -> dict[str, Any]:
    """What the job's candidate, or the bank in use before it, gave on a half."""
    evaluation: Evaluation = [e for e in app.database.evaluations.all(half) if e.job_id == job_id][-1]
    found = evaluation.tasks[TaskId(name)]
    alarms = [one for one in found.outcomes if one.defective and one.routed_verdict is not Verdict.OK]
    return {
        "image_auroc": found.routed["image_auroc"],
        "false_alarms": sum(not one.defective and one.routed_verdict is not Verdict.OK for one in found.outcomes),
        "good": found.n_normal,
        "found": sorted(one.image_id for one in alarms),
        "defective": found.n_defective,
    }


def about(app: App, name: str, job: Job, before: Job) -> dict[str, Any]:
    row: dict[str, Any] = {"job": job.id, "state": str(job.state), "message": job.message}
    if job.state in (JobState.PUBLISHED, JobState.REJECTED):
        for half in Half:
            then, now = measured(app, name, before.id, half), measured(app, name, job.id, half)
            row[half.value] = {
                "hidden_defects": len(set(then["found"]) - set(now["found"])),
                "found_before": len(then["found"]),
                "defective": then["defective"],
                "false_alarms_before": then["false_alarms"],
                "false_alarms": now["false_alarms"],
                "good": then["good"],
                "image_auroc_before": then["image_auroc"],
                "image_auroc": now["image_auroc"],
            }
    return row


def product(app: App, data: Path, name: str, place: Path) -> dict[str, Any]:
    started = time.monotonic()
    heldout = place / "heldout" / name
    divided(data, name, heldout, app.settings.inbox)
    first = learned(app, data, name, heldout)
    assert first.state is JobState.PUBLISHED, first.message
    version = app.database.banks.active_version()
    results = [one for one in streamed(app) if one.camera == name]
    ng = [one for one in results if one.verdict is Verdict.NG and one.task == name]
    alarms = [one for one in ng if (one.subject or "").startswith(f"{name}/good-")]
    mistaken = [one for one in ng if one not in alarms]
    office = app.feedback_office()

    def say(one: InspectionResult) -> Feedback:
        return office.say(one.message_id, FeedbackKind.FALSE_ALARM, who="benchmark", reason="").feedback

    row: dict[str, Any] = {
        "streamed": len(results),
        "verdicts": {str(v): sum(one.verdict is v for one in results) for v in Verdict},
        "patches": [],
        "mistakes": [],
    }

    def tried(marked: Sequence[InspectionResult]) -> dict[str, Any]:
        job = patched(app, name, [say(one) for one in marked])
        told = {"marked": [one.subject for one in marked], **about(app, name, job, first)}
        if app.database.banks.active_version() != version:
            app.database.banks.use(version, who="benchmark", reason="the next one is tried on", at=app.clock.now())
        print(f"{name}: {len(marked)} marked, {job.state}: {job.message}", flush=True)
        return told

    if alarms:
        row["patches"].append(tried(alarms))
    for one in mistaken:
        row["mistakes"].append(tried([one]))
    if len(mistaken) > 1:
        row["mistakes"].append(tried(mistaken))
    row["seconds"] = time.monotonic() - started
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backbone", default="deit-tiny-clip")
    parser.add_argument("--sets", default="mvtec_screw,magnetic_tile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        config = place / "config.yaml"
        weights = f", weights_dir: {given.weights.absolute()}" if given.weights else ""
        config.write_text(
            f"data_dir: {place / 'data'}\n"
            f"backbone: {{id: {given.backbone}, threads: 1, device: cpu{weights}}}\n"
            "stream: {overlays: none, settle_s: 0.0, min_free_mb: 0}\n"
            "discovery: {enabled: false}\n"
        )
        with App(load_settings(config)) as app:
            app.make_database()
            found = {name: product(app, given.data, name, place) for name in given.sets.split(",")}
            provenance = {key: str(value) for key, value in app.provenance().items()}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "feedback.json").write_text(json.dumps({"provenance": provenance, "sets": found}, indent=1) + "\n")
    (given.out / "feedback.md").write_text(told(found, provenance))


def told(found: dict[str, Any], provenance: dict[str, str]) -> str:
    lines = [
        "# What a person's word does to a bank",
        "",
        f"Backbone {provenance['features']}, {provenance['device']}, code {provenance['code']}. Of the test pictures of"
        " each set every third came as a stream; the others are held out, half of them decide (regression), half of"
        " them are only reported (test).",
        "",
        "| set | marked | job | defects found before (regression, test) | of those hidden (regression, test) |"
        " false alarms before -> after (both halves) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        for what, each in [
            *(("false alarms", one) for one in row["patches"]),
            *(("defects", o) for o in row["mistakes"]),
        ]:
            halves = [each.get(half.value) for half in Half]
            if None in halves:
                figures = "- | - | -"
            else:
                figures = " | ".join(
                    (
                        ", ".join(f"{h['found_before']} of {h['defective']}" for h in halves),
                        ", ".join(str(h["hidden_defects"]) for h in halves),
                        f"{sum(h['false_alarms_before'] for h in halves)} -> {sum(h['false_alarms'] for h in halves)}"
                        f" of {sum(h['good'] for h in halves)}",
                    )
                )
            lines.append(f"| {name} | {len(each['marked'])} {what} | {each['state']} | {figures} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
