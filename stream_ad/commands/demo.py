"""`stream-ad demo`: the main job on the spot, with the same commands and processes that a plant runs."""

from pathlib import Path
from typing import Annotated

import typer

from stream_ad.commands.common import SOMETHING_WRONG, out


def demo(
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for everything that the demo makes.")
    ] = Path("demo-output"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Real products instead of rendered ones: a folder per product, each in MVTec layout.",
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option("--backbone", metavar="ID", help="Backbone, as backbone.id of the settings."),
    ] = "auto",
) -> None:
    """Show the whole idea in a few minutes: products learned one by one while the stream is scored.

    Good and bad parts, a product never seen, a job that the gate refuses, a rollback, and a report that says what was
    forgotten. Exit code: 0 all floors reached, 1 not.
    """
    from stream_ad.commands.demo_story import Story

    reached = Story(out(), output, data, backbone).tell()
    if not reached:
        raise typer.Exit(SOMETHING_WRONG)
