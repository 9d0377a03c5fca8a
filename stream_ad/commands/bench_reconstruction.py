"""`stream-ad bench reconstruction`: fine maps, by PromptMAD, itself without words, and PatchCore."""

from dataclasses import replace
from typing import Annotated

import typer

from stream_ad.commands.bench import named, shown
from stream_ad.commands.by_product import (
    BackboneOption,
    DataOption,
    ImageSizeOption,
    OutputOption,
    SeedsOption,
    TestOption,
    TrainOption,
    chosen_folds,
    judged,
    made_by_this_code,
    report_of,
    with_backbone,
    write,
)
from stream_ad.commands.common import ConfigOption, open_app, require_writable


def reconstruction(
    data: DataOption,
    output: OutputOption,
    tasks: Annotated[
        str | None,
        typer.Option("--tasks", metavar="A,B,...", help="Products: each half is judged by the other. Default: all."),
    ] = None,
    train: TrainOption = None,
    test: TestOption = None,
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    seeds: SeedsOption = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of each training.")] = 200,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Without refinement, focal loss, attention; two more to train.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Judge each product by PromptMAD as it was trained on others: its map against PatchCore's.

    Two trainings per variant and seed: every second product by what was learned on the good pictures of the others, and
    the other way round. A run that was cut off goes on.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.detectors.memory import within
    from stream_ad.detectors.promptmad_training import PromptMadOptions
    from stream_ad.evaluation.by_product.folds import halves
    from stream_ad.evaluation.by_product.reconstruction import PROMPTMAD, TABLES, WORDLESS, methods

    require_writable(output, ".json")
    if train is None and test is None:
        folds = halves(find_products(data, named(tasks, "--tasks")))
        split = "Every second product judged by what was learned on the others, and the other way round"
    else:
        folds, split = chosen_folds(data, tasks, train, test, unseen=False)
    app = with_backbone(open_app(config), backbone, image_size)
    state = output.with_suffix(".state")
    options = PromptMadOptions(steps=steps)
    options = replace(options, memory=within(options.memory, app.backbone.depth))
    with shown() as told:
        compared = methods(app.backbone, made_by_this_code(state), options, ablations=ablations)
        run = judged(app, folds, compared, seeds=seeds, state=state, told=told)
        title = f"Reconstruction: maps of {len(folds)} products"
        report = report_of(run, app, title=title, split=split, firsts=(PROMPTMAD, WORDLESS))
    write(output, report, TABLES)
