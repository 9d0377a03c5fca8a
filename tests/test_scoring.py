from dataclasses import replace

import numpy as np
import pytest

from stream_ad.detectors.registry import make_detectors
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.result import Verdict
from stream_ad.errors import BankError
from stream_ad.inspection import BankModel
from stream_ad.services.scoring import Scorer
from tests.models import cached, detectors, learned, tiny, uncached_detectors
from tests.pictures import NUT, TILE, Pictures, checks, disc, stripes


def bank_of(*entries):
    bank = MemoryBank(0)
    for version, entry in enumerate(entries, start=1):
        bank = bank.with_entry(entry, version)
    return bank


@pytest.fixture(scope="module")
def nut():
    task = replace(NUT, product_ids=("4711",), cameras=("cam-nut",))
    return learned(task, Pictures([disc(seed) for seed in range(20)]))


@pytest.fixture(scope="module")
def tile():
    return learned(TILE, Pictures([checks(seed) for seed in range(20)]), "patchcore")


def scorer_of(bank):
    return Scorer(lambda bank: BankModel(cached(), detectors(), bank), bank)


def uncached_scorer_of(bank):
    """Computes every pass, so that batches can differ."""
    return Scorer(lambda bank: BankModel(tiny(), uncached_detectors(), bank), bank)


def inspect(scorer, *pictures, declared=None, camera=None):
    return scorer.inspect(pictures, declared=[declared] * len(pictures), cameras=[camera] * len(pictures))


def test_a_good_part_is_ok_a_scratched_one_ng_a_strange_one_unknown(nut, tile):
    found = inspect(scorer_of(bank_of(nut, tile)), disc(70), disc(71, scratched=True), stripes(0))
    assert [one.verdict for one in found] == [Verdict.OK, Verdict.NG, Verdict.UNKNOWN]
    assert [one.task for one in found[:2]] == ["nut", "nut"]
    assert found[1].p_value == pytest.approx(1 / 21)
    score, threshold = found[1].score, found[1].threshold
    assert score is not None
    assert threshold is not None
    assert score > threshold


def test_an_empty_bank_knows_nothing_and_says_so():
    [one] = inspect(scorer_of(MemoryBank(0)), disc(0))
    assert (one.verdict, one.task, one.score) == (Verdict.UNKNOWN, None, None)
    assert inspect(scorer_of(MemoryBank(0))) == []


def test_a_declared_product_wins_and_a_disagreement_is_no_ok(nut, tile):
    scorer = scorer_of(bank_of(nut, tile))
    [agreed] = inspect(scorer, disc(70), declared="4711")
    assert (agreed.verdict, agreed.alarm) == (Verdict.OK, None)
    [wrong] = inspect(scorer, checks(70), declared="4711")
    assert wrong.task == "nut"
    assert wrong.verdict is not Verdict.OK
    assert "looks like task 'tile'" in str(wrong.alarm)
    [absent] = inspect(scorer, disc(70), declared="0815")
    assert absent.verdict is Verdict.UNKNOWN
    assert "no task of the bank has that id" in str(absent.alarm)


def test_a_camera_of_one_product_declares_it(nut, tile):
    [wrong] = inspect(scorer_of(bank_of(nut, tile)), checks(70), camera="cam-nut")
    assert "camera 'cam-nut' stands for task 'nut'" in str(wrong.alarm)


def test_untouched_tasks_score_bit_identically_whatever_happens_beside_them(nut, tile):
    """Before and after another task, in any batch, after a rollback: the oracle's scores do not move a bit."""
    pictures = [disc(seed, scratched=seed % 2 == 0) for seed in range(80, 88)]
    alone = uncached_scorer_of(bank_of(nut))
    before = inspect(alone, *pictures, declared="nut")
    grown = uncached_scorer_of(bank_of(nut))
    grown.use(bank_of(nut, tile))
    after = inspect(grown, *pictures, declared="nut")
    one_by_one = [inspect(grown, picture, declared="nut")[0] for picture in pictures]
    grown.use(bank_of(nut))
    rolled_back = inspect(grown, *pictures, declared="nut")
    for found in (after, one_by_one, rolled_back):
        assert [one.score for one in found] == [one.score for one in before]
        for one, other in zip(found, before, strict=True):
            np.testing.assert_array_equal(one.map, other.map)


def test_a_routed_picture_fares_the_same_alone_and_among_others(nut, tile):
    scorer = uncached_scorer_of(bank_of(nut, tile))
    pictures = [disc(80), checks(81), disc(82, scratched=True), stripes(83), checks(84), disc(85), disc(86), stripes(0)]
    together = inspect(scorer, *pictures)
    assert {one.verdict for one in together} == {Verdict.OK, Verdict.NG, Verdict.UNKNOWN}
    for one, picture in zip(together, pictures, strict=True):
        [alone] = inspect(scorer, picture)
        assert (alone.task, alone.score, alone.p_value) == (one.task, one.score, one.p_value)
        assert (alone.verdict, alone.margin) == (one.verdict, one.margin)
        np.testing.assert_array_equal(alone.map, one.map)


def test_a_bank_of_other_features_is_refused_and_the_old_one_stays(nut):
    scorer = scorer_of(bank_of(nut))
    stranger = replace(nut, features=replace(nut.features, weights_sha256="0" * 64))
    with pytest.raises(BankError, match="was learned with features"):
        scorer.use(bank_of(stranger))
    assert inspect(scorer, disc(70))[0].verdict is Verdict.OK


def test_keys_of_another_block_than_the_routers_are_refused(nut):
    with pytest.raises(BankError, match=r"keys of block 5, this program reads detector\.feature_block = 3"):
        BankModel(cached(), detectors(), bank_of(nut), feature_block=3)


def test_an_entry_is_scored_as_it_was_learned_whatever_the_program_is_set_to(nut):
    """Its threshold was calibrated on its own blocks, scales and mean."""
    changed = {"top_k": 1, "blocks": (2, 3), "scales": (2,), "whitening": 5}
    others = make_detectors(cached(), {"cmpmb": changed, "patchcore": changed})
    own, other = (BankModel(cached(), each, bank_of(nut)) for each in (detectors(), others))
    one, two = (model.find(model.views([disc(70)]), [nut])[0] for model in (own, other))
    assert one.score == two.score
    np.testing.assert_array_equal(one.map, two.map)
