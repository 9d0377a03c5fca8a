"""`stream-ad retention` says what goes, and `serve` does the same beside the stream."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stream_ad import cli
from stream_ad.adapters.storage import Database
from stream_ad.app import App
from stream_ad.commands.retention import sweeping
from stream_ad.config import load_settings

BOUNDS = "retention: {overlays_days: 30, dead_letters_days: 30, every_s: 0.05}\n"


def plant(tmp_path: Path, more: str = "") -> Path:
    """A configuration with an old and a new overlay."""
    config = tmp_path / "config.yaml"
    config.write_text(f"data_dir: data\nbackbone: {{id: tiny}}\n{more}")
    folder = tmp_path / "data" / "overlays" / "line" / "0-000000"
    folder.mkdir(parents=True)
    for name, days in (("old", 31), ("new", 29)):
        (folder / f"{name}.jpg").write_bytes(bytes(2_000_000))
        drawn = (datetime.now(UTC) - timedelta(days=days)).timestamp()
        os.utime(folder / f"{name}.jpg", (drawn, drawn))
    Database(f"sqlite:///{tmp_path / 'data' / 'stream_ad.db'}", tmp_path / "data" / "entries", create=True).close()
    return config


def overlays(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.rglob("*.jpg")}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_a_dry_run_shows_what_would_go_and_the_real_one_deletes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = str(plant(tmp_path, BOUNDS))
    shown = run(capsys, "retention", "--dry-run", "--config", config)
    assert [line.split() for line in shown.splitlines()] == [
        ["kept", "would", "go", "freed"],
        ["overlays", "1", "2.0", "MB"],
        ["dead", "letters", "0"],
    ]
    assert overlays(tmp_path) == {"old.jpg", "new.jpg"}
    shown = run(capsys, "retention", "--config", config)
    assert shown.split()[:3] == ["kept", "deleted", "freed"]
    assert overlays(tmp_path) == {"new.jpg"}


def test_without_bounds_nothing_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "nothing has a bound" in run(capsys, "retention", "--config", str(plant(tmp_path)))
    assert overlays(tmp_path) == {"old.jpg", "new.jpg"}


def test_serve_deletes_beside_the_stream(tmp_path: Path):
    with App(load_settings(plant(tmp_path, BOUNDS))) as app:
        patience = datetime.now(UTC) + timedelta(seconds=60)
        with sweeping(app):
            while "old.jpg" in overlays(tmp_path):
                assert datetime.now(UTC) < patience
    assert overlays(tmp_path) == {"new.jpg"}
