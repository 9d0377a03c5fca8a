"""What is stored by its hash, read again from the disk: entries, the lists of entries that banks are, and pictures."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sqlalchemy import select

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import ActiveBankRow, BankEntryRow, BankVersionRow
from stream_ad.domain.stored import Wrong

CHUNK_BYTES = 1 << 20


class StoredEntries:
    """The file of every entry that a published bank names."""

    name = "entries"

    def __init__(self, transactions: Transactions, path: Callable[[str], Path]) -> None:
        self._transactions, self._path = transactions, path

    def check(self) -> Iterable[Wrong | None]:
        named = select(BankEntryRow.entry_sha256).distinct().order_by(BankEntryRow.entry_sha256)
        with self._transactions.read() as session:
            hashes = list(session.scalars(named))
        for sha256 in hashes:
            path = self._path(sha256)
            try:
                came = _sha256(path)
            except FileNotFoundError:
                with self._transactions.read() as session:  # retention may have taken it meanwhile, with its banks
                    still_named = session.scalar(named.where(BankEntryRow.entry_sha256 == sha256))
                gone = "the file is gone; restore it from a backup"
                yield Wrong(str(path), gone, missing=True) if still_named else None
            except OSError as error:
                yield Wrong(str(path), f"the file cannot be read: {error.strerror}", missing=False)
            else:
                damaged = f"its content has the hash {came}; restore it from a backup, or learn the task again"
                yield None if came == sha256 else Wrong(str(path), damaged, missing=False)


class StoredBanks:
    """The hash of every published bank against the entries that the database names for it."""

    name = "banks"

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def check(self) -> Iterator[Wrong | None]:
        with self._transactions.read() as session:
            versions = session.execute(select(BankVersionRow.version, BankVersionRow.sha256)).all()
            active = session.scalars(select(ActiveBankRow.version)).one()
        for version, sha256 in versions:
            if version == 0:  # the empty one
                continue
            with self._transactions.read() as session:
                entries = list(
                    session.scalars(select(BankEntryRow.entry_sha256).where(BankEntryRow.version == version))
                )
            if not entries and version != active:
                continue  # retention has forgotten it
            came = hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()
            wrong = "the database names other entries for it than it was published with; restore it from a backup"
            yield None if came == sha256 else Wrong(f"bank {version}", wrong, missing=False)


def _sha256(path: Path) -> str:
    """A file's hash, a piece at a time."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()
