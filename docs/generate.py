"""Writes docs/commands.md from the commands themselves: `.venv/bin/python docs/generate.py`.

`tests/test_docs.py` fails while the file is not what this makes.
"""

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from stream_ad.cli import cli

TARGET = Path(__file__).with_name("commands.md")
HEAD = """# Commands

Made from the commands by `docs/generate.py`; do not edit. `stream-ad COMMAND --help` says the same.

Every command but `demo` takes `--config FILE`, before or behind the command's name. Without it: $STREAM_AD_CONFIG, then
config.yaml in this folder, then the defaults.

Exit codes: 0 done and good; 1 done, and something is not good (an NG part, a rejected job, a failed check); 2 not done,
with a message that says what was needed, what came and what to do.
"""


def commands(command: Any, name: str = "stream-ad") -> Iterator[tuple[str, Any]]:
    """Every command and group below `command`, by the name that is typed."""
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {child_name}")


def all_commands() -> dict[str, Any]:
    """Every command of the program, in the order of its help."""
    return dict(commands(typer.main.get_command(cli)))


def commands_page() -> str:
    """docs/commands.md as it must be."""
    return "\n".join([HEAD, *(part for name, command in all_commands().items() for part in _section(name, command))])


def _section(name: str, command: Any) -> Iterator[str]:
    group = bool(getattr(command, "commands", None))
    # --config is the same everywhere, and said once at the top
    parameters = [parameter for parameter in command.params if parameter.name not in ("help", "config")]
    arguments = [parameter for parameter in parameters if parameter.param_type_name == "argument"]
    options = [parameter for parameter in parameters if parameter.param_type_name == "option"]
    yield f"## {name}\n"
    words = [name, *(_usage(argument) for argument in arguments)]
    words += [_flags(option) for option in options if option.required]
    inner = (" [COMMAND]" if command.invoke_without_command else " COMMAND") if group else ""
    yield f"    {' '.join(words)}{inner} [OPTIONS]\n"
    yield f"{_text(command.help)}\n"
    if arguments or options:
        yield "| | |\n|---|---|"
        for parameter in (*arguments, *options):
            label = _metavar(parameter) if parameter in arguments else _flags(parameter)
            yield f"| `{label}` | {_text(parameter.help)}{_remarks(parameter)} |".replace("\n", " ")
        yield ""


def _text(help: str | None) -> str:
    """A help text, its hard line breaks kept only between paragraphs."""
    paragraphs = (help or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).replace("|", "\\|")


def _usage(argument: Any) -> str:
    return _metavar(argument) if argument.required else f"[{_metavar(argument)}]"


def _metavar(parameter: Any) -> str:
    return parameter.metavar or parameter.name.rpartition("_")[2].upper()


def _flags(option: Any) -> str:
    flags = ", ".join(option.opts)
    return flags if option.is_flag else f"{flags} {_metavar(option)}"


def _remarks(parameter: Any) -> str:
    """What the help text leaves out: choices, default, whether it must be given."""
    remarks = []
    if choices := [choice for choice in _choices(parameter) if choice not in parameter.help]:
        remarks.append(f"One of {', '.join(choices)}.")
    default = getattr(parameter.default, "value", parameter.default)
    if isinstance(default, str | Path | int | float) and not isinstance(default, bool) and str(default):
        remarks.append(f"Default: {default}.")
    if parameter.required and parameter.param_type_name == "option":
        remarks.append("Required.")
    return "".join(f" {remark}" for remark in remarks)


def _choices(parameter: Any) -> list[str]:
    # newer versions of typer keep the annotation; older ones have click's type, with the choices
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [str(choice.value) for choice in kind]
    return [str(choice) for choice in getattr(getattr(parameter, "type", None), "choices", ())]


if __name__ == "__main__":
    TARGET.write_text(commands_page(), encoding="utf-8")
