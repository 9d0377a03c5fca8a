"""Sets that must stay apart: reserving normals, painting defects on them, dividing held-out pictures by hash.

All of it follows from the pictures' ids alone, never from the order of files or a seed of the day.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import combinations

import numpy as np

from stream_ad.domain.evaluation import Half
from stream_ad.domain.images import HeldoutImage, ImageSet, LabelledSet, LabelledSubset, Mask, Subset
from stream_ad.errors import DataError, OverlappingSplits
from stream_ad.functional.perturbation import KINDS, perturb

SYNTHETIC = "synthetic "  # before the kind of a painted defect
SHOWN = 3  # pairs of files that a message names


class SyntheticHeldout:
    """Each normal as good, followed by copies with a painted defect; a `HeldoutSet`.

    Kinds of defects take turns along the sorted ids, so both halves get the same share of each. A copy's id follows
    from its normal's id and what was painted, because painting all to hash them would cost what it saves.
    """

    def __init__(self, normals: ImageSet, *, seed: int = 0, per_image: int = 1, roi: Mask | None = None) -> None:
        self.normals, self.seed, self.per_image, self.roi = normals, seed, per_image, roi
        normal_ids = normals.ids
        rank = {id: place for place, id in enumerate(sorted(normal_ids))}
        self.ids: Sequence[str] = []
        self.kinds: Sequence[str] = []
        for id in normal_ids:
            # halves take every second rank, so a kind keeps its turn for two
            turn = rank[id] // 2 * per_image
            painted = [KINDS[(turn + copy) % len(KINDS)] for copy in range(per_image)]
            self.kinds += ["good", *(f"{SYNTHETIC}{kind}" for kind in painted)]
            copies = [f"{id} {kind} {seed} {copy}" for copy, kind in enumerate(painted)]
            self.ids += [id, *(sha256(copy.encode()).hexdigest() for copy in copies)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> HeldoutImage:
        place, copy = divmod(range(len(self))[index], 1 + self.per_image)
        pixels, id, kind = self.normals[place], self.ids[index], self.kinds[index]
        if copy == 0:
            return HeldoutImage(id=id, pixels=pixels, defective=False, mask=None, kind=kind)
        rng = np.random.default_rng([self.seed, int(id[:16], 16)])
        painted, mask = perturb(pixels, rng, kinds=(kind.removeprefix(SYNTHETIC),), roi=self.roi)
        return HeldoutImage(id=id, pixels=painted, defective=True, mask=mask, kind=kind, synthetic=True)

    @property
    def defective(self) -> Sequence[bool]:
        return [kind != "good" for kind in self.kinds]


def synthetic_heldout(
    normals: ImageSet, *, seed: int = 0, per_image: int = 1, roi: Mask | None = None
) -> SyntheticHeldout:
    """Held-out pictures made of normals alone: each as it is, and with defects painted inside `roi`.

    The copies are marked `synthetic`, and nothing measured on them may be shown as measured on real defects.
    """
    return SyntheticHeldout(normals, seed=seed, per_image=per_image, roi=roi)


def reserve(normals: ImageSet, share: float, *, at_least: int = 2) -> tuple[Subset, Subset]:
    """Normals to learn from, and about `share` of them kept apart: those whose ids come first.

    Raises:
        DataError: there are fewer than `at_least` + 1 pictures.
    """
    if len(normals) <= at_least:
        raise DataError(
            f"needed more than {at_least} normal pictures to keep {at_least} of them apart, got {len(normals)};"
            " add more, or give a held-out set"
        )
    count = min(max(round(share * len(normals)), at_least), len(normals) - 1)
    ids = normals.ids
    apart = set(sorted(range(len(ids)), key=lambda index: ids[index])[:count])
    everything = range(len(ids))
    return (
        Subset(normals, [index for index in everything if index not in apart]),
        Subset(normals, sorted(apart)),
    )


def split_halves(heldout: LabelledSet) -> Mapping[Half, LabelledSubset]:
    """The set divided by hash: within each kind, ranked by id, every second picture goes to the other half.

    Halves differ by at most one good picture and one defective one. A painted copy stays with its normal, so that the
    halves share no part.
    """
    if isinstance(heldout, SyntheticHeldout):
        group = 1 + heldout.per_image
        normal_ids = heldout.normals.ids
        ranked = sorted(range(len(normal_ids)), key=lambda place: normal_ids[place])
        regression = {place * group + copy for place in ranked[::2] for copy in range(group)}
    else:
        ids, kinds = heldout.ids, heldout.kinds
        good = sorted((index for index in range(len(ids)) if kinds[index] == "good"), key=lambda index: ids[index])
        # one turn through all kinds, so that many kinds of one picture each are divided evenly as well
        bad = sorted(
            (index for index in range(len(ids)) if kinds[index] != "good"), key=lambda index: (kinds[index], ids[index])
        )
        regression = {*good[::2], *bad[::2]}
    everything = range(len(heldout))
    return {
        Half.REGRESSION: LabelledSubset(heldout, [index for index in everything if index in regression]),
        Half.TEST: LabelledSubset(heldout, [index for index in everything if index not in regression]),
    }


def check_disjoint(sets: Mapping[str, Mapping[str, str]]) -> None:
    """Nothing, when no picture is in two of the sets. Each set gives the id of each of its files.

    Raises:
        OverlappingSplits: names the files.
    """
    for (first_set, first), (second_set, second) in combinations(sets.items(), 2):
        files = {id: name for name, id in first.items()}
        pairs = [(files[id], name) for name, id in second.items() if id in files]
        if pairs:
            shown = "; ".join(f"{one} = {other}" for one, other in pairs[:SHOWN])
            raise OverlappingSplits(
                f"{len(pairs)} pictures are in {first_set} and in {second_set}, pixel by pixel: {shown}"
                f"{'; ...' if len(pairs) > SHOWN else ''}. Remove them from one of the two"
            )
