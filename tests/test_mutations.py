"""Damaged and hostile pictures end as a picture or a refusal, in bounded time and memory; the watch itself works.

The long run, 5,000 pictures and more, is `python -m benchmarks.mutations`; its figures are in docs/images.md.
"""

import sys
from pathlib import Path

import pytest

from benchmarks.mutations import FAULTS, Child, bombs, mutations, run, whole_pictures

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: limits and peaks are read from /proc")
SLOW = ("progressive JPEG with 90 scans of 9 MP", "64 MB of nothing")


def test_every_whole_picture_of_the_benchmark_decodes():
    with Child() as child:
        for format, files in whole_pictures().items():
            for data in files:
                outcome = child.decode(data)
                assert outcome.what == "decoded", f"{format}: {outcome.about}"


def test_mutated_pictures_and_headers_are_decoded_or_refused():
    found = [run(mutations(150, seed=1)), run(mutations(150, seed=1, head=64))]
    for part in found:
        assert part["faults"] == []
        assert sum(group.get("refused", 0) for group in part["groups"].values()) > 50
        assert sum(group.get("decoded", 0) for group in part["groups"].values()) > 5


def test_bombs_do_not_go_off():
    found = run((name, data) for name, data in bombs().items() if name not in SLOW)
    assert found["faults"] == []
    assert len(found["groups"]) > 15


def test_a_decoder_that_dies_hangs_or_takes_too_much_is_seen_and_replaced():
    heavy = bombs()["PNG of 3,000 x 3,000 black pixels in 27 kB"]
    whole = whole_pictures()["PNG"][0]
    with Child(memory_limit_mb=20) as child:
        assert child.decode(heavy).what == "memory"
        assert child.decode(whole).what == "decoded"
    with Child(time_limit_s=0.001) as child:
        assert child.decode(heavy).what == "hang"
    with Child() as child:
        assert child.decode(whole).what == "decoded"
        assert child._process is not None
        child._process.kill()
        assert child.decode(whole).what == "crash"
        assert child.decode(whole).what == "decoded"
    assert {"memory", "hang", "crash"} < set(FAULTS)


def test_the_children_are_gone_afterwards():
    with Child() as child:
        child.decode(whole_pictures()["BMP"][0])
        assert child._process is not None
        number = child._process.pid
    assert not Path(f"/proc/{number}").exists()
