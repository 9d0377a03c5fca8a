import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.routing.index import TaskIndex, faiss
from stream_ad.routing.keys import KeyDistance, landmarks
from stream_ad.routing.refusal import Refusal
from stream_ad.routing.router import Router
from tests.models import learned, model
from tests.pictures import CLOTH, NUT, TILE, Pictures, checks, disc, stripes


@pytest.fixture(scope="module")
def entries():
    return [
        learned(task, Pictures([draw(seed) for seed in range(10)]), "patchcore")
        for task, draw in ((NUT, disc), (TILE, checks))
    ]


def test_each_image_goes_to_its_product(entries):
    router = model(*entries)
    routes = router.route(router.views([disc(50), checks(50), disc(51), disc(52, scratched=True)]))
    assert [route.entry.task.id for route in routes] == ["nut", "tile", "nut", "nut"]
    assert not any(route.refused for route in routes)
    assert all(route.margin is not None and route.margin > 0 for route in routes)


def test_a_product_never_seen_is_refused(entries):
    router = model(*entries)
    assert all(route.refused for route in router.route(router.views([stripes(0), stripes(1)])))


def test_refusal_can_be_switched_off(entries):
    router = model(*entries, refuse=False)
    assert not router.route(router.views([stripes(0)]))[0].refused


def test_routes_do_not_depend_on_the_batch_or_on_the_order_of_arrival(entries):
    pictures = [disc(50), checks(50), stripes(50)]
    one, two = model(*entries), model(*reversed(entries))
    together = one.route(one.views(pictures))
    assert [(r.entry.task.id, r.margin, r.strangeness) for r in together] == [
        (r.entry.task.id, r.margin, r.strangeness) for picture in pictures for r in two.route(two.views([picture]))
    ]
    assert one.bank.sha256 == two.bank.sha256


def test_a_short_shortlist_finds_the_same_task(entries):
    cloth = learned(CLOTH, Pictures([stripes(seed) for seed in range(10)]), "patchcore")
    full = model(*entries, cloth)
    short = Router(full.bank, block=5, shortlist=1)
    views = full.views([disc(50), checks(50), stripes(50)])
    assert [r.entry.task.id for r in short.route(views)] == [r.entry.task.id for r in full.route(views)]


def test_strangeness_rises_with_both_distances_and_knows_its_own_parts(entries):
    nut, _ = entries
    refusal = Refusal(entries, TaskIndex([landmarks(entry.arrays) for entry in entries]))
    usual = KeyDistance(
        *(float(np.median(d)) for d in (nut.calibration.key_distances, nut.calibration.embedding_distances))
    )
    assert 0 < refusal.strangeness(nut, usual) < refusal.limit
    assert refusal.strangeness(nut, usual._replace(keys=2 * usual.keys)) > refusal.strangeness(nut, usual)
    assert refusal.strangeness(nut, usual._replace(embedding=1.0)) > refusal.limit


@pytest.mark.skipif(faiss is None, reason="faiss is an optional extra and is not installed here")
@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 9))
@settings(deadline=None)
def test_faiss_and_torch_find_the_same(tasks, k, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(tasks + 20, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    landmarks = np.array_split(vectors[:-10], tasks)
    one, two = (TaskIndex(landmarks, use_faiss=use) for use in (True, False))
    for query in vectors[-10:]:
        first, second = one.search(query, k), two.search(query, k)
        np.testing.assert_array_equal(first.tasks, second.tasks)
        np.testing.assert_allclose(first.distances, second.distances, rtol=1e-4, atol=1e-5)
