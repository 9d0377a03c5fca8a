"""`stream-ad bench few-shot`: products of which one, two or four good pictures are at hand."""

from typing import Annotated

import typer

from stream_ad.commands.bench import named, shown
from stream_ad.commands.by_product import (
    BackboneOption,
    DataOption,
    ImageSizeOption,
    OutputOption,
    SeedsOption,
    TasksOption,
    judged,
    made_by_this_code,
    report_of,
    with_backbone,
    write,
)
from stream_ad.commands.common import ConfigOption, open_app, require_writable, whole_numbers


def few_shot(
    data: DataOption,
    output: OutputOption,
    tasks: TasksOption = None,
    shots: Annotated[str, typer.Option("--k", metavar="A,B,...", help="Good pictures of each product.")] = "1,2,4",
    backbone: BackboneOption = None,
    image_size: ImageSizeOption = None,
    seeds: SeedsOption = 3,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Of each training.")] = 300,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train with each seed anew. Default: once; seeds draw the k pictures.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=4, metavar="N", help="Judge only so many test pictures of a product.")
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="The paper's too, and the network without text; 8 trainings a fold.")
    ] = False,
    joint: Annotated[
        bool, typer.Option("--joint", help="The paper's own protocol too: trained on the k pictures of all products.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Judge AnoPLe beside PatchCore with the same k good pictures of a product.

    Products fall into two halves, by turns; AnoPLe's weights for one are trained on the other's good pictures and
    labelled damage. A run that was cut off goes on.
    """
    from stream_ad.adapters.datasets import find_products
    from stream_ad.detectors.anople_training import AnopleOptions
    from stream_ad.evaluation.by_product import few_shot as bench
    from stream_ad.evaluation.by_product.folds import halves
    from stream_ad.evaluation.by_product.published_few_shot import TABLES

    require_writable(output, ".json")
    counts = whole_numbers(shots, "--k")
    products = find_products(data, named(tasks, "--tasks"))
    folds = halves(products, limit)
    app = with_backbone(open_app(config), backbone, image_size)
    state = output.with_suffix(".state")
    of = bench.FewShot(
        backbone=app.backbone,
        products=products,
        state=made_by_this_code(state),
        options=AnopleOptions(steps=steps),
        memory=app.settings.detector.options(app.backbone.depth)["patchcore"],
        shots=counts,
        retrained=retrain,
    )
    with shown() as told:
        compared = bench.methods(of, ablations=ablations, joint=joint)
        run = judged(app, folds, compared, seeds=seeds, state=state, told=told)
        report = report_of(
            run,
            app,
            title=f"Few-shot: {len(folds)} products with k = {', '.join(map(str, counts))} good pictures",
            split="Weights trained on good pictures and labelled damage of the other half of the products, by turns"
            f"{'' if retrain else ', once'}; the k pictures only fill the memory"
            + (f". Of each product {limit} test pictures at most" if limit else ""),
            firsts=[f"{bench.ANOPLE}, k={k}" for k in counts],
        )
    write(output, report, TABLES, [("Products without a picture of their own", UNSEEN, bench.lost(report, counts))])


UNSEEN = (
    "*Seen*: the product's own picture in the memory. *Unseen*: the memory holds the other products' pictures. Weights"
    " are trained without the product either way"
)
