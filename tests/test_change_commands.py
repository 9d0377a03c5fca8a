"""From a wrong verdict to a patched bank, and other changes of what is learned, as a person asks for them."""

# ruff: noqa: F811 (fixtures are imported, then named as arguments)

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import Ran, paint, place, ready, run  # noqa: F401

ADD_MORE = ("tasks", "add-images", "disc", "--images", "more")


def marked(picture: Path, target: Path) -> Path:
    """A good part with a mark that no good part had so far."""
    pixels = np.asarray(Image.open(picture)).copy()
    pixels[60:76, 24:40] = (40, 60, 200)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(target)
    return target


def queued(ran: Ran) -> None:
    assert ran.code == 0, ran.err
    assert "is queued" in ran.out


@pytest.mark.timeout(900)
def test_from_a_false_alarm_to_a_patched_bank(run, ready, monkeypatch):
    # at 96 px as the pictures are, with rows enough for a patch to be a part of them
    monkeypatch.setenv("STREAM_AD_BACKBONE__IMAGE_SIZE", "96")
    monkeypatch.setenv("STREAM_AD_STREAM__SETTLE_S", "0")
    paint(ready / "disc", "disc", 20)
    assert run("add-task", "disc", "--images", "disc", "--wait").code == 0
    inbox = ready / "stream-ad-data" / "inbox"
    fresh = paint(ready / "fresh", "disc", 2, seed=5)
    marked(fresh / "000.png", inbox / "cam1" / "a.png")
    shutil.copy(fresh / "001.png", inbox / "cam1" / "b.png")
    assert run("serve", "--idle", 1).code == 0

    assert "needed one of --false-alarm" in run("feedback", "cam1/a.png").err
    assert "verdict NG" in run("feedback", "cam1/b.png", "--false-alarm").err
    assert "no result is called" in run("feedback", "cam1/c.png", "--missed").err
    nothing = run("tasks", "patch", "disc")
    assert nothing.code == 2
    assert "no false alarm of task 'disc' waits" in nothing.err

    said = run("feedback", "cam1/a.png", "--false-alarm", "--who", "ada", "--reason", "a sticker")
    assert said.code == 0, said.err
    assert "tasks patch disc" in said.out
    again = run("feedback", "folder:inbox/0/0", "--false-alarm")
    assert "said before, as feedback 1 by ada" in again.out + run("feedback", "folder:inbox/0/1", "--false-alarm").out
    elsewhere = run("feedback", "cam1/b.png", "--wrong-product")
    assert elsewhere.code == 0, elsewhere.err
    assert "kept among the pictures of no known product" in elsewhere.out
    assert "stream-ad tasks proposals" in elsewhere.out
    listed = run("feedback", "list", "--waiting")
    assert "a sticker" in listed.out

    patched = run("tasks", "patch", "disc", "--wait")
    assert patched.code == 0, patched.out
    assert "'disc' patched: 1 of 1 false alarms are OK now" in patched.out
    assert "applied" in run("feedback", "list").out
    assert "no feedback" in run("feedback", "list", "--waiting").out


def test_changes_of_what_is_learned_are_queued_for_tasks_that_the_bank_has(run, ready):
    paint(ready / "disc", "disc", 12)
    paint(ready / "more", "disc", 10, seed=3)
    for command in (("retire", "disc"), ("relearn", "disc"), ADD_MORE[1:], ("patch", "disc")):
        assert "no task is called 'disc'" in run("tasks", *command).err
    assert run("add-task", "disc", "--images", "disc", "--wait").code == 0
    assert "'mpa' needs shared weights" in run(*ADD_MORE, "--detector", "mpa").err
    assert "'--detector'" in run(*ADD_MORE, "--detector", "patchcoer").err
    queued(run(*ADD_MORE, "--detector", "cmpmb"))
    second = run("tasks", "retire", "disc")
    assert second.code == 2
    assert "task 'disc' has an open job already" in second.err
    assert run("worker", "--drain").code == 0
    assert "learned again from" in run("jobs", "show", 2).out
    assert "cmpmb/" in run("score", "more/000.png").out
    assert "nothing was changed" in run("tasks", "squeeze", "--rows", 100_000, "--wait").out
    assert run("tasks", "retire", "disc", "--wait").code == 0
    assert "retired" in run("tasks").out
    for command in ("retire", "relearn"):
        gone = run("tasks", command, "disc")
        assert gone.code == 2
        assert "add-task disc" in gone.err


def test_a_product_comes_over_to_another_detector_with_the_pictures_that_it_has(run, ready):
    paint(ready / "disc", "disc", 12)
    paint(ready / "more", "disc", 10, seed=3)
    assert run("add-task", "disc", "--images", "disc", "--wait").code == 0
    assert run(*ADD_MORE, "--wait").code == 0
    assert "'mpa' needs shared weights" in run("tasks", "relearn", "disc", "--detector", "mpa").err
    (ready / "more").rename(ready / "elsewhere")
    gone = run("tasks", "relearn", "disc")
    assert gone.code == 2
    assert "more does not exist" in gone.err
    assert "add-images disc --instead" in gone.err
    (ready / "elsewhere").rename(ready / "more")
    asked = run("tasks", "relearn", "disc", "--detector", "cmpmb")
    queued(asked)
    assert "22 pictures in 2 folders" in asked.out
    assert "task 'disc' has an open job already" in run("tasks", "relearn", "disc").err
    assert run("worker", "--drain").code == 0
    given = [[line for line in run("jobs", "show", job).out.splitlines() if "given" in line] for job in (2, 3)]
    assert [line.replace("patchcore", "cmpmb").split() for line in given[0]] == [line.split() for line in given[1]]
    assert any("cmpmb" in line for line in given[1])
    assert "cmpmb/" in run("score", "more/000.png").out


def test_feedback_that_was_a_mistake_is_withdrawn(run, ready):
    assert "there is no feedback 1" in run("feedback", "withdraw", 1, "--reason", "wrong picture").err
