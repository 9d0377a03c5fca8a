# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""Whatever is stored by its hash is found when it is not what it was, and said once."""

import shutil
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import delete, update
from storage_kit import NOON, database, publish, url  # noqa: F401

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.storage import Database
from stream_ad.adapters.stored_files import (
    StoredBanks,
    StoredEntries,
    StoredFeedback,
    StoredSharedWeights,
    StoredUnknown,
)
from stream_ad.adapters.tables import BankEntryRow, BankVersionRow, FeedbackRow, KeptImageRow
from stream_ad.config import Settings
from stream_ad.detectors import shared_weights
from stream_ad.domain.duty import Found
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.stored import Stored
from stream_ad.errors import LeadershipLost
from stream_ad.scheduler_parts import damage_of_weights
from stream_ad.services.verification import verify
from tests.models import untaught
from tests.stream_kit import png


class Plant:
    """Two published banks, a picture of feedback and one of an unknown product."""

    def __init__(self, database: Database, folder: Path) -> None:
        publish(database, "nut")
        publish(database, "tile", seed=1)
        self.database, self.transactions = database, Transactions(database.engine)
        self.folder = folder
        folder.mkdir()
        self.entry = database.entries.path(database.banks.load().entry("nut").sha256)
        picture = png(7)
        self.unknown = folder / "unknown.png"
        self.unknown.write_bytes(picture)
        self.feedback = folder / f"{_hash(picture)}.png"
        self.feedback.write_bytes(picture)
        place = {"topic": "images", "partition": 0, "offset": 1, "at": NOON}
        with self.transactions.write() as session:
            session.add(
                FeedbackRow(
                    **place,
                    kind=FeedbackKind.FALSE_ALARM,
                    who="ada",
                    reason="",
                    state=FeedbackState.QUARANTINED,
                    path=self.feedback.name,
                    sha256="",
                )
            )
            session.add(
                KeptImageRow(
                    **place,
                    path=self.unknown.name,
                    sha256=pixel_sha256(decode(picture)),
                    size_bytes=len(picture),
                    embedding=b"",
                    features="",
                )
            )

    def kinds(self) -> list[Stored]:
        return [
            StoredBanks(self.transactions),
            StoredEntries(self.transactions, self.database.entries.path),
            StoredFeedback(self.transactions, self.folder),
            StoredUnknown(self.transactions, self.folder, decode),
        ]

    def verify(self) -> Found:
        return verify(self.kinds(), self.database.audit, ManualClock(NOON + timedelta(days=1)), lambda: None)

    def audited(self) -> list[str]:
        return [row["subject"] for row in self.database.audit.recent(100) if row["action"] == "found damaged"]


def _hash(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def plant(database: Database, tmp_path: Path) -> Plant:
    return Plant(database, tmp_path / "pictures")


def test_what_is_as_it_was_is_counted(plant: Plant) -> None:
    found = plant.verify()
    assert found.figures == {"checked": 6, "damaged": 0, "missing": 0}
    assert found.text == "6 stored things are what they were"
    assert plant.audited() == []


def test_one_flipped_bit_of_each_kind_is_found_and_written_down_once(plant: Plant, caplog) -> None:
    data = bytearray(plant.entry.read_bytes())
    data[-1] ^= 1
    plant.entry.chmod(0o644)
    plant.entry.write_bytes(data)
    plant.unknown.write_bytes(png(8))
    plant.feedback.write_bytes(png(9))
    with plant.transactions.write() as session:
        session.execute(delete(BankEntryRow).where(BankEntryRow.version == 2, BankEntryRow.task_id == "tile"))
    found = plant.verify()
    assert found.figures == {"checked": 5, "damaged": 4, "missing": 0}
    wrong = {str(plant.entry), str(plant.unknown), str(plant.feedback), "bank 2"}
    assert set(plant.audited()) == wrong
    assert all(place in caplog.text for place in wrong)
    assert plant.verify().figures["damaged"] == 4
    assert len(plant.audited()) == 4


def test_files_that_are_gone_are_missing_and_those_that_retention_took_are_not(plant: Plant) -> None:
    plant.entry.unlink()
    plant.feedback.unlink()
    plant.unknown.write_text("no picture")
    found = plant.verify()
    assert found.figures == {"checked": 6, "damaged": 1, "missing": 2}
    assert "restore it from a backup" in found.text
    # deleted with its row while the list was being read
    kind = StoredUnknown(plant.transactions, plant.folder, decode)
    checks = iter(kind.check())
    plant.unknown.unlink()
    with plant.transactions.write() as session:
        session.execute(delete(KeptImageRow))
    assert list(checks) in ([], [None])


def test_a_bank_that_retention_forgot_is_no_damage_but_the_active_one_is(plant: Plant) -> None:
    with plant.transactions.write() as session:
        session.execute(delete(BankEntryRow).where(BankEntryRow.version == 1))
    assert plant.verify().figures["damaged"] == 0
    with plant.transactions.write() as session:
        session.execute(delete(BankEntryRow))
    assert plant.verify().figures["damaged"] == 1


def test_a_bank_whose_hash_was_changed_is_found(plant: Plant) -> None:
    with plant.transactions.write() as session:
        session.execute(update(BankVersionRow).where(BankVersionRow.version == 1).values(sha256="0" * 64))
    assert "bank 1: the database names other entries" in plant.verify().text


def test_who_leads_no_more_stops_between_two_files(plant: Plant) -> None:
    plant.entry.unlink()

    def still() -> None:
        raise LeadershipLost("another leads")

    with pytest.raises(LeadershipLost):
        verify(plant.kinds(), plant.database.audit, ManualClock(NOON), still)
    assert plant.audited() == []


@pytest.fixture
def weights(plant: Plant) -> tuple[Path, Path]:
    """Folders of the weights that settings name and of older ones; an entry of a published bank names each."""
    known = untaught()
    others = {name: array[::-1].copy() for name, array in known.arrays.items()}
    made = [
        shared_weights.save("mpa", arrays, known.about, "", plant.folder / "weights")
        for arrays in (known.arrays, others)
    ]
    for name, folder in zip(("ring", "washer"), made, strict=True):
        publish(plant.database, name, shared=shared_weights.load(folder).sha256)
    return made[0], made[1]


def verified(plant: Plant, chosen: Path) -> Found:
    settings = Settings(detector={"mpa": {"weights": chosen}})  # pyright: ignore[reportArgumentType]
    kind = StoredSharedWeights(
        plant.transactions, plant.database.entries.made_with, partial(damage_of_weights, settings)
    )
    return verify([kind], plant.database.audit, ManualClock(NOON), lambda: None)


def test_shared_weights_that_entries_name_are_verified_also_older_ones(plant: Plant, weights) -> None:
    assert verified(plant, weights[0]).figures == {"checked": 2, "damaged": 0, "missing": 0}
    arrays = weights[1] / "weights.safetensors"
    data = bytearray(arrays.read_bytes())
    data[-1] ^= 1
    arrays.write_bytes(data)
    assert verified(plant, weights[0]).figures == {"checked": 2, "damaged": 1, "missing": 0}
    assert plant.audited() == [str(weights[1])]
    shutil.rmtree(weights[1])
    assert verified(plant, weights[0]).figures == {"checked": 2, "damaged": 0, "missing": 1}
    shutil.copytree(weights[0], weights[1])  # whole, but others
    assert verified(plant, weights[0]).figures == {"checked": 2, "damaged": 1, "missing": 0}


def test_chosen_weights_may_lie_in_a_folder_of_any_name(plant: Plant, weights) -> None:
    chosen = weights[0].rename(weights[0].parent / "mine")
    assert verified(plant, chosen).figures == {"checked": 2, "damaged": 0, "missing": 0}


@pytest.mark.parametrize("content", [b"", b"cut", b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"])
def test_a_damaged_entry_names_no_weights_and_is_found_among_the_entries(plant: Plant, weights, content: bytes) -> None:
    path = plant.database.entries.path(plant.database.banks.load().entry("washer").sha256)
    path.chmod(0o644)
    path.write_bytes(content)
    assert verified(plant, weights[0]).figures == {"checked": 1, "damaged": 0, "missing": 0}
    assert str(path) in plant.verify().text
