"""`stream-ad retention`: delete what is older or more than allowed, now."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from stream_ad.app import App
from stream_ad.commands.common import ConfigOption, log_to_terminal, open_app, out, table
from stream_ad.domain.retention import Pruned


def retention(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
    config: ConfigOption = None,
) -> None:
    """Delete old pictures, overlays, results and dead letters, as far as `retention` in config.yaml bounds them.

    `serve` does the same in small pieces every `retention.every_s`. It is safe while scorers run.
    """
    app = open_app(config)
    log_to_terminal()
    rules = app.retention()
    if not rules:
        out().print("nothing has a bound; set some in `retention` of config.yaml", markup=False)
        return
    total: dict[str, Pruned] = {}
    more = True
    while more:
        swept = rules.sweep(dry_run=dry_run)
        for one in swept:
            before = total.get(one.name, Pruned(one.name, 0))
            total[one.name] = Pruned(one.name, before.count + one.count, before.bytes + one.bytes)
        more = not dry_run and any(one.more for one in swept)
    rows = [(one.name, one.count, f"{one.bytes / 1e6:.1f} MB" if one.bytes else "") for one in total.values()]
    out().print(table("kept", "would go" if dry_run else "deleted", "freed", rows=rows))


#: how long the end of a piece is waited for; a transaction that is cut off is undone
FAREWELL_S = 5.0


@contextmanager
def sweeping(app: App) -> Iterator[None]:
    """Meanwhile, old things are deleted beside the stream."""
    rules = app.retention()
    if not rules:
        yield
        return
    stop = threading.Event()
    every_s = app.settings.retention.every_s
    sweeper = threading.Thread(
        target=rules.keep_sweeping, args=(stop,), kwargs={"every_s": every_s}, name="retention", daemon=True
    )
    sweeper.start()
    try:
        yield
    finally:
        stop.set()
        sweeper.join(FAREWELL_S)
