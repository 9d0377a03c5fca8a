"""`stream-ad weights ...`: the frozen backbone's weights on this machine."""

from typing import Annotated

import typer

from stream_ad.commands.common import ConfigOption, open_app, out, table

weights = typer.Typer(no_args_is_help=True, help="Weights of the frozen backbone: what is here, and how to get more.")


@weights.command("list")
def list_weights(config: ConfigOption = None) -> None:
    """The models on this machine."""
    from stream_ad.backbones.weights import pulled

    settings = open_app(config).settings
    rows = [(found.id, found.directory) for found in pulled(settings.weights_dir)]
    if rows:
        out().print(table("model", "folder", rows=rows))
    else:
        out().print(f"no weights in {settings.weights_dir}; where there is internet: stream-ad weights pull MODEL")
    out().print(f"backbone.id is {settings.backbone.id!r}", markup=False)


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
