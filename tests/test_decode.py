"""Every encoded picture becomes the same honest RGB, or is refused with a reason."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stream_ad.adapters.decode import decode, pixel_sha256
from stream_ad.errors import UndecodableImage

RAMP = np.stack([np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))] * 3, axis=2)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("format", "options"), [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_come_back_bit_for_bit(format, options):
    assert np.array_equal(decode(encoded(Image.fromarray(RAMP), format, **options)), RAMP)


def test_a_jpeg_comes_back_nearly_as_it_was():
    picture = decode(encoded(Image.fromarray(RAMP), "JPEG", quality=95))
    assert np.abs(picture.astype(int) - RAMP).max() < 8


def test_a_picture_can_be_written_to():
    assert decode(encoded(Image.fromarray(RAMP))).flags.writeable


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise to see it upright
    data = encoded(Image.fromarray(RAMP), "PNG", exif=exif)
    assert np.array_equal(decode(data), np.rot90(RAMP, -1))


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb(mode):
    format = "TIFF" if mode == "CMYK" else "PNG"
    source = Image.fromarray(RAMP).convert(mode)
    expected = np.array(source.convert("RGB"))
    picture = decode(encoded(source, format))
    assert picture.shape == (32, 48, 3)
    assert np.array_equal(picture, expected)


def test_alpha_is_composited_onto_black():
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (200, 100, 50, 255)
    pixels[0, 1] = (200, 100, 50, 0)
    picture = decode(encoded(Image.fromarray(pixels, "RGBA")))
    assert picture[0, 0].tolist() == [200, 100, 50]
    assert picture[0, 1].tolist() == [0, 0, 0]


def test_a_transparent_palette_colour_is_black_too():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    assert decode(encoded(image, transparency=0)).max() == 0


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("peak", "divisor"), [(4095, 16), (65535, 256)])
def test_16_bit_grey_is_scaled_by_its_depth_and_not_clipped(format, peak, divisor):
    values = np.linspace(0, peak, 64 * 64).astype(np.uint16).reshape(64, 64)
    picture = decode(encoded(Image.fromarray(values), format))
    assert np.array_equal(picture[:, :, 0], values // divisor)
    assert picture.min() == 0
    assert picture.max() == 255
    assert 120 < picture.mean() < 135


def test_floating_point_pixels_are_refused():
    with pytest.raises(UndecodableImage, match="floating-point"):
        decode(encoded(Image.fromarray(np.ones((8, 8), dtype=np.float32)), "TIFF"))


def test_32_bit_grey_beyond_16_bits_is_refused():
    with pytest.raises(UndecodableImage, match="0 to 100000"):
        decode(encoded(Image.fromarray(np.array([[0, 100_000]], dtype=np.int32)), "TIFF"))


@pytest.mark.parametrize("format", ["TIFF", "WEBP", "PNG"])
def test_several_pages_are_refused(format):
    pages = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    data = encoded(pages[0], format, save_all=True, append_images=pages[1:])
    with pytest.raises(UndecodableImage, match="with 2; send them one by one"):
        decode(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_picture_is_refused(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"this is not a picture\n" * 40, b"GIF89a" + b"\0" * 100, b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_with_what_came(data):
    with pytest.raises(UndecodableImage, match=r"needed a JPEG, PNG, BMP, TIFF or WEBP picture, got"):
        decode(data)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 10_000, 30_000])
def test_a_bomb_is_refused_by_its_header(side):
    with pytest.raises(UndecodableImage, match="needed at most 50,000,000 pixels"):
        decode(png_header(side, side))


def test_the_limit_of_pixels_is_the_callers():
    data = encoded(Image.fromarray(RAMP))
    assert decode(data, max_pixels=32 * 48).shape == RAMP.shape
    with pytest.raises(UndecodableImage, match="the header says 48 x 32"):
        decode(data, max_pixels=32 * 48 - 1)


def test_the_same_pixels_have_the_same_id_in_any_file():
    png, bmp = (decode(encoded(Image.fromarray(RAMP), format)) for format in ("PNG", "BMP"))
    assert pixel_sha256(png) == pixel_sha256(bmp)
    assert pixel_sha256(np.asfortranarray(png)) == pixel_sha256(png)


def test_the_same_bytes_in_another_shape_have_another_id():
    flat = np.zeros((2, 8, 3), dtype=np.uint8)
    assert pixel_sha256(flat) != pixel_sha256(flat.reshape(4, 4, 3))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_give_a_picture_or_a_refusal_never_another_error(data):
    format = data.draw(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]))
    blob = bytearray(encoded(Image.fromarray(RAMP), format))
    for _ in range(data.draw(st.integers(1, 6))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(UndecodableImage):
        assert decode(bytes(blob)).dtype == np.uint8


def test_a_tiff_whose_list_of_pages_is_damaged_is_refused():
    blob = bytearray(encoded(Image.fromarray(RAMP), "TIFF"))
    (start,) = struct.unpack_from("<L", blob, 4)
    (tags,) = struct.unpack_from("<H", blob, start)
    struct.pack_into("<L", blob, start + 2 + 12 * tags, len(blob) - 4)  # a second page that ends with the file
    with pytest.raises(UndecodableImage):
        decode(bytes(blob))
