"""What a memory lacks of pictures of good parts that were called NG: rows for those places, and nothing else.

The rows that are there stay, so every distance stays as it is or falls, in a map as in a score: what good pictures were
calibrated to have is an upper bound of what they have now, and a promised false-alarm rate holds without measuring it
again. For the same reason a patch can hide defects that look like what was added; whether it does, only held-out
defects tell.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.memory import ReadOut, entry_roi, level_features, patch_distances
from stream_ad.domain.bank import PATCHED_ROWS, BankEntry
from stream_ad.domain.images import Picture
from stream_ad.errors import DataError
from stream_ad.functional.anomaly_map import roi_patches
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.calibration import STEEPNESS
from stream_ad.functional.neighbors import nearest_distance

#: of a memory's rows, as a share of those that were learned: more is no false alarm but another look of the product
MOST = 0.25
#: by how many standard deviations the 99 % quantile of good pictures' scores lies above their middle
TO_MIDDLE = 2.326


def add_pictures(
    read_out: ReadOut, backbone: Backbone, entry: BankEntry, pictures: Sequence[Picture], *, branch: str = "visual"
) -> dict[str, np.ndarray]:
    """The entry's arrays with rows for those places of the pictures that are farther than good parts are.

    Afterwards no place of them is farther than `_limit`, so the pictures score less than their threshold by a margin.
    At each level the farthest place is taken first (greedy k-center, as the memory itself was made), until none is
    left. Nothing to add: the arrays as they are.

    Raises:
        DataError: that takes more rows than a patch may have.
    """
    limit = _limit(entry, branch)
    points: list[list[Tensor]] = [[] for _ in entry.arrays["levels"]]
    for picture in pictures:
        views = Views(backbone, [picture]).inside(entry_roi(entry))
        far = _inside(patch_distances(read_out, views, entry)[0] > limit, entry)
        if far.any():
            for level, features in enumerate(level_features(read_out, views, entry)):
                side = round(len(features[0]) ** 0.5)
                points[level].append(features[0][_reaching(far, side).flatten()])
    if not any(points):
        return dict(entry.arrays)
    coreset = as_tensor(entry.arrays["coreset"], points[0][0].device)
    units = entry.arrays["units"]
    chosen = [
        _covering(torch.cat(own), coreset[:, level].float(), limit * float(units[level]))
        for level, own in enumerate(points)
    ]
    count = max(len(rows) for rows in chosen)
    before = int(entry.arrays.get(PATCHED_ROWS, 0))
    allowed = int(MOST * (len(coreset) - before)) - before
    if count > allowed:
        raise DataError(
            f"the marked pictures of task {entry.task.id!r} differ from good parts in so many places that {count} rows"
            f" would be added, and {max(allowed, 0)} may be: that is not a false alarm but another look of the product;"
            f" teach it with `stream-ad tasks add-images {entry.task.id} --images DIR`"
        )
    if count == 0:
        return dict(entry.arrays)
    added = torch.stack([_filled(rows, coreset[:, level], count) for level, rows in enumerate(chosen)], dim=1)
    return {
        **entry.arrays,
        "coreset": torch.cat([coreset, added.to(coreset.dtype)]).cpu().numpy(),
        PATCHED_ROWS: np.array(before + count),
    }


def _limit(entry: BankEntry, branch: str) -> float:
    """Halfway between the middle of what good pictures score and the threshold, in raw units of the branch.

    At the threshold the next picture with the same mark would be an alarm again; down to the middle, more would be
    added than it takes, and the more is added the more defects it can hide.
    """
    scale = entry.calibration.score_scales[branch]
    middle = scale.center - TO_MIDDLE * scale.scale
    threshold = scale.center + entry.threshold / STEEPNESS * scale.scale
    return min((middle + threshold) / 2, threshold)


def _inside(far: Bool[Tensor, "grid grid"], entry: BankEntry) -> Bool[Tensor, "grid grid"]:
    roi = entry_roi(entry)
    if roi is None:
        return far
    return far & torch.from_numpy(roi_patches(roi, len(far))).to(far.device).view_as(far)


def _reaching(far: Bool[Tensor, "grid grid"], side: int) -> Bool[Tensor, "side side"]:
    """Which places of a level's own grid a far place of the finest one is interpolated from."""
    spread = far.float()[None, None]
    if side < len(far):
        reach = -(-len(far) // side)
        spread = F.max_pool2d(spread, 2 * reach + 1, stride=1, padding=reach)
        spread = F.adaptive_max_pool2d(spread, side)
    return spread[0, 0] > 0


def _covering(
    points: Float[Tensor, "n channels"], rows: Float[Tensor, "rows channels"], limit: float
) -> Float[Tensor, "chosen channels"]:
    """Points that, added to the rows, leave none of the points farther than `limit`; the farthest first."""
    distance = nearest_distance(points, rows)
    chosen: list[int] = []
    while len(chosen) < len(points) and float(distance.max()) > limit:
        place = int(distance.argmax())
        chosen.append(place)
        distance = torch.minimum(distance, (points - points[place]).norm(dim=1))
        distance[place] = 0
    return points[chosen]


def _filled(rows: Float[Tensor, "chosen channels"], coreset: Tensor, count: int) -> Float[Tensor, "count channels"]:
    """Rows of a level, as many as the level with the most has; what is there already changes no distance."""
    last = rows[-1:] if len(rows) else coreset[-1:].float()
    return torch.cat([rows, last.expand(count - len(rows), -1)])
