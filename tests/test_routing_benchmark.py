"""The benchmark's own parts: an exact answer that leaves work out, and tasks that can be made again."""

import numpy as np

from benchmarks.routing_exact import exact_routes
from benchmarks.routing_tasks import SIZE, SOURCE, Scale
from tests.routing_kit import Known, Product, entry_of, exact


def test_the_exact_answer_is_that_of_comparing_everything():
    entries = [entry_of(f"task-{seed:03d}", seed) for seed in range(0, 600, 5)]
    drawn = [(Product(seed), np.random.default_rng([5, seed])) for seed in range(0, 600, 15)]
    views = Known(
        np.stack([product.patches(rng, 196) for product, rng in drawn]),
        np.concatenate([product.embeddings(rng, 1) for product, rng in drawn]),
    )
    found = exact_routes(views.block(5), views.embedding, entries)
    table = exact(views, entries)
    np.testing.assert_array_equal(found.tasks, table.argmin(axis=1))
    np.testing.assert_allclose(found.products, table.min(axis=1), rtol=1e-4)
    assert found.compared < 0.2


def test_photographs_can_be_taken_again_and_differ_from_each_other():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (SOURCE, SOURCE, 3)).astype(np.uint8) for _ in range(2)]
    one, other = Scale(pictures), Scale(pictures, seed=1)
    assert one.draw(3, 0).shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(one.draw(3, 0), Scale(pictures).draw(3, 0))
    for different in (one.draw(3, 1), one.draw(5, 0), other.draw(3, 0), one.draw(3, 0, 0.5)):
        assert not np.array_equal(one.draw(3, 0), different)
