"""Results and dead letters as JSON lines, a file each and, if wished, per day."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from stream_ad.adapters.documents import document
from stream_ad.domain.message import OutboxMessage
from stream_ad.domain.ports import Clock
from stream_ad.errors import Unavailable


class JsonLinesSink:
    """`domain.ports.Sink`: appends results to `file` and dead letters to one beside it.

    For `results.jsonl` that is `results.dead-letters.jsonl`; if `daily`, `results-2026-11-22.jsonl` (UTC) and so on.
    Lines are UTF-8 and on the disk when `send` returns. A result's line is its document; a dead letter's line has
    its headers and the hash of its bytes, which are in the database.
    """

    name = "jsonl"
    at_once = 100

    def __init__(self, file: Path, *, clock: Clock, daily: bool = False) -> None:
        self._file, self._clock, self._daily = file, clock, daily

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        lines: dict[str, list[bytes]] = {}
        for message in messages:
            lines.setdefault(message.channel, []).append(document(message).body + b"\n")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            for channel, of_channel in lines.items():
                with self._path(channel).open("a+b") as file:
                    _end_torn_line(file)
                    file.write(b"".join(of_channel))
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable(f"could not append to {self._file}: {error}; check disk and permissions") from error

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, channel: str) -> Path:
        day = f"-{self._clock.now():%Y-%m-%d}" if self._daily else ""
        kind = "" if channel == "results" else f".{channel}"
        return self._file.with_name(f"{self._file.stem}{day}{kind}{self._file.suffix}")


def _end_torn_line(file: IO[bytes]) -> None:
    """A crash may have left half a line; ours must not be glued to it."""
    if file.seek(0, os.SEEK_END) > 0:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
