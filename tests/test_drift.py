# ruff: noqa: F811 (a fixture is imported, then named as an argument)
"""Drift is seen when good parts no longer look as they did, and cried no oftener than promised when they do."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storage_kit import NOON, after, database, queue, url  # noqa: F401

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.storage import Database
from stream_ad.adapters.tables import ProposalRow
from stream_ad.domain.bank import conformal_rank
from stream_ad.domain.job import JobKind
from stream_ad.domain.proposal import ProposalState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import LeadershipLost
from stream_ad.functional.drift import SIGNALS, Promise, level, p_higher, p_more_alarms, signals
from stream_ad.services.drift import DriftOptions, DriftWatch, promise_of
from tests import storage_kit

WINDOW = 60
OPTIONS = DriftOptions(window=WINDOW)


# --- the statistics -----------------------------------------------------------------------------------


def promised_by(scores: np.ndarray) -> Promise:
    """The threshold for one false alarm in twenty."""
    rank = conformal_rank(len(scores), 0.05)
    return Promise(float(np.sort(scores)[rank - 1]), rank, len(scores))


def test_alarms_as_many_as_promised_and_so_many_defective_parts_are_no_news():
    promise = Promise(threshold=1.0, rank=95, n=99)  # five in a hundred
    told = [0.0] * 170 + [2.0] * 30
    assert p_more_alarms(told, promise, strays=0.1).p > 0.3
    assert p_more_alarms(told, promise).p < 0.01
    assert p_more_alarms([0.0] * 100 + [2.0] * 100, promise, strays=0.1).p < 1e-6
    assert p_more_alarms([0.0] * 200, promise).p == 1.0


def test_what_lies_higher_is_seen_and_what_lies_lower_is_not():
    rng = np.random.default_rng(0)
    old, new = rng.normal(size=80), rng.normal(1.5, size=80)
    assert p_higher(new, old).p < 1e-9
    assert p_higher(old, new).p > 0.9
    assert p_higher(new, old).distance > 0.5


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_strays_alone_never_make_it_look_changed(seed, defective):
    rng = np.random.default_rng(seed)
    old, new = rng.normal(size=60), rng.normal(size=60)
    honest = p_higher(new, old, strays_new=0.1).p
    new[np.argsort(new)[:defective]] = 100.0  # up to the share that is allowed, and the worst that could be
    assert p_higher(new, old, strays_new=0.1).p >= p_higher(np.sort(new)[:54], old).p - 1e-12
    assert defective > 0 or p_higher(new, old, strays_new=0.1).p == honest


def test_the_chances_of_all_windows_together_stay_below_what_is_promised():
    assert sum(level(window, 0.01) for window in range(1, 1000)) * len(SIGNALS) <= 0.01
    assert level(1, 0.01) > level(2, 0.01) > level(1000, 0.01) > 0


def test_tasks_that_stay_as_they_are_are_proposed_no_oftener_than_promised():
    """60 tasks of 8 windows each, 4 % defective parts, scores of very uneven spread, every single signal counted."""
    rng = np.random.default_rng(7)
    promised, tasks, windows = 0.2, 60, 8
    cried = 0
    for _ in range(tasks):
        promise = promised_by(rng.lognormal(sigma=1.0, size=40))
        first = None
        seen = False
        for number in range(1, windows + 1):
            scores = rng.lognormal(sigma=1.0, size=WINDOW)
            margins = rng.gamma(2.0, size=WINDOW)
            bad = rng.random(WINDOW) < 0.04
            scores[bad], margins[bad] = 50.0, 0.0
            window = {"scores": scores.tolist(), "margins": margins.tolist()}
            found = signals(window, first, promise, strays=0.1)
            seen |= any(signal.p <= level(number, promised) for signal in found.values())
            first = first or window
        cried += seen
    # were the promise just kept, more than this would come once in a thousand runs
    assert cried <= tasks * promised + 3.1 * np.sqrt(tasks * promised * (1 - promised))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_of_one_spread_is_seen_in_the_next_window(sign):
    rng = np.random.default_rng(3)
    promise = promised_by(rng.normal(size=100))
    first = {"scores": rng.normal(size=200).tolist(), "margins": rng.normal(size=200).tolist()}
    window = {"scores": rng.normal(sign, size=200).tolist(), "margins": rng.normal(size=200).tolist()}
    found = signals(window, first, promise, strays=0.1)
    seen = {name for name, signal in found.items() if signal.p <= level(2, 0.01)}
    assert seen == ({"alarms above promise", "scores rise"} if sign > 0 else {"scores fall"})


def test_values_that_were_not_measured_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        p_higher(np.array([1.0, np.nan]), np.array([1.0]))
    assert signals({"scores": [1.0] * 5, "margins": []}, None, promised_by(np.ones(40)), strays=0.1) == {}


# --- a task's results ---------------------------------------------------------------------------------


class Line:
    """A published task `nut`, its stream of results, and the watch over it."""

    def __init__(self, database: Database, options: DriftOptions = OPTIONS) -> None:
        self.database, self.clock = database, ManualClock(after(10.0))
        self.rng = np.random.default_rng(5)
        self.calibration = np.sort(self.rng.normal(size=100))
        self.offset = 0
        self.watch = DriftWatch(database.drift, database.entries, self.clock, options)
        self.publish(seed=0)

    def publish(self, seed: int) -> None:
        """The task's entry of this seed, calibrated on 100 normal scores."""
        entry = storage_kit.entry("nut", seed)
        alike = dict.fromkeys(("scores", "map_peaks", "key_distances", "embedding_distances"), self.calibration)
        entry = replace(entry, calibration=replace(entry.calibration, **alike))
        if self.database.banks.active_version() == 0:
            queue(self.database)
        else:
            self.database.tasks.queue(TaskId("nut"), JobKind.READAPT, {}, self.clock.now())
        job = storage_kit.claim(self.database, at=self.clock.now())
        version, parent = self.database.banks.next_version(), self.database.banks.active_version()
        bank = self.database.banks.load().with_entry(self.database.entries.put(entry), version)
        self.database.banks.publish(
            bank, parent=parent, job=job, worker="w1", evaluations=[], message="", at=self.clock.now()
        )
        self.version = version

    def stream(self, count: int, shift: float = 0.0, *, margin_shift: float = 0.0, **changes: object) -> None:
        results = []
        for _ in range(count):
            self.clock.sleep(1.0)
            fields: dict[str, object] = {
                "score": float(self.rng.normal(shift)),
                "margin": float(self.rng.gamma(3.0) + margin_shift),
                "scored_at": self.clock.now(),
                "bank_version": self.version,
            }
            results.append(storage_kit.result(self.offset, **(fields | changes)))
            self.offset += 1
        self.database.results.save_batch(results, [], [])

    def look(self) -> dict[str, int | float]:
        return dict(self.watch.look(lambda: None).figures)

    def proposals(self) -> list[ProposalRow]:
        from sqlalchemy import select
        from sqlalchemy.orm import Session

        with Session(self.database.engine) as session:
            return list(session.scalars(select(ProposalRow).order_by(ProposalRow.id)))

    def decide(self, state: ProposalState) -> None:
        from sqlalchemy import update

        self.clock.sleep(1.0)
        with self.database.engine.begin() as connection:
            connection.execute(update(ProposalRow).values(state=state, decided_at=self.clock.now()))
        self.clock.sleep(1.0)


def test_a_task_that_stays_as_it_is_is_left_alone(database: Database) -> None:
    line = Line(database)
    assert line.look() == {"windows": 0, "drifting": 0, "proposed": 0}
    line.stream(WINDOW - 1)
    assert line.look()["windows"] == 0
    for _ in range(5):
        line.stream(WINDOW)
        assert line.look() == {"windows": 1, "drifting": 0, "proposed": 0}
    assert line.proposals() == []


def test_a_task_whose_scores_rise_is_proposed_once_with_the_reason(database: Database) -> None:
    line = Line(database)
    line.stream(2 * WINDOW)
    line.stream(WINDOW, 2.0)
    assert line.look() == {"windows": 3, "drifting": 0, "proposed": 0}  # one window may be a bad batch of parts
    line.stream(WINDOW, 2.0)
    assert line.look() == {"windows": 1, "drifting": 1, "proposed": 1}
    line.stream(WINDOW, 2.0)
    assert line.look() == {"windows": 1, "drifting": 1, "proposed": 0}
    (proposal,) = line.proposals()
    assert (proposal.task_id, proposal.state, proposal.size) == ("nut", ProposalState.OPEN, WINDOW)
    assert "more alarms than calibration promised" in proposal.reason
    assert "scores are higher than at first" in proposal.reason
    assert "in 2 windows in a row" in proposal.reason
    assert proposal.details["results"] == WINDOW
    assert proposal.details["median score"] > 1


def test_scores_that_fall_are_drift_too_and_so_are_margins(database: Database) -> None:
    line = Line(database)
    line.stream(WINDOW)
    line.stream(2 * WINDOW, -2.0, margin_shift=5.0)
    assert line.look()["proposed"] == 1
    (proposal,) = line.proposals()
    assert "scores are lower than at first" in proposal.reason
    assert "pictures lie farther from other products than at first" in proposal.reason


def test_one_bad_batch_of_parts_is_no_drift(database: Database) -> None:
    line = Line(database)
    for shift in (0.0, 3.0, 0.0, 3.0, 0.0):
        line.stream(WINDOW, shift)
    assert line.look() == {"windows": 5, "drifting": 0, "proposed": 0}


def test_unknown_products_late_verdicts_and_other_entries_are_no_evidence(database: Database) -> None:
    line = Line(database)
    line.stream(2 * WINDOW)
    for verdict in (Verdict.UNKNOWN, Verdict.LATE):
        line.stream(3 * WINDOW, 5.0, verdict=verdict)
    line.stream(3 * WINDOW, 5.0, task=TaskId("tile"))
    assert line.look() == {"windows": 2, "drifting": 0, "proposed": 0}
    line.publish(seed=1)
    line.stream(3 * WINDOW, 5.0, bank_version=1)  # a scorer that has not taken the new bank yet
    assert line.look() == {"windows": 0, "drifting": 0, "proposed": 0}


def test_another_entry_begins_anew(database: Database) -> None:
    line = Line(database)
    line.stream(3 * WINDOW, 3.0)
    assert line.look()["drifting"] == 1
    line.decide(ProposalState.APPROVED)
    line.publish(seed=1)
    assert line.look() == {"windows": 0, "drifting": 0, "proposed": 0}
    line.stream(2 * WINDOW)
    assert line.look() == {"windows": 2, "drifting": 0, "proposed": 0}


def test_what_a_person_rejected_is_how_it_looks_from_then_on(database: Database) -> None:
    line = Line(database)
    line.stream(3 * WINDOW, 2.0)
    assert line.look()["proposed"] == 1
    line.decide(ProposalState.REJECTED)
    line.stream(4 * WINDOW, 2.0)
    assert line.look() == {"windows": 4, "drifting": 0, "proposed": 0}
    line.stream(2 * WINDOW, 5.0)
    assert line.look()["proposed"] == 1
    first, second = line.proposals()
    assert first.state is ProposalState.REJECTED
    assert "higher than at first" in second.reason
    assert "promised" not in second.reason


def test_while_a_job_of_the_task_is_open_nothing_is_proposed(database: Database) -> None:
    line = Line(database)
    line.stream(3 * WINDOW, 3.0)
    job = database.tasks.queue(TaskId("nut"), JobKind.READAPT, {}, line.clock.now())
    assert line.look() == {"windows": 3, "drifting": 1, "proposed": 0}
    database.jobs.cancel(job.id, line.clock.now())
    assert line.look() == {"windows": 0, "drifting": 1, "proposed": 1}


def test_an_approval_whose_job_failed_is_asked_again_only_with_news(database: Database) -> None:
    line = Line(database)
    line.stream(3 * WINDOW, 3.0)
    line.look()
    line.decide(ProposalState.APPROVED)
    assert line.look() == {"windows": 0, "drifting": 1, "proposed": 0}
    line.stream(WINDOW, 3.0)
    assert line.look() == {"windows": 1, "drifting": 1, "proposed": 1}


def test_what_retention_deleted_is_remembered(database: Database) -> None:
    from sqlalchemy import delete

    from stream_ad.adapters.tables import ResultRow

    line = Line(database)
    line.stream(WINDOW)
    line.look()
    with database.engine.begin() as connection:
        connection.execute(delete(ResultRow))
    line.stream(2 * WINDOW, 3.0)
    assert line.look()["proposed"] == 1


def test_results_from_the_future_wait_until_it_is_then(database: Database) -> None:
    line = Line(database)
    line.stream(WINDOW, 9.0, scored_at=line.clock.now() + timedelta(days=1))  # a scorer's clock was wrong
    line.stream(2 * WINDOW)
    assert line.look() == {"windows": 2, "drifting": 0, "proposed": 0}


def test_a_batch_of_one_moment_is_not_cut_in_two(database: Database) -> None:
    line = Line(database)
    line.stream(WINDOW - 5)
    moment = line.clock.now() + timedelta(seconds=1)
    line.stream(16, scored_at=moment)
    line.look()
    assert database.drift.states()[TaskId("nut")].latest["results"] == WINDOW - 5 + 16
    line.stream(WINDOW)
    assert line.look()["windows"] == 1


def test_who_leads_no_more_stops_between_windows(database: Database) -> None:
    line = Line(database)
    line.stream(3 * WINDOW)

    def still() -> None:
        if database.drift.states():
            raise LeadershipLost("another leads")

    with pytest.raises(LeadershipLost):
        line.watch.look(still)
    assert database.drift.states()[TaskId("nut")].windows == 1
    assert line.look()["windows"] == 2  # the next leader goes on there


# --- real pictures ------------------------------------------------------------------------------------

SHARED = Path(__file__).parents[2] / "shared"
DATASETS = Path(os.environ.get("STREAM_AD_DATASETS", SHARED / "datasets"))
WEIGHTS = Path(os.environ.get("STREAM_AD_WEIGHTS", SHARED / "weights"))
PRODUCT, OTHER = "mvtec_bottle", "magnetic_tile"
LEARNED, AT_ONCE = 40, 28


@pytest.mark.needs_datasets
@pytest.mark.needs_weights
def test_light_and_focus_that_change_are_seen_on_real_bottles_and_the_same_bottles_are_not():
    from stream_ad.adapters.image_folders import ImageFolder
    from stream_ad.backbones.cached import CachedBackbone
    from stream_ad.backbones.registry import load_backbone
    from stream_ad.detectors.registry import make_detector
    from stream_ad.domain.bank import MemoryBank
    from stream_ad.domain.images import Subset
    from stream_ad.domain.task import Task
    from stream_ad.functional.corruptions import corrupt
    from stream_ad.inspection import BankModel
    from stream_ad.services.learning import learn
    from stream_ad.services.scoring import Scorer
    from tests.pictures import quiet

    if not all((DATASETS / name).is_dir() for name in (PRODUCT, OTHER)):
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    if not (WEIGHTS / "deit-tiny-clip").is_dir():
        pytest.skip(f"needs deit-tiny-clip in {WEIGHTS}; name its folder by STREAM_AD_WEIGHTS")
    plain = load_backbone(f"local-dir:{WEIGHTS / 'deit-tiny-clip'}", image_size=224, weights_dir=WEIGHTS, device="cpu")
    backbone = CachedBackbone(plain)
    detector = make_detector("patchcore", backbone)
    bottles = ImageFolder(DATASETS / PRODUCT)
    order = np.random.default_rng(0).permutation(len(bottles)).tolist()
    learned = {PRODUCT: Subset(bottles, order[:LEARNED]), OTHER: Subset(ImageFolder(DATASETS / OTHER), range(14))}
    bank = MemoryBank(0)
    for version, (name, normals) in enumerate(learned.items(), start=1):
        task = Task(id=TaskId(name), class_name=name.replace("_", " "))
        bank = bank.with_entry(learn(task, normals, detector, backbone, folds=2, progress=quiet), version)
    scorer = Scorer(lambda bank: BankModel(plain, {"patchcore": detector}, bank), bank)

    def window(rows: Sequence[int], kind: str = "light", severity: int = 0) -> dict[str, list[float]]:
        pictures = [corrupt(bottles[row], kind, severity, seed=1).picture for row in rows]
        none = [None] * len(pictures)
        seen = [one for one in scorer.inspect(pictures, declared=none, cameras=none) if one.verdict != Verdict.UNKNOWN]
        return {
            "scores": [one.score for one in seen if one.score is not None],
            "margins": [one.margin for one in seen if one.margin is not None],
        }

    rest = order[LEARNED:]
    first = window(rest[:AT_ONCE])
    promise = promise_of(bank.entries[TaskId(PRODUCT)])

    def seen(now: dict[str, list[float]]) -> set[str]:
        found = signals(now, first, promise, strays=0.1)
        return {name for name, signal in found.items() if signal.p <= level(2, 0.01)}

    later = rest[AT_ONCE : 2 * AT_ONCE]
    assert seen(window(later)) == set()
    assert "margins fall" in seen(window(later, "light", 5))
    assert "margins fall" in seen(window(later, "blur", 2))
    assert {"alarms above promise", "scores rise"} <= seen(window(later, "blur", 3))
