"""`stream-ad doctor`: what is wrong here, and what to do."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import typer

from stream_ad.app import App, code_version
from stream_ad.commands.common import ALL_OK, SOMETHING_WRONG, ConfigOption, coloured, open_app, out, table
from stream_ad.config import Settings
from stream_ad.errors import StreamAdError, Unavailable

OK, WARN, FAIL = "ok", "warn", "fail"
COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}
LOW_DISK_GB = 2.0


class Finding(NamedTuple):
    """One thing looked at."""

    what: str
    state: str
    message: str


def doctor(config: ConfigOption = None) -> None:
    """Check everything that is needed, and say what to do about what is missing. Exit code 1 when something fails."""
    app = open_app(config)
    findings = list(examine(app))
    rows = [(finding.what, coloured(finding.state, COLOURS[finding.state]), finding.message) for finding in findings]
    out().print(table("", "", "", rows=rows))
    failed = any(finding.state == FAIL for finding in findings)
    raise typer.Exit(SOMETHING_WRONG if failed else ALL_OK)


def examine(app: App) -> Iterator[Finding]:
    """Every check's finding. A check that raises one of our errors has failed with that message."""
    settings = app.settings
    yield Finding("program", OK, f"stream-ad {code_version()}")
    checks: list[tuple[str, Callable[[], Finding], tuple[str, ...]]] = [  # with what must be right before it
        ("database", lambda: database(app), ()),
        ("backbone", lambda: backbone(app), ()),
        ("bank", lambda: bank(app), ("database", "backbone")),
        ("device", lambda: device(app), ("backbone",)),
        ("faiss", faiss, ()),
        ("disk", lambda: disk(settings), ()),
    ]
    failed: set[str] = set()
    for what, check, needed in checks:
        if missing := [name for name in needed if name in failed]:
            yield Finding(what, WARN, f"not looked at: needs the {' and the '.join(missing)}")
            continue
        try:
            yield check()
        except StreamAdError as error:
            failed.add(what)
            yield Finding(what, FAIL, str(error))
    yield from folders(settings)
    yield from broker(app)


def database(app: App) -> Finding:
    from stream_ad.adapters.database import check_revision

    return Finding("database", OK, f"{app.shown_database}, revision {check_revision(app.database.engine)}")


def bank(app: App) -> Finding:
    loaded = app.database.banks.load()
    if not len(loaded):
        return Finding("bank", WARN, "empty: every picture is an unknown product; add one with `stream-ad add-task`")
    app.model(loaded)
    return Finding("bank", OK, f"version {loaded.version}, {len(loaded)} tasks, all entries readable and fitting")


def backbone(app: App) -> Finding:
    loaded = app.backbone
    if loaded.caveat:
        return Finding("backbone", WARN, f"{loaded.spec}: {loaded.caveat}")
    return Finding("backbone", OK, str(loaded.spec))


def device(app: App) -> Finding:
    import torch

    from stream_ad.backbones.torchvision_guard import import_torchvision

    message = f"{app.backbone.device}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    if not import_torchvision():
        message += "; torchvision was built for another torch: its own operators, which nothing here uses, are off"
    return Finding("device", OK, message)


def faiss() -> Finding:
    try:
        import faiss as library
    except ImportError:
        return Finding("faiss", OK, "not installed; torch does the same search (pip install 'stream-ad[cpu]' for it)")
    return Finding("faiss", OK, f"faiss {library.__version__}")


def disk(settings: Settings) -> Finding:
    existing = next(folder for folder in (settings.data_dir, *settings.data_dir.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 1024**3
    if free < LOW_DISK_GB:
        return Finding("disk", WARN, f"{free:.1f} GB free below {existing}; make room before overlays fill it")
    return Finding("disk", OK, f"{free:.0f} GB free")


def folders(settings: Settings) -> Iterator[Finding]:
    named = {"data": settings.data_dir, "entries": settings.entries_dir, "overlays": settings.overlays_dir}
    if settings.stream.source == "folder":
        named["inbox"] = settings.inbox
    for what, folder in named.items():
        if not folder.is_dir():
            yield Finding(what, FAIL, f"there is no folder {folder}; run `stream-ad init`")
        elif not writable(folder):
            yield Finding(what, FAIL, f"{folder} cannot be written by user {os.getuid()}; change its owner or rights")
        else:
            yield Finding(what, OK, str(folder))
    for root in settings.stream.reference_roots:
        if isinstance(root, Path) and not root.is_dir():
            yield Finding(
                "references", FAIL, f"stream.reference_roots names {root}, which is no folder; mount or remove it"
            )


def writable(folder: Path) -> bool:
    """Tried, not asked: access rights say little about network shares and full disks."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def broker(app: App) -> Iterator[Finding]:
    """Whether Kafka answers us, and whether the sizes that its topics take fit ours."""
    from stream_ad.adapters.kafka_source import KafkaSourceOptions
    from stream_ad.adapters.kafka_topics import ask, compare

    settings, kafka = app.settings, app.settings.kafka
    if settings.stream.source != "kafka":
        yield Finding("broker", OK, "not needed: stream.source is folder")
        return
    written = (kafka.results_topic, settings.dead_letter_topic)
    try:
        brokers, (images, _, letters) = ask(kafka.bootstrap, (kafka.topic, *written), security=app.kafka_security())
    except Unavailable as error:
        yield Finding("broker", FAIL, f"no broker answers ({kafka.bootstrap}): {error}")
        return
    except StreamAdError as error:
        yield Finding("broker", FAIL, str(error))
        return
    yield Finding("broker", OK, f"{kafka.bootstrap} answers, {brokers} in all, {kafka.security}")
    if kafka.security == "SASL_PLAINTEXT":
        yield Finding("broker", WARN, "kafka.security SASL_PLAINTEXT: user and pictures go unencrypted; use SASL_SSL")
    source = KafkaSourceOptions(bootstrap=kafka.bootstrap, topics=())
    largest = round(kafka.max_request_mb * 1024**2)
    remarks = list(
        compare(
            images,
            [letters],
            brokers=brokers,
            producer_bytes=largest,
            partition_fetch_bytes=largest,
            fetch_bytes=source.fetch_max_bytes,
        )
    )
    for remark in remarks:
        yield Finding("topics", FAIL if remark.grave else WARN, remark.message)
    if not remarks:
        yield Finding("topics", OK, f"{images.name} has {images.partitions} partitions, and all size limits fit")
