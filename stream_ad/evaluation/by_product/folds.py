"""Which products are judged, and on which labelled pictures of others weights may have been trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from stream_ad.domain.images import ImageSet, LabelledSet, LabelledSubset, Subset
from stream_ad.domain.product import Product
from stream_ad.errors import ConfigError, DataError

#: pictures of a kind of damage below which its figures say nothing
MIN_OF_KIND = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One product to judge, and what may be learned from."""

    #: unique in a run: the product's id, or "screw/thread_top"
    name: str
    product: Product
    #: judged; its pictures are in no auxiliary product
    test: LabelledSet
    #: products whose labelled test pictures (and normals) weights may be trained on
    auxiliary: Sequence[Product]

    @property
    def normals(self) -> ImageSet:
        """Good pictures of the product itself that are not judged. Opens every picture."""
        return apart(self.product.train, self.test)


def leave_one_out(products: Sequence[Product]) -> list[Fold]:
    """Every product is judged by what was learned on all others.

    Raises:
        ConfigError: there is but one.
    """
    if len(products) < 2:
        raise ConfigError(f"leaving one product out needs at least two, got {len(products)}; name more with --tasks")
    return [
        Fold(name=one.id, product=one, test=one.test, auxiliary=[other for other in products if other is not one])
        for one in products
    ]


def across(train: Sequence[Product], test: Sequence[Product]) -> list[Fold]:
    """Products of one list are judged by what was learned on another list.

    Raises:
        ConfigError: a product is in both.
    """
    if both := sorted({one.id for one in train} & {one.id for one in test}):
        raise ConfigError(f"product {both[0]!r} is to be learned and judged; name it in --train or in --test")
    return [Fold(name=one.id, product=one, test=one.test, auxiliary=list(train)) for one in test]


def halves(products: Sequence[Product], limit: int | None = None) -> list[Fold]:
    """Every second product is judged by what was learned on the others, and the other way round: two trainings in all.

    `limit`: test pictures of a product, at most.

    Raises:
        ConfigError: there are fewer than two products.
    """
    if len(products) < 2:
        raise ConfigError(
            f"needed at least two products: to learn on one half and judge the other takes two, got {len(products)}"
        )
    return [
        Fold(
            name=one.id,
            product=one,
            test=one.test if limit is None else some(one.test, limit),
            auxiliary=[other for turn, other in enumerate(products) if (turn - place) % 2],
        )
        for place, one in enumerate(products)
    ]


def some(test: LabelledSet, limit: int) -> LabelledSet:
    """At most so many pictures, half of them good, the others of all kinds."""
    rows = [[row for row, flag in enumerate(test.defective) if bool(flag) == bad] for bad in (False, True)]
    each = max(limit // 2, 1)
    chosen = [own[:: -(-len(own) // each)] for own in rows]
    return LabelledSubset(test, sorted(row for own in chosen for row in own))


def unseen_kinds(products: Sequence[Product]) -> list[Fold]:
    """Every kind of damage of a product is judged by what was learned without that kind, on any product.

    Of the product itself, its other kinds and every second good picture may be learned; the other good pictures and
    the kind are judged. Products with one kind, and kinds of fewer than 5 pictures, are left out.

    Raises:
        ConfigError: no product has two kinds.
    """
    folds = []
    for product in products:
        kinds = sorted({kind for kind in product.test.kinds if kind != "good"})
        good = sorted(_rows(product.test, lambda kind: kind == "good"), key=lambda row: product.test.ids[row])
        for kind in kinds if len(kinds) > 1 else ():
            judged = _rows(product.test, lambda one, kind=kind: one == kind)
            if len(judged) < MIN_OF_KIND:
                continue
            others = [_without(one, kind) for one in products if one is not product]
            rest = _rows(product.test, lambda one, kind=kind: one not in ("good", kind))
            learned = LabelledSubset(product.test, sorted([*rest, *good[::2]]))
            own = replace(product, train=apart(product.train, product.test), test=learned)
            folds.append(
                Fold(
                    name=f"{product.id}/{kind}",
                    product=product,
                    test=LabelledSubset(product.test, sorted([*judged, *good[1::2]])),
                    auxiliary=[*others, own],
                )
            )
    if not folds:
        raise ConfigError("unseen kinds of damage need a product whose test folder has two kinds; none of these has")
    return folds


def require_disjoint(fold: Fold) -> None:
    """Nothing, when no judged picture may have been learned. Opens every picture.

    Raises:
        DataError: one may.
    """
    judged = set(fold.test.ids)
    for product in fold.auxiliary:
        if both := judged & {*product.test.ids, *product.train.ids}:
            raise DataError(
                f"{len(both)} pictures of {fold.name} are among those of {product.id} too, which is learned from;"
                " leave one of the two products out"
            )


def apart(normals: ImageSet, test: LabelledSet) -> ImageSet:
    """The normals that are not among the test pictures."""
    held = set(test.ids)
    rows = [row for row, id in enumerate(normals.ids) if id not in held]
    return normals if len(rows) == len(normals) else Subset(normals, rows)


def _without(product: Product, kind: str) -> Product:
    return replace(product, test=LabelledSubset(product.test, _rows(product.test, lambda one: one != kind)))


def _rows(pictures: LabelledSet, wanted: Callable[[str], bool]) -> list[int]:
    return [row for row, kind in enumerate(pictures.kinds) if wanted(kind)]
