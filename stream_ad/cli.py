"""The command line. Errors of ours are one message and exit code 2; anything else is a bug and keeps its trace."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from stream_ad.commands import gate, proposals, setup, stream, task_changes, tasks
from stream_ad.commands.bank import bank
from stream_ad.commands.bench import bench
from stream_ad.commands.bench_few_shot import few_shot
from stream_ad.commands.bench_reconstruction import reconstruction
from stream_ad.commands.bench_robustness import robustness
from stream_ad.commands.bench_throughput import throughput
from stream_ad.commands.bench_zero_shot import zero_shot
from stream_ad.commands.common import ERROR, SESSION, ConfigOption, Session, err
from stream_ad.commands.demo import demo
from stream_ad.commands.dlq import dlq
from stream_ad.commands.doctor import doctor
from stream_ad.commands.feedback import feedback
from stream_ad.commands.job import job
from stream_ad.commands.jobs import jobs, worker
from stream_ad.commands.report import report
from stream_ad.commands.retention import retention
from stream_ad.commands.scheduler import scheduler
from stream_ad.commands.schema import schema
from stream_ad.commands.score import score
from stream_ad.commands.train import train
from stream_ad.commands.weights import weights
from stream_ad.errors import StreamAdError

cli = typer.Typer(
    name="stream-ad",
    no_args_is_help=True,
    add_completion=False,
    # a trace of a bug is for its finder, as Python writes it
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def say_version(wanted: bool) -> bool:
    if wanted:
        from stream_ad.app import code_version

        typer.echo(f"stream-ad {code_version()}")
        raise typer.Exit
    return wanted


@cli.callback()
def root(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=say_version, is_eager=True)
    ] = False,
) -> None:
    """Visual inspection of production lines that learns new products and proves that it forgot none.

    Start with `stream-ad init`, then `stream-ad add-task`. What is wrong: `stream-ad doctor`.
    """
    SESSION.get().config = config


SET_UP, TEACH, INSPECT = "Set up", "Teach", "Inspect"
cli.command(rich_help_panel=SET_UP)(setup.init)
cli.command(rich_help_panel=SET_UP)(doctor)
cli.add_typer(weights, name="weights", rich_help_panel=SET_UP)
cli.add_typer(train, name="train", rich_help_panel=SET_UP)
cli.command(rich_help_panel=SET_UP)(demo)
cli.command("add-task", rich_help_panel=TEACH)(tasks.add_task)
for decide in (proposals.proposals, proposals.approve, proposals.reject):
    tasks.tasks.command()(decide)
cli.command(rich_help_panel=TEACH)(proposals.discover)
cli.add_typer(tasks.tasks, name="tasks", rich_help_panel=TEACH)
for change in (
    task_changes.add_images,
    task_changes.relearn,
    task_changes.patch,
    task_changes.retire,
    task_changes.squeeze,
):
    tasks.tasks.command()(change)
cli.add_typer(feedback, name="feedback", rich_help_panel=TEACH)
jobs.command()(gate.override)
cli.add_typer(jobs, name="jobs", rich_help_panel=TEACH)
cli.add_typer(job, name="job", rich_help_panel=TEACH)
cli.command(rich_help_panel=TEACH)(worker)
cli.command(rich_help_panel=TEACH)(scheduler)
bank.command()(gate.evaluate)
cli.add_typer(bank, name="bank", rich_help_panel=TEACH)
cli.command(rich_help_panel=INSPECT)(score)
cli.command(rich_help_panel=INSPECT)(stream.serve)
cli.command(rich_help_panel=INSPECT)(stream.publish)
cli.command(rich_help_panel=INSPECT)(stream.up)
cli.add_typer(dlq, name="dlq", rich_help_panel=INSPECT)
cli.command(rich_help_panel=INSPECT)(retention)
cli.command(rich_help_panel=INSPECT)(schema)
cli.add_typer(report, name="report", rich_help_panel=INSPECT)
bench.command("few-shot")(few_shot)
bench.command()(robustness)
bench.command()(throughput)
bench.command("zero-shot")(zero_shot)
bench.command("reconstruction")(reconstruction)
cli.add_typer(bench, name="bench", rich_help_panel=INSPECT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; always ends with `SystemExit`.

    0: done, and good; 1: done, and something is not good (an NG part, a rejected job, a failed check); 2: not done.
    """
    session = Session()
    SESSION.set(session)
    try:
        cli(args=None if arguments is None else list(arguments), prog_name="stream-ad")
    except StreamAdError as error:
        for number, line in enumerate(str(error).splitlines()):
            # wrapped by the terminal, never cut by us: a message holds paths to be copied
            plain(("error: " if number == 0 else "       ") + line)
        sys.exit(ERROR)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    finally:
        session.opened.close()


def plain(message: str) -> None:
    console: Console = err()
    console.print(message, markup=False, soft_wrap=True, style="red" if console.is_terminal else None)


if __name__ == "__main__":
    main()
