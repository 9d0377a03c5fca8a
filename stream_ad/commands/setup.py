"""`stream-ad init`: a place to work in."""

import os
from pathlib import Path

from stream_ad.commands.common import ConfigOption, config_path, out
from stream_ad.config import load_settings


def init(config: ConfigOption = None) -> None:
    """Set up this folder: configuration, database and folders. Run it again after an update, to upgrade the database.

    Nothing that is there is overwritten.
    """
    from stream_ad.adapters.database import upgrade

    named = config_path(config) or Path(os.environ.get("STREAM_AD_CONFIG") or "config.yaml")
    console = out()
    if named.exists():
        console.print(f"configuration  {named} (kept)")
    else:
        named.parent.mkdir(parents=True, exist_ok=True)
        named.write_text(default_config(), encoding="utf-8")
        console.print(f"configuration  {named} (new; every setting with its default)")
    settings = load_settings(named)
    for folder in (
        settings.data_dir,
        settings.entries_dir,
        settings.weights_dir,
        settings.overlays_dir,
        settings.inbox,
    ):
        folder.mkdir(parents=True, exist_ok=True)
    console.print(f"data           {settings.data_dir}")
    revision = upgrade(settings.database_url)
    console.print(f"database       ready, revision {revision}")
    console.print("\nNext, teach it a product from a folder with pictures of good parts:")
    console.print("  stream-ad add-task NAME --images FOLDER --wait")
    console.print("then score pictures:   stream-ad score PICTURE...")
    console.print(f"or watch {settings.inbox}:   stream-ad up")
    console.print("Something does not work?   stream-ad doctor")


def default_config() -> str:
    """config.yaml as it was shipped: in the wheel inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_config.yaml"
    return (shipped if shipped.is_file() else package.parent / "config.yaml").read_text(encoding="utf-8")
