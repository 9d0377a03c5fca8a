"""`stream-ad train ...`: an image-text model of our own, of rendered products; and what detectors share."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Protocol

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stream_ad.commands.bench import named
from stream_ad.commands.common import ConfigOption, LevelsOption, config_path, err, open_app, out, whole_numbers
from stream_ad.commands.stream import stop_on_signals
from stream_ad.config import load_settings
from stream_ad.domain import ports
from stream_ad.errors import ConfigError

train = typer.Typer(no_args_is_help=True, help="Train weights that are shared by all products.")


GoodOption = Annotated[
    Path,
    typer.Option("--data", metavar="ROOT", help="Products with good pictures, as for `stream-ad bench continual`."),
]
OthersOption = Annotated[
    str | None, typer.Option("--tasks", metavar="A,B,...", help="Products to learn from: others than it will score.")
]
WeightsOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="DIR", help="Where the weights go, and the run. Default: the weights' folder."),
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Steps in all.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of first weights and of what is drawn.")]


class Training(Protocol):
    """Of weights that all tasks share."""

    step: int

    @property
    def steps(self) -> int: ...

    def run(self, *, until: Callable[[], bool], told: Callable[[int, float], None]) -> None: ...


#: a training in a folder, told how far the encoding of pictures is, and what writes its weights
Begin = Callable[[Path, ports.Progress], tuple[Training, Callable[[Path], Path]]]


@train.callback()
def trainings() -> None:
    """Train weights that are shared by all products."""


@train.command()
def backbone(
    output: Annotated[
        Path,
        typer.Option("--output", metavar="DIR", help="The run: state, curves; the weights in `weights`."),
    ],
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps in all, also of a run that is taken up.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the first weights and of what is drawn.")] = 0,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Renderers beside the one that trains.")] = 1,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0.0, help="Stop after so long; the same command goes on later.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Train a small image-text model on rendered products with captions; no picture of anybody's is needed.

    On the device of `backbone.device`. The run is saved as it goes: after a kill, or Ctrl-C, the same command goes on
    where it was. Use the weights with `backbone.id: local-dir:DIR/weights`.
    """
    from stream_ad.backbones.registry import chosen_device
    from stream_ad.demo.families import DEFECTS, Split
    from stream_ad.demo.training_lines import said, stream
    from stream_ad.training.card import card
    from stream_ad.training.trainer import Trainer, TrainingOptions
    from stream_ad.training.weights_folder import write_weights
    from stream_ad.training.words import Words

    options = TrainingOptions(steps=steps, seed=seed)
    try:
        trainer = Trainer(
            output,
            options,
            Words(DEFECTS, said),
            device=chosen_device(load_settings(config_path(config)).backbone.device),
        )
    except OSError as error:
        raise ConfigError(f"--output: cannot write {error.filename or output}: {error.strerror}") from None
    stop, ends = stop_on_signals(), None if minutes is None else time.monotonic() + 60 * minutes
    lines = stream(Split.TRAIN, trainer.pool.taken, shots=options.shots, size=options.rendered, processes=processes)
    bar = _bar()
    with bar:
        row = bar.add_task("training", total=steps, completed=trainer.step, told="")
        trainer.run(
            lines,
            until=lambda: stop.is_set() or (ends is not None and time.monotonic() > ends),
            told=lambda step, loss: bar.update(row, completed=step, told=f"loss {loss:.3f}"),
        )
    lines.close()
    folder = write_weights(trainer.model, output / "weights", card(trainer))
    spent = timedelta(seconds=round(trainer.seconds))
    out().print(f"{trainer.step} of {steps} steps in {spent}; weights: {folder}", markup=False)
    if trainer.step < steps:
        out().print("the same command goes on from here", markup=False)


@train.command()
def mpa(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="ROOT", help="Labelled products, as for `stream-ad bench continual`."),
    ],
    tasks: OthersOption = None,
    output: WeightsOption = None,
    stage: Annotated[
        int, typer.Option("--stage", min=1, max=2, help="1: prompts alone (MPA). 2: experts after them (MPAMA).")
    ] = 1,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of stage 1.")] = 300,
    expert_steps: Annotated[int, typer.Option("--expert-steps", min=1, help="Of stage 2.")] = 100,
    levels: LevelsOption = "1,2,3,4",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of first weights and of the pictures' order.")] = 0,
    config: ConfigOption = None,
) -> None:
    """Train MPA or MPAMA: zero-shot scores for products that have no training image yet.

    On test pictures of the products named, good and damaged ones with masks, and on the settings' backbone and device.
    Pictures are encoded once and states are saved: after a kill, or Ctrl-C, the same command goes on where it was. Use
    the weights with `detector.mpa.weights`.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.detectors.mpa_network import MpaShape
    from stream_ad.detectors.mpa_training import MpaOptions, MpaTraining, kept

    app = open_app(config)
    shape = MpaShape(levels=whole_numbers(levels, "--levels", app.backbone.grid))
    options = MpaOptions(shape=shape, steps=steps, expert_steps=expert_steps if stage == 2 else 0, seed=seed)
    products = find_products(data, named(tasks, "--tasks"), to_learn=False)  # their test pictures are learned from

    def begin(folder: Path, encoding: ports.Progress) -> tuple[MpaTraining, Callable[[Path], Path]]:
        features = kept(folder, app.backbone, {one.id: one.test for one in products}, encoding)
        training = MpaTraining(folder, options, app.backbone, features)
        return training, training.write

    _train("mpa", output or app.settings.weights_dir, begin)


@train.command()
def anople(
    data: GoodOption,
    tasks: OthersOption = None,
    output: WeightsOption = None,
    steps: StepsOption = 300,
    painted: Annotated[bool, typer.Option("--painted", help="Learn from good pictures alone.")] = False,
    seed: SeedOption = 0,
    config: ConfigOption = None,
) -> None:
    """Train AnoPLe: scores for products of which one to four good pictures are at hand.

    On good training pictures of the products named, with defects painted on them, and on the damage that is marked in
    their test pictures, where they have some. On the settings' backbone and device. States are saved: after a kill, or
    Ctrl-C, the same command goes on where it was. Use the weights with `detector.anople.weights`.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.detectors.anople_pictures import Auxiliary
    from stream_ad.detectors.anople_training import AnopleOptions, AnopleTraining

    app = open_app(config)
    products = {
        one.id: Auxiliary(one.class_name, one.train, None if painted else one.test)
        for one in find_products(data, named(tasks, "--tasks"), to_judge=not painted)
    }

    def begin(folder: Path, encoding: ports.Progress) -> tuple[AnopleTraining, Callable[[Path], Path]]:
        training = AnopleTraining(folder, AnopleOptions(steps=steps, seed=seed), app.backbone, products)
        return training, training.write

    _train("anople", output or app.settings.weights_dir, begin)


@train.command()
def promptmad(
    data: GoodOption,
    tasks: OthersOption = None,
    output: WeightsOption = None,
    steps: StepsOption = 200,
    seed: SeedOption = 0,
    config: ConfigOption = None,
) -> None:
    """Train PromptMAD: fine maps of products whose good pictures are at hand.

    On good training pictures of the products named, with defects painted on copies of them, and on the settings'
    backbone and device. Pictures are encoded once and states are saved: after a kill, or Ctrl-C, the same command goes
    on where it was. Use the weights with `detector.promptmad.weights`.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.detectors.memory import within
    from stream_ad.detectors.promptmad_training import CARD, PromptMadOptions, kept, training
    from stream_ad.detectors.training_run import TrainingRun

    app = open_app(config)
    products = find_products(data, named(tasks, "--tasks"), to_judge=False)
    options = PromptMadOptions(steps=steps, seed=seed)
    options = replace(options, memory=within(options.memory, app.backbone.depth))

    def begin(folder: Path, encoding: ports.Progress) -> tuple[TrainingRun, Callable[[Path], Path]]:
        run = training(folder, options, app.backbone, kept(folder, options, app.backbone, products, encoding))
        return run, lambda parent: run.write(parent, *CARD)

    _train("promptmad", output or app.settings.weights_dir, begin)


def _train(kind: str, folder: Path, begin: Begin) -> None:
    """To the last step, or until asked to stop; then the weights are in the folder, and what names them is printed."""
    stop = stop_on_signals()
    try:
        with _bar() as bar:
            training, write = begin(folder / "training", _until(stop, bar))
            row = bar.add_task("training", total=training.steps, completed=training.step, told="")
            training.run(
                until=stop.is_set,
                told=lambda step, loss: bar.update(row, completed=step, told=f"loss {loss:.3f}"),
            )
    except OSError as error:
        raise ConfigError(f"--output: cannot write {error.filename or folder}: {error.strerror}") from None
    if training.step < training.steps:
        out().print(f"{training.step} of {training.steps} steps; the same command goes on from here", markup=False)
        return
    written = write(folder).resolve()  # config.yaml reads a relative one from its own folder
    out().print(f"{training.steps} steps; use them with\ndetector: {{{kind}: {{weights: {written}}}}}", markup=False)


def _until(stop: threading.Event, bar: Progress) -> ports.Progress:
    """Shows how far encoding is, and ends the command when it is asked to stop: what is encoded is kept by product."""

    rows: dict[str, TaskID] = {}

    def told(stage: str, done: int, total: int) -> None:
        if stage not in rows:
            rows[stage] = bar.add_task(stage, total=total, told="")
        bar.update(rows[stage], completed=done, total=total)
        if stop.is_set():
            out().print(f"stopped at {stage} {done} of {total}; the same command goes on from here", markup=False)
            raise typer.Exit

    return told


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err(),
    )
