"""Public inspection data sets as they are downloaded, and folders that lie like them.

A module a layout; which one it is follows from the files. Listing opens no picture: 100,000 of them cost their names.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stream_ad.adapters.datasets import (
    brain,
    btad,
    dagm,
    isic,
    kolektor_sdd,
    kolektor_sdd2,
    mvtec,
    polyps,
    real_iad,
    visa,
)
from stream_ad.adapters.datasets.files import Reader, contents, no_pictures, subfolders
from stream_ad.adapters.heldout import HeldoutFolder
from stream_ad.adapters.image_folders import ImageFiles, PictureCache, require_folder
from stream_ad.domain.product import Product
from stream_ad.errors import DataError

READERS: Sequence[Reader] = (visa, real_iad, dagm, kolektor_sdd, kolektor_sdd2, isic, polyps, brain, btad, mvtec)
DEPTH = 3  # folders below the one that is given: collections of sets, sets, products


class _Place(NamedTuple):
    id: str
    reader: Reader
    folder: Path
    #: what the reader calls the product
    category: str


def find_products(
    root: Path,
    names: Sequence[str] | None = None,
    *,
    to_learn: bool = True,
    to_judge: bool = True,
    max_pixels: int = 50_000_000,
    cache_mb: float = 512.0,
) -> list[Product]:
    """The products in a folder: a data set, one of its products, or several data sets side by side.

    They come in the order of `names`, else in that of their folders' names. A product's id is its folder's name (made
    plain: "btad_01", "dagm_class3"); where two sets have the same, each gets its set's folder before it. Of sets whose
    splits hold defective training pictures only the good ones are learnt. All products share one cache of pictures.
    Without `to_learn` sets that only judge come too: their `train` is empty, and perhaps no test picture is good.
    Without `to_judge` products that only teach come too: their `test` has good pictures alone, or none.

    Raises:
        DataError: no data set is there, part of one is missing, or `names` has a product that is not there; says what
            was looked for, what was found and what to do.
    """
    try:
        places = _unique([*_places(require_folder(root), DEPTH)])
        if not places:
            looked_for = "; ".join(reader.LOOKED_FOR for reader in READERS)
            raise DataError(f"needed a data set in {root}: {looked_for}. Found {contents(root)}")
        cache = PictureCache(max_pixels=max_pixels, cache_mb=cache_mb)
        return [_open(place, cache, to_learn=to_learn, to_judge=to_judge) for place in _chosen(places, names, root)]
    except OSError as error:
        raise DataError(
            f"cannot read {error.filename or root}: {error.strerror}; check the path and its permissions"
        ) from error


def _open(place: _Place, cache: PictureCache, *, to_learn: bool, to_judge: bool) -> Product:
    files = place.reader.read(place.folder, place.category)
    good = sum(file.kind == "good" for file in files.test)
    defective = len(files.test) - good
    if to_judge and not files.test:
        raise no_pictures(place.folder / "test", place.folder)
    if to_learn and not (files.train and (not to_judge or (good and defective))):
        raise DataError(
            f"product {place.id!r} in {place.folder}: needed good pictures to learn and good and defective ones to"
            f" test, found {len(files.train)}, {good} and {defective}; add the others, or name products without it"
            " (`stream-ad bench zero-shot` needs damaged ones alone)"
        )
    if to_judge and not defective:
        raise DataError(
            f"product {place.id!r} in {place.folder}: needed defective pictures to test, found {good} good ones alone;"
            " add some, or name products without it"
        )
    return Product(
        id=place.id,
        class_name=files.class_name,
        layout=files.layout,
        dataset=files.dataset,
        train=ImageFiles(files.train, cache),
        test=HeldoutFolder(files.test, cache=cache, published=True),
        complete=files.complete,
        category=files.category,
        note=files.note,
    )


def _places(folder: Path, depth: int) -> Iterator[_Place]:
    for reader in READERS:
        if found := reader.categories(folder):
            yield from (_Place(_plain(id), reader, folder, category) for id, category in found.items())
            return
    if depth:
        for below in subfolders(folder):
            yield from _places(below, depth - 1)


def _plain(name: str) -> str:
    """A name that may be a task's id."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_.-")[:100] or "product"


def _unique(places: Sequence[_Place]) -> list[_Place]:
    """Places with an id of their own each."""
    often = Counter(place.id for place in places)
    taken: set[str] = set()
    renamed = []
    for place in places:
        id = place.id
        if often[id] > 1:
            # a product that is a folder of its own lies in its set's folder; else the folder is the set's
            own = place.folder.resolve()
            home = own.parent if own.name == place.category else own
            id = _plain(f"{home.name}_{id}")
        number = 2
        while id in taken:
            id, number = f"{_plain(place.id)}_{number}", number + 1
        taken.add(id)
        renamed.append(place._replace(id=id))
    return renamed


def _chosen(places: Sequence[_Place], names: Sequence[str] | None, root: Path) -> list[_Place]:
    if names is None:
        return list(places)
    by_id = {place.id: place for place in places}
    unknown = [name for name in names if name not in by_id]
    if unknown:
        raise DataError(f"no product in {root} is called {unknown[0]!r}; products: {', '.join(by_id)}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"product {twice[0]!r} is named twice; name each once")
    return [by_id[name] for name in names]
