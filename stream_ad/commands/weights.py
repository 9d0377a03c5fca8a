"""`stream-ad weights ...`: weights on this machine, of frozen backbones and those that a detector shares."""

from typing import Annotated

import typer

from stream_ad.app import App
from stream_ad.commands.common import ConfigOption, err, open_app, out, table
from stream_ad.errors import BankError, DatabaseError, Unavailable

weights = typer.Typer(no_args_is_help=True, help="Weights on this machine: what is here, and how to get more.")


@weights.command("list")
def list_weights(config: ConfigOption = None) -> None:
    """The models on this machine: what was pulled, `small`, which comes with the program, and detectors' weights.

    Of these also the ones beside those that settings name, and which tasks of the active bank go by each.
    """
    from stream_ad.backbones.weights import packaged, pulled
    from stream_ad.detectors.shared_weights import found as shared

    app = open_app(config)
    settings = app.settings
    here = pulled(settings.weights_dir)
    out().print(table("model", "folder", rows=[(found.id, found.directory) for found in (*here, packaged())]))
    if not here:
        out().print(f"none was pulled to {settings.weights_dir}; where there is internet: stream-ad weights pull MODEL")
    out().print(f"backbone.id is {settings.backbone.id!r}", markup=False)
    named = [folder for folder in settings.detector.shared.values() if folder is not None]
    parents = dict.fromkeys(folder.resolve() for folder in (settings.weights_dir, *(one.parent for one in named)))
    if trained := [one for parent in parents for one in shared(parent)]:
        tasks = _tasks_by(app)
        columns = ("shared weights", "method", "of backbone", "trained on", "tasks in the bank", "folder")
        rows = [
            (
                one.folder.name,
                one.about["method"],
                one.about["backbone"]["name"],
                ", ".join(one.about["products"]),
                tuple(tasks.get(one.sha256, ())),
                one.folder,
            )
            for one in trained
        ]
        out().print(table(*columns, rows=rows))
    for name, chosen in settings.detector.shared.items():
        if chosen is not None:
            out().print(f"detector.{name}.weights is {chosen}", markup=False)


def _tasks_by(app: App) -> dict[str, list[str]]:
    """The tasks of the active bank by the hash of the shared weights that they name."""
    found: dict[str, list[str]] = {}
    try:
        for entry in app.database.banks.load():
            found.setdefault(entry.shared_weights or "", []).append(entry.task.id)
    except (BankError, DatabaseError, Unavailable) as error:  # weights are listed all the same
        err().print(f"which tasks go by shared weights is not known: {error}", markup=False)
    return found


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
