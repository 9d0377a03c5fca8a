"""What memory-based detectors share: coresets of normal patches and the distance to them.

A memory has one coreset per *level*: a block of the backbone, read out of the whole picture (scale 1) or of its s x s
tiles, each at the input size (scale s). An entry says which levels it has, and is always scored as it was learned.

Array        shape                     what it is
levels       (levels, 2)               scale and block of each level
coreset      (rows, levels, C)         normal patches in the order of their choice, whitened; float16
directions   (levels, rank, C)         the whitening of each level; rank 0: features as they are
gains        (levels, rank)
units        (levels,)                 mean distance of the normal patches to the coreset: what a level is measured in
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stream_ad.backbones.base import Backbone
from stream_ad.backbones.views import Views
from stream_ad.detectors.base import RawPrediction
from stream_ad.domain.bank import BankEntry
from stream_ad.domain.images import ImageSet, Mask
from stream_ad.domain.ports import Progress
from stream_ad.functional.anomaly_map import roi_patches, top_mean, upsample
from stream_ad.functional.arrays import as_tensor
from stream_ad.functional.neighbors import nearest_distance
from stream_ad.functional.sampling import farthest_point_sampling
from stream_ad.functional.whitening import Whitening, fit_whitening

BATCH = 16
#: arrays that memories of one task must have in common, where their scores are to be compared
UNITS = ("units", "even", "usual")
PROJECTED = 64  # channels that the choice of rows looks at

#: patch tokens of (views, scale, blocks), by block; with prompts or without
ReadOut = Callable[[Views, int, Sequence[int]], Mapping[int, Float[Tensor, "batch patches channels"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """How a memory is made. Three of them are what presets choose."""

    #: rows of each level's coreset
    coreset_rows: int = 196
    #: blocks that are read out, 0-based; paper: "fifth" in 3.2 and "sixth" in 3.3, index 5 counted from 0 fits both
    blocks: tuple[int, ...] = (5,)
    #: 1: the whole picture; s: its s x s tiles, each at the input size
    scales: tuple[int, ...] = (1,)
    #: directions of largest variance that are whitened, of layer-normalised tokens; 0: tokens as they are
    whitening: int = 0
    #: patches drawn for the choice of the coreset, an equal number per picture
    candidates: int = 20_000


def within(options: MemoryOptions, depth: int) -> MemoryOptions:
    """The options for a backbone of so many blocks: its last stands for those beyond."""
    return replace(options, blocks=tuple(sorted({min(block, depth - 1) for block in options.blocks})))


def batches(backbone: Backbone, images: ImageSet) -> Iterator[Views]:
    for start in range(0, len(images), BATCH):
        yield Views(backbone, [images[i] for i in range(start, min(start + BATCH, len(images)))])


def frozen(views: Views, scale: int, blocks: Sequence[int]) -> Mapping[int, Float[Tensor, "batch patches channels"]]:
    """The frozen features of a scale: the read-out without prompts."""
    tiles = views.at(scale)
    tiles.compute(blocks)
    return {block: views.assemble(tiles.block(block), scale) for block in blocks}


def build_memory(
    read_out: ReadOut,
    backbone: Backbone,
    normals: ImageSet,
    options: MemoryOptions,
    *,
    roi: Mask | None,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """The arrays of a memory: at each level rows that cover all patches of the normals (CMPMB Eq. 3-6).

    Patches outside the region of interest are not learned. All levels have the same number of rows.
    """
    generator = torch.Generator().manual_seed(seed)
    levels = [(scale, block) for scale in options.scales for block in options.blocks]
    candidates: dict[tuple[int, int], list[Tensor]] = {level: [] for level in levels}
    per_image = max(1, options.candidates // len(normals))
    done = 0
    for views in batches(backbone, normals):
        views = views.inside(roi)
        for scale in options.scales:
            inside = None if roi is None else torch.from_numpy(roi_patches(roi, scale * backbone.grid))
            for block, features in read_out(views, scale, options.blocks).items():
                for image in features.cpu():
                    image = image if inside is None else image[inside]
                    if len(image) > per_image:
                        image = image[torch.randperm(len(image), generator=generator)[:per_image]]
                    candidates[scale, block].append(_normalised(image, options.whitening))
        done += len(views)
        progress("coreset", done, len(normals))
    points = [torch.cat(candidates.pop(level)) for level in levels]
    rows = min(options.coreset_rows, *map(len, points))
    coresets, maps, units = [], [], []
    for level in points:
        whitening = fit_whitening(level, options.whitening)
        level = whitening(level)
        kept = farthest_point_sampling(_projected(level, generator), rows, generator=generator)
        coreset = level[kept].half()
        coresets.append(coreset)
        maps.append(whitening)
        units.append(_unit(level, coreset.float()))
    return {
        "levels": np.array(levels),
        "coreset": torch.stack(coresets, dim=1).numpy(),
        "directions": torch.stack([one.directions for one in maps]).numpy(),
        "gains": torch.stack([one.gains for one in maps]).numpy(),
        "units": np.array(units, dtype=np.float32),
    }


def entry_roi(entry: BankEntry) -> Mask | None:
    """The entry's region of interest, if its task has one."""
    return np.asarray(entry.arrays["roi"]) if "roi" in entry.arrays else None


def patch_distances(read_out: ReadOut, views: Views, entry: BankEntry) -> list[Float[Tensor, "grid grid"]]:
    """Distances of images' patches to the nearest rows of one entry, a map of the finest scale for each image.

    Each level's distances are measured in its unit and brought to the finest grid; their mean is taken with weights in
    proportion to the scale: a tile sees more of its place than the whole picture does.
    """
    scales = [int(scale) for scale, _ in entry.arrays["levels"]]
    coreset = as_tensor(entry.arrays["coreset"], views.pixels.device)
    finest = views.backbone.grid * max(scales)
    total: list[Tensor] = [views.pixels.new_zeros(finest, finest) for _ in range(len(views))]
    for place, features in _levels(read_out, views, entry):
        rows = coreset[:, place].float()
        unit = float(entry.arrays["units"][place])
        for row, image in enumerate(features):
            grid = (nearest_distance(image, rows) / unit).unflatten(0, (scales[place] * views.backbone.grid,) * 2)
            total[row] = total[row] + scales[place] * _to_grid(grid, finest)
    return [one / sum(scales) for one in total]


def level_features(read_out: ReadOut, views: Views, entry: BankEntry) -> list[list[Float[Tensor, "patches channels"]]]:
    """What an entry's rows are compared with: per level, each image's patches, normalised and whitened."""
    return [features for _, features in sorted(_levels(read_out, views, entry), key=lambda level: level[0])]


def channel_profile(
    read_out: ReadOut, backbone: Backbone, normals: ImageSet, entry: BankEntry
) -> Float[np.ndarray, "levels channels"]:
    """Each channel's part in the squared distance of normal patches to their nearest rows; mean 1 at each level."""
    roi, known = entry_roi(entry), torch.from_numpy(entry.arrays["coreset"]).float().transpose(0, 1)
    inside = slice(None) if roi is None else torch.from_numpy(roi_patches(roi, backbone.grid))
    apart = torch.zeros(known.shape[0], known.shape[2])
    for views in batches(backbone, normals):
        for level, pictures in enumerate(level_features(read_out, views.inside(roi), entry)):
            points, rows = torch.cat([one[inside] for one in pictures]).cpu(), known[level]
            nearest = torch.addmm(rows.square().sum(1), points, rows.T, alpha=-2).argmin(1)
            apart[level] += (points - rows[nearest]).square().sum(0)
    return (apart / apart.mean(1, keepdim=True).clamp_min(1e-12)).numpy()


def _levels(
    read_out: ReadOut, views: Views, entry: BankEntry
) -> Iterator[tuple[int, list[Float[Tensor, "patches channels"]]]]:
    """Each level's number and its features; levels of one scale are read out together."""
    device = views.pixels.device
    levels = [(int(scale), int(block)) for scale, block in entry.arrays["levels"]]
    directions, gains = (as_tensor(entry.arrays[name], device) for name in ("directions", "gains"))
    for scale in sorted({scale for scale, _ in levels}):
        own = [place for place, level in enumerate(levels) if level[0] == scale]
        features = read_out(views, scale, [levels[place][1] for place in own])
        for place in own:
            whiten = Whitening(directions[place], gains[place])
            yield place, [whiten(_normalised(image, len(whiten.gains))) for image in features[levels[place][1]]]


def by_entry(
    of_entry: Callable[[Views, BankEntry], Sequence[Tensor]], views: Views, entries: Sequence[BankEntry]
) -> list[Tensor]:
    """One result per image, made for all images of an entry together, of what lies in its region of interest."""
    found: list[Tensor | None] = [None] * len(entries)
    for entry in {id(entry): entry for entry in entries}.values():
        rows = [row for row, other in enumerate(entries) if other is entry]
        for row, one in zip(rows, of_entry(views.select(rows).inside(entry_roi(entry)), entry), strict=True):
            found[row] = one
    return [one for one in found if one is not None]


def score_patches(
    branches: Mapping[str, Sequence[Float[Tensor, "_grid _grid"]]],
    entries: Sequence[BankEntry],
    size: int,
) -> RawPrediction:
    """Image scores and maps of patch scores, per branch, image by image."""
    rois = [entry_roi(entry) for entry in entries]
    tops = [int(entry.arrays["top_k"]) for entry in entries]
    return RawPrediction(
        {
            name: torch.stack([top_mean(grid, k, roi) for grid, k, roi in zip(grids, tops, rois, strict=True)]).cpu()
            for name, grids in branches.items()
        },
        {
            name: torch.stack([upsample(grid, size, roi) for grid, roi in zip(grids, rois, strict=True)])
            for name, grids in branches.items()
        },
    )


def _normalised(tokens: Float[Tensor, "patches channels"], whitening: int) -> Float[Tensor, "patches channels"]:
    """Tokens as they are compared: layer-normalised where they are whitened, since residual tokens differ in length."""
    return F.layer_norm(tokens, tokens.shape[-1:]) if whitening else tokens


def _projected(points: Float[Tensor, "n channels"], generator: torch.Generator) -> Float[Tensor, "n fewer"]:
    """The points in fewer channels, distances nearly kept (Johnson-Lindenstrauss), as PatchCore samples: 5 x faster.

    On rendered products rows chosen from 64 random projections scored as well as rows chosen from all 192 channels.
    """
    channels = points.shape[1]
    if channels <= PROJECTED:
        return points
    directions = torch.randn(channels, PROJECTED, generator=generator) / PROJECTED**0.5
    return points @ directions.to(points.device)


def _unit(points: Float[Tensor, "n channels"], coreset: Float[Tensor, "rows channels"]) -> float:
    """Mean distance of the points that were not chosen; 1 where all were."""
    distance = nearest_distance(points, coreset)
    left = distance[distance.argsort(stable=True)[len(coreset) :]]
    mean = float(left.mean()) if len(left) else 0.0
    return mean if mean > 1e-6 else 1.0


def _to_grid(values: Float[Tensor, "from from"], grid: int) -> Float[Tensor, "grid grid"]:
    if len(values) == grid:
        return values
    return F.interpolate(values[None, None], (grid, grid), mode="bilinear", align_corners=False)[0, 0]
