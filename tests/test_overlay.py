"""The same colour means the same on every picture of a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stream_ad.adapters.overlay import ColorScale, OverlayFolder, draw_overlay
from stream_ad.domain.message import ImageMessage, Record
from stream_ad.domain.result import Verdict
from tests.stream_kit import inspection_of, png

GREY = np.full((60, 90, 3), 128, dtype=np.uint8)


def spot(peak: float, size: int = 32) -> np.ndarray:
    row, column = np.indices((size, size))
    return (peak * np.exp(-((row - 8) ** 2 + (column - 8) ** 2) / 20)).astype(np.float32)


def message(offset: int = 3) -> ImageMessage:
    record = Record(topic="folder:/line 1", partition=0, offset=offset, key=None, value=png(1))
    return ImageMessage(record=record, message_id="m", camera=None, declared_product=None, data=png(1))


@given(st.floats(-50, 50), st.floats(-100, 100))
def test_opacity_never_falls_as_the_value_rises(threshold, value):
    scale = ColorScale.of(threshold)
    low, high = scale.colors(np.array([value, value + 0.1], dtype=np.float32))[:, 3]
    assert low <= high + 1e-6


@pytest.mark.parametrize("threshold", [-3.0, 0.0, 0.2, 4.0])
def test_far_below_the_threshold_is_clear_and_at_it_there_is_a_step(threshold):
    scale = ColorScale.of(threshold)
    low, just_below, at, infinite = scale.colors(
        np.array([scale.low, threshold - 0.01, threshold + 1e-4, -np.inf], dtype=np.float32)
    )
    assert low[3] == infinite[3] == 0
    assert just_below[1] - at[1] > 80  # yellow to orange-red: green falls


def test_a_good_part_stays_clear_however_its_own_noise_looks():
    noise = np.random.default_rng(0).uniform(-1, 1.9, (32, 32)).astype(np.float32)
    drawn = draw_overlay(GREY, inspection_of(1.0, Verdict.OK, map=noise, map_threshold=4.0))
    nothing = draw_overlay(GREY, inspection_of(1.0, Verdict.OK, map=np.zeros_like(noise), map_threshold=4.0))
    assert np.array_equal(drawn, nothing)


def test_a_defect_is_hot_where_it_is_and_only_there():
    clear = draw_overlay(GREY, inspection_of(9.0, Verdict.NG, map=spot(0.0), map_threshold=4.0))
    hot = draw_overlay(GREY, inspection_of(9.0, Verdict.NG, map=spot(9.0), map_threshold=4.0))
    changed = np.argwhere((clear != hot).any(axis=2))
    # right panel: starts after the left one (480 px) and gap; the spot is in its upper left quarter
    assert changed[:, 1].min() > 490
    assert changed[:, 0].max() < 10 + 320 / 2
    assert changed[:, 1].max() < 10 + 480 + 8 + 240


def test_outside_the_region_of_interest_the_picture_is_dimmed():
    half = spot(0.0)
    half[:, 16:] = -np.inf
    drawn = draw_overlay(GREY, inspection_of(1.0, Verdict.OK, map=half, map_threshold=4.0))
    panel = drawn[10:330, 498 : 498 + 480]
    assert (panel[:, :230] == 128).all()
    assert panel[:, 250:].mean() < 70


@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("shape", [(5, 700), (700, 5), (1, 1), (2000, 3000)])
def test_any_verdict_on_any_shape_can_be_drawn(verdict, shape):
    picture = np.zeros((*shape, 3), dtype=np.uint8)
    drawn = draw_overlay(picture, inspection_of(2.0, verdict, map=spot(5.0), map_threshold=4.0, alarm="x" * 500))
    assert drawn.dtype == np.uint8
    assert max(drawn.shape) < 1200


def test_an_empty_bank_has_no_map_and_still_an_overlay():
    nothing = dict.fromkeys(("task", "detector", "score", "p_value", "threshold"))
    inspection = inspection_of(0.0, Verdict.UNKNOWN)
    inspection = type(inspection)(
        **{name: getattr(inspection, name) for name in inspection.__slots__} | nothing  # type: ignore[arg-type]
    )
    assert draw_overlay(GREY, inspection).shape[2] == 3


def test_the_drawing_leaves_its_inputs_alone():
    picture, values = GREY.copy(), spot(9.0)
    inspection = inspection_of(9.0, Verdict.NG, map=values, map_threshold=4.0)
    assert np.array_equal(draw_overlay(picture, inspection), draw_overlay(picture, inspection))
    assert np.array_equal(picture, GREY)
    assert np.array_equal(values, spot(9.0))


def test_overlays_of_pictures_that_are_not_ok_are_kept_and_a_repeat_overwrites(tmp_path):
    keep = OverlayFolder(tmp_path)
    assert keep(message(), GREY, inspection_of(1.0, Verdict.OK)) is None
    first = keep(message(), GREY, inspection_of(9.0, Verdict.NG, map=spot(9.0), map_threshold=4.0))
    again = keep(message(), GREY, inspection_of(9.0, Verdict.NG, map=spot(9.0), map_threshold=4.0))
    assert first == again
    assert first is not None
    with Image.open(first) as image:
        assert image.format == "JPEG"
    assert [path.is_relative_to(tmp_path) for path in tmp_path.rglob("*.jpg")] == [True]
    assert OverlayFolder(tmp_path, of_ok=True)(message(4), GREY, inspection_of(1.0, Verdict.OK)) is not None
