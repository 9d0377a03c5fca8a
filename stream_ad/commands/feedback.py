"""`stream-ad feedback ...`: what people say of verdicts."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from stream_ad.commands.common import ConfigOption, coloured, err, open_app, out, table, who_says
from stream_ad.domain.feedback import Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.task import TaskId
from stream_ad.errors import ConfigError
from stream_ad.services.feedback import shown_place

COLOURS = {FeedbackState.APPLIED: "green", FeedbackState.REFUSED: "yellow"}

WhoOption = Annotated[
    str | None, typer.Option("--who", metavar="NAME", help="Who says that; without it, who is logged in.")
]


class SaysByDefault(TyperGroup):
    """`stream-ad feedback RESULT ...` is `stream-ad feedback say RESULT ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["say", *args]
        return super().parse_args(ctx, args)


feedback = typer.Typer(
    cls=SaysByDefault,
    no_args_is_help=True,
    help="Say that a verdict was wrong: `stream-ad feedback RESULT --false-alarm`. Nothing changes until a job takes it"
    " in and the gate passes.",
)


@feedback.command()
def say(
    result: Annotated[
        str,
        typer.Argument(
            metavar="RESULT",
            help="A message id, topic/partition/offset, or a picture's file as the watched folder names it.",
        ),
    ],
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="It was called NG, and the part is good.")] = False,
    missed: Annotated[bool, typer.Option("--missed", help="It was called OK, and the part is defective.")] = False,
    wrong_product: Annotated[
        bool, typer.Option("--wrong-product", help="It was judged as a product that it is not.")
    ] = False,
    who: WhoOption = None,
    reason: Annotated[str, typer.Option("--reason", help="What there is to know about it; it is kept.")] = "",
    config: ConfigOption = None,
) -> None:
    """Say that a verdict was wrong. Its picture is copied at once; the bank stays as it is.

    `feedback RESULT` is short for `feedback say RESULT`. Exit code 2: the result or its picture is not there any more.
    """
    chosen = {
        FeedbackKind.FALSE_ALARM: false_alarm,
        FeedbackKind.MISSED: missed,
        FeedbackKind.WRONG_PRODUCT: wrong_product,
    }
    kinds = [kind for kind, wanted in chosen.items() if wanted]
    if len(kinds) != 1:
        raise ConfigError(f"needed one of --false-alarm, --missed and --wrong-product, got {len(kinds) or 'none'}")
    name = who_says(who)
    said, new = open_app(config).feedback_office().say(result, kinds[0], who=name, reason=reason.strip())
    console = out()
    if not new:
        console.print(
            f"said before, as feedback {said.id} by {escape(said.who)}; it is {said.state}"
            f"{f': {escape(said.outcome)}' if said.outcome else ''}"
        )
        return
    console.print(f"feedback {said.id}: {escape(shown_place(said.place))} is a {said.kind}, of task {said.task}")
    console.print(_next_step(said), markup=False)


def _next_step(said: Feedback) -> str:
    if said.kind is FeedbackKind.WRONG_PRODUCT and said.state is FeedbackState.APPLIED:
        return f"{said.outcome}; see `stream-ad tasks proposals`, or look for some now with `stream-ad discover`"
    if said.outcome:
        return said.outcome
    match said.kind:
        case FeedbackKind.FALSE_ALARM:
            return f"in quarantine; take it in with `stream-ad tasks patch {said.task}`"
        case FeedbackKind.MISSED:
            return "kept; a job of `stream-ad tasks add-images` says how many of the missed are found afterwards"
    return "kept; discovery is off (discovery.enabled), so no new product is proposed from it"


@feedback.command("list")
def list_feedback(
    task: Annotated[str | None, typer.Option("--task", help="Only of this product line.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what nothing has followed yet.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    config: ConfigOption = None,
) -> None:
    """What was said, newest first, and what became of it."""
    state = FeedbackState.QUARANTINED if waiting else None
    found = open_app(config).database.feedback.recent(limit + 1, task=TaskId(task) if task else None, state=state)
    if not found:
        out().print("no feedback yet; `stream-ad feedback RESULT --false-alarm` gives some", markup=False)
        return
    rows = [
        (
            one.id,
            one.at,
            one.kind,
            one.task,
            shown_place(one.place),
            one.who,
            one.reason or None,
            coloured(one.state, COLOURS.get(one.state)),
            one.outcome,
        )
        for one in found[:limit]
    ]
    out().print(table("id", "since", "kind", "task", "result", "who", "reason", "state", "outcome", rows=rows))
    if len(found) > limit:
        err().print("there is more; --limit shows it")


@feedback.command()
def withdraw(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the feedback, as the list shows it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why it was a mistake; it is kept.")],
    who: WhoOption = None,
    config: ConfigOption = None,
) -> None:
    """Take back what was said by mistake, before a job has taken it in."""
    name = who_says(who)
    app = open_app(config)
    gone = app.database.feedback.withdraw(number, who=name, reason=reason.strip(), at=app.clock.now())
    out().print(f"feedback {gone.id} is withdrawn")
