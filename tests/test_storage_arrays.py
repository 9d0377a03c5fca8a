import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from storage_kit import entry

from stream_ad.adapters.arrays import FileEntryStore, entry_bytes
from stream_ad.domain.bank import BankEntry, BranchScale
from stream_ad.errors import BankError

stored_arrays = st.sampled_from(
    ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "u2", "u8", "?", ">f8", ">i4"]
).flatmap(lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)))


def assert_same(a: BankEntry, b: BankEntry) -> None:
    assert (a.task, a.detector, a.features, a.shared_weights) == (b.task, b.detector, b.features, b.shared_weights)
    assert dict(a.splits) == dict(b.splits)
    assert dict(a.calibration.score_scales) == dict(b.calibration.score_scales)
    assert dict(a.calibration.map_scales) == dict(b.calibration.map_scales)
    assert a.calibration.out_of_fold == b.calibration.out_of_fold
    for name in ("scores", "map_peaks", "key_distances", "embedding_distances"):
        assert_bits(getattr(a.calibration, name), getattr(b.calibration, name))
    assert set(a.arrays) == set(b.arrays)
    for name in a.arrays:
        assert_bits(a.arrays[name], b.arrays[name])


def assert_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape
    assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
    assert a.astype(a.dtype.newbyteorder("=")).tobytes() == b.tobytes()


def test_an_entry_comes_back_bit_for_bit(tmp_path: Path) -> None:
    stored = FileEntryStore(tmp_path).put(entry())
    loaded = FileEntryStore(tmp_path).get(stored.sha256)
    assert_same(loaded, entry())
    assert loaded.sha256 == stored.sha256
    assert loaded.threshold == entry().threshold


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=st.dictionaries(st.text(min_size=1, max_size=8), stored_arrays, max_size=4))
def test_any_arrays_come_back_bit_for_bit(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    given_entry = replace(entry(), arrays=arrays)
    stored = FileEntryStore(tmp_path).put(given_entry)
    loaded = FileEntryStore(tmp_path).get(stored.sha256)
    assert_same(given_entry, loaded)
    assert all(array.flags.aligned for array in loaded.arrays.values())


def test_equal_entries_are_one_file_in_whatever_order_they_were_put_together(tmp_path: Path) -> None:
    first = entry()
    turned = replace(
        first,
        arrays=dict(reversed(list(first.arrays.items()))),
        splits=dict(reversed(list(first.splits.items()))),
        calibration=replace(
            first.calibration, score_scales=dict(reversed(list(first.calibration.score_scales.items())))
        ),
    )
    store = FileEntryStore(tmp_path)
    assert store.put(first).sha256 == store.put(turned).sha256
    assert len(list(tmp_path.iterdir())) == 1


def test_bytes_do_not_depend_on_the_process() -> None:
    program = "from storage_kit import entry; from stream_ad.adapters.arrays import entry_bytes; import hashlib;"
    program += "print(hashlib.sha256(entry_bytes(entry())).hexdigest())"
    here = hashlib.sha256(entry_bytes(entry())).hexdigest()
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent)])
    for seed in "01":
        there = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here


def test_every_part_of_an_entry_is_in_its_name() -> None:
    one = entry()
    others = [
        replace(one, detector="patchcore 2"),
        replace(one, shared_weights="cd" * 32),
        replace(one, splits={"fit": "02"}),
        replace(one, task=replace(one.task, false_alarm_rate=0.01)),
        replace(one, features=replace(one.features, image_size=64)),
        replace(one, calibration=replace(one.calibration, out_of_fold=False)),
        replace(one, calibration=replace(one.calibration, scores=one.calibration.scores + 1e-15)),
        replace(one, arrays={**one.arrays, "coreset": -one.arrays["coreset"]}),
    ]
    assert len({entry_bytes(each) for each in [one, *others]}) == len(others) + 1


def test_loaded_arrays_cannot_be_written(tmp_path: Path) -> None:
    store = FileEntryStore(tmp_path)
    loaded = store.get(store.put(entry()).sha256)
    for array in (loaded.arrays["coreset"], loaded.calibration.scores):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_a_missing_entry_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="backup"):
        FileEntryStore(tmp_path).get("ab" * 32)


@pytest.mark.parametrize("damage", ["one bit", "cut", "empty"])
def test_a_damaged_entry_is_never_loaded_and_mended_by_storing_it_again(tmp_path: Path, damage: str) -> None:
    sha256 = FileEntryStore(tmp_path).put(entry()).sha256
    path = FileEntryStore(tmp_path).path(sha256)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes({"one bit": data, "cut": data[:100], "empty": b""}[damage])
    with pytest.raises(BankError, match="backup"):
        FileEntryStore(tmp_path).get(sha256)
    store = FileEntryStore(tmp_path)
    store.put(entry())
    assert_same(store.get(sha256), entry())


def test_what_cannot_be_stored_exactly_is_refused(tmp_path: Path) -> None:
    store = FileEntryStore(tmp_path)
    with pytest.raises(BankError, match="complex128"):
        store.put(replace(entry(), arrays={"x": np.ones(2, complex)}))
    scales = {"memory": BranchScale(float("nan"), 1.0, 1.0)}
    with pytest.raises(BankError, match="finite"):
        store.put(replace(entry(), calibration=replace(entry().calibration, map_scales=scales)))


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BankError, match="another place"):
        FileEntryStore(tmp_path / "file" / "entries").put(entry())


KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from storage_kit import entry
from stream_ad.adapters.arrays import FileEntryStore
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # written, not yet renamed
FileEntryStore(Path(sys.argv[1])).put(entry())
"""


def test_a_process_killed_while_storing_leaves_nothing_that_matters(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests), str(tests.parent)])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(tmp_path)], env=os.environ | {"PYTHONPATH": path}
    )
    assert killed.returncode == -signal.SIGKILL
    [left_over] = tmp_path.iterdir()
    store = FileEntryStore(tmp_path)
    with pytest.raises(BankError):
        store.get(hashlib.sha256(entry_bytes(entry())).hexdigest())
    assert_same(store.get(store.put(entry()).sha256), entry())
    assert left_over.exists()
