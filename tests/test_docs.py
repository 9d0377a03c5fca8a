"""What the documents say is so: commands, options, settings, files, fields and links; and the README's example runs.

That every command and option has a help text is in test_cli.py, that every setting is explained in test_config.py.
"""

import doctest
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

from stream_ad.config import Settings, known_keys
from stream_ad.domain.result import InspectionResult

ROOT = Path(__file__).parents[1]
NAMED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/README.md")
DOCUMENTS = [ROOT / name for name in NAMED] + sorted(ROOT.glob("docs/*.md"))

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMANDS = generator().all_commands()


def code(document: Path) -> Iterator[str]:
    """Every code span, and every line of every code block."""
    fenced = False
    for line in document.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def anchors(document: Path) -> set[str]:
    """What a heading is called in a link, as GitHub does it."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_manual_of_commands_is_what_the_commands_say():
    module = generator()
    assert module.TARGET.read_text(encoding="utf-8") == module.commands_page(), "run docs/generate.py"


@each_document
def test_only_commands_and_options_that_exist_are_shown(document):
    for line in code(document):
        for shown in re.findall(r"(?:^|/bin/)stream-ad ([^#`|]*)", line):
            words = re.sub(r"^--config \S+ ", "", shown).split()
            name = "stream-ad"
            for word in words:
                if f"{name} {word}" not in COMMANDS:
                    break
                name = f"{name} {word}"
            placeholder = not words or words[0] in ("COMMAND", '"$@"', "--version", "--help")
            assert name != "stream-ad" or placeholder, f"no such command: {line}"
            if name == "stream-ad feedback":  # RESULT may follow at once
                name += " say"
            known = {option for parameter in COMMANDS[name].params for option in parameter.opts} | {"--help"}
            asked = {word for word in words if word.startswith("--")}
            assert asked <= known, f"no such option: {line}"


@each_document
def test_only_settings_that_exist_are_named(document):
    sections = "|".join(Settings.model_fields)
    for span in code(document):
        for key in re.findall(rf"(?<![\w./-])(?:{sections})\.[a-z_.]*[a-z_]", span):
            assert key in set(known_keys()), f"no such setting: {key}"


@each_document
def test_only_files_of_ours_that_exist_are_named(document):
    folders = (ROOT, ROOT / "stream_ad", ROOT / "stream_ad/services", document.parent)
    for span in code(document):
        if re.fullmatch(r"[a-z_./]+/[a-z_]+\.(py|md|yaml)|[a-z_]+\.py|[a-z_/]+/", span) and "-" not in span:
            made = ("entries", "weights", "overlays", "inbox", "unknown", "tasks", "reports", "pool")
            if span.startswith((*made, "benchmarks/results")):  # by the program
                continue
            assert any((folder / span).exists() for folder in folders), f"no such file: {span}"


@each_document
def test_only_targets_of_the_makefile_are_shown(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in code(document):
        assert set(re.findall(r"^make ([a-z-]+)", line)) <= targets, line


@each_document
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (document.parent / file).resolve() if file else document
        assert there.exists(), f"{document.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{document.name}: {target}"


def test_every_field_of_a_result_is_explained():
    table = (ROOT / "docs/stream.md").read_text(encoding="utf-8").partition("## A result")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == {field.name for field in fields(InspectionResult)} | {"schema", "id"}


def test_the_example_of_the_readme_runs(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 5
    assert failed == 0
