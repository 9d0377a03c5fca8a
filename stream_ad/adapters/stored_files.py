"""What is stored by its hash, read again from the disk.

Entries, the shared weights that they name, the lists of entries that banks are, and pictures.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sqlalchemy import select

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.decode import pixel_sha256
from stream_ad.adapters.tables import ActiveBankRow, BankEntryRow, BankVersionRow, FeedbackRow, KeptImageRow
from stream_ad.domain.images import Picture
from stream_ad.domain.stored import Wrong
from stream_ad.errors import BankError, UndecodableImage

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

            def still_named(sha256: str = sha256) -> bool:  # retention takes entries with the last bank that has them
                with self._transactions.read() as session:
                    return session.scalar(named.where(BankEntryRow.entry_sha256 == sha256)) is not None

            advice = "restore it from a backup, or learn the task again"
            yield from _compared(self._path(sha256), sha256, _sha256, still_named, advice)


class StoredSharedWeights:
    """The folders of weights that entries of published banks name."""

    name = "shared weights"

    def __init__(
        self,
        transactions: Transactions,
        made_with: Callable[[str], tuple[str, str | None]],
        damage: Callable[[str, str], Wrong | None],
    ) -> None:
        """`made_with`: an entry's detector and weights; `damage`: what is wrong with weights of a detector."""
        self._transactions, self._made_with, self._damage = transactions, made_with, damage

    def check(self) -> Iterator[Wrong | None]:
        with self._transactions.read() as session:
            hashes = list(session.scalars(select(BankEntryRow.entry_sha256).distinct()))
        named = set()
        for sha256 in hashes:
            with contextlib.suppress(BankError):  # retention took the entry, or it is found damaged among the entries
                named.add(self._made_with(sha256))
        for detector, weights in sorted((detector, weights) for detector, weights in named if weights):
            yield self._damage(detector, weights)


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


class StoredFeedback:
    """The picture of everything that people said of verdicts; its name is the hash of the file."""

    name = "pictures of feedback"

    def __init__(self, transactions: Transactions, folder: Path) -> None:
        self._transactions, self._folder = transactions, folder

    def check(self) -> Iterable[Wrong | None]:
        with self._transactions.read() as session:
            names = list(session.scalars(select(FeedbackRow.path).distinct().order_by(FeedbackRow.path)))
        for name in names:
            path = self._folder / name
            yield from _compared(path, path.stem, _sha256, lambda: True, "restore it from a backup")


class StoredUnknown:
    """Pictures of unknown products, by the hash of their pixels."""

    name = "pictures of unknown products"

    def __init__(self, transactions: Transactions, folder: Path, decode: Callable[[bytes], Picture]) -> None:
        self._transactions, self._folder, self._decode = transactions, folder, decode

    def check(self) -> Iterable[Wrong | None]:
        with self._transactions.read() as session:
            rows = session.execute(select(KeptImageRow.path, KeptImageRow.sha256).order_by(KeptImageRow.id)).all()
        for name, sha256 in rows:

            def still_named(name: str = name) -> bool:  # the pool is bounded, and the oldest go
                with self._transactions.read() as session:
                    return session.scalar(select(KeptImageRow.id).where(KeptImageRow.path == name)) is not None

            yield from _compared(
                self._folder / name, sha256, self._pixels, still_named, "nothing depends on it: reject its proposal"
            )

    def _pixels(self, path: Path) -> str:
        try:
            return pixel_sha256(self._decode(path.read_bytes()))
        except UndecodableImage:
            return "of no picture"


def _compared(
    path: Path, sha256: str, read: Callable[[Path], str], still_named: Callable[[], bool], advice: str
) -> Iterator[Wrong | None]:
    """What is to be said of one file; it may be deleted, as it should be, while it is looked at."""
    try:
        came = read(path)
    except FileNotFoundError:
        yield Wrong(str(path), f"the file is gone; {advice}", missing=True) if still_named() else None
    except OSError as error:
        yield Wrong(str(path), f"the file cannot be read: {error.strerror}; {advice}", missing=False)
    else:
        damaged = f"its content has the hash {came}; {advice}"
        yield None if came == sha256 else Wrong(str(path), damaged, missing=False)


def _sha256(path: Path) -> str:
    """A file's hash, a piece at a time."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
    return whole.hexdigest()
