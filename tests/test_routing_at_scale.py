"""The router against its own definition, on thousands of tasks made of numbers; and what a large bank may cost."""

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_ad.adapters.arrays import MAPPED_FILES, FileEntryStore
from stream_ad.functional.arrays import _Kept, as_tensor
from stream_ad.routing.index import LISTS_FROM, TaskIndex, faiss
from stream_ad.routing.keys import landmarks
from stream_ad.routing.router import Router
from tests.routing_kit import bank_of, entry_of, exact, images_of

TASKS = 2000


@pytest.fixture(scope="module")
def many():
    return [entry_of(f"task-{seed:04d}", seed) for seed in range(TASKS)]


def names(router: Router, views) -> list[str]:
    return [str(route.entry.task.id) for route in router.route(views)]


def test_the_shortlist_agrees_with_comparing_all_of_2000_tasks(many):
    views = images_of(np.random.default_rng(0).permutation(TASKS)[:200])
    wanted = [many[column].task.id for column in exact(views, many).argmin(axis=1)]
    found = names(Router(bank_of(many), block=5), views)
    assert sum(one != two for one, two in zip(found, wanted, strict=True)) == 0


def test_a_shortlist_of_all_tasks_is_the_definition():
    few = [entry_of(f"task-{seed}", seed) for seed in range(0, 400, 40)]  # one family
    views = images_of(range(0, 400, 40), number=1)
    table = exact(views, few)
    routes = Router(bank_of(few), block=5, shortlist=10).route(views)
    for row, route in enumerate(routes):
        assert route.entry.task.id == few[int(table[row].argmin())].task.id
        best, second = np.sort(table[row])[:2]
        assert route.margin == pytest.approx(second / best - 1, rel=0.2, abs=0.02)  # the second by some of its patches


def test_equal_tasks_are_a_tie_that_the_first_name_wins():
    twins = [entry_of(name, 7) for name in ("b", "a", "c")]
    others = [entry_of(f"other-{seed}", seed) for seed in (8, 9)]
    for bank in (bank_of([*twins, *others]), bank_of([*others, *reversed(twins)])):
        [route] = Router(bank, block=5, refuse=False).route(images_of([7]))
        assert route.entry.task.id == "a"
        assert route.margin == 0


def test_a_product_more_moves_no_others_route_by_a_bit(many):
    views = images_of(range(20))
    before = Router(bank_of(many[:100]), block=5, refuse=False).route(views)
    after = Router(bank_of([*many[:100], entry_of("zzz", 5001)]), block=5, refuse=False).route(views)
    assert [(r.entry.task.id) for r in before] == [(r.entry.task.id) for r in after]


@pytest.mark.skipif(faiss is None, reason="faiss is an optional extra and is not installed here")
def test_inverted_lists_find_what_a_search_of_all_finds(many):
    large = [landmarks(entry.arrays) for entry in many]
    assert sum(map(len, large)) > LISTS_FROM
    lists, all_of_them = TaskIndex(large), TaskIndex(large, use_faiss=False)
    queries = images_of(range(0, TASKS, 10), number=2).embedding.numpy()
    pairs = [(lists.search(query, 10).tasks, all_of_them.search(query, 10).tasks) for query in queries]
    assert sum(one[0] != two[0] for one, two in pairs) == 0
    assert np.mean([len(np.intersect1d(one, two)) / 10 for one, two in pairs]) > 0.95


def test_a_bank_is_loaded_and_routed_without_reading_what_is_not_needed(tmp_path: Path):
    """Coresets are mapped only when they are asked for, few files are open at a time, and entries are shared."""
    store = FileEntryStore(tmp_path)
    filler = np.ones((60, 700), np.float32)
    hashes = [store.put(entry_of(f"task-{seed:03d}", seed, coreset=filler)).sha256 for seed in range(300)]
    store = FileEntryStore(tmp_path)
    entries = [store.get(sha256) for sha256 in hashes]
    bank = bank_of(entries)
    router = Router(bank, block=5)
    router.route(images_of(range(300)))
    assert store._mapping.cache_info().currsize <= MAPPED_FILES
    assert len(list(Path("/proc/self/fd").iterdir())) < MAPPED_FILES + 200
    assert store.get(hashes[0]) is entries[0]
    assert not entries[0].arrays["coreset"].flags.writeable
    np.testing.assert_array_equal(entries[0].arrays["coreset"], filler)


def test_memory_stays_below_a_bank_that_was_read_whole(tmp_path: Path):
    store = FileEntryStore(tmp_path)
    filler = np.random.default_rng(0).normal(size=(500, 1000)).astype(np.float32)  # 2 MB
    hashes = [store.put(entry_of(f"task-{seed:03d}", seed, coreset=filler + seed)).sha256 for seed in range(60)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = FileEntryStore(tmp_path)
    bank = bank_of([loaded.get(sha256) for sha256 in hashes])
    Router(bank, block=5).route(images_of(range(60)))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 0.5 * 60 * filler.nbytes


def test_copies_of_read_only_arrays_are_kept_up_to_a_size():
    kept = _Kept(max_bytes=100)
    arrays = [np.full(10, value, np.float32) for value in range(6)]
    for array in arrays:
        array.flags.writeable = False
    cpu = torch.device("cpu")
    tensors = [kept.get(array, cpu) for array in arrays]
    assert [int(tensor[0]) for tensor in tensors] == list(range(6))
    assert (len(kept), kept.bytes) == (2, 80)
    assert kept.get(arrays[5], cpu) is tensors[5]
    assert kept.get(arrays[0], cpu) is not tensors[0]
    tensors[5][0] = 1  # a copy: the array stays
    assert arrays[5][0] == 5


def test_views_of_one_array_are_told_apart():
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    whole.flags.writeable = False
    cpu = torch.device("cpu")
    for part in (whole, whole[:2], whole.T, whole.reshape(4, 3), whole[:, :2]):
        np.testing.assert_array_equal(as_tensor(part, cpu).numpy(), part)
