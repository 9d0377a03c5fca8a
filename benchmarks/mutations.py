"""Thousands of damaged and hostile pictures through the decoder, in processes that are watched.

    python -m benchmarks.mutations                       5,000 mutated pictures, 2,000 mutated headers, bombs, damage
    python -m benchmarks.mutations --output FILE.json    and the figures as JSON

Each picture is decoded by a child process of bounded address space; the parent waits for a limited time. A picture ends
as *decoded*, *refused* (`UndecodableImage`), or as one of the faults that must not be: *error* (any other exception),
*crash* (the child died), *hang* (over the time limit), *memory* (over the memory limit). Exit code 1 when there is a
fault. Everything follows from `--seed`.
"""

import argparse
import io
import json
import resource
import selectors
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin

MAX_PIXELS = 10_000_000
TIME_LIMIT_S = 10.0
#: what a child may take beyond what it has when it starts; `decode` promises 33 bytes a pixel
MEMORY_LIMIT_MB = 33 * MAX_PIXELS / 1024**2 + 64
FAULTS = ("error", "crash", "hang", "memory")


# --- what is sent -------------------------------------------------------------------------------------------------


def whole_pictures() -> Mapping[str, Sequence[bytes]]:
    """Small pictures in every format and most of its variants."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:90, :121]
    wave = np.stack([np.sin(y / 9) * np.cos(x / (5 + c)) * 90 + 128 for c in range(3)], axis=2)
    rgb = Image.fromarray((wave + rng.normal(0, 6, wave.shape)).clip(0, 255).astype(np.uint8))
    rgba = rgb.convert("RGBA")
    rgba.putalpha(Image.fromarray((x * 2).clip(0, 255).astype(np.uint8)))
    deep = Image.fromarray((np.asarray(rgb.convert("L")).astype(np.uint16)) * 16)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    text = PngImagePlugin.PngInfo()
    text.add_text("line", "3" * 300, zip=True)

    def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, format, **options)
        return stream.getvalue()

    return {
        "JPEG": [
            encoded(rgb, "JPEG", quality=85),
            encoded(rgb, "JPEG", quality=60, progressive=True, exif=exif),
            encoded(rgb.convert("L"), "JPEG", quality=90),
            encoded(rgb.convert("CMYK"), "JPEG"),
            encoded(rgb, "JPEG", restart_marker_blocks=4, subsampling="4:2:2", icc_profile=bytes(400)),
            encoded(rgb, "MPO", save_all=True, append_images=[rgb.resize((40, 30))]),
        ],
        "PNG": [
            encoded(rgb, "PNG", pnginfo=text),
            encoded(rgb.convert("L"), "PNG", exif=exif),
            encoded(rgb.quantize(32), "PNG", transparency=3),
            encoded(rgba, "PNG"),
            encoded(deep, "PNG"),
            encoded(rgb.convert("1"), "PNG"),
        ],
        "BMP": [encoded(image, "BMP") for image in (rgb, rgb.convert("L"), rgb.convert("1"), rgba, rgb.quantize(16))],
        "TIFF": [
            encoded(rgb, "TIFF"),
            encoded(deep, "TIFF"),
            *(
                encoded(rgb, "TIFF", compression=name)
                for name in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma")
            ),
            encoded(rgba, "TIFF", compression="tiff_lzw"),
            encoded(rgb.convert("CMYK"), "TIFF"),
            encoded(rgb.convert("1"), "TIFF", compression="group4"),
            tiled_tiff(16),
        ],
        "WEBP": [
            encoded(rgb, "WEBP", quality=80),
            encoded(rgb, "WEBP", lossless=True),
            encoded(rgba, "WEBP", quality=70, exif=exif),
        ],
    }


def tiled_tiff(tile: int) -> bytes:
    """Grey, 16 x 16 pixels, deflated, in one square tile."""
    body = zlib.compress(bytes(16 * 16))
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 322: tile, 323: tile, 324: 8, 325: len(body)}
    start = 8 + len(body) + len(body) % 2
    page = b"".join(struct.pack("<HHLL", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<L", start) + body + b"\0" * (len(body) % 2)
    return head + struct.pack("<H", len(tags)) + page + bytes(4)


#: numbers at which programs break
EDGES = (0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 12_000, 100_000)


def mutated(data: bytes, rng: np.random.Generator, *, others: Sequence[bytes], head: int | None = None) -> bytes:
    """The file after one to four accidents, all within the first `head` bytes if given."""
    blob = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        end = max(1, len(blob) if head is None else min(head, len(blob)))
        at, size = int(rng.integers(end)), int(rng.integers(1, 64))
        other = others[int(rng.integers(len(others)))]
        match int(rng.integers(9 if head is None else 5)):
            case 0:
                blob[at] ^= 1 << int(rng.integers(8))
            case 1:
                blob[at] = int(rng.integers(256))
            case 2 | 3:  # a field: 2 or 4 bytes, either order
                order = "<>"[int(rng.integers(2))]
                value = EDGES[int(rng.integers(len(EDGES)))]
                field = struct.pack(f"{order}L", value) if rng.integers(2) else struct.pack(f"{order}H", value & 0xFFFF)
                blob[at : at + len(field)] = field
            case 4:
                blob[at : at + size] = rng.bytes(size)
            case 5:
                blob[at : at + 8 * size] = bytes(8 * size)
            case 6:
                del blob[at : at + size]
            case 7:
                blob[at:at] = blob[at : at + size]
            case 8:  # the rest of another file
                cut = int(rng.integers(len(other)))
                blob = blob[:at] + bytearray(other[cut:])
    return bytes(blob) or b"\0"


def mutations(count: int, seed: int, *, head: int | None = None) -> Iterator[tuple[str, bytes]]:
    """(format, file), the formats in turn."""
    pictures = whole_pictures()
    rng = np.random.default_rng([seed, head or 0])
    everything = [data for files in pictures.values() for data in files]
    for index in range(count):
        format = list(pictures)[index % len(pictures)]
        files = pictures[format]
        data = mutated(files[(index // len(pictures)) % len(files)], rng, others=everything, head=head)
        if format == "PNG" and rng.integers(2):
            data = with_right_sums(data)
        yield format, data


def with_right_sums(png: bytes) -> bytes:
    """So that what is behind the checksums meets the damage too."""
    blob, at = bytearray(png), 8
    while at + 12 <= len(blob):
        end = at + 8 + int.from_bytes(blob[at : at + 4], "big")
        if end + 4 <= len(blob):
            blob[end : end + 4] = zlib.crc32(blob[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(blob)


@cache
def bombs() -> Mapping[str, bytes]:
    """Files made to cost as much as possible."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(side: int, *more: bytes, body: bytes = b"") -> bytes:
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        end = chunk(b"IDAT", body or zlib.compress(bytes((3 * side + 1) * side), 9)) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(more) + end

    def jpeg(side: int, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (side, side), (90, 90, 90)).save(stream, "JPEG", **options)
        return stream.getvalue()

    progressive = jpeg(3_000, progressive=True)
    last = progressive.rindex(b"\xff\xda")
    small = jpeg(64)
    frame = small.index(b"\xff\xc0")
    huge = small[: frame + 5] + struct.pack(">HH", 65_500, 65_500) + small[frame + 9 :]
    largest = small[: frame + 5] + struct.pack(">HH", 3_160, 3_160) + small[frame + 9 :]
    zeros = zlib.compress(bytes(200_000_000), 1)
    empty_pages = b"".join(struct.pack("<HL", 0, 8 + 6 * (page + 1)) for page in range(1_000_000))
    stream = io.BytesIO()
    Image.new("RGBA", (64, 64)).save(stream, "WEBP", lossless=True, exif=b"Exif\0\0")
    webp = bytearray(stream.getvalue())
    webp[24:30] = (16_382).to_bytes(3, "little") * 2
    # thousands of tags, each the same megabyte; and strips of nothing, millions of them
    shared = b"".join(struct.pack("<HHLL", 40_000 + tag, 7, 1_000_000, 8) for tag in range(4_000))
    shared = b"II*\0" + struct.pack("<L", 1_000_008) + bytes(1_000_000) + struct.pack("<H", 4_000) + shared + bytes(4)
    strips = {256: (16, 1), 257: (10_000_000, 1), 258: (8, 1), 259: (1, 1), 262: (1, 1), 278: (1, 1)}
    page = b"".join(struct.pack("<HHLL", tag, 4, count, value) for tag, (value, count) in strips.items())
    page += b"".join(struct.pack("<HHLL", tag, 4, 10_000_000, 8) for tag in (273, 279))
    striped = b"II*\0" + struct.pack("<L", 40_000_008) + bytes(40_000_000) + struct.pack("<H", 8) + page + bytes(4)
    rle = bytearray(54 + 1024) + b"\x01\x00" * 2_000_000
    struct.pack_into("<2sLHHL", rle, 0, b"BM", len(rle), 0, 0, 54 + 1024)
    struct.pack_into("<LllHHLLllLL", rle, 14, 40, 3_000, 3_000, 1, 8, 1, 0, 0, 0, 256, 0)
    return {
        "PNG of 30,000 x 30,000 in 60 bytes": png(30_000, body=zlib.compress(bytes(10))),
        "PNG of 3,000 x 3,000 black pixels in 27 kB": png(3_000),
        "PNG with a text of 200 MB in 900 kB": png(8, chunk(b"zTXt", b"a\0\0" + zeros)),
        "PNG with a colour profile of 200 MB in 900 kB": png(8, chunk(b"iCCP", b"a\0\0" + zeros)),
        "PNG whose 8 x 8 pixels unpack to 200 MB": png(8, body=zeros),
        "PNG with a million chunks": png(8, chunk(b"teST", b"") * 1_000_000),
        "JPEG of 65,500 x 65,500 in 700 bytes": huge,
        "JPEG of 3,160 x 3,160 that ends after 64 x 64": largest,
        "progressive JPEG with 20,000 scans": progressive[:last] + progressive[last:-2] * 20_000 + b"\xff\xd9",
        "progressive JPEG with 90 scans of 9 MP": progressive[:last] + progressive[last:-2] * 80 + b"\xff\xd9",
        "TIFF with a tile of 60,000 x 60,000": tiled_tiff(60_000),
        "TIFF with a million empty pages": b"II*\0\x08\0\0\0" + empty_pages,
        "TIFF with 4,000 tags of the same megabyte": shared,
        "TIFF with 10 million strips": striped,
        "PNG with EXIF of 4,000 tags of the same megabyte": png(8, chunk(b"eXIf", shared)),
        "JPEG with a million segments": small[:2] + b"\xff\xe3\0\2" * 1_000_000 + small[2:],
        "TIFF with a page that follows itself": b"II*\0\x08\0\0\0" + struct.pack("<HHHLLL", 1, 256, 4, 1, 16, 8),
        "WebP with a canvas of 16,383 x 16,383": bytes(webp),
        "BMP of 9 MP in 2 million runs": bytes(rle),
        "BMP of minus 2,147,483,648 rows": bytes(rle[:22])
        + struct.pack("<l", -(2**31))
        + bytes(rle[26:30])
        + bytes(40),
        "64 MB of nothing": bytes(64 * 1024**2),
    }


# --- who decodes ---------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    what: str  # "decoded", "refused" or a fault
    seconds: float
    peak_mb: float
    about: str


def serve(memory_limit_mb: float) -> None:
    """The child: lengths and files in, lines of JSON out."""
    from stream_ad.adapters.decode import decode, pixels
    from stream_ad.errors import UndecodableImage

    decode(whole_pictures()["PNG"][0])  # loads what is loaded late
    with Path("/proc/self/statm").open() as status:
        limit = int(status.read().split()[0]) * resource.getpagesize() + int(memory_limit_mb * 1024**2)
    before = 0.0
    while header := sys.stdin.buffer.read(4):
        data = sys.stdin.buffer.read(int.from_bytes(header, "little"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = _resident_mb("VmRSS")
        resource.setrlimit(resource.RLIMIT_AS, (limit + len(data), resource.RLIM_INFINITY))
        start = time.perf_counter()
        try:
            picture = decode(data, max_pixels=MAX_PIXELS)
            what, about = "decoded", ""
            if pixels(data, max_pixels=MAX_PIXELS) != picture.shape[0] * picture.shape[1]:
                what, about = "error", f"the header promised another size than {picture.shape}"
            del picture
        except UndecodableImage as error:
            what, about = "refused", str(error)
        except MemoryError as error:
            what, about = "memory", repr(error)
        except BaseException as error:
            what, about = "error", repr(error)
        seconds = time.perf_counter() - start
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        answer = Outcome(what, seconds, _resident_mb("VmHWM") - before, about)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _resident_mb(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"needed {field} in /proc/self/status; this benchmark runs on Linux")


class Child:
    """A decoder in a process of its own; one that dies or hangs is replaced."""

    def __init__(self, *, time_limit_s: float = TIME_LIMIT_S, memory_limit_mb: float = MEMORY_LIMIT_MB) -> None:
        self._limit_s, self._limit_mb = time_limit_s, memory_limit_mb
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def decode(self, data: bytes) -> Outcome:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        start = time.perf_counter()
        try:
            process.stdin.write(len(data).to_bytes(4, "little") + data)
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(self._limit_s):
                    self._end()
                    return Outcome("hang", time.perf_counter() - start, 0.0, f"over {self._limit_s:g} s")
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            code = process.wait()
            self._end()
            return Outcome("crash", time.perf_counter() - start, 0.0, f"exit code {code}")
        return Outcome(*json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mutations", "--child", str(self._limit_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


# --- what is counted -----------------------------------------------------------------------------------------------


def run(files: Iterator[tuple[str, bytes]]) -> Mapping[str, Any]:
    """Per group: how many ended how, the longest and the largest; and every fault."""
    ends: dict[str, Counter[str]] = defaultdict(Counter)
    slowest: dict[str, float] = defaultdict(float)
    largest: dict[str, float] = defaultdict(float)
    faults: list[str] = []
    with Child() as child:
        for group, data in files:
            outcome = child.decode(data)
            ends[group][outcome.what] += 1
            slowest[group] = max(slowest[group], outcome.seconds)
            largest[group] = max(largest[group], outcome.peak_mb)
            if outcome.what in FAULTS:
                faults.append(f"{group}, crc {zlib.crc32(data):08x}: {outcome.what}: {outcome.about[:300]}")
    return {
        "groups": {
            group: {**counts, "slowest_ms": round(1000 * slowest[group], 1), "peak_mb": round(largest[group], 1)}
            for group, counts in ends.items()
        },
        "faults": faults,
    }


def damage(each: int, seed: int) -> Mapping[str, Mapping[str, float]]:
    """Per format and accident: the share of pictures, damaged in their body, that are refused."""
    from stream_ad.adapters.decode import decode
    from stream_ad.errors import UndecodableImage

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:300, :400]
    wave = np.sin(y / 19) * np.cos(x / 15) * 90 + 128
    noisy = (wave[..., None] + rng.normal(0, 6, (300, 400, 3))).clip(0, 255).astype(np.uint8)

    def encoded(format: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(noisy).save(stream, format, **options)
        return stream.getvalue()

    whole = {
        "JPEG": encoded("JPEG", quality=85),
        "PNG": encoded("PNG"),
        "BMP": encoded("BMP"),
        "TIFF, plain": encoded("TIFF"),
        "TIFF, deflate": encoded("TIFF", compression="tiff_deflate"),
        "TIFF, LZW": encoded("TIFF", compression="tiff_lzw"),
        "WebP, lossy": encoded("WEBP", quality=85),
        "WebP, lossless": encoded("WEBP", lossless=True),
    }
    accidents = {
        "one bit": lambda data, at: data[:at] + bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 :],
        "16 bytes": lambda data, at: data[:at] + rng.bytes(16) + data[at + 16 :],
        "512 bytes zero": lambda data, at: data[:at] + bytes(512) + data[at + 512 :],
        "cut": lambda data, at: data[:at],
    }
    shares: dict[str, dict[str, float]] = {}
    for format, data in whole.items():
        first, last = max(700, len(data) // 20), len(data) - 700
        shares[format] = {}
        for name, accident in accidents.items():
            refused = 0
            for _ in range(each):
                try:
                    decode(accident(data, int(rng.integers(first, last))))
                except UndecodableImage:
                    refused += 1
            shares[format][name] = refused / each
    return shares


def table(rows: Mapping[str, Mapping[str, Any]], columns: Sequence[str], first: str) -> str:
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(row.get(column, 0)) for column in columns)} |" for name, row in rows.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=float, metavar="MB", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=5_000, help="mutated pictures")
    parser.add_argument("--headers", type=int, default=2_000, help="pictures with a mutated header")
    parser.add_argument("--each", type=int, default=200, help="damaged pictures per format and accident")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="figures as JSON")
    options = parser.parse_args()
    if options.child:
        serve(options.child)
        return 0

    start = time.perf_counter()
    found = {
        "mutated": run(mutations(options.count, options.seed)),
        "headers": run(mutations(options.headers, options.seed, head=64)),
        "bombs": run(iter(bombs().items())),
    }
    columns = ("decoded", "refused", *FAULTS, "slowest_ms", "peak_mb")
    for title, part in found.items():
        print(f"\n{title}\n\n{table(part['groups'], columns, 'files')}")
    shares = damage(options.each, options.seed)
    percent = {name: {k: f"{100 * v:.0f} %" for k, v in row.items()} for name, row in shares.items()}
    print(f"\nrefused of those damaged in their body\n\n{table(percent, list(next(iter(percent.values()))), 'format')}")
    faults = [fault for part in found.values() for fault in part["faults"]]
    print("\n" + "\n".join(faults or ["no fault"]), f"\n{time.perf_counter() - start:.0f} s", sep="")
    if options.output:
        limits = {"max_pixels": MAX_PIXELS, "time_limit_s": TIME_LIMIT_S, "memory_limit_mb": round(MEMORY_LIMIT_MB)}
        report = {"seed": options.seed, **limits, **found, "refused_share": shares}
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
