"""`stream-ad score`: verdicts on pictures at hand, without a stream."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_ad.app import App
from stream_ad.commands.common import ALL_OK, ERROR, SOMETHING_WRONG, ConfigOption, coloured, err, open_app, out, table
from stream_ad.domain.images import Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.errors import BankError, NoImages, UndecodableImage

BATCH = 16
COLOURS = {Verdict.OK: "green", Verdict.NG: "red", Verdict.UNKNOWN: "yellow"}


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures, or folders of pictures.")],
    product: Annotated[
        str | None, typer.Option("--product", metavar="ID", help="Declare what they show, as a message's header would.")
    ] = None,
    overlay_dir: Annotated[
        Path | None,
        typer.Option("--overlay-dir", metavar="DIR", help="Draw the anomaly map over each, into this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON per picture instead of a table.")] = False,
    config: ConfigOption = None,
) -> None:
    """Score pictures against the active bank.

    p-value: the share of good parts that score at least as high. Of an unknown product the task is only the nearest
    one, and score and p-value are by that; with discovery.zero_shot the score is that detector's, which needs no
    product in the bank and gives no p-value. Exit code: 0 all OK, 1 some NG or unknown, 2 a picture could not be read
    or something is wrong with the set-up.
    """
    app = open_app(config)
    files = picture_files(paths)
    bank = app.database.banks.load()
    if not len(bank) and not app.settings.discovery.zero_shot:
        raise BankError(
            "the active bank is empty, so nothing can be scored; add a product first: `stream-ad add-task`, or have"
            " pictures of no known product scored without any: discovery.zero_shot: true"
        )
    scorer = app.scorer(bank)
    rows: list[dict[str, Any]] = []
    for batch in batches(app, files):
        good = [(file, picture) for file, picture in batch if not isinstance(picture, UndecodableImage)]
        found = scorer.inspect(
            [picture for _, picture in good], declared=[product] * len(good), cameras=[None] * len(good)
        )
        inspected = dict(zip([file for file, _ in good], found, strict=True))
        for file, picture in batch:
            if isinstance(picture, UndecodableImage):
                rows.append({"file": str(file), "error": str(picture)})
                continue
            row = row_of(file, inspected[file])
            if overlay_dir is not None:
                row["overlay"] = str(draw(overlay_dir, file, picture, inspected[file]))
            rows.append(row)
    show(rows, as_json=as_json)
    if caveat := app.backbone.caveat:
        err().print(f"note: {caveat}", markup=False)
    unread = any("error" in row for row in rows)
    wrong = any(row.get("verdict") != Verdict.OK for row in rows)
    raise typer.Exit(ERROR if unread else SOMETHING_WRONG if wrong else ALL_OK)


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and all pictures in the folders named.

    Raises:
        NoImages: a path is missing, or a folder holds no picture.
    """
    from stream_ad.adapters.image_folders import find_pictures, no_images

    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            if not (inside := find_pictures(path)):
                raise no_images(path)
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise NoImages(f"needed a picture or a folder of pictures, but {path} does not exist; check the path")
    return files


def batches(app: App, files: Sequence[Path]) -> Iterator[list[tuple[Path, Picture | UndecodableImage]]]:
    """Each file with its picture, or with why it is none."""
    from stream_ad.adapters.decode import decode

    for start in range(0, len(files), BATCH):
        batch: list[tuple[Path, Picture | UndecodableImage]] = []
        for file in files[start : start + BATCH]:
            try:
                batch.append((file, decode(file.read_bytes(), **app.decoding)))
            except UndecodableImage as error:
                batch.append((file, error))
            except OSError as error:
                batch.append((file, UndecodableImage(f"cannot be read: {error.strerror}")))
        yield batch


def row_of(file: Path, inspection: Inspection) -> dict[str, Any]:
    """An inspection as plain values."""
    numbers = {
        name: value if value is not None and math.isfinite(value) else None
        for name in ("score", "threshold", "p_value", "margin")
        for value in (getattr(inspection, name),)
    }
    return {
        "file": str(file),
        "verdict": str(inspection.verdict),
        "task": inspection.task,
        **numbers,
        "alarm": inspection.alarm,
        "detector": inspection.detector,
        "bank_version": inspection.bank_version,
        "features": inspection.features,
    }


def _only_nearest(row: dict[str, Any]) -> bool:
    """Whether the task is only the nearest one, as of a picture of no known product; not one that was declared."""
    return row["verdict"] == Verdict.UNKNOWN and row["task"] is not None and not row["alarm"]


def draw(folder: Path, file: Path, picture: Picture, inspection: Inspection) -> Path:
    """The overlay's file; named after the picture, and after its place when that name is taken."""
    from PIL import Image

    from stream_ad.adapters.overlay import draw_overlay

    folder.mkdir(parents=True, exist_ok=True)
    name = "_".join(file.absolute().parts[-2:])
    target = folder / f"{name}.overlay.jpg"
    Image.fromarray(draw_overlay(picture, inspection)).save(target, quality=90)
    return target


def show(rows: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False, allow_nan=False))
        return
    lines = [
        (row["file"], coloured("unreadable", "red"), None, None, None, None, None, row["error"])
        if "error" in row
        else (
            row["file"],
            coloured(row["verdict"], COLOURS.get(row["verdict"])),
            f"nearest: {row['task']}" if _only_nearest(row) else row["task"],
            row["detector"],
            row["score"],
            row["threshold"],
            row["p_value"],
            row["alarm"] or "",
        )
        for row in rows
    ]
    columns = ("picture", "verdict", "task", "detector", "score", "NG above", "p-value", "remark")
    out().print(table(*columns, rows=lines))
