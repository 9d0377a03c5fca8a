"""`stream-ad tasks proposals | approve | reject` and `stream-ad discover`: what the program thinks is a new product."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from stream_ad.app import App
from stream_ad.commands.common import (
    SOMETHING_WRONG,
    ConfigOption,
    coloured,
    err,
    open_app,
    out,
    table,
    who_says,
)
from stream_ad.commands.tasks import DetectorName
from stream_ad.domain.proposal import Proposal, ProposalKind, ProposalState
from stream_ad.domain.task import Task, TaskId
from stream_ad.domain.wording import counted
from stream_ad.errors import ConfigError, DataError
from stream_ad.services.discovery import sheet_path

STATE_COLOURS = {ProposalState.OPEN: "cyan", ProposalState.APPROVED: "green", ProposalState.REJECTED: "yellow"}

ProposalNumber = Annotated[
    int, typer.Argument(metavar="ID", help="Number of the proposal, as `stream-ad tasks proposals` shows it.")
]
WhoOption = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who decides that; without it, who is logged in.")
]


def proposals(
    config: ConfigOption = None,
    every: Annotated[bool, typer.Option("--all", help="Those that were decided, too.")] = False,
) -> None:
    """What may be a new product, and known ones that no longer look as they did; each waits for a person."""
    app = open_app(config)
    chosen = app.database.proposals.all(state=None if every else ProposalState.OPEN)
    console = out()
    if not chosen:
        waiting, _ = app.database.kept_images.count()
        console.print(
            f"no {'' if every else 'open '}proposals; {counted(waiting, 'picture')} of no known product kept; a group"
            f" of {app.settings.discovery.min_images} that look alike is proposed by the scheduler or"
            " `stream-ad discover`"
        )
        return
    rows = [
        (
            one.id,
            "new product" if one.kind is ProposalKind.PRODUCT else "adapt again",
            coloured(one.state, STATE_COLOURS.get(one.state)),
            one.size,
            ", ".join(one.details.get("cameras", {})) or None,
            one.task,
            one.created_at,
            *((one.decided_by, one.decided_at) if every else ()),
            one.remark if one.decided_at else one.reason,
        )
        for one in chosen
    ]
    decided = ("decided by", "decided at") if every else ()
    columns = ("proposal", "what", "state", "pictures", "cameras", "task", "since", *decided, "why")
    console.print(table(*columns, rows=rows))
    for one in chosen:
        if one.state is ProposalState.OPEN:
            console.print(_advice(app, one), soft_wrap=True)


def approve(
    proposal_id: ProposalNumber,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the new product line, e.g. metal_nut.")
    ] = None,
    into: Annotated[
        str | None,
        typer.Option("--into", metavar="TASK", help="The pictures are of this known task: learn it again with them."),
    ] = None,
    class_name: Annotated[
        str | None,
        typer.Option("--class-name", help="What the part is called, in English: 'metal nut'. Default: from the name."),
    ] = None,
    product_id: Annotated[
        list[str] | None,
        typer.Option("--product-id", help="Id by which a message's header declares this product. May be repeated."),
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option("--camera", help="A camera that sees this product and no other. May be repeated."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option("--false-alarm-rate", help="Share of good parts that may be called NG; 0.01 is one in a hundred."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="New pictures, for a known task that is to be adapted again."),
    ] = None,
    heldout: Annotated[
        Path | None,
        typer.Option("--heldout", metavar="DIR", help="With --images: other pictures, to judge the result."),
    ] = None,
    detector: Annotated[
        DetectorName | None,
        typer.Option(
            "--detector",
            help="How it is learned. Default: detector.name of the settings; of a known task, the one that it has.",
        ),
    ] = None,
    who: WhoOption = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept beside the decision.")] = "",
    config: ConfigOption = None,
) -> None:
    """Make a proposal a task, which a worker then learns from the proposal's pictures.

    Look at its pictures first: what is learned is what counts as good. A proposal to adapt a known task again needs
    --images, because it has none itself.
    """
    who = who_says(who)
    app = open_app(config)
    proposal = app.database.proposals.get(proposal_id)
    chosen = detector.value if detector else None
    discovery = app.discovery(chosen)
    if proposal.kind is ProposalKind.READAPT:
        if images is None or name or into:
            raise ConfigError(
                f"proposal {proposal_id} is to adapt task {proposal.task!r} again; it needs --images with new pictures"
                " of good parts, and neither --name nor --into"
            )
        job = discovery.approve_readapt(proposal, images, heldout, who=who, remark=reason)
    elif images is not None or heldout is not None:
        raise ConfigError(f"proposal {proposal_id} has its own pictures; leave --images and --heldout away")
    elif (name is None) == (into is None):
        raise ConfigError("needed either --name for a new product or --into for a known task; give one of the two")
    elif into is not None:
        if class_name or product_id or camera or false_alarm_rate is not None:
            raise ConfigError(
                "--into leaves the known task as it is; leave --class-name, --product-id, --camera and"
                " --false-alarm-rate away"
            )
        app.require_in_bank(TaskId(into))  # before any picture is copied for it
        job = discovery.approve_into(proposal_id, TaskId(into), who=who, remark=reason)
    else:
        assert name is not None
        app.require_weights(chosen)  # before any picture is copied for it
        default = app.settings.calibration.false_alarm_rate
        task = Task(
            id=TaskId(name),
            class_name=class_name or name.replace("_", " ").replace("-", " "),
            product_ids=tuple(product_id or ()),
            cameras=tuple(camera or ()),
            false_alarm_rate=default if false_alarm_rate is None else false_alarm_rate,
        )
        job = discovery.approve(proposal_id, task, who=who, remark=reason)
    out().print(
        f"proposal {proposal_id} is task {escape(str(job.task))!r}; job {job.id} is queued, a worker learns it:"
        " `stream-ad worker` (if none runs)"
    )


def reject(
    proposal_id: ProposalNumber,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it is none; kept.")],
    who: WhoOption = None,
    config: ConfigOption = None,
) -> None:
    """Say that a proposal is no product: its pictures and their sheet are deleted, at once.

    What looks like them is not proposed again.
    """
    name = who_says(who)
    app = open_app(config)
    if not reason.strip():
        raise DataError("needed a reason, got an empty one; it is what the next one who asks will read")
    pictures, sheet = app.database.kept_images.of(proposal_id), app.settings.unknown_dir / sheet_path(proposal_id)
    shown = f" and their sheet {sheet}" if sheet.is_file() else ""
    app.discovery().reject(proposal_id, who=name, reason=reason.strip())
    gone = f"; its {counted(len(pictures), 'picture')}{shown} are deleted" if pictures else ""
    out().print(f"proposal {proposal_id} is rejected{gone}; what looks like it is not proposed again", markup=False)


def discover(config: ConfigOption = None) -> None:
    """Group the pictures of unknown products once, now, and propose what may be new ones.

    The scheduler does the same on its schedule. Exit code: 0, or 1 when pictures are not kept at all.
    """
    app = open_app(config)
    if not app.settings.discovery.enabled:
        err().print("pictures of unknown products are not kept (discovery.enabled is false); nothing can be found")
        raise typer.Exit(SOMETHING_WRONG)
    found = app.discovery().run()
    out().print(escape(found.text))
    if any(one.state is ProposalState.OPEN for one in app.database.proposals.all(ProposalKind.PRODUCT)):
        out().print("look at them: `stream-ad tasks proposals`")


def _advice(app: App, one: Proposal) -> str:
    """What to do about an open proposal."""
    if one.kind is ProposalKind.READAPT:
        return (
            f"{one.id}: `stream-ad tasks approve {one.id} --images DIR`,"
            f" or `stream-ad tasks reject {one.id} --reason TEXT`"
        )
    sheet = app.settings.unknown_dir / sheet_path(one.id)
    shown = f" pictures: {escape(str(sheet))};" if sheet.is_file() else ""
    nearest = one.details.get("nearest") or {}
    into = f", or `--into {escape(nearest['task'])}` if it is that" if nearest.get("near") else ""
    return (
        f"{one.id}:{shown} `stream-ad tasks approve {one.id} --name NAME`{into},"
        f" or `stream-ad tasks reject {one.id} --reason TEXT`, which deletes them"
    )
