"""Secrets, which are in files and never in settings."""

from pathlib import Path

from stream_ad.errors import ConfigError


def read_secret(file: Path, setting: str) -> bytes:
    """The file's content without white space around it. Read at every use, so that it can be replaced at any time.

    Raises:
        ConfigError: the file cannot be read, or is empty.
    """
    try:
        secret = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(
            f"{setting} needs a file with the secret, but {file} cannot be read: {error.strerror}"
        ) from error
    if not secret:
        raise ConfigError(f"{setting} needs a file with the secret, but {file} is empty; write it there")
    return secret
