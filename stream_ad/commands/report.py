"""`stream-ad report forgetting`: what was lost, in plain words and in numbers."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from stream_ad.commands.common import ConfigOption, open_app, out, table
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.evaluation.findings import ForgettingReport

report = typer.Typer(no_args_is_help=True, help="Reports over everything that was measured.")


@report.callback()
def reports() -> None:
    """Reports over everything that was measured."""


class Format(StrEnum):
    MARKDOWN = "md"
    JSON = "json"
    HTML = "html"
    TABLE = "table"


@report.command()
def forgetting(
    format: Annotated[
        Format, typer.Option("--format", help="table for the terminal, md, json, or html (one file, charts inside).")
    ] = Format.TABLE,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there instead of to the terminal.")
    ] = None,
    first: Annotated[int | None, typer.Option("--from", metavar="N", help="First bank version to look at.")] = None,
    last: Annotated[int | None, typer.Option("--to", metavar="N", help="Last bank version to look at.")] = None,
    config: ConfigOption = None,
) -> None:
    """What each new product cost the old ones: scores per bank version, forgetting, changed verdicts, refused jobs."""
    from stream_ad.evaluation.report import to_html, to_json, to_markdown

    if first is not None and last is not None and first > last:
        raise ConfigError(f"--from {first} is after --to {last}; give the smaller version first")
    app = open_app(config)
    made = app.forgetting_report(first=first, last=last, pictures=format is Format.HTML)
    if format is Format.TABLE:
        if output is not None:
            raise ConfigError("--output needs --format md, json or html; a table is for the terminal")
        show(made)
        return
    text = {Format.MARKDOWN: to_markdown, Format.JSON: to_json, Format.HTML: to_html}[format](made)
    if output is None:
        typer.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    out().print(f"{made.outcome}: written to {output}", markup=False)


def show(made: "ForgettingReport") -> None:
    console = out()
    console.print(f"[bold]{escape(str(made.outcome))}[/]  {escape(made.paragraph)}\n")
    rows = [
        (
            task.task,
            task.routed.get("image_auroc", float("nan")),
            task.oracle.get("image_auroc", float("nan")),
            made.losses.get(task.task),
            "synthetic defects" if task.synthetic else "",
        )
        for task in made.tasks
    ]
    if rows:
        columns = ("task", "image AUROC", "with the product told", "lost since its best", "remark")
        console.print(table(*columns, rows=rows))
    for decision in made.rejected:
        console.print(f"refused: {decision.reason}", markup=False)
