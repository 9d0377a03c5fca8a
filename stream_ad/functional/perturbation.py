"""Synthetic defects, painted on pictures of good parts, with exact masks.

What is painted   region                       filled with
noise             a tilted box or ellipse      Gaussian noise, sigma drawn from U(0.1, 1) of full scale (CMPMB Eq. 8-9)
cut-paste         a tilted box                 another place of the picture, turned, its colours shifted (CutPaste)
scar              a long thin box              the same (CutPaste's scar)
perlin            peaks of Perlin noise        a recoloured, moved copy of the picture, blended in (after DRAEM)

# paper: CMPMB adds noise of sigma 1 to the whole picture, which is trivially told apart; ours is local, with a mask.
Such pictures train and validate. A figure measured on them is never a figure on real defects.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from stream_ad.functional.region import covered

KINDS = ("noise", "cut-paste", "scar", "perlin")

MIN_SHARE, MAX_SHARE = 0.003, 0.08  # of the picture; 0.003 is about half a patch of 16 px at 224 px
MIN_CHANGE = 8.0  # grey levels, mean over the region: below that nobody could see the defect
TRIES = 12
PERLIN_SIZE = 64  # px; stretched to the picture

Pixels = UInt8[np.ndarray, "height width 3"]
Region = Bool[np.ndarray, "height width"]
Shape = tuple[int, int]  # height, width


def perturb(
    picture: UInt8[np.ndarray, "height width 3"],
    rng: np.random.Generator,
    *,
    kinds: Sequence[str] = KINDS,
    roi: Bool[np.ndarray, "roi_height roi_width"] | None = None,
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """A copy of `picture` with one defect of a kind drawn from `kinds`, and where the defect is.

    Outside the mask the copy equals the picture; inside, the mean change is at least 8 grey levels. The mask is
    never empty; it covers 0.3 to 8 % of the picture, less where the region of interest `roi` (stretched to the
    picture) or a picture of a few pixels does not allow it.

    Raises:
        ValueError: an unknown kind, no kind, or a `roi` without a pixel.
    """
    unknown = set(kinds) - set(KINDS)
    if unknown or not kinds:
        raise ValueError(f"kinds of synthetic defects are {', '.join(KINDS)}; got {sorted(unknown) or 'none'}")
    height, width = picture.shape[:2]
    allowed = None if roi is None else covered(roi, height, width)
    if allowed is not None and not allowed.any():
        raise ValueError("the region of interest holds no pixel, so no defect can be painted in it")

    draw_region, fill = _PAINTERS[kinds[int(rng.integers(len(kinds)))]]
    mask = _region_within((height, width), allowed, draw_region, rng)
    rows, columns = np.divmod(np.flatnonzero(mask), width)
    painted = picture.copy()
    before = picture[rows, columns]
    painted[rows, columns] = _visible(before, fill(picture, rows, columns, rng), rng)
    return painted, mask


def noisy(
    picture: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """A copy of `picture` under Gaussian noise of sigma 1 (full scale), all masked; every second time as it is.

    CMPMB Eq. 8-9 to the letter, for the preset that keeps the paper's settings.
    """
    if rng.random() < 0.5:
        return picture.copy(), np.zeros(picture.shape[:2], bool)
    rows, columns = np.divmod(np.arange(picture.shape[0] * picture.shape[1]), picture.shape[1])
    noise = 255 * rng.standard_normal((len(rows), 3), dtype=np.float32)
    return _to_uint8(picture[rows, columns] + noise).reshape(picture.shape), np.ones(picture.shape[:2], bool)


# Where: a region on all of the picture, at a point, of a wished area ------------------------------------------


def _region_within(shape: Shape, allowed: Region | None, draw: "DrawRegion", rng: np.random.Generator) -> Region:
    """A region inside `allowed`: the first of a few draws whose area fits, else the one that fits best."""
    height, width = shape
    inspected = None if allowed is None else np.flatnonzero(allowed)
    available = height * width if inspected is None else len(inspected)
    smallest = min(MIN_SHARE * height * width, 0.25 * available)
    largest = max(MAX_SHARE * height * width, 1)
    best, best_miss = np.zeros(shape, dtype=bool), np.inf
    for _ in range(TRIES):
        flat = int(rng.integers(available) if inspected is None else inspected[rng.integers(available)])
        row, column = divmod(flat, width)
        # areas are drawn evenly in their logarithm: small defects are the hard ones
        share = float(np.exp(rng.uniform(np.log(1.3 * MIN_SHARE), np.log(0.9 * MAX_SHARE))))
        region = draw(shape, allowed, (row, column), share * height * width, rng)
        if allowed is not None:
            region &= allowed
        area = cv2.countNonZero(region.view(np.uint8))
        if smallest <= area <= largest:
            return region
        region[row, column] = True  # never empty, and inside `allowed`
        miss = max(smallest - area, area - largest)
        if miss < best_miss:
            best, best_miss = region, miss
    return best


def _box_or_ellipse(
    shape: Shape, allowed: Region | None, at: tuple[int, int], area: float, rng: np.random.Generator
) -> Region:
    if rng.random() < 0.5:
        return _tilted_box(shape, allowed, at, area, rng)
    long = np.sqrt(area / np.pi * rng.uniform(1, 3))
    short = area / np.pi / long
    canvas = np.zeros(shape, dtype=np.uint8)
    axes = (max(round(long), 1), max(round(short), 1))
    cv2.ellipse(canvas, (at[1], at[0]), axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    return canvas.view(bool)


def _tilted_box(
    shape: Shape, allowed: Region | None, at: tuple[int, int], area: float, rng: np.random.Generator
) -> Region:
    return _bar(shape, at, area, float(rng.uniform(1, 3)), rng)


def _scar(shape: Shape, allowed: Region | None, at: tuple[int, int], area: float, rng: np.random.Generator) -> Region:
    # a scar's area is at the low end of the range, else it is no longer thin
    return _bar(shape, at, max(0.25 * area, 1.3 * MIN_SHARE * shape[0] * shape[1]), float(rng.uniform(6, 14)), rng)


def _bar(shape: Shape, at: tuple[int, int], area: float, aspect: float, rng: np.random.Generator) -> Region:
    length, thickness = np.sqrt(area * aspect), max(np.sqrt(area / aspect), 1.0)
    corners = cv2.boxPoints(((at[1], at[0]), (length, thickness), float(rng.uniform(0, 180))))
    canvas = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(canvas, [np.rint(corners).astype(np.int32)], 1)
    return canvas.view(bool)


def _perlin_peaks(
    shape: Shape, allowed: Region | None, at: tuple[int, int], area: float, rng: np.random.Generator
) -> Region:
    """The highest peaks of Perlin noise, about `area` pixels of the allowed ones: blobs or streaks, anywhere."""
    cells = (int(2 ** rng.integers(1, 5)), int(2 ** rng.integers(1, 5)))
    noise = perlin_noise(cells, PERLIN_SIZE, rng)
    values = noise.ravel() if allowed is None else noise[covered(allowed, *noise.shape)]
    if not len(values):  # a region of interest too thin for the noise's own resolution
        values = noise.ravel()
    share = area / (shape[0] * shape[1] if allowed is None else cv2.countNonZero(allowed.view(np.uint8)))
    rank = len(values) - min(max(int(share * len(values)), 1), len(values))
    height, width = shape
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR) >= np.partition(values, rank)[rank]


def perlin_noise(cells: tuple[int, int], size: int, rng: np.random.Generator) -> Float[np.ndarray, "size size"]:
    """Perlin's gradient noise over `cells` (rows, columns) of random slopes; zero at every corner of a cell."""
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    slopes = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
    # a touch below `cells`, so that the last pixel still lies in the last cell
    y, x = (np.linspace(0, count - 1e-6, size) for count in cells)
    top, left = y.astype(int), x.astype(int)
    dy, dx = (y - top)[:, None], (x - left)[None, :]

    def rise(row: int, column: int) -> np.ndarray:
        slope = slopes[top + row][:, left + column]
        return slope[..., 0] * (dy - row) + slope[..., 1] * (dx - column)

    ease_y, ease_x = (t**3 * (t * (t * 6 - 15) + 10) for t in (dy, dx))
    upper = rise(0, 0) * (1 - ease_x) + rise(0, 1) * ease_x
    lower = rise(1, 0) * (1 - ease_x) + rise(1, 1) * ease_x
    return (upper * (1 - ease_y) + lower * ease_y).astype(np.float32)


# What: new values for the pixels at (rows, columns) ------------------------------------------------------------

Places = Int[np.ndarray, " n"]
Colours = UInt8[np.ndarray, "n 3"]


def _gaussian_noise(picture: Pixels, rows: Places, columns: Places, rng: np.random.Generator) -> Colours:
    sigma = np.float32(255 * rng.uniform(0.1, 1.0))
    return _to_uint8(picture[rows, columns] + sigma * rng.standard_normal((len(rows), 3), dtype=np.float32))


def _moved_patch(picture: Pixels, rows: Places, columns: Places, rng: np.random.Generator) -> Colours:
    height, width = picture.shape[:2]
    top, left = int(rows.min()), int(columns.min())
    patch_height, patch_width = int(rows.max()) - top + 1, int(columns.max()) - left + 1
    middle = (patch_width / 2, patch_height / 2)
    # from a place in the patch to its source, as WARP_INVERSE_MAP wants it
    to_source = cv2.getRotationMatrix2D(middle, float(rng.uniform(-180, 180)), 1.0)
    to_source[:, 2] += np.array([rng.uniform(0, width), rng.uniform(0, height)]) - middle
    patch = cv2.warpAffine(
        picture,
        to_source,
        (patch_width, patch_height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT,
    )
    return _to_uint8(_jitter(patch[rows - top, columns - left], rng, gain=0.15, offset=20.0))


def _blended_copy(picture: Pixels, rows: Places, columns: Places, rng: np.random.Generator) -> Colours:
    height, width = picture.shape[:2]
    # the picture mirrored or not, and rolled, so that every place of it can show up in the region
    source_rows = (int(rng.integers(height)) + int(rng.choice([-1, 1])) * rows) % height
    source_columns = (int(rng.integers(width)) + int(rng.choice([-1, 1])) * columns) % width
    texture = picture[source_rows, source_columns]
    if rng.random() < 0.3:
        texture = 255 - texture
    opacity = np.float32(rng.uniform(0.4, 1.0))
    return _to_uint8((1 - opacity) * picture[rows, columns] + opacity * _jitter(texture, rng, gain=0.4, offset=50.0))


def _jitter(colours: Colours, rng: np.random.Generator, *, gain: float, offset: float) -> Float[np.ndarray, "n 3"]:
    """The colours with gain and offset moved by up to `gain` and `offset` grey levels, little of it in hue.

    Grey pictures are common; a bright pink patch on one would teach nothing about real defects.
    """
    light, hue = rng.uniform(-1, 1, (2, 1)), rng.uniform(-0.2, 0.2, (2, 3))
    gains, offsets = (light + hue).astype(np.float32)
    return colours * (1 + np.float32(gain) * gains) + np.float32(offset) * offsets


def _visible(before: Colours, after: Colours, rng: np.random.Generator) -> Colours:
    """`after`, made brighter or darker where it would look like `before`: on plain ground a moved patch is unseen."""
    change = np.abs(after.astype(np.int16) - before).mean()
    if change >= MIN_CHANGE:
        return after
    # away from the nearer end of the scale, so that nothing is clipped
    shift = float(rng.uniform(2 * MIN_CHANGE, 8 * MIN_CHANGE)) * (1 if before.mean() < 128 else -1)
    return _to_uint8(before + np.float32(shift))


def _to_uint8(values: Float[np.ndarray, "n 3"]) -> Colours:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


DrawRegion = Callable[[Shape, Region | None, tuple[int, int], float, np.random.Generator], Region]
Fill = Callable[[Pixels, Places, Places, np.random.Generator], Colours]

_PAINTERS: dict[str, tuple[DrawRegion, Fill]] = {
    "noise": (_box_or_ellipse, _gaussian_noise),
    "cut-paste": (_tilted_box, _moved_patch),
    "scar": (_scar, _moved_patch),
    "perlin": (_perlin_peaks, _blended_copy),
}
