"""`stream-ad report ...`: whether anything got worse, and what one job did, in plain words and in numbers."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from stream_ad.commands.common import ConfigOption, coloured, open_app, out, require_writable, table
from stream_ad.commands.jobs import JobNumber
from stream_ad.errors import ConfigError

if TYPE_CHECKING:
    from stream_ad.evaluation.findings import ForgettingReport
    from stream_ad.evaluation.job_report import JobReport

Made = TypeVar("Made")

report = typer.Typer(no_args_is_help=True, help="Reports over everything that was measured.")


@report.callback()
def reports() -> None:
    """Reports over everything that was measured."""


class Format(StrEnum):
    MARKDOWN = "md"
    JSON = "json"
    CSV = "csv"
    HTML = "html"
    TABLE = "table"


class JobFormat(StrEnum):
    MARKDOWN = "md"
    JSON = "json"
    CSV = "csv"
    HTML = "html"
    TABLE = "table"


OutputOption = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Write it there instead of to the terminal.")
]


@report.command()
def forgetting(
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="table for the terminal, md, json, csv (a row per bank and product), or html (one file, charts and"
            " pictures inside).",
        ),
    ] = Format.TABLE,
    output: OutputOption = None,
    first: Annotated[int | None, typer.Option("--from", metavar="N", help="First bank version to look at.")] = None,
    last: Annotated[int | None, typer.Option("--to", metavar="N", help="Last bank version to look at.")] = None,
    config: ConfigOption = None,
) -> None:
    """Did anything get worse? Scores per bank version, changed verdicts, refused jobs, decisions of people."""
    from stream_ad.evaluation.report import to_csv, to_html, to_json, to_markdown

    if first is not None and last is not None and first > last:
        raise ConfigError(f"--from {first} is after --to {last}; give the smaller version first")
    _require(output, to_terminal=format is Format.TABLE)
    app = open_app(config)
    made = app.forgetting_report(first=first, last=last, pictures=format is Format.HTML)
    writers = {Format.MARKDOWN: to_markdown, Format.JSON: to_json, Format.CSV: to_csv, Format.HTML: to_html}
    _give(made, writers.get(format), show, output, f"Did anything get worse? {made.answer}")


@report.command()
def job(
    job_id: JobNumber,
    format: Annotated[
        JobFormat,
        typer.Option(
            "--format",
            help="table for the terminal, md, json, csv (a row per product), or html (one file, pictures inside).",
        ),
    ] = JobFormat.TABLE,
    output: OutputOption = None,
    config: ConfigOption = None,
) -> None:
    """What one job did: what it changed for which product, and why it was refused."""
    from stream_ad.evaluation.job_report import to_csv, to_html, to_json, to_markdown

    _require(output, to_terminal=format is JobFormat.TABLE)
    app = open_app(config)
    made = app.reports.of_job(job_id, pictures=format is JobFormat.HTML)
    writers = {
        JobFormat.MARKDOWN: to_markdown,
        JobFormat.JSON: to_json,
        JobFormat.CSV: to_csv,
        JobFormat.HTML: to_html,
    }
    _give(made, writers.get(format), show_job, output, f"Job {made.job_id}: {made.what}. {made.answer}")


def _require(output: Path | None, *, to_terminal: bool) -> None:
    """Raises: ConfigError: the report cannot be written there."""
    if output is None:
        return
    if to_terminal:
        raise ConfigError("--output needs a --format for files, such as html; a table is for the terminal")
    require_writable(output)


def _give(
    made: Made, write: Callable[[Made], str] | None, show: Callable[[Made], None], output: Path | None, said: str
) -> None:
    """A report to the terminal or to a file."""
    if write is None:
        show(made)
    elif output is None:
        typer.echo(write(made), nl=False)
    else:
        output.write_text(write(made), encoding="utf-8", newline="")
        out().print(said, markup=False)
        out().print(f"written to {output}", markup=False)


def show(made: "ForgettingReport") -> None:
    """The report in a terminal."""
    from stream_ad.evaluation import report_tables as tables
    from stream_ad.evaluation.findings import Outcome
    from stream_ad.evaluation.refusals import why
    from stream_ad.evaluation.renderings import refused_title

    console = out()
    colour = {Outcome.KEPT: "green", Outcome.SLIGHT: "yellow", Outcome.LOST: "red"}.get(made.outcome)
    console.print("[bold]Did anything get worse?[/]", coloured(made.answer, colour))
    console.print(f"\n{escape(made.paragraph)}\n")
    if made.tasks:
        _print_table(console, "", *tables.glance(made))
        rows = [
            [
                task.task,
                tables.score(task.routed["image_auroc"]) + ("*" if task.synthetic else ""),
                tables.score(task.oracle["image_auroc"]) + ("*" if task.synthetic else ""),
                tables.loss(task.loss["image_auroc"]) if "image_auroc" in task.loss else "-",
            ]
            for task in made.tasks
        ]
        columns = ["product", "image AUROC", "with the product told", "lost since its best"]
        _print_table(console, "Scores" + (" (* synthetic defects)" if made.painted else ""), columns, rows)
    if made.events:
        _print_table(console, "What happened", *tables.happened(made))
    for refusal in made.refusals:
        title = f"{refused_title(refusal)} (job {refusal.step.job_id})"
        _print_table(console, title + (f": {why(refusal)}" if why(refusal) else ""), *tables.hurts(refusal.hurts))
    for decision in made.rejected:
        if not any(refusal.step == decision.step and refusal.reasons for refusal in made.refusals):
            console.print(f"refused: {decision.reason}", markup=False)
    if made.again:
        _print_table(console, "Measured again", *tables.remeasured(made))
    for note in made.notes:
        console.print(f"note: {note}", markup=False)


def show_job(made: "JobReport") -> None:
    """A job's report in a terminal."""
    from stream_ad.evaluation import job_report
    from stream_ad.evaluation import report_tables as tables

    console = out()
    console.print(f"[bold]Job {made.job_id}: {escape(made.what)}[/]  {escape(made.answer)}")
    console.print(f"\n{escape(' '.join(made.found))}\n")
    if made.hurts:
        _print_table(console, "What it changes, by the gate's half", *tables.hurts(made.hurts))
    if made.measured:
        _print_table(console, "What it scores, on the half for reports", *job_report.measured_table(made))
    if made.feedback:
        _print_table(console, "What people had said", *job_report.feedback_table(made))
    for note in made.notes:
        console.print(f"note: {note}", markup=False)


def _print_table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    if title:
        console.print(f"[bold]{escape(title)}[/]")
    console.print(table(*columns, rows=rows))
    console.print()
