"""`stream-ad bank ...`: published versions, and the way back to one."""

from pathlib import Path
from typing import Annotated

import typer

from stream_ad.commands.common import ConfigOption, coloured, login_name, open_app, out, table
from stream_ad.domain.bank import BankEntry, left_behind
from stream_ad.domain.wording import counted

bank = typer.Typer(no_args_is_help=True, help="The bank: its versions, what is in one, and going back to one.")


@bank.command("list")
def list_versions(config: ConfigOption = None) -> None:
    """Every published version, the active one marked."""
    versions = open_app(config).database.banks.versions()
    if not versions:
        out().print("no bank was published yet; `stream-ad add-task` makes the first")
        return
    rows = [
        (
            coloured(f"{row['version']}{' *' if row['active'] else ''}", "green" if row["active"] else None),
            row["parent"] or "empty",
            row["created_at"],
            row["task"],
            row["job_id"],
            row["sha256"][:12],
            row.get("message"),
        )
        for row in versions
    ]
    out().print(table("version", "made from", "published", "learned", "job", "sha256", "message", rows=rows))


@bank.command()
def show(
    version: Annotated[int | None, typer.Argument(help="Version to show; without it the active one.")] = None,
    config: ConfigOption = None,
) -> None:
    """The tasks of one version, with thresholds and what they can promise."""
    loaded = open_app(config).database.banks.load(version)
    out().print(f"bank {loaded.version}, {counted(len(loaded), 'task')}, sha256 {loaded.sha256[:12]}")
    shared = any(entry.shared_weights for entry in loaded)
    rows = []
    for entry in loaded:
        rate, calibration = entry.task.false_alarm_rate, entry.calibration
        promise = "cannot be promised" if not calibration.can_promise(rate) else "promised"
        if calibration.out_of_fold and calibration.can_promise(rate):
            promise = "approximate"
        rows.append(
            (
                entry.task.id,
                entry.detector,
                entry.threshold,
                f"{rate:g} ({promise})",
                len(calibration.scores),
                len(entry.suspects) or None,
                str(entry.features),
                *([_shared_weights(entry)] if shared else []),
                entry.sha256[:12],
            )
        )
    columns = ["task", "detector", "threshold", "false-alarm rate", "calibrated on", "left out", "features", "sha256"]
    if shared:
        columns.insert(-1, "shared weights")
    out().print(table(*columns, rows=rows))


def _shared_weights(entry: BankEntry) -> str | None:
    """The name of their folder, as `weights list` has it."""
    from stream_ad.detectors.shared_weights import folder_of, kind_of

    named = entry.shared_weights
    return folder_of(kind_of(entry.detector), named, Path()).name if named else None


@bank.command()
def use(
    version: Annotated[int, typer.Argument(help="Version to use from now on; 0 is the empty bank.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit log.")] = "",
    config: ConfigOption = None,
) -> None:
    """Go back (or forward) to a published version. Running scorers take it between two batches."""
    app = open_app(config)
    banks = app.database.banks
    before = banks.active_version()
    behind = left_behind(banks.contents(before), banks.contents(version))
    banks.use(version, who=login_name(), reason=reason or "no reason given", at=app.clock.now())
    out().print(f"bank {version} is in use (before: {before})")
    if behind:
        newer = f"it is {behind}. `stream-ad bank use {before}` takes bank {before} into use again"
        after = f"; what jobs publish from now on is made from bank {version} and lacks the same"
        out().print(f"against bank {before} {newer}{after}", markup=False)
