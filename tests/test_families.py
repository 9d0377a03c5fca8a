"""The generator of families: pictures that repeat exactly, damage that is graded, captions that say what is there."""

import re
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest

from stream_ad.demo import PRODUCTS
from stream_ad.demo.families import DEFECTS, STATES, Family, Split, caption, example, examples, family, kinds
from stream_ad.demo.families.captions import DAMAGED, FLAWLESS, place

SIZE = 64
KINDS = tuple(kinds(Split.HELDOUT))  # all there are
SPILL = 12  # of 64: shadows, blur


def of_kind(kind: str, wanted: str) -> Family | None:
    """The first family of a kind, that knows a defect if one is wanted."""
    return next(iter(_of_kind(kind, wanted)), None)


def a(kind: str) -> Family:
    return next(_of_kind(kind, None))


def _of_kind(kind: str, wanted: str | None) -> Iterator[Family]:
    for index in range(KINDS.index(kind), 8 * len(KINDS), len(KINDS)):
        found = family(Split.HELDOUT, index)
        if wanted is None or wanted in found.defects:
            yield found


def test_the_words_for_damage_are_the_ones_that_others_rely_on():
    assert set(DEFECTS) == {"scratch", "dent", "crack", "stain", "hole", "missing part", "bent", "misprint",
                            "contamination", "colour shift"}  # fmt: skip
    assert tuple(STATES) == DEFECTS


@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph_can_be_taken_again_to_the_pixel(kind):
    line = a(kind)
    defect = line.defects[0]
    first, again, other = (line.render(seed, size=SIZE, defect=defect) for seed in (7, 7, 8))
    assert first.picture.shape == (SIZE, SIZE, 3)
    assert first.picture.dtype == np.uint8
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.picture, other.picture)
    assert first.picture.std() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_defect_of_every_kind_is_drawn_and_masked(kind):
    flawless = {}
    for defect in DEFECTS:
        line = of_kind(kind, defect)
        if line is None:
            continue
        line = replace(line, look=line.look._replace(quality=None))  # JPEG carries a change into all of its block
        good = flawless.get(line.name) or line.render(5, size=SIZE)
        flawless[line.name] = good
        bad, mask = line.render(5, size=SIZE, defect=defect, severity=1.0)
        assert not good.mask.any()
        assert mask.any(), defect
        change = cv2.absdiff(good.picture, bad).max(axis=2)
        assert change[mask].max() > 5, f"{line.name}: nobody would see the {defect}"
        reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * SPILL + 1, 2 * SPILL + 1))
        far = cv2.dilate(mask.astype(np.uint8), reach) == 0
        assert not far.any() or change[far].mean() < 0.5, f"{line.name}: {defect} changed what it does not touch"


def test_families_know_at_least_four_defects_and_no_unknown_one():
    for index in range(len(KINDS)):
        assert len(family(Split.HELDOUT, index).defects) >= 4
        assert set(family(Split.HELDOUT, index).defects) <= set(DEFECTS)


def test_splits_share_no_family_and_heldout_shows_kinds_of_its_own():
    assert set(kinds(Split.TRAIN)) == set(kinds(Split.VALIDATION)) < set(kinds(Split.HELDOUT))
    alone = set(kinds(Split.HELDOUT)) - set(kinds(Split.TRAIN))
    assert len(alone) >= 2
    lines = [family(split, index) for split in Split for index in range(12)]
    assert alone <= {line.kind for line in lines}
    assert len({line.name for line in lines}) == len({line.look for line in lines}) == len(lines)
    # the same kind at the same number is another product
    one, other = (family(split, 5).render(1, size=SIZE).picture for split in (Split.TRAIN, Split.VALIDATION))
    assert cv2.absdiff(one, other).mean() > 5


def test_none_of_the_demos_products_is_among_the_kinds():
    assert not {make.__module__ for make in kinds(Split.HELDOUT).values()} & {
        product.draw.__module__ for product in PRODUCTS.values()
    }


@pytest.mark.parametrize("defect", DEFECTS)
def test_damage_grows_with_its_severity(defect):
    lines = [line for line in (family(Split.TRAIN, index) for index in range(44)) if defect in line.defects][:5]
    flawless = [line.render(3, size=SIZE).picture for line in lines]
    areas, changes = [], []
    for severity in (0.2, 0.6, 1.0):
        shots = [line.render(3, size=SIZE, defect=defect, severity=severity) for line in lines]
        assert all(shot.mask.any() for shot in shots)
        areas.append(np.mean([shot.mask.mean() for shot in shots]))
        pairs = zip(flawless, shots, strict=True)
        changes.append(np.mean([cv2.absdiff(good, shot.picture).mean() for good, shot in pairs]))
    assert areas[0] < areas[1] < areas[2]
    assert changes[0] < changes[1] < changes[2]


def test_without_nuisance_the_place_and_the_light_stay():
    line = a("washer")
    still = [line.render(seed, size=SIZE, nuisance=0.0).picture.astype(np.float32) for seed in range(4)]
    moving = [line.render(seed, size=SIZE).picture.astype(np.float32) for seed in range(4)]
    assert np.std(still, axis=0).mean() < np.std(moving, axis=0).mean()


def test_captions_say_flawless_or_what_is_wrong():
    rng = np.random.default_rng(3)
    line = family(Split.TRAIN, 0)
    for _ in range(60):
        words = caption(line.noun, None, 0.0, rng)
        assert re.fullmatch(r"[a-z0-9 ,-]{4,120}", words), words
        assert any(word in words for word in (*FLAWLESS, "without", "no flaw")), words
    for defect, state in STATES.items():
        said = set()
        for _ in range(60):
            words = caption(line.noun, defect, float(rng.uniform(0.1, 1)), rng)
            assert re.fullmatch(r"[a-z0-9 ,-]{4,120}", words), words
            bare = [noun.removeprefix("a ") for noun in state.nouns]
            assert any(word in words for word in (*state.adjectives, *bare)), words
            assert not re.search(r"\ba [aeiou]", words.replace("a u", "")), words
            said.add(words)
        assert len(said) > 20
    assert any(word in caption(line.noun, "dent", 0.5, np.random.default_rng(k)) for k in range(60) for word in DAMAGED)


def test_captions_give_an_article_only_to_what_can_be_counted():
    rng = np.random.default_rng(1)
    said = " | ".join(caption("gravel", defect, 0.5, rng) for defect in (None, *a("grains").defects) for _ in range(30))
    assert "gravel" in said
    assert not re.search(r"\ban? (\w+ )?gravel", said)
    assert re.search(r"\ba \w+ gear", caption("steel gear", None, 0.5, np.random.default_rng(4)))


def test_a_grey_picture_is_given_no_color_by_its_caption():
    lines = [family(Split.TRAIN, index) for index in range(80)]
    grey = [line for line in lines if line.look.grey]
    assert grey
    for line in grey:
        assert not {"red", "blue", "green", "yellow"} & set(line.noun.split())
        assert "colour shift" not in line.defects
        assert np.ptp(line.render(1, size=32).picture, axis=2).max() <= 4


def test_a_caption_can_say_where():
    mask = np.zeros((64, 64), dtype=bool)
    assert place(mask) == ""
    mask[4:10, 4:10] = True
    assert place(mask) == "at the top left"
    assert place(mask[::-1, ::-1]) == "at the bottom right"


def test_examples_are_a_function_of_their_number_about_half_of_them_flawless():
    stream = list(examples(Split.TRAIN, 40, 32, size=SIZE))
    again = example(Split.TRAIN, 47, size=SIZE)
    assert np.array_equal(stream[7].picture, again.picture)
    assert stream[7].caption == again.caption
    good = [shot for shot in stream if shot.defect is None]
    assert 8 <= len(good) <= 24
    assert all(not shot.mask.any() and shot.severity == 0 for shot in good)
    assert all(shot.mask.any() and 0 < shot.severity <= 1 for shot in stream if shot.defect)
    assert len({shot.family_index for shot in stream}) > 28
    assert len({shot.caption for shot in stream}) > 28


def test_what_cannot_be_photographed_is_refused():
    line = a("leather")
    with pytest.raises(ValueError, match="got 'dent'"):
        line.render(1, defect="dent")
    with pytest.raises(ValueError, match="severity"):
        line.render(1, defect="stain", severity=0.0)
    with pytest.raises(ValueError, match="at least 32"):
        line.render(1, size=16)
    with pytest.raises(ValueError, match="numbered from 0"):
        family(Split.TRAIN, -1)
