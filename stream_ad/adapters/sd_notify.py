"""Tells systemd how a service is (sd_notify): ready, alive, stopping, and a line for `systemctl status`.

Without systemd every method does nothing.
"""

import os
import socket
import threading
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress

#: while the main loop hangs nothing is sent, and systemd starts the service again
PINGS_PER_WATCHDOG = 3


class Systemd:
    """The service manager that started this process, if one did.

    Its variables are taken out of the environment, so that a child process does not speak in our name.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._address = environment.pop("NOTIFY_SOCKET", None)
        limit_us, watched = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", None)
        ours = watched is None or watched == str(os.getpid())
        #: within how many seconds it wants a sign of life; None: it does not
        self.watchdog_s = (
            int(limit_us) / 1e6 if self._address and ours and limit_us.isdigit() and limit_us != "0" else None
        )
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def listens(self) -> bool:
        return self._address is not None

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={_line(status)}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=finishing what is in hand")

    def keep_alive(self, alive: Callable[[], Sequence[str]], status: Callable[[], str]) -> None:
        """Send signs of life and a status from a thread, as long as `alive` finds nothing wrong, until `close`."""
        if not self.listens:
            return
        every_s = (self.watchdog_s or 30.0) / PINGS_PER_WATCHDOG

        def ping() -> None:
            while not self._stop.wait(every_s):
                if wrong := alive():
                    self._send(f"STATUS=not alive: {_line('; '.join(wrong))}")
                else:
                    self._send("WATCHDOG=1", f"STATUS={_line(status())}")

        self._thread = threading.Thread(target=ping, name="systemd watchdog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        # a name that begins with @ is not in the file system
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # a manager that does not listen must not end the line
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(1.0)
            channel.sendto("\n".join(lines).encode(), address)


def _line(text: str) -> str:
    return " ".join(text.split())
