"""When an image is too far from every task: the bound of a bank, from its calibration alone."""

from collections.abc import Sequence

import numpy as np

from stream_ad.domain.bank import BankEntry

ALONE = 1.3  # with one task there is no other to tell from


def refusal_bound(entries: Sequence[BankEntry]) -> float:
    """Cosine distance of the final embedding above which an image is of no known product.

    One bound for all tasks: on 19 products a bound per task refused 87 % of unseen products at 12 % of the known,
    an absolute one 95 % at 4 %. It lies between what a part with a painted defect reaches within its own product
    (the 99 % quantile over all tasks) and how far products are from each other (the lower quartile of each task's
    distance to its nearest neighbour): at their geometric mean. With one task there is only the first.
    """
    within = float(np.quantile(np.concatenate([entry.calibration.embedding_distances for entry in entries]), 0.99))
    if len(entries) < 2:
        return ALONE * within
    embeddings = [np.asarray(entry.arrays["embeddings"], np.float32) for entry in entries]
    nearest = [
        min((1 - own @ other.T).min(axis=1).mean() for j, other in enumerate(embeddings) if j != i)
        for i, own in enumerate(embeddings)
    ]
    between = float(np.quantile(nearest, 0.25))
    return max(within, float(np.sqrt(within * between)))
