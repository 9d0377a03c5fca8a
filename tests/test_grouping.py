"""What counts as a group of pictures that look alike. Embeddings are drawn around directions: one is one product."""

import numpy as np
import pytest
from discovery_kit import WIDTH, around
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ad.functional.grouping import ball, group, same_place, spread_over, steadiness

SMALLEST = 20


def pool(*sizes: int, noise: float = 0.05) -> np.ndarray:
    """As many pictures of each product."""
    return np.concatenate([around(axis, size, noise=noise) for axis, size in enumerate(sizes)])


def sizes(embeddings: np.ndarray) -> list[int]:
    return [len(members) for members in group(embeddings, smallest=SMALLEST)]


@pytest.mark.parametrize("products", [1, 2, 3, 8])
def test_each_product_is_one_group_however_many_there_are(products: int) -> None:
    embeddings = pool(*[40] * products)
    groups = group(embeddings, smallest=SMALLEST)
    assert len(groups) == products
    for members in groups:
        assert len({row // 40 for row in members.tolist()}) == 1  # none holds pictures of two products
        assert len(members) >= 36


def test_products_that_vary_ten_times_as_much_as_others_are_one_group_too() -> None:
    embeddings = np.concatenate([around(0, 40, noise=0.02), around(1, 40, noise=0.2)])
    groups = group(embeddings, smallest=SMALLEST)
    assert sorted(len({row // 40 for row in members.tolist()}) for members in groups) == [1, 1]


def test_few_pictures_are_no_group_yet() -> None:
    assert sizes(pool(19)) == []
    assert sizes(pool(0)) == []


def test_pictures_that_have_nothing_in_common_are_no_group() -> None:
    points = np.random.default_rng(0).normal(size=(60, 192))
    embeddings = (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)
    assert sizes(embeddings) == []


def test_a_handful_of_other_pictures_joins_no_product() -> None:
    embeddings = pool(60, 6, 5)
    [members] = group(embeddings, smallest=SMALLEST)
    assert set(members.tolist()) <= set(range(60))


def test_pictures_that_are_all_the_same_are_a_group() -> None:
    assert sizes(np.repeat(around(0, 1), 30, axis=0)) == [30]


def test_a_real_product_is_found_again_in_parts_of_the_pool() -> None:
    embeddings = pool(40, 40)
    groups = group(embeddings, smallest=SMALLEST)
    assert min(steadiness(embeddings, groups, smallest=SMALLEST, seed=0)) > 0.9


def test_the_same_pool_gives_the_same_groups_and_steadiness() -> None:
    embeddings = pool(30, 50, noise=0.15)
    first, second = (group(embeddings, smallest=SMALLEST) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert steadiness(embeddings, first, smallest=SMALLEST, seed=3) == steadiness(
        embeddings, first, smallest=SMALLEST, seed=3
    )


@settings(max_examples=15)
@given(st.lists(st.integers(0, 45), min_size=1, max_size=4), st.integers(0, 5))
def test_no_picture_is_in_two_groups_and_every_group_is_large_enough(counts: list[int], seed: int) -> None:
    embeddings = np.concatenate([around(axis, count, seed=seed, noise=0.2) for axis, count in enumerate(counts)])
    members = [row for one in group(embeddings, smallest=SMALLEST) for row in one.tolist()]
    assert len(members) == len(set(members))
    assert all(size >= SMALLEST for size in sizes(embeddings))


def test_a_group_is_known_again_by_where_it_lies() -> None:
    where = ball(around(0, 100))
    assert same_place(where, ball(around(0, 30, seed=1)))
    assert not same_place(where, ball(around(1, 100)))
    assert np.linalg.norm(where.center) == pytest.approx(1)


def test_a_product_is_not_taken_for_the_rubbish_that_lies_all_around_it() -> None:
    rubbish = np.concatenate([around(axis, 10) for axis in range(4)])
    product = ball(around(0, 40))
    assert 1 - ball(rubbish).center @ product.center < ball(rubbish).radius  # its centre is inside
    assert not same_place(ball(rubbish), product)


def test_a_sheet_shows_the_typical_picture_first_and_then_what_differs() -> None:
    embeddings = np.concatenate([around(0, 10, noise=0.01), around(1, 1)])
    shown = spread_over(embeddings, 3)
    assert shown[0] < 10
    assert shown[1] == 10
    assert len(set(shown)) == 3
    assert len(spread_over(embeddings, 50)) == 11
    assert embeddings.shape[1] == WIDTH
