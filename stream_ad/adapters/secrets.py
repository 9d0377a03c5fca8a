"""Secrets, which are in files and never in settings."""

from pathlib import Path

from stream_ad.errors import ConfigError


def read_secret(file: Path, setting: str) -> str:
    """The file's text without the line's end. Read at every use, so that it can be replaced at any time.

    Raises:
        ConfigError: the file cannot be read, is empty or no text.
    """
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"{setting} needs a file with the secret, but {file} cannot be read: {why}") from error
    if not secret:
        raise ConfigError(f"{setting} needs a file with the secret, but {file} is empty; write it there")
    return secret
