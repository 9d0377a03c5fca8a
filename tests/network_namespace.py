"""A network of its own, where a server may listen on every address and nobody outside can reach it.

python -m tests.network_namespace COMMAND...   brings loopback up and becomes the command
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest

#: no rights are needed where user namespaces are on. With the first process everything in there ends, whatever it left
ENTER = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def require_namespaces() -> None:
    """Skip the test where they are forbidden."""
    try:
        run_inside([sys.executable, "-c", "pass"], timeout_s=30)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"needs a network of its own (Linux with user namespaces, util-linux): {error}")


def run_inside(command: Sequence[str], *, timeout_s: float) -> str:
    """What a command in a network of its own writes to stdout.

    Raises:
        CalledProcessError: it failed; its `stderr` has its words.
        TimeoutExpired: it was ended, and all that it had started.
    """
    inside = [*ENTER, sys.executable, "-m", "tests.network_namespace", *command]
    run = subprocess.run(
        inside, check=True, capture_output=True, text=True, timeout=timeout_s, preexec_fn=_die_with_the_parent
    )
    return run.stdout


#: loaded beforehand, because between fork and exec next to nothing is safe
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _die_with_the_parent() -> None:
    """Of a test run that is killed nothing is left, in no namespace."""
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def bring_loopback_up() -> None:
    """As `ip link set lo up`, which is not on every machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


if __name__ == "__main__":
    bring_loopback_up()
    os.execvp(sys.argv[1], sys.argv[1:])
