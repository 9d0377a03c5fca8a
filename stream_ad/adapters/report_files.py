"""The folder of reports: what is written there is whole, and only the newest stay."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


class ReportFolder:
    """Keeps the newest `keep` reports of each kind; a kind is what a file's name begins with, up to a dash."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def write(self, files: Mapping[str, str]) -> list[Path]:
        """Each file by its name, in place of one that has it; readers see the old or the new, never half of one.

        Raises:
            OSError: the folder cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        written = [self._put(name, text) for name, text in files.items()]
        for kind in {name.partition("-")[0] for name in files if "-" in name}:
            self._thin(kind, files)
        return written

    def _put(self, name: str, text: str) -> Path:
        target = self._folder / name
        handle, partial = tempfile.mkstemp(dir=self._folder, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(partial).chmod(0o644)  # a temporary file is its owner's alone; a report is to be read
            Path(partial).replace(target)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        return target

    def _thin(self, kind: str, just_written: Mapping[str, str]) -> None:
        old = sorted(
            (path for path in self._folder.glob(f"{kind}-*") if path.name not in just_written),
            key=lambda path: path.stat().st_mtime_ns,
            reverse=True,
        )
        for path in old[max(0, self._keep - len(just_written)) :]:
            path.unlink(missing_ok=True)
