"""Sticky routing: what a camera showed last stands until something speaks against it."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError
from stream_ad.inspection import BankModel, Finding
from stream_ad.routing.router import Route
from stream_ad.services.scoring import Scorer
from tests.storage_kit import entry

NUT, TILE = (
    replace(entry(name), task=replace(entry(name).task, product_ids=(f"p-{name}",), cameras=(f"cam-{name}",)))
    for name in ("nut", "tile")
)
BANK = MemoryBank(0).with_entry(NUT, 1).with_entry(TILE, 2)
LOW, HIGH = (np.full((4, 4), value, np.float32) for value in (-9, 9))


class Model(BankModel):
    """Knows products by a pixel: 0 a nut, 1 a tile, 2 neither, 3 a bad nut, 4 a tile that a nut's memory finds OK."""

    def __init__(self, bank: MemoryBank) -> None:
        self.bank = bank
        self.backbone = cast(Any, SimpleNamespace(spec="fake"))
        self.routed: list[int] = []
        self.found: list[int] = []

    def views(self, pictures: Any) -> Any:
        return Kinds([int(picture[0, 0, 0]) for picture in pictures])

    def route(self, views: Any) -> list[Route]:
        self.routed += views.kinds
        return [self._route(kind) for kind in views.kinds]

    def _route(self, kind: int) -> Route:
        owner = self.bank.entry({0: "nut", 3: "nut"}.get(kind, "tile"))
        return Route(owner, refused=kind == 2, margin=0.5, strangeness=2.0 if kind == 2 else 0.1)

    def find(self, views: Any, entries: Any) -> list[Finding]:
        self.found += views.kinds
        fits = {("nut", 0), ("nut", 4), ("tile", 1), ("tile", 4)}
        return [
            Finding(one, *((-9.0, LOW) if (one.task.id, kind) in fits else (9.0, HIGH)))
            for one, kind in zip(entries, views.kinds, strict=True)
        ]


class Kinds(Views):
    def __init__(self, kinds: list[int]) -> None:
        self.kinds = kinds

    def select(self, rows: Any) -> "Kinds":
        return Kinds([self.kinds[row] for row in rows])


def scorer_of(checks: int, bank: MemoryBank = BANK) -> tuple[Scorer, list[Model]]:
    models: list[Model] = []

    def make(bank: MemoryBank) -> BankModel:
        models.append(Model(bank))
        return models[-1]

    return Scorer(make, bank, sticky_checks=checks), models


def inspect(scorer: Scorer, *kinds: int, camera: str | None = "c", product: str | None = None) -> list[Any]:
    pictures = [np.full((2, 2, 3), kind, np.uint8) for kind in kinds]
    found = scorer.inspect(pictures, declared=[product] * len(kinds), cameras=[camera] * len(kinds))
    return [(one.verdict, one.task, one.margin is None, one.alarm) for one in found]


OK_NUT, OK_TILE = (Verdict.OK, "nut"), (Verdict.OK, "tile")


def heads(found: list[Any]) -> list[Any]:
    return [one[:2] for one in found]


def test_off_routes_every_picture():
    scorer, [model] = scorer_of(1)
    found = inspect(scorer, 0, 0, 0)
    assert heads(found) == [OK_NUT] * 3
    assert not any(unrouted for _, _, unrouted, _ in found)
    inspect(scorer, 0, 0)
    assert model.routed == [0] * 5


def test_every_nth_picture_is_routed_while_nothing_changes():
    scorer, [model] = scorer_of(4)
    unrouted = [inspect(scorer, 0)[0][2] for _ in range(9)]
    assert unrouted == [False, True, True, True, False, True, True, True, False]
    assert model.routed == [0, 0, 0]


def test_a_change_that_looks_bad_is_noticed_at_once():
    scorer, [model] = scorer_of(100)
    assert heads(inspect(scorer, 0, 0)) == [OK_NUT] * 2
    assert heads(inspect(scorer, 1)) == [OK_TILE]
    model.routed.clear()
    assert heads(inspect(scorer, 1, 1)) == [OK_TILE] * 2
    assert model.routed == []


def test_a_change_that_looks_ok_is_noticed_at_the_latest_at_the_next_check():
    scorer, _ = scorer_of(4)
    inspect(scorer, 0)
    tasks = [inspect(scorer, 4)[0][1] for _ in range(5)]
    assert tasks == ["nut", "nut", "nut", "tile", "tile"]


def test_a_bad_part_is_routed_before_its_verdict_and_stays_of_its_product():
    scorer, [model] = scorer_of(100)
    inspect(scorer, 0)
    assert inspect(scorer, 3) == [(Verdict.NG, "nut", False, None)]
    assert model.routed == [0, 3]
    assert model.found == [0, 3]  # once


def test_an_unknown_product_is_never_stuck_to():
    scorer, [model] = scorer_of(100)
    inspect(scorer, 0)
    assert [one[0] for one in inspect(scorer, 2, 2)] == [Verdict.UNKNOWN] * 2
    assert inspect(scorer, 0)[0][:3] == (Verdict.OK, "nut", False)
    assert model.routed.count(0) == 2


def test_cameras_have_nothing_to_do_with_each_other_and_none_is_no_camera():
    scorer, [model] = scorer_of(100)
    inspect(scorer, 0, camera="a")
    inspect(scorer, 1, camera="b")
    inspect(scorer, 0, camera="a")
    inspect(scorer, 1, camera="b")
    assert model.routed == [0, 1]
    inspect(scorer, 0, 0, camera=None)
    inspect(scorer, 0, camera=None)
    assert model.routed == [0, 1, 0, 0, 0]


def test_a_declared_product_is_checked_as_often():
    scorer, [model] = scorer_of(3)
    assert [inspect(scorer, 0, product="p-nut")[0][2] for _ in range(4)] == [False, True, True, False]
    changed = inspect(scorer, 0, product="tile")  # another declaration is never taken on trust
    assert changed[0][0] is not Verdict.OK
    assert "looks like task 'nut'" in str(changed[0][3])
    assert len(model.routed) == 3


def test_a_disagreement_alarms_at_once_when_the_picture_is_not_ok_as_the_declared_product():
    scorer, _ = scorer_of(100)
    inspect(scorer, 0, product="nut")
    [(verdict, task, _, alarm)] = inspect(scorer, 1, product="nut")
    assert (verdict, task) == (Verdict.NG, "nut")
    assert "looks like task 'tile'" in alarm


def test_another_bank_starts_anew():
    scorer, models = scorer_of(100)
    inspect(scorer, 0)
    scorer.use(MemoryBank(0).with_entry(NUT, 1).with_entry(TILE, 3))
    assert not inspect(scorer, 0)[0][2]
    assert models[1].routed == [0]


def test_a_refused_bank_and_a_failed_batch_change_nothing(monkeypatch: pytest.MonkeyPatch):
    scorer, [model] = scorer_of(100)
    inspect(scorer, 0)

    def refuse(bank: MemoryBank) -> Any:
        raise BankError("it does not fit; adapt it again")

    with monkeypatch.context() as patch:
        patch.setattr(scorer, "_make_model", refuse)
        with pytest.raises(BankError):
            scorer.use(MemoryBank(7))
    with monkeypatch.context() as patch:
        patch.setattr(model, "find", lambda views, entries: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            inspect(scorer, 1, 1)
    assert inspect(scorer, 0)[0][2]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from([None, "nut", "p-tile"])), max_size=12
    ),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=200)
def test_batches_change_nothing(shots: list[tuple[int, str, str | None]], checks: int):
    """And no picture is OK without being routed unless it is OK as what was routed last."""
    kinds, cameras, products = [shot[0] for shot in shots], [shot[1] for shot in shots], [shot[2] for shot in shots]
    together, _ = scorer_of(checks)
    alone, _ = scorer_of(checks)
    pictures = [np.full((2, 2, 3), kind, np.uint8) for kind in kinds]
    batch = together.inspect(pictures, declared=products, cameras=cameras)
    singles = [
        alone.inspect([picture], declared=[product], cameras=[camera])[0]
        for picture, product, camera in zip(pictures, products, cameras, strict=True)
    ]
    assert [(o.verdict, o.task, o.margin, o.alarm) for o in batch] == [
        (o.verdict, o.task, o.margin, o.alarm) for o in singles
    ]
    for one in batch:
        assert one.margin is not None or one.verdict is Verdict.OK


def test_a_camera_of_two_tasks_declares_neither():
    both = replace(TILE, task=replace(TILE.task, cameras=("cam-nut",)))
    scorer, _ = scorer_of(1, MemoryBank(0).with_entry(NUT, 1).with_entry(both, 2))
    assert inspect(scorer, 1, camera="cam-nut") == [(Verdict.OK, "tile", False, None)]


def test_a_tasks_own_name_goes_before_another_ones_product_id():
    alias = replace(NUT, task=replace(NUT.task, id=TaskId("bolt"), product_ids=("tile",)))
    scorer, _ = scorer_of(
        1, cast(MemoryBank, MemoryBank(0).with_entry(alias, 1).with_entry(TILE, 2).with_entry(NUT, 3))
    )
    assert inspect(scorer, 1, product="tile", camera=None) == [(Verdict.OK, "tile", False, None)]
