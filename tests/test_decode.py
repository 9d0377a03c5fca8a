"""Every encoded picture becomes the same honest RGB, or is refused with a reason."""

import contextlib
import io
import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from stream_ad.adapters.decode import decode, memory, pixel_sha256
from stream_ad.adapters.jpeg import MAX_SCANS
from stream_ad.errors import UndecodableImage

DATASETS = Path(os.environ.get("STREAM_AD_DATASETS", Path(__file__).parents[2] / "shared" / "datasets"))
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


def as_pillow_decodes(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image.convert("RGB"))


JPEG_KINDS = {
    "grey": ("L", {}),
    "444": ("RGB", {"subsampling": "4:4:4"}),
    "422": ("RGB", {"subsampling": "4:2:2"}),
    "420": ("RGB", {"subsampling": "4:2:0"}),
    "rgb": ("RGB", {"keep_rgb": True}),
    "restarts": ("RGB", {"restart_marker_blocks": 1}),
    "cmyk": ("CMYK", {}),
}


@pytest.mark.parametrize("kind", JPEG_KINDS)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("height", "width"), [(7, 9), (16, 16), (33, 47), (101, 3), (128, 160)])
def test_a_jpeg_has_the_very_pixels_that_pillow_gives(kind, progressive, height, width):
    rng = np.random.default_rng(height)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mode, options = JPEG_KINDS[kind]
    for quality, shown in itertools.product((30, 90), (noise, np.sort(noise, axis=1))):
        image = Image.fromarray(shown).convert(mode)
        data = encoded(image, "JPEG", quality=quality, progressive=progressive, **options)
        assert np.array_equal(decode(data), as_pillow_decodes(data))


@pytest.mark.needs_datasets
def test_jpegs_of_real_cameras_have_the_very_pixels_that_pillow_gives():
    files = sorted(DATASETS.rglob("*.jpg"))[::40]
    if not files:
        pytest.skip(f"needs real images in {DATASETS}; name their folder by STREAM_AD_DATASETS")
    for file in files:
        data = file.read_bytes()
        assert np.array_equal(decode(data), as_pillow_decodes(data)), file


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_can_be_written_to(format, mode):
    picture = decode(encoded(Image.fromarray(RAMP).convert(mode), format))
    assert picture.flags.writeable
    assert picture.flags.c_contiguous


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise to see it upright
    data = encoded(Image.fromarray(RAMP), "PNG", exif=exif)
    assert np.array_equal(decode(data), np.rot90(RAMP, -1))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_is_turned_upright_however_the_camera_was_held(orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (24, 40, 3), dtype=np.uint8)).convert(mode)
    data = encoded(image, "JPEG", exif=exif)
    picture = decode(data)
    assert np.array_equal(picture, as_pillow_decodes(data))
    assert picture.flags.c_contiguous


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


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_grey_of_a_known_depth_is_scaled_by_it_however_dark_the_picture(bits):
    dark = np.arange(256, dtype=np.uint16).reshape(16, 16)
    assert np.array_equal(decode(encoded(Image.fromarray(dark)), grey_bits=bits)[:, :, 0], dark >> (bits - 8))


def test_a_grey_value_beyond_the_cameras_depth_is_refused():
    data = encoded(Image.fromarray(np.array([[0, 4096]], dtype=np.uint16)))
    with pytest.raises(UndecodableImage, match=r"0 to 4095, got 0 to 4096; backbone\.grey_bits is 12"):
        decode(data, grey_bits=12)


@pytest.mark.parametrize("data", [encoded(Image.fromarray(RAMP)), encoded(Image.fromarray(RAMP).convert("L"), "JPEG")])
def test_the_depth_concerns_16_bit_grey_alone(data):
    assert np.array_equal(decode(data, grey_bits=10), decode(data))


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
    with pytest.raises(UndecodableImage, match=r"(2 frames|several pages); send them one by one"):
        decode(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_truncated_picture_is_refused(format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    with pytest.raises(UndecodableImage):
        decode(data[: len(data) // 2])


def photo(side: int = 256) -> bytes:
    """A JPEG as of a camera: one scan, no restart markers."""
    wave = np.sin(np.arange(side)[:, None] / 9) * np.cos(np.arange(side)[None] / 7) * 100 + 128
    noise = np.random.default_rng(0).normal(0, 8, (side, side, 3))
    return encoded(Image.fromarray((wave[..., None] + noise).clip(0, 255).astype(np.uint8)), "JPEG", quality=85)


def scan_of(data: bytes) -> int:
    """Where a JPEG's entropy-coded data begin."""
    return data.index(b"\xff\xda") + 14


@pytest.mark.parametrize("lost", [512, 2048])
def test_a_jpeg_with_a_block_of_its_body_lost_is_refused(lost):
    data = photo()
    refused = 0
    for start in range(scan_of(data), len(data) - lost - 2, 1024):
        damaged = data[:start] + bytes(lost) + data[start + lost :]  # as a disk or a network leaves it
        assert as_pillow_decodes(damaged).shape == (256, 256, 3), "Pillow alone sees nothing wrong"
        try:
            decode(damaged)
        except UndecodableImage as error:
            assert "damaged or truncated JPEG" in str(error)  # noqa: PT017, all of them are counted
            refused += 1
    # JPEG has no checksum: a few resynchronise by chance. Only a message's sha256 finds those
    assert refused >= 0.9 * len(range(scan_of(data), len(data) - lost - 2, 1024))


@pytest.mark.parametrize("length", [1, 512])
def test_a_png_that_is_damaged_anywhere_is_refused(length):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    for start in range(16, len(data) - length, 997):
        damaged = bytes(255 - byte for byte in data[start : start + length])
        with pytest.raises(UndecodableImage):
            decode(data[:start] + damaged + data[start + length :])


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 1000, 10_000])
def test_a_jpeg_that_lacks_its_end_is_refused(cut):
    with pytest.raises(UndecodableImage, match="truncated"):
        decode(photo()[:-cut])


def test_a_damaged_cmyk_jpeg_is_refused_too():
    data = encoded(Image.open(io.BytesIO(photo())).convert("CMYK"), "JPEG")
    middle = (scan_of(data) + len(data)) // 2
    with pytest.raises(UndecodableImage, match="damaged"):
        decode(data[:middle] + bytes(1024) + data[middle + 1024 :])


def test_what_a_camera_writes_behind_a_jpeg_does_no_harm():
    data = photo(64)
    assert np.array_equal(decode(data + bytes(4096)), decode(data))


def test_the_previews_of_an_mpo_do_no_harm():
    pages = [Image.open(io.BytesIO(photo(side))) for side in (96, 48)]
    data = encoded(pages[0], "MPO", save_all=True, append_images=pages[1:])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.array_equal(decode(data), as_pillow_decodes(data))


def test_a_progressive_jpeg_of_endless_scans_is_refused_before_it_is_decoded():
    data = encoded(Image.fromarray(RAMP), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * MAX_SCANS + data[-2:]
    with pytest.raises(UndecodableImage, match=f"at most {MAX_SCANS} scans"):
        decode(bomb)


def test_a_tiff_whose_tile_is_a_bomb_is_refused_by_its_header():
    assert decode(tiled_tiff(16)).shape == (16, 16, 3)
    with pytest.raises(UndecodableImage, match="the header says 60000 x 60000"):
        decode(tiled_tiff(60_000))


def tiled_tiff(tile: int) -> bytes:
    """Grey, 16 x 16 pixels, deflated, in one square tile."""
    body = zlib.compress(bytes(16 * 16))
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 322: tile, 323: tile, 324: 8, 325: len(body)}
    pages = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + len(body) + len(body) % 2
    data = b"II*\0" + struct.pack("<L", start) + body + b"\0" * (len(body) % 2)
    return data + struct.pack("<H", len(tags)) + pages + bytes(4)


def test_a_run_length_coded_bmp_is_refused():
    data = bytearray(encoded(Image.fromarray(RAMP).convert("L"), "BMP"))
    data[30] = 1  # BI_RLE8
    with pytest.raises(UndecodableImage, match="without run-length coding"):
        decode(bytes(data))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_memory_that_a_picture_takes_is_known_from_its_header(format):
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), format)
    needed = 60 * 50 * (9 if format == "JPEG" else 17)
    assert memory(data) == needed
    if format not in ("TIFF", "WEBP"):  # a TIFF's header may be at its end; a WebP's size is checked when it is opened
        assert memory(data[: len(data) // 2]) == needed
    with pytest.raises(UndecodableImage, match="the header says 50 x 60"):
        memory(data, max_pixels=2999)
    if format in ("PNG", "TIFF"):
        assert memory(encoded(Image.fromarray(noise).convert("RGBA"), format)) == 60 * 50 * 33


@pytest.mark.parametrize(("kind", "lossless"), [(b"VP8 ", False), (b"VP8L", True), (b"VP8X", True)])
def test_a_webp_bomb_is_refused_before_memory_is_reserved_for_it(kind, lossless):
    mode = "RGBA" if kind == b"VP8X" else "RGB"
    pixels_of = np.random.default_rng(0).integers(0, 256, (40, 30, 4), dtype=np.uint8)[..., : len(mode)]
    data = encoded(Image.fromarray(pixels_of), "WEBP", lossless=lossless, icc_profile=b"x" if kind == b"VP8X" else b"")
    assert data[12:16] == kind
    with pytest.raises(UndecodableImage, match="the header says 30 x 40"):
        decode(data, max_pixels=1199)
    assert decode(data, max_pixels=1200).shape == (40, 30, 3)


@pytest.mark.parametrize("data", [b"", b"GIF89a" + b"\0" * 100, b"\xff\xd8\xff", b"\xff\xd8\xff\xe0"])
def test_what_is_no_picture_needs_no_memory_either(data):
    with pytest.raises(UndecodableImage, match="needed a JPEG, PNG, BMP, TIFF or WEBP picture, got"):
        memory(data)


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
