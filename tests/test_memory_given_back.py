import platform
import subprocess
import sys

import pytest

from stream_ad.adapters.memory import give_back

#: in a process of its own, whose memory nobody else changes
HOLED = """
from pathlib import Path
from stream_ad.adapters.memory import give_back

def resident_mb():
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

kept = [bytearray(b"x") * 65536 for _ in range(2000)]
del kept[::2]
before = resident_mb()
assert give_back()
print(before - resident_mb())
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc: no other C library has malloc_trim")


@glibc
def test_what_is_free_between_what_is_in_use_goes_back_to_the_system() -> None:
    ran = subprocess.run([sys.executable, "-c", HOLED], capture_output=True, text=True, check=True)
    assert float(ran.stdout) > 40  # of 62.5 MB that were freed


def test_a_library_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ad.adapters.memory.ctypes.CDLL", lambda name: object())
    assert give_back() is False
