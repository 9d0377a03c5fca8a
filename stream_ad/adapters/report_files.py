"""The folder of reports: what is written there is whole, and only the newest stay."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
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
            self._thin(kind)
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

    def _thin(self, kind: str) -> None:
        ages: list[tuple[int, int, str]] = []
        for path in self._folder.glob(f"{kind}-*"):
            with suppress(FileNotFoundError):  # another process thins, too
                # written in the same tick: job-9 is older than job-10
                ages.append((path.stat().st_mtime_ns, len(path.name), path.name))
        for _, _, name in sorted(ages)[: -self._keep]:
            (self._folder / name).unlink(missing_ok=True)
