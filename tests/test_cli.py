"""The commands as a person uses them: what they say, what they refuse and how, and with which exit code."""

import json
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from PIL import Image, ImageDraw

from stream_ad.adapters.storage import Database
from stream_ad.cli import cli, main
from stream_ad.services.worker import Worker
from tests import adaptation_kit as kit

ROOT = Path(__file__).parents[1]
TINY = {
    "STREAM_AD_BACKBONE__ID": "tiny",
    "STREAM_AD_BACKBONE__IMAGE_SIZE": "64",
    "STREAM_AD_DETECTOR__NAME": "patchcore",
    "STREAM_AD_JOBS__POLL_S": "0.1",
    # untrained, it cannot tell a defect from another product
    "STREAM_AD_ROUTING__REFUSE": "false",
    "OMP_NUM_THREADS": "1",
}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with none of the caller's settings."""
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    for name, value in TINY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("stream_ad"), "propagate", True)  # put back for the tests that read the log
    return tmp_path


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str]):
    def run(*arguments: object) -> Ran:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else 0, captured.out, " ".join(captured.err.split()))

    return run


@pytest.fixture
def ready(run, place: Path) -> Path:
    assert run("init").code == 0
    return place


def paint(folder: Path, kind: str, count: int, *, bad: bool = False, seed: int = 0) -> Path:
    """Pictures of a product that even an untrained backbone can tell from the other."""
    rng = np.random.default_rng([seed, bad])
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.new("RGB", (96, 96), (200, 30, 30) if kind == "disc" else (20, 60, 160))
        draw = ImageDraw.Draw(image)
        if kind == "disc":
            draw.ellipse((20, 20, 76, 76), fill=(250, 220, 40))
        else:
            for x in range(0, 96, 12):
                draw.line((x, 0, x, 95), fill=(220, 240, 255), width=3)
        if bad:
            draw.rectangle((40, 40, 58, 52), fill=(0, 0, 0))
        noisy = np.asarray(image, float) + rng.normal(0, 4, (96, 96, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03d}.png")
    return folder


def in_process_of_its_own(place: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stream_ad.cli", *map(str, arguments)],
        cwd=place,
        env={**os.environ, **TINY, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(place: Path, *arguments: object) -> Ran:
    process = in_process_of_its_own(place, *arguments)
    out, err = process.communicate(timeout=200)
    return Ran(process.returncode, out, err)


# --- help -----------------------------------------------------------------------------------------


def commands(command: Any, name: str = "stream-ad") -> Iterator[tuple[str, Any]]:
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {child_name}")


ALL = dict(commands(typer.main.get_command(cli)))


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_has_a_help_text(name):
    command = ALL[name]
    assert (command.help or "").strip(), f"{name} has no help"
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize(
    "name",
    # the demo writes a configuration of its own
    [name for name, command in ALL.items() if not getattr(command, "commands", None) and name != "stream-ad demo"],
)
def test_every_command_takes_a_configuration_file(name):
    assert any("--config" in parameter.opts for parameter in ALL[name].params)


def test_all_commands_of_the_manual_are_there():
    assert set(ALL) >= {
        f"stream-ad {name}"
        for name in (
            *("init", "add-task", "tasks", "worker", "score", "serve", "publish", "up", "doctor"),
            *("jobs list", "jobs show", "jobs cancel", "jobs retry", "bank list", "bank show", "bank use"),
            *("report forgetting", "weights list", "weights pull"),
        )
    }


def test_light_commands_load_nothing_heavy(ready):
    code = (
        "import sys; from contextlib import suppress; from stream_ad.cli import main\n"
        "with suppress(SystemExit): main(['tasks'])\n"
        "print({'torch', 'matplotlib', 'alembic', 'kafka'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=200, capture_output=True)
    assert told.stdout.decode().splitlines()[-1] == "set()"


# --- setting up -----------------------------------------------------------------------------------


def test_init_makes_a_place_to_work_in_and_keeps_what_is_there(run, place):
    first = run("init")
    assert first.code == 0
    assert "Next, teach it a product" in first.out
    config = place / "config.yaml"
    assert config.read_text() == (ROOT / "config.yaml").read_text()
    config.write_text("jobs:\n  poll_s: 3.0\n")
    again = run("init")
    assert again.code == 0
    assert "(kept)" in again.out
    assert config.read_text() == "jobs:\n  poll_s: 3.0\n"


def test_nothing_is_there_yet_and_each_list_says_what_to_do(run, ready):
    for command in (("tasks",), ("jobs", "list"), ("bank", "list")):
        listed = run(*command)
        assert listed.code == 0
        assert "stream-ad add-task" in listed.out


def test_without_a_database_init_is_named(run):
    refused = run("tasks")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: there is no database at")
    assert "run `stream-ad init`" in refused.err


def test_a_database_of_another_revision_is_refused(run, ready):
    with sqlite3.connect(ready / "stream-ad-data" / "stream_ad.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    refused = run("tasks")
    assert refused.code == 2
    assert "revision 9999" in refused.err


def test_an_unknown_key_in_the_file_is_refused_with_its_line(run, ready):
    (ready / "config.yaml").write_text("gate:\n  max_fliips: 0.1\n")
    refused = run("tasks")
    assert refused.code == 2
    assert "config.yaml line 2: unknown key gate.max_fliips; did you mean gate.max_flips?" in refused.err


def test_an_unknown_key_in_the_environment_is_refused(run, ready, monkeypatch):
    monkeypatch.setenv("STREAM_AD_JOBS__LEASES", "3")
    refused = run("tasks")
    assert refused.code == 2
    assert "STREAM_AD_JOBS__LEASES sets nothing; did you mean STREAM_AD_JOBS__LEASE_S?" in refused.err


@pytest.mark.parametrize("arguments", [("--config", "x.yaml", "tasks"), ("tasks", "--config", "x.yaml")])
def test_a_missing_configuration_file_is_refused_wherever_it_is_named(run, ready, arguments):
    refused = run(*arguments)
    assert refused.code == 2
    assert "--config needs a configuration file, but x.yaml is none" in refused.err


def test_weights_that_are_missing_are_a_message_that_says_how_to_get_them(run, ready, monkeypatch):
    monkeypatch.setenv("STREAM_AD_BACKBONE__ID", "ViT-B-16/openai")
    paint(ready / "disc", "disc", 12)
    run("add-task", "disc", "--images", "disc")
    refused = run("worker", "--drain")
    assert refused.code == 2
    assert "stream-ad weights pull ViT-B-16/openai" in refused.err


def test_the_list_of_weights_has_the_model_of_the_package(run, ready):
    shown = run("weights", "list")
    assert shown.code == 0
    assert "small" in shown.out
    assert "stream-ad weights pull MODEL" in " ".join(shown.out.split())


def test_the_doctor_is_content_with_a_fresh_place_and_says_what_is_missing(run, ready):
    content = run("doctor")
    assert content.code == 0
    assert "fail" not in content.out
    assert "tiny is untrained" in content.out
    (ready / "stream-ad-data" / "inbox").rmdir()
    worried = run("doctor")
    assert worried.code == 1
    assert "run `stream-ad init`" in worried.out


def test_the_doctor_says_each_thing_once(run, ready, monkeypatch):
    monkeypatch.setenv("STREAM_AD_BACKBONE__ID", "ViT-B-16/openai")
    worried = run("doctor")
    assert worried.code == 1
    assert worried.out.count("stream-ad weights pull") == 1
    assert worried.out.count("not looked at: needs the backbone") == 2


def test_the_doctor_finds_a_broker_that_does_not_answer(run, ready, monkeypatch):
    monkeypatch.setenv("STREAM_AD_STREAM__SOURCE", "kafka")
    monkeypatch.setenv("STREAM_AD_KAFKA__BOOTSTRAP", "127.0.0.1:1")
    worried = run("doctor")
    assert worried.code == 1
    assert "no broker answers (127.0.0.1:1" in worried.out


# --- adding a task: what is refused, and that nothing was written -----------------------------------


def refused_task(run, *arguments: object) -> str:
    refused = run("add-task", "disc", *arguments)
    assert refused.code == 2
    assert refused.err.startswith("error: ")
    assert "Traceback" not in refused.err
    assert "no tasks yet" in run("tasks").out
    return refused.err


def test_a_folder_that_is_not_there_is_refused(run, ready):
    assert "does not exist" in refused_task(run, "--images", "nowhere")


def test_a_folder_without_images_is_refused(run, ready):
    (ready / "empty").mkdir()
    assert "the folder is empty" in refused_task(run, "--images", "empty")


def test_a_text_file_named_png_is_refused_by_name(run, ready):
    folder = paint(ready / "disc", "disc", 12)
    (folder / "007.png").write_text("not a picture")
    message = refused_task(run, "--images", "disc")
    assert "007.png" in message
    assert "needed a JPEG, PNG" in message


def test_a_truncated_image_is_refused_by_name(run, ready):
    folder = paint(ready / "disc", "disc", 12)
    whole = (folder / "007.png").read_bytes()
    (folder / "007.png").write_bytes(whole[: len(whole) // 2])
    message = refused_task(run, "--images", "disc")
    assert "007.png" in message
    assert "damaged or truncated" in message


def test_too_few_images_are_refused_with_the_number_needed(run, ready):
    paint(ready / "disc", "disc", 3)
    assert "task 'disc' needs at least 6 normal images, got 3" in refused_task(run, "--images", "disc")


def test_a_heldout_image_that_is_also_a_training_image_is_refused_by_name(run, ready):
    folder = paint(ready / "disc", "disc", 12)
    paint(ready / "held" / "good", "disc", 4, seed=1)
    (ready / "held" / "good" / "copy.png").write_bytes((folder / "003.png").read_bytes())
    message = refused_task(run, "--images", "disc", "--heldout", "held")
    assert "1 pictures are in --images" in message
    assert "003.png" in message
    assert "copy.png" in message


def test_the_root_of_a_data_set_serves_for_both_folders(run, ready):
    paint(ready / "set" / "train" / "good", "disc", 8)
    paint(ready / "set" / "test" / "good", "disc", 4, seed=1)
    paint(ready / "set" / "test" / "scratch", "disc", 4, bad=True)
    added = run("add-task", "disc", "--images", "set", "--heldout", "set")
    assert added.code == 0
    assert f"8 pictures in {Path('set', 'train', 'good')}" in added.out


def test_a_duplicate_task_name_is_refused(run, ready):
    paint(ready / "disc", "disc", 12)
    assert run("add-task", "disc", "--images", "disc").code == 0
    refused = run("add-task", "disc", "--images", "disc")
    assert refused.code == 2
    assert "task 'disc' exists already" in refused.err


def test_a_name_whose_job_came_to_nothing_can_be_added_again_with_other_folders(run, ready):
    paint(ready / "disc", "disc", 12)
    paint(ready / "other", "disc", 12, seed=1)
    assert run("add-task", "disc", "--images", "disc").code == 0
    assert run("jobs", "cancel", 1).code == 0
    again = run("add-task", "disc", "--images", "other")
    assert again.code == 0
    assert "job 2 is queued" in again.out


def test_a_name_that_is_no_name_is_refused(run, ready):
    paint(ready / "disc", "disc", 12)
    refused = run("add-task", "../disc", "--images", "disc")
    assert refused.code == 2
    assert "a task name needs" in refused.err


def test_a_false_alarm_rate_in_percent_is_refused(run, ready):
    paint(ready / "disc", "disc", 12)
    assert "between 0 and 1" in refused_task(run, "--images", "disc", "--false-alarm-rate", "5")


def test_a_missing_region_of_interest_is_refused(run, ready):
    paint(ready / "disc", "disc", 12)
    assert "does not exist" in refused_task(run, "--images", "disc", "--roi", "mask.png")


# --- jobs and banks ---------------------------------------------------------------------------------


@pytest.fixture
def two_banks(ready: Path) -> Path:
    with Database(f"sqlite:///{ready}/stream-ad-data/stream_ad.db", ready / "stream-ad-data" / "entries") as database:
        for name in ("screw", "tile"):
            kit.queue(database, name)
        Worker(kit.storage(database), kit.work(), kit.HandClock()).run(drain=True)
        kit.queue(database, "thief")
        Worker(kit.storage(database), kit.work(evaluate=kit.stealing("thief")), kit.HandClock()).run(drain=True)
    return ready


def test_going_back_to_a_version_and_forward(run, two_banks):
    assert "2 *" in run("bank", "list").out
    used = run("bank", "use", 1, "--reason", "tile is wrong")
    assert used.code == 0
    assert used.out == (
        "bank 1 is in use (before: 2)\n"
        "against bank 2 it is without tile. `stream-ad bank use 2` takes bank 2 into use again;"
        " what jobs publish from now on is made from bank 1 and lacks the same\n"
    )
    assert "1 *" in run("bank", "list").out
    shown = run("bank", "show")
    assert shown.out.startswith("bank 1, 1 task,")
    assert "tile" not in shown.out
    assert "shared weights" not in shown.out
    assert "tile" in run("bank", "show", 2).out
    assert run("bank", "use", 2).out == "bank 2 is in use (before: 1)\n"


def test_a_version_that_is_not_there_is_refused(run, two_banks):
    for command in (("bank", "use", 9), ("bank", "show", 9)):
        refused = run(*command)
        assert refused.code == 2
        assert "there is no bank version 9; versions go from 0 (empty) to 2" in refused.err


def test_a_rejected_job_shows_its_reasons_and_can_run_again(run, two_banks):
    listed = run("jobs", "list")
    assert "rejected" in listed.out
    shown = run("jobs", "show", 3)
    assert "10 of 20 images now go to another product (10 to thief)" in shown.out
    assert "is queued" in run("jobs", "retry", 3).out
    assert "queued" in run("jobs", "list", "--open").out
    assert "is cancelled" in run("jobs", "cancel", 3).out


def test_a_job_that_is_not_there_or_ended_is_refused(run, two_banks):
    assert "there is no job 99" in run("jobs", "show", 99).err
    refused = run("jobs", "cancel", 1)
    assert refused.code == 2
    assert "is published already" in refused.err


def test_the_tasks_tell_which_are_in_the_bank(run, two_banks):
    lines = {line.split()[0]: line for line in run("tasks").out.splitlines()}
    assert "in bank 2" in lines["screw"]
    assert "not in the bank" in lines["thief"]


@pytest.mark.parametrize("format", ["table", "md", "json", "csv", "html"])
def test_the_forgetting_report_comes_in_every_format(run, two_banks, format):
    written = run("report", "forgetting", "--format", format)
    assert written.code == 0
    assert "screw" in written.out
    if format == "json":
        assert json.loads(written.out)["paragraph"]
    if format != "table":
        said = run("report", "forgetting", "--format", format, "--output", "out/report")
        assert said.out.splitlines()[0].startswith("Did anything get worse? ")
        assert said.out.splitlines()[1] == "written to out/report"
        assert (two_banks / "out" / "report").stat().st_size > 100


WRITING = [
    ("report", "forgetting", "--format", "md"),
    ("report", "job", "1", "--format", "html"),
    *(("bench", name, "--data", "sets") for name in ("continual", "robustness", "zero-shot", "few-shot")),
    ("bench", "reconstruction", "--data", "sets"),
    ("bench", "throughput"),
]


@pytest.mark.parametrize("command", WRITING, ids=" ".join)
def test_an_output_that_cannot_be_written_is_said_before_any_work(run, place: Path, command: tuple[str, ...]):
    """Nothing else that these commands need is there."""
    (place / "folder.json").mkdir()
    (place / "file").write_text("mine")
    refused = run(*command, "--output", "folder.json")
    assert refused.code == 2
    assert "--output needs a file that can be written; got folder.json: it is a folder" in refused.err
    refused = run(*command, "--output", "file/run.json")
    assert refused.code == 2
    assert "got file/run.json: file is no folder" in refused.err
    assert run(*command, "--output", "new/run.json").code == 2
    assert not (place / "new" / "run.json").exists()


@pytest.mark.parametrize("format", ["table", "md", "json", "html"])
def test_the_report_of_a_refused_job_says_whom_it_would_have_hurt(run, two_banks, format):
    refused = next(line.split()[0] for line in run("jobs", "list").out.splitlines() if "rejected" in line)
    written = run("report", "job", refused, "--format", format)
    assert written.code == 0
    assert "Refused by the gate" in written.out
    assert "thief" in written.out
    assert run("report", "job", 99).code == 2


def test_a_report_over_some_versions_leaves_the_others_out(run, two_banks):
    assert "tile" not in run("report", "forgetting", "--to", 1).out
    assert run("report", "forgetting", "--from", 2, "--to", 1).code == 2


# --- the whole way ----------------------------------------------------------------------------------


def test_scoring_with_an_empty_bank_says_what_to_do(run, ready):
    paint(ready / "disc", "disc", 1)
    refused = run("score", "disc")
    assert refused.code == 2
    assert "add a product first: `stream-ad add-task`, or" in refused.err
    assert "discovery.zero_shot: true" in refused.err


def test_before_any_product_is_taught_words_score_it(run, ready, monkeypatch):
    monkeypatch.setenv("STREAM_AD_DISCOVERY__ZERO_SHOT", "true")
    paint(ready / "disc", "disc", 1)
    told = run("score", "disc", "--overlay-dir", "overlays")
    assert told.code == 1, told.err
    header, line = told.out.splitlines()
    assert re.split(r"\s{2,}", header)[3] == "detector"
    place, verdict, task, detector, score, threshold, p_value, *_ = re.split(r"\s{2,}", line)
    assert (place, verdict, task, detector) == ("disc/000.png", "unknown product", "-", "zero-shot/2")
    assert np.isfinite(float(score))
    assert (threshold, p_value) == ("-", "-")
    [row] = map(json.loads, run("score", "disc", "--json").out.splitlines())
    assert (row["detector"], row["threshold"], row["p_value"]) == ("zero-shot/2", None, None)
    assert row["score"] == pytest.approx(float(score), rel=1e-3)


def test_from_a_folder_of_pictures_to_verdicts(place):
    paint(place / "disc", "disc", 14)
    paint(place / "held" / "good", "disc", 6, seed=1)
    paint(place / "held" / "defect", "disc", 6, bad=True, seed=1)
    assert finished(place, "init").code == 0
    added = finished(place, "add-task", "disc", "--images", "disc", "--heldout", "held", "--wait")
    assert added.code == 0, added
    assert "\nbank 1 published with 'disc'" in added.out

    paint(place / "good", "disc", 3, seed=2)
    paint(place / "bad", "disc", 2, bad=True, seed=2)
    scored = finished(place, "score", "bad", "--json", "--overlay-dir", "overlays")
    assert scored.code == 1, scored
    rows = [json.loads(line) for line in scored.out.splitlines()]
    assert [row["verdict"] for row in rows] == ["NG", "NG"]
    assert all(row["score"] > row["threshold"] and row["task"] == "disc" for row in rows)
    assert all(Path(place, row["overlay"]).is_file() for row in rows)

    (place / "bad" / "broken.png").write_text("no picture")
    unread = finished(place, "score", "bad", "good")
    assert unread.code == 2
    assert "unreadable" in unread.out
    assert unread.out.count("NG") >= 2
    assert unread.out.count("patchcore/") == 5


def test_up_learns_and_scores_and_stops_cleanly(place):
    paint(place / "disc", "disc", 14)
    assert finished(place, "init").code == 0
    up = in_process_of_its_own(place, "up")
    lines: list[str] = []
    assert up.stdout is not None
    seen = threading.Event()

    def read() -> None:
        for line in up.stdout or ():
            lines.append(line)
            if line.startswith("NG"):
                seen.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        added = finished(place, "add-task", "disc", "--images", "disc", "--wait")
        assert added.code == 0, added
        inbox = place / "stream-ad-data" / "inbox"
        for picture in paint(place / "bad", "disc", 1, bad=True, seed=3).iterdir():
            # a scorer follows the bank within a second; the name is new each time
            for number in range(100):
                (inbox / f"{number}.png").write_bytes(picture.read_bytes() + bytes(number))
                if seen.wait(1):
                    break
        assert seen.is_set(), "".join(lines)
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(60)
        reader.join()
        up.stdout.close()
        log = up.stderr.read() if up.stderr else ""
        if up.stderr:
            up.stderr.close()
    assert code == 0, log
    assert "1 picture: " in lines[-1] or "pictures:" in lines[-1]
