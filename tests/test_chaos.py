"""The laws of the chaos run can be broken: each is held against a run that kept it and one that did not."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from benchmarks import chaos_laws as laws
from benchmarks.chaos import Plan, schedule
from benchmarks.chaos_laws import Row, Verdicts
from benchmarks.stream_records import POISON, planned, poison_of, spoilt
from stream_ad.adapters.decode import decode
from stream_ad.domain.message import DeadLetter, Record
from stream_ad.errors import UndecodableImage
from stream_ad.services.messages import read_message

ROW = Row("image-0", "cam-1", None, "nut", 1.5, 2.0, "OK", None, 1)
TOPIC = {(0, 0): "image-0", (0, 1): "image-1"}
GOOD = Verdicts({(0, 0): ROW}, {(0, 1): "decode"})


def document(row: Row, offset: int = 0, **changes: object) -> dict[str, object]:
    values = {"score": row.score, "verdict": row.verdict, "bank_version": row.bank, "partition": 0, "offset": offset}
    return values | {"id": f"result:images/0/{offset}"} | changes


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (GOOD, False),
        (Verdicts(GOOD.rows, {}), True),  # one is missing
        (Verdicts(GOOD.rows, {(0, 0): "decode", (0, 1): "decode"}), True),  # one has both
        (Verdicts({**GOOD.rows, (0, 2): ROW}, GOOD.letters), True),  # one that nobody sent
        (Verdicts({(0, 0): replace(ROW, message_id="image-7")}, GOOD.letters), True),  # another picture's verdict
    ],
)
def test_every_record_has_one_row_or_one_dead_letter(found: Verdicts, broken: bool):
    assert laws.every_record_once(TOPIC, found).broken is broken


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (GOOD, False),
        (Verdicts(GOOD.rows, {(0, 1): "score"}), True),
        (Verdicts({**GOOD.rows, (0, 1): ROW}, {}), True),  # poison was scored
        (Verdicts({}, {**GOOD.letters, (0, 0): "crash"}), True),  # a good picture was put aside
    ],
)
def test_dead_letters_are_the_poison_alone(found: Verdicts, broken: bool):
    assert laws.poison_and_nothing_else(TOPIC, {"image-1": "decode"}, found).broken is broken


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        (ROW, False),
        (replace(ROW, score=1.5 + 1e-5), False),
        (replace(ROW, score=1.51), True),
        (replace(ROW, score=None), True),
        (replace(ROW, verdict="NG"), True),
        (replace(ROW, task="tile"), True),
        (replace(ROW, bank=3), True),  # no clean run had this bank
    ],
)
def test_rows_agree_with_the_clean_run_of_their_bank(row: Row, broken: bool):
    assert laws.as_in_a_clean_run(Verdicts({(0, 0): row}, {}), {1: {(0, 0): ROW}}).broken is broken


def test_a_verdict_may_differ_only_where_the_score_is_on_the_line():
    on_it = replace(ROW, score=2.0 + 1e-6, verdict="NG")
    clean = replace(ROW, score=2.0 - 1e-6)
    assert not laws.as_in_a_clean_run(Verdicts({(0, 0): on_it}, {}), {1: {(0, 0): clean}}).broken


@pytest.mark.parametrize(
    ("shown", "broken"),
    [
        ([document(ROW)], False),
        ([document(ROW), document(ROW)], False),  # the same again
        ([document(ROW)] * 3, True),  # too often
        ([document(ROW), document(ROW, score=1.6)], True),  # again, and other
        ([document(ROW, verdict="NG")], True),  # not what the database says
        ([], True),
        ([document(ROW), document(ROW, offset=5)], True),  # of no row
    ],
)
def test_what_was_shown_is_what_the_database_says(shown: list[dict[str, object]], broken: bool):
    assert laws.shown_once("topic", shown, {(0, 0): ROW}, repeats_allowed=1).broken is broken


def test_the_other_laws_can_be_broken_too():
    assert not laws.letters_sent([(0, 1), (0, 1)], [(0, 1)], repeats_allowed=1).broken
    assert laws.letters_sent([(0, 1), (0, 1)], [(0, 1)], repeats_allowed=0).broken
    assert laws.letters_sent([], [(0, 1)], repeats_allowed=1).broken
    assert not laws.torn_lines(1, 1).broken
    assert laws.torn_lines(2, 1).broken
    kept = {"outbox": 0, "attempts": 0, "committed": 2, "records": 2}
    assert not laws.nothing_is_left(**kept).broken
    for name in kept:
        assert laws.nothing_is_left(**kept | {name: 1}).broken
    assert not laws.memory_is_bounded([500.0, 600.0], 500.0).broken
    assert laws.memory_is_bounded([500.0, 700.0], 500.0).broken
    assert not laws.ends_well([], [0, 0]).broken
    assert laws.ends_well([2], [0, 0]).broken
    assert laws.ends_well([], [0, -9]).broken
    assert not laws.done_as_planned({"kill": 2}, {"kill": 2}).broken
    assert laws.done_as_planned({"kill": 2}, {"kill": 1}).broken


def test_the_schedule_follows_from_the_seed_and_has_every_fault():
    plan = Plan(seed=7)
    faults = schedule(plan)
    assert faults == schedule(plan)
    assert faults != schedule(Plan(seed=8))
    assert Counter(fault.kind for fault in faults) == plan.faults
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)


def test_a_record_follows_from_its_number_and_the_share_of_poison_is_kept():
    assert planned(5, seed=1, side=16, poison=0.0) == planned(5, seed=1, side=16, poison=0.0)
    poison = [poison_of(number, seed=1, share=0.02) for number in range(20_000)]
    assert 300 < sum(wrong is not None for wrong in poison) < 500
    assert set(poison) == {None, *POISON}


@pytest.mark.parametrize("wrong", POISON)
def test_each_kind_of_poison_is_refused_at_its_stage(wrong: str):
    sent = planned(0, seed=1, side=16, poison=0.0)
    data, headers = spoilt(wrong, sent.value, sent.headers)
    record = Record(topic="images", partition=0, offset=0, key=None, value=data, headers=headers)
    message = read_message(record, None, at=datetime(2026, 11, 22, tzinfo=UTC))
    if POISON[wrong] == "decode":
        assert not isinstance(message, DeadLetter)
        with pytest.raises(UndecodableImage):
            decode(message.data)
    else:
        assert isinstance(message, DeadLetter)
        assert message.stage == POISON[wrong]


def test_a_picture_that_is_not_poison_is_read_and_decoded():
    sent = planned(0, seed=1, side=16, poison=0.0)
    assert decode(sent.value).shape == (16, 16, 3)
