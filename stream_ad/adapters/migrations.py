"""Alembic, apart from all else: importing it takes longer than reading a table, and only `init` and errors need it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def alembic_config() -> Config:
    """Alembic's configuration, without a file: the migrations of the wheel or of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_migrations"
    config = Config()
    location = installed if installed.is_dir() else package.parent / "migrations"
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    return config


def migrate(connection: Connection) -> None:
    """The tables of the newest revision, within the connection's transaction."""
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def head() -> str:
    """The newest of the migrations."""
    found = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert found is not None, "no migrations are installed"
    return found


def revisions() -> list[str]:
    """Every revision, the oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]
