"""What may be deleted of what was learned: old bank versions, and entry files that nothing refers to.

A version that goes keeps its row, its evaluations and its place in the history; what goes are its entries, so that
nobody can go back to it. A file goes days after the last bank that had it: scorers and jobs may still have it in hand.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from stream_ad.adapters.arrays import FileEntryStore
from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import ActiveBankRow, BankEntryRow, EntryRow, JobRow
from stream_ad.domain.job import JobState
from stream_ad.domain.retention import Pruned

#: after the last bank that had an entry
GRACE_DAYS = 7.0
#: a job that the gate rejected may be overridden; so long what it learned is kept
REJECTED_DAYS = 30.0
SUFFIX = ".safetensors"
ASIDE = ".old-"


class BankVersions:
    """Published versions beyond the newest ones; never the active one. `most` counts versions."""

    name = "bank versions"

    def __init__(self, transactions: Transactions, entries: FileEntryStore) -> None:
        self._transactions, self._entries = transactions, entries

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        """Never by age: `before` says nothing here."""
        if most is None:
            return Pruned(self.name, 0)
        if dry_run:
            with self._transactions.read() as session:
                return Pruned(self.name, len(_beyond(session, int(most))))
        with self._transactions.write() as session:
            # who publishes or goes back to a version holds this row as well
            session.scalars(select(ActiveBankRow).with_for_update()).one()
            versions = _beyond(session, int(most))
            chosen = versions[:limit]
            mine = BankEntryRow.version.in_(chosen)
            others = select(BankEntryRow.entry_sha256).where(~mine)
            alone = select(BankEntryRow.entry_sha256).where(mine, ~BankEntryRow.entry_sha256.in_(others)).distinct()
            for sha256 in (gone := session.scalars(alone).all()):
                with contextlib.suppress(OSError):
                    os.utime(self._entries.path(sha256))  # before the commit: its days are counted from here
            session.execute(_quietly(delete(BankEntryRow).where(mine)))
            session.execute(_quietly(delete(EntryRow).where(EntryRow.sha256.in_(gone))))
        return Pruned(self.name, len(chosen), more=len(chosen) < len(versions))


class EntryFiles:
    """Entry files that no bank has and no job may still need, by the time when they were last stored or let go."""

    name = "entry files"

    def __init__(
        self, transactions: Transactions, entries: FileEntryStore, *, now: Callable[[], float] = time.time
    ) -> None:
        self._transactions, self._entries, self._now = transactions, entries, now

    def prune(self, *, before: datetime | None, most: float | None, limit: int, dry_run: bool) -> Pruned:
        """Never by size: `most` says nothing here."""
        count = freed = 0
        if before is None or not self._entries.root.is_dir():
            return Pruned(self.name, 0)
        needed = self._needed()
        for aside in self._entries.root.glob(f"{ASIDE}*"):  # a crash between the look and the deletion
            if (sha256 := aside.name.removeprefix(ASIDE).removesuffix(SUFFIX)) in needed:
                aside.replace(self._entries.path(sha256))
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                if status.st_mtime >= before.timestamp() or path.name.removesuffix(SUFFIX) in needed:
                    continue
                if count == limit and not dry_run:
                    return Pruned(self.name, count, freed, more=True)
                if dry_run or self._take_away(path, before):
                    count, freed = count + 1, freed + status.st_size
        return Pruned(self.name, count, freed)

    def _files(self) -> Iterator[Path]:
        for path in sorted(self._entries.root.iterdir()):
            # of a write that was cut off, a temporary file stays
            if path.suffix == SUFFIX or path.name.startswith(".tmp-"):
                yield path

    def _needed(self) -> set[str]:
        """Hashes of entries that banks have, and that open or rejected jobs remember."""
        since = datetime.fromtimestamp(self._now()).astimezone() - timedelta(days=REJECTED_DAYS)
        with self._transactions.read() as session:
            needed = set(session.scalars(select(EntryRow.sha256)))
            jobs = select(JobRow.checkpoint).where(
                JobRow.state.in_([state for state in JobState if state.open])
                | ((JobRow.state == JobState.REJECTED) & (JobRow.finished_at > since))
            )
            for checkpoint in session.scalars(jobs):
                needed |= set(re.findall(r"\b[0-9a-f]{64}\b", str(checkpoint)))
        return needed

    def _take_away(self, path: Path, before: datetime) -> bool:
        """Delete a file, unless a job stores it again at this very moment."""
        aside = path.with_name(f"{ASIDE}{path.name}")
        path.rename(aside)
        with self._transactions.read() as session:
            wanted = session.get(EntryRow, path.name.removesuffix(SUFFIX)) is not None
        if (wanted or aside.stat().st_mtime >= before.timestamp()) and not path.exists():
            aside.rename(path)
            return False
        aside.unlink(missing_ok=True)
        return not path.exists()


def _beyond(session: Session, most: int) -> list[int]:
    """Versions that have their entries and may lose them, oldest first."""
    active = session.scalars(select(ActiveBankRow.version)).one()
    there = session.scalars(select(BankEntryRow.version).distinct().order_by(BankEntryRow.version.desc())).all()
    return sorted(version for version in there[most:] if version != active)


def _quietly(statement: Any) -> Any:
    return statement.execution_options(synchronize_session=False)
