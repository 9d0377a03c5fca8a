"""`stream-ad schema`: the forms of everything that goes in and out, for those who write the other side."""

import json
from importlib.resources import files
from typing import Annotated

import typer

from stream_ad.commands.common import ConfigOption, out, table
from stream_ad.errors import DataError


def schemas() -> dict[str, str]:
    """The text of every JSON schema, by name and version: "result-1"."""
    found = [file for file in files("stream_ad").joinpath("schemas").iterdir() if file.name.endswith(".json")]
    return {file.name.removesuffix(".json"): file.read_text(encoding="utf-8") for file in sorted(found, key=str)}


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which one, e.g. result. Default: list them.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print the JSON schema of the messages that are read (image) or written (result, dead-letter)."""
    known = schemas()
    if name is None:
        rows = [(key, (known_as := json.loads(text))["$id"], known_as["title"]) for key, text in known.items()]
        out().print(table("name", "schema", "what it is", rows=rows))
        return
    wanted = name.removeprefix("stream-ad.").replace("/", "-")
    matches = [key for key in known if wanted in (key, key.rpartition("-")[0])]
    if not matches:
        raise DataError(f"needed the name of a schema, got {name!r}; there are {', '.join(known)}")
    typer.echo(known[matches[-1]], nl=False)
