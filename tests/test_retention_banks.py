"""Old banks go beyond a number, never the one in use; files go only when nobody can need them any more."""

# ruff: noqa: F811 (a fixture is imported, then named as an argument)

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from storage_kit import NOON, claim, database, entry, publish, queue, url  # noqa: F401

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.tasks import RETIRED
from stream_ad.adapters.retention_banks import BankVersions, EntryFiles
from stream_ad.adapters.storage import Database
from stream_ad.domain.evaluation import Half
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.retention import Pruned
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError


@pytest.fixture
def four(database: Database) -> Database:
    """Four versions: each learns the one task anew."""
    for seed in range(4):
        readapt(database, seed)
    return database


def readapt(database: Database, seed: int) -> str:
    if seed == 0:
        publish(database)
        return database.banks.load().entry("nut").sha256
    database.tasks.queue(TaskId("nut"), JobKind.READAPT, {}, NOON)
    job = claim(database)
    active = database.banks.load()
    bank = active.with_entry(database.entries.put(entry("nut", seed)), database.banks.next_version())
    database.banks.publish(bank, parent=active.version, job=job, worker="w1", evaluations=[], message="again", at=NOON)
    return bank.entry("nut").sha256


def prune(database: Database, most: int, *, dry_run: bool = False, limit: int = 100) -> Pruned:
    rule = BankVersions(Transactions(database.engine), database.entries)
    return rule.prune(before=None, most=float(most), limit=limit, dry_run=dry_run)


def sweep(database: Database, *, dry_run: bool = False) -> Pruned:
    rule = EntryFiles(Transactions(database.engine), database.entries)
    before = datetime.now(UTC) - timedelta(days=7)
    return rule.prune(before=before, most=None, limit=100, dry_run=dry_run)


def age(database: Database, days: float = 8) -> None:
    """All entry files were stored that long ago."""
    then = time.time() - days * 86400
    for file in database.entries.root.iterdir():
        os.utime(file, (then, then))


def files(database: Database) -> set[str]:
    return {file.stem for file in database.entries.root.iterdir()}


def test_versions_beyond_the_newest_go_and_say_so(four: Database) -> None:
    assert prune(four, 2) == Pruned("bank versions", 2)
    for gone in (1, 2):
        with pytest.raises(BankError, match=f"removed the entries of bank version {gone}"):
            four.banks.load(gone)
        with pytest.raises(BankError, match="can no longer be used"):
            four.banks.use(gone, who="me", reason="", at=NOON)
    assert four.banks.load(3).entries.keys() == {"nut"}
    assert [row["version"] for row in four.banks.versions()] == [1, 2, 3, 4]
    assert len(four.evaluations.all(Half.REGRESSION)) == 1


def test_the_bank_in_use_never_goes(four: Database) -> None:
    four.banks.use(1, who="me", reason="", at=NOON)
    prune(four, 1)
    assert four.banks.load().version == 1
    assert four.banks.load(4).version == 4
    with pytest.raises(BankError):
        four.banks.load(2)


def test_an_entry_that_another_bank_has_stays(database: Database) -> None:
    publish(database, "nut")
    publish(database, "tile", seed=1)
    prune(database, 1)
    age(database)
    assert sweep(database).count == 0
    assert list(database.banks.load().entries) == ["nut", "tile"]


def test_a_bank_whose_last_task_was_retired_is_empty_and_not_removed(database: Database) -> None:
    publish(database)
    database.tasks.queue(TaskId("nut"), JobKind.RETIRE, {}, NOON)
    job = claim(database)
    empty = database.banks.load().without(TaskId("nut"), 2)
    database.banks.publish(empty, parent=1, job=job, worker="w1", evaluations=[], message=RETIRED, at=NOON)
    assert len(database.banks.load()) == 0
    assert prune(database, 1).count == 0


def test_files_go_a_week_after_their_last_bank_and_not_before(four: Database) -> None:
    age(four)
    prune(four, 1)
    assert sweep(four).count == 0  # their week begins when the bank goes
    age(four)
    assert sweep(four, dry_run=True).count == 3
    assert sweep(four).count == 3
    assert files(four) == {four.banks.load().entry("nut").sha256}
    assert sweep(four).count == 0


def test_what_an_open_or_rejected_job_remembers_stays(database: Database) -> None:
    publish(database)
    orphans = [database.entries.put(entry("tile", seed)).sha256 for seed in (1, 2, 3)]
    for name, sha256 in zip(("tile", "bolt", "gear"), orphans, strict=True):
        queue(database, name)
        job = claim(database)
        database.jobs.write_checkpoint(job.id, "w1", 1, {"entry": {"key": "k", "sha256": sha256}})
        if name != "tile":
            end = {"bolt": JobState.REJECTED, "gear": JobState.FAILED}[name]
            database.jobs.finish(job.id, "w1", 1, end, "", datetime.now(UTC))
    age(database)
    assert sweep(database).count == 1
    assert set(orphans[:2]) <= files(database)
    assert orphans[2] not in files(database)


def test_an_entry_that_is_stored_again_begins_its_week_anew(four: Database) -> None:
    first = four.banks.load(1).entry("nut")
    prune(four, 1)
    age(four)
    four.entries.put(entry("nut", 0))
    sweep(four)
    assert first.sha256 in files(four)


def test_a_temporary_file_that_a_crash_left_goes(database: Database, tmp_path: Path) -> None:
    publish(database)
    (database.entries.root / ".tmp-1").write_bytes(b"half")
    age(database)
    assert sweep(database).count == 1
    assert len(files(database)) == 1


def test_a_dry_run_and_a_limit_say_what_is_left(four: Database) -> None:
    assert prune(four, 1, dry_run=True) == Pruned("bank versions", 3)
    assert prune(four, 1, limit=2) == Pruned("bank versions", 2, more=True)
    assert prune(four, 1) == Pruned("bank versions", 1)
