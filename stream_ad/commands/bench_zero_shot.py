"""`stream-ad bench zero-shot`: products that were never seen, by MPA, MPAMA and untrained words."""

from typing import TYPE_CHECKING, Annotated

import typer

from stream_ad.commands.bench import shown
from stream_ad.commands.by_product import (
    BackboneOption,
    DataOption,
    ImageSizeOption,
    KindsOption,
    OutputOption,
    SeedsOption,
    TasksOption,
    TestOption,
    TrainOption,
    chosen_folds,
    judged,
    made_by_this_code,
    report_of,
    with_backbone,
    write,
)
from stream_ad.commands.common import ConfigOption, LevelsOption, open_app, require_writable, whole_numbers

if TYPE_CHECKING:
    from stream_ad.evaluation.continual.tables import Table


def zero_shot(
    data: DataOption,
    output: OutputOption,
    tasks: TasksOption = None,
    train: TrainOption = None,
    test: TestOption = None,
    unseen_kinds: KindsOption = False,
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    seeds: SeedsOption = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of stage 1, in each training.")] = 300,
    expert_steps: Annotated[int, typer.Option("--expert-steps", min=1, help="Of stage 2.")] = 100,
    expert_rate: Annotated[float, typer.Option("--expert-rate", min=0.0, help="Learning rate of stage 2.")] = 1e-4,
    levels: LevelsOption = "1,2,3,4",
    ablations: Annotated[
        bool,
        typer.Option("--ablations", help="The paper's too: modules, perception levels, experts, lambda; 20 trainings."),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Judge each product by what was learned on others: MPA and MPAMA beside untrained words.

    Trained anew for every product and seed, on the others' test pictures. A run that was cut off goes on.
    """
    from stream_ad.detectors.mpa_network import MpaShape
    from stream_ad.detectors.mpa_training import MpaOptions
    from stream_ad.evaluation.by_product.published_zero_shot import TABLES
    from stream_ad.evaluation.by_product.zero_shot import MPA, MPAMA, expert_use, methods

    require_writable(output, ".json")
    folds, split = chosen_folds(data, tasks, train, test, unseen_kinds, to_learn=False)
    app = with_backbone(open_app(config), backbone, image_size)
    state = output.with_suffix(".state")
    shape = MpaShape(levels=whole_numbers(levels, "--levels", app.backbone.grid))
    options = MpaOptions(shape=shape, steps=steps, expert_steps=expert_steps, expert_rate=expert_rate)
    with shown() as told:
        compared = methods(app.backbone, made_by_this_code(state), options, ablations=ablations)
        run = judged(app, folds, compared, seeds=seeds, state=state, told=told)
        title = f"Zero-shot: {len(folds)} products that were never seen"
        report = report_of(run, app, title=title, split=split, firsts=(MPAMA, MPA))
        report["expert_use"] = expert_use(report)
    write(output, report, TABLES, [("How often each expert is asked", USE, _use(report["expert_use"]))])


USE = "Share of the choices of all patches at all levels, two experts each; mean over products and seeds"


def _use(found: dict[str, dict[str, float]]) -> "Table":
    """Rows the methods, columns the experts."""
    from stream_ad.evaluation.continual.tables import number

    experts = sorted({expert for one in found.values() for expert in one}, key=_place)
    return ["method", *experts], [[name, *(number(one.get(e)) for e in experts)] for name, one in found.items()]


def _place(expert: str) -> tuple[int, str]:
    """The frozen one first, the zero one last."""
    return {"frozen": 0, "zero": 2}.get(expert, 1), expert
