"""What the benches that judge product by product share: folds from options, what figures carry, files."""

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_ad.app import App, code_version
from stream_ad.commands.bench import code_hash, named, source
from stream_ad.commands.common import err, out
from stream_ad.domain import ports
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.evaluation.by_product.folds import Fold
    from stream_ad.evaluation.by_product.methods import Method
    from stream_ad.evaluation.by_product.published import PublishedTable
    from stream_ad.evaluation.by_product.run import ByProduct
    from stream_ad.evaluation.continual.tables import Table

#: code that a score depends on, beside that of `bench continual`
OWN = ("evaluation/by_product",)

DataOption = Annotated[
    Path, typer.Option("--data", metavar="ROOT", help="Data sets, as for `stream-ad bench continual`.")
]
OutputOption = Annotated[
    Path, typer.Option("--output", metavar="FILE.json", help="Where the figures go; .md and .state go beside it.")
]
TasksOption = Annotated[
    str | None,
    typer.Option("--tasks", metavar="A,B,...", help="Products, each judged once and left out. Default: all."),
]
TrainOption = Annotated[
    str | None, typer.Option("--train", metavar="A,B,...", help="Learn from these alone, and judge those of --test.")
]
TestOption = Annotated[str | None, typer.Option("--test", metavar="A,B,...", help="Products to judge, with --train.")]
KindsOption = Annotated[
    bool, typer.Option("--unseen-kinds", help="Leave kinds of damage out instead of products: each is judged alone.")
]
SeedsOption = Annotated[int, typer.Option("--seeds", min=1, help="Runs of everything that is drawn, from seed 0 on.")]
BackboneOption = Annotated[
    str | None, typer.Option("--backbone", metavar="ID", help="Default: backbone.id of the settings.")
]
ImageSizeOption = Annotated[
    int | None, typer.Option("--image-size", min=32, metavar="PX", help="Default: backbone.image_size.")
]


def made_by_this_code(state: Path) -> Path:
    """The folder of features, trainings and weights: those of other code are not gone on with."""
    return state / f"made-{code_hash(OWN)[:16]}"


def chosen_folds(
    data: Path, tasks: str | None, train: str | None, test: str | None, unseen: bool, *, to_learn: bool = True
) -> "tuple[list[Fold], str]":
    """The folds that the options ask for, and a sentence that says how they were made.

    `to_learn`: products need good pictures of their own, to learn from and to be judged with.

    Raises:
        ConfigError: options do not go together.
        DataError: a product is not there.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.evaluation.by_product.folds import across, leave_one_out, unseen_kinds

    if (train is None) != (test is None):
        raise ConfigError("--train and --test go together: needed both, got one")
    if train is not None:
        if tasks is not None or unseen:
            raise ConfigError("--train and --test say which products there are; leave --tasks and --unseen-kinds out")
        learned, judged = named(train, "--train") or [], named(test, "--test") or []
        products = {
            one.id: one for one in find_products(data, list(dict.fromkeys([*learned, *judged])), to_learn=to_learn)
        }
        folds = across([products[name] for name in learned], [products[name] for name in judged])
        return folds, f"Learned on {', '.join(learned)}, judged on {', '.join(judged)}"
    products = find_products(data, named(tasks, "--tasks"), to_learn=to_learn)
    if unseen:
        return unseen_kinds(products), (
            "Each kind of damage judged by what was learned without it on any product; every second good picture of"
            " its product is judged, the others and the product's other kinds may be learned"
        )
    return leave_one_out(products), "Each product judged by what was learned on all others"


def with_backbone(app: App, backbone: str | None, image_size: int | None = None) -> App:
    """The application with another backbone or input size than its settings name."""
    wanted = app.settings.backbone
    changes = {"id": backbone or wanted.id, "image_size": image_size or wanted.image_size}
    return App(app.settings.model_copy(update={"backbone": wanted.model_copy(update=changes)}))


def judged(
    app: App,
    folds: "Sequence[Fold]",
    methods: "Sequence[Method]",
    *,
    seeds: int,
    state: Path,
    told: ports.Progress,
) -> "ByProduct":
    """The run, done; its parts in the folder `state`."""
    from stream_ad.evaluation.by_product.run import ByProduct, Kit, Plan
    from stream_ad.evaluation.continual.parts import Parts

    plan = Plan(folds=folds, methods=methods, seeds=tuple(range(seeds)))
    run = ByProduct(plan, Kit(parts=Parts(state), now=app.clock.now, progress=told, code=code_hash(OWN)))
    run.run()
    told("figures", 0, 1)
    return run


def report_of(
    run: "ByProduct", app: App, *, title: str, split: str, firsts: Sequence[str] | None = None, **more: Any
) -> dict[str, Any]:
    """The figures with all that they came from.

    `firsts`: methods that those behind them are compared with, the first by default; `more`: keys beside.
    """
    from stream_ad.evaluation.by_product.differences import differences
    from stream_ad.evaluation.by_product.results import figures

    return {
        "title": title,
        **figures(run),
        "differences": differences(run, firsts),
        **more,
        "provenance": _provenance(run, app, split),
    }


def write(
    output: Path,
    report: dict[str, Any],
    published: "Sequence[PublishedTable]",
    more: "Sequence[tuple[str, str, Table]]" = (),
) -> None:
    """FILE.json and FILE.md, and the latter on the screen. `more`: sections of this bench alone."""
    from stream_ad.evaluation.by_product.renderings import to_markdown

    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    markdown = to_markdown(report, published, more)
    output.with_suffix(".md").write_text(markdown, encoding="utf-8")
    out().print(markdown, markup=False)
    err().print(f"written to {output} and {output.with_suffix('.md').name}")


def _provenance(run: "ByProduct", app: App, split: str) -> dict[str, Any]:
    import numpy as np
    import torch

    from stream_ad.evaluation.by_product.results import data, test_reads
    from stream_ad.evaluation.continual.test_set import BATCH

    backbones = list({str(one.backbone.spec): one.backbone for one in run.plan.methods}.values())
    known = run.kit.parts.get("runs", run.configuration)
    if known is None:
        known = {"date": app.clock.now().isoformat(timespec="seconds"), **source()}
        run.kit.parts.put("runs", run.configuration, known)
    return {
        "code": code_version(),
        "code_sha256": run.kit.code,
        **known,
        "split": split,
        "configuration": run.configuration,
        "seeds": list(run.plan.seeds),
        "features": [str(one.spec) for one in backbones],
        "weights_sha256": backbones[0].spec.weights_sha256,
        "caveat": backbones[0].caveat,
        "device": str(getattr(backbones[0], "device", "cpu")),
        "threads": torch.get_num_threads(),
        "batch_size": BATCH,
        "map_size": run.plan.map_size,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "data": data(run),
        "test_reads": test_reads(run),
    }
