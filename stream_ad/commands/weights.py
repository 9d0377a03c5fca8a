"""`stream-ad weights ...`: weights on this machine, of frozen backbones and those that a detector shares."""

from typing import Annotated

import typer

from stream_ad.commands.common import ConfigOption, open_app, out, table

weights = typer.Typer(no_args_is_help=True, help="Weights on this machine: what is here, and how to get more.")


@weights.command("list")
def list_weights(config: ConfigOption = None) -> None:
    """The models on this machine: what was pulled, `small`, which comes with the program, and detectors' weights."""
    from stream_ad.backbones.weights import packaged, pulled
    from stream_ad.detectors.shared_weights import found as shared

    settings = open_app(config).settings
    here = pulled(settings.weights_dir)
    out().print(table("model", "folder", rows=[(found.id, found.directory) for found in (*here, packaged())]))
    if not here:
        out().print(f"none was pulled to {settings.weights_dir}; where there is internet: stream-ad weights pull MODEL")
    out().print(f"backbone.id is {settings.backbone.id!r}", markup=False)
    trained = [
        (one.folder.name, one.about["method"], one.about["backbone"]["name"], ", ".join(one.about["products"]))
        for one in shared(settings.weights_dir)
    ]
    if trained:
        out().print(table("shared weights", "method", "of backbone", "trained on", rows=trained))
    for name, chosen in settings.detector.shared.items():
        if chosen is not None:
            out().print(f"detector.{name}.weights is {chosen}", markup=False)


@weights.command()
def pull(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="ViT-B-16/openai, another of open_clip's, hf-hub:ORG/NAME.")
    ],
    config: ConfigOption = None,
) -> None:
    """Download a model once. The only command that uses the internet; everything else works without."""
    from stream_ad.backbones.weights import pull as download

    settings = open_app(config).settings
    found = download(model, settings.weights_dir)
    out().print(f"{found.id} is in {found.directory}", markup=False)
