"""Held-out pictures with their truth, from folders.

Three layouts are understood; which one it is follows from the names of the folders:

    MVTec                                  simple                                  normals alone
    test/good/000.png                      good/a.png                              a.png
    test/scratch/000.png                   defect/b.png  (or defects, bad, ng)     b.png
    ground_truth/scratch/000_mask.png      mask/b.png    (or masks; optional)
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters import masks
from stream_ad.adapters.image_folders import (
    PictureCache,
    Scan,
    ScannedFiles,
    find_pictures,
    no_images,
    require_folder,
    scan,
)
from stream_ad.adapters.masks import fit_mask, read_mask
from stream_ad.domain.images import HeldoutImage, Mask, Picture
from stream_ad.errors import DataError

GOOD = ("good", "ok", "normal")
DEFECTIVE = ("defect", "defects", "defective", "bad", "ng", "nok", "anomaly", "anomalies", "anomalous")
MASKS = ("ground_truth", "mask", "masks")
LAYOUTS = (
    "needed test/good + test/<defect> + ground_truth/<defect>, or good + defect (+ mask), or pictures of good parts"
)


class HeldoutFile(NamedTuple):
    picture: Path
    #: "good", or the kind of defect
    kind: str
    mask: Path | None


class HeldoutFolder(ScannedFiles):
    """The pictures of a folder with their truth, sorted by file; a `HeldoutSet`.

    All pictures and masks are decoded once when `ids` or the length is first asked for, so that what is wrong
    is known before a job starts. Exact duplicates are left out. A mask that marks nothing is an error; in a published
    set (`published`), which nobody can correct, it counts as no mask, and a mask of another size is brought to its
    picture's.

    Raises:
        UndecodableImage: with the first use: files are no pictures.
        DataError: with the first use: a mask does not fit its picture or marks nothing, or equal pictures are called
            good and defective.
    """

    def __init__(
        self,
        files: Sequence[HeldoutFile],
        *,
        max_pixels: int = 50_000_000,
        grey_bits: int | None = None,
        cache_mb: float = 256.0,
        cache: PictureCache | None = None,
        published: bool = False,
    ) -> None:
        self._by_path = {file.picture: file for file in sorted(files, key=lambda file: file.picture)}
        self._cache = cache or PictureCache(max_pixels=max_pixels, grey_bits=grey_bits, cache_mb=cache_mb)
        self._published = published
        self._blank: set[Path] = set()

    def __getitem__(self, index: int) -> HeldoutImage:
        file = self._by_path[self._scanned.kept[index]]
        pixels = self._cache.read(file.picture)
        return HeldoutImage(
            id=self._scanned.ids[index],
            pixels=pixels,
            defective=file.kind != "good",
            mask=self._read_mask(file, pixels),
            kind=file.kind,
        )

    @property
    def kinds(self) -> Sequence[str]:
        """ "good", or the kind of defect."""
        return [self._by_path[file].kind for file in self._scanned.kept]

    @property
    def defective(self) -> Sequence[bool]:
        return [kind != "good" for kind in self.kinds]

    @property
    def unmarked(self) -> int:
        """Defective pictures without a mask: they count for image scores, not for pixels."""
        files = [self._by_path[file] for file in self._scanned.kept]
        return sum(file.kind != "good" and (file.mask is None or file.picture in self._blank) for file in files)

    @cached_property
    def _scanned(self) -> Scan:
        found = scan(list(self._by_path), self._cache, self._check_mask)
        for file, first in found.duplicates.items():
            if (self._by_path[file].kind == "good") != (self._by_path[first].kind == "good"):
                raise DataError(
                    f"{first} and {file} are the same picture, one good and one defective; keep the right one"
                )
        return found

    def _check_mask(self, file: Path, picture: Picture) -> None:
        mask = self._read_mask(self._by_path[file], picture)
        if mask is None or mask.any():
            return
        if not self._published:
            mask_file = self._by_path[file].mask
            raise DataError(f"{mask_file} is all black, so it marks no defect; remove it, or call its picture good")
        self._blank.add(file)

    def _read_mask(self, file: HeldoutFile, picture: Picture) -> Mask | None:
        if file.mask is None or file.picture in self._blank:
            return None
        mask, size = read_mask(file.mask, lossy=self._published), picture.shape[:2]
        fitted = fit_mask(mask, size) if self._published else mask
        if fitted is None or fitted.shape != size:
            needed, got = (f"{width} x {height}" for height, width in (size, mask.shape))
            raise DataError(f"{file.mask}: needed a mask of its picture's size, {needed}, got {got}")
        return fitted


def read_heldout(
    folder: Path, *, max_pixels: int = 50_000_000, grey_bits: int | None = None, cache_mb: float = 256.0
) -> HeldoutFolder:
    """The held-out pictures in a folder, of any of the layouts above.

    Raises:
        NoImages: no such folder, or no picture in it.
        DataError: the layout is none of those above, or masks do not have the names of their pictures.
    """
    files = heldout_files(require_folder(folder))
    if not files:
        raise no_images(folder)
    return HeldoutFolder(files, max_pixels=max_pixels, grey_bits=grey_bits, cache_mb=cache_mb)


def heldout_files(folder: Path) -> list[HeldoutFile]:
    """The held-out files of a folder, unopened. Raises: DataError: as `read_heldout`."""
    root = folder / "test" if (folder / "test").is_dir() else folder
    below = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    mask_roots = [path for path in below if path.name.lower() in MASKS]
    if root.name == "test":
        mask_roots += [root.parent / name for name in MASKS if (root.parent / name).is_dir()]
    good = [path for path in below if path.name.lower() in GOOD]
    defective = [path for path in below if path not in good and path not in mask_roots]
    loose = [file for file in find_pictures(root) if file.parent == root]

    if not below and loose:
        return [HeldoutFile(file, "good", None) for file in loose]
    named = [path for path in below if path.name.lower() in (*GOOD, *DEFECTIVE)]
    confusing = [str(path) for path in (*loose, *(path for path in defective if path.name in ("train", "test")))]
    if not named and not mask_roots:
        confusing += [str(path) for path in defective if find_pictures(path)]
    if confusing:
        raise DataError(f"cannot tell good from defective parts in {folder}: {LAYOUTS}; got {confusing[0]}")

    normal = [HeldoutFile(file, "good", None) for path in good for file in find_pictures(path)]
    marked = [file for path in defective for file in _defects(path, mask_roots)]
    drawn = [file for path in mask_roots for file in path.rglob("*") if file.suffix.lower() in masks.SUFFIXES]
    if marked and drawn and not any(file.mask for file in marked):
        stem = marked[0].picture.stem
        raise DataError(
            f"none of the {len(drawn)} masks ({drawn[0]} for one) has the name of a defective picture: needed"
            f" {stem}_mask.png or {stem}.png for {marked[0].picture}"
        )
    return normal + marked


def _defects(folder: Path, mask_roots: Sequence[Path]) -> list[HeldoutFile]:
    """Files of one folder of defects. In one that is just called "defect", folders below it are the kinds."""
    plain = folder.name.lower() in DEFECTIVE
    found = []
    for picture in find_pictures(folder):
        inner = picture.relative_to(folder).parent
        kind = inner.parts[0] if plain and inner.parts else folder.name
        places = [root / folder.name / inner for root in mask_roots]
        places += [root / inner for root in mask_roots] if plain else []
        names = [f"{picture.stem}{ending}{suffix}" for ending in ("_mask", "") for suffix in masks.SUFFIXES]
        mask = next((place / name for place in places for name in names if (place / name).is_file()), None)
        found.append(HeldoutFile(picture, kind, mask))
    return found
