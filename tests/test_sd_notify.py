"""What systemd hears from a service, on a real socket."""

import os
import socket
import threading
from pathlib import Path

import pytest

from stream_ad.adapters.sd_notify import Systemd


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(20)
        self.environment = {"NOTIFY_SOCKET": address}

    def hears(self) -> list[str]:
        return self.socket.recv(4096).decode().splitlines()


@pytest.fixture(params=["file", "abstract"])
def manager(request, tmp_path: Path):
    address = str(tmp_path / "notify") if request.param == "file" else f"@stream-ad-test-{os.getpid()}"
    made = Manager(address)
    yield made
    made.socket.close()


def test_a_service_says_that_it_is_ready_and_that_it_stops(manager):
    systemd = Systemd(manager.environment)
    systemd.ready("bank 3\nand more")
    assert manager.hears() == ["READY=1", "STATUS=bank 3 and more"]
    systemd.stopping()
    assert manager.hears()[0] == "STOPPING=1"


def test_signs_of_life_end_when_the_service_hangs(manager):
    manager.environment |= {"WATCHDOG_USEC": "30000", "WATCHDOG_PID": str(os.getpid())}
    systemd = Systemd(manager.environment)
    assert systemd.watchdog_s == 0.03
    wrong: list[str] = []
    systemd.keep_alive(lambda: list(wrong), lambda: "bank 3")
    assert manager.hears() == ["WATCHDOG=1", "STATUS=bank 3"]
    wrong.append("the loop hangs")
    while (heard := manager.hears())[0] == "WATCHDOG=1":
        pass
    assert heard == ["STATUS=not alive: the loop hangs"]
    systemd.close()


def test_a_child_process_does_not_speak_in_our_name(manager):
    manager.environment |= {"WATCHDOG_USEC": "5000000", "HOME": "/"}
    Systemd(manager.environment)
    assert manager.environment == {"HOME": "/"}


def test_a_watchdog_that_watches_another_process_is_none_of_ours(manager):
    manager.environment |= {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
    assert Systemd(manager.environment).watchdog_s is None


def test_without_systemd_nothing_happens():
    systemd = Systemd({})
    before = threading.active_count()
    systemd.ready("x")
    systemd.keep_alive(lambda: [], lambda: "")
    systemd.stopping()
    systemd.close()
    assert threading.active_count() == before


def test_a_manager_that_is_gone_ends_nothing(tmp_path):
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")
