"""Scorers and workers as their operators run them: real processes, asked over HTTP, with an ear for systemd."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from stream_ad.app import App
from stream_ad.config import load_settings
from tests.broker import free_port
from tests.ops_kit import ask, scrape
from tests.stream_kit import png

ROOT = Path(__file__).parents[1]
LIMIT_S = 120


class Service:
    """A command under a service manager."""

    def __init__(self, place: Path, *arguments: str, **settings: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        (place / "notify").unlink(missing_ok=True)  # of another one of this place
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(place / "notify"))
        self._notified.settimeout(LIMIT_S)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_AD_")}
        defaults = {
            "STREAM_AD_BACKBONE__ID": "tiny",
            "STREAM_AD_BACKBONE__IMAGE_SIZE": "64",
            "STREAM_AD_DETECTOR__NAME": "patchcore",
            "STREAM_AD_JOBS__POLL_S": "0.05",
            "STREAM_AD_STREAM__SETTLE_S": "0",
            "STREAM_AD_OPS__LOG": "json",
            "STREAM_AD_OPS__LISTEN": self.address,
            "STREAM_AD_OPS__WORKER_LISTEN": self.address,
            "STREAM_AD_OPS__SCHEDULER_LISTEN": self.address,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "NOTIFY_SOCKET": str(place / "notify"),
            "WATCHDOG_USEC": "300000",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream_ad.cli", *arguments],
            cwd=place,
            env=inherited | defaults | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def hears(self, wanted: str) -> list[str]:
        """The next notification that has this line."""
        while wanted not in (heard := self._notified.recv(4096).decode().splitlines()):
            pass
        return heard

    def logs(self, **fields: object) -> dict[str, Any]:
        """The next log line with these fields; every line must be JSON."""
        assert self.process.stderr is not None
        for text in self.process.stderr:
            line = json.loads(text)
            if fields.items() <= line.items():
                return line
        raise AssertionError(f"the log ended without {fields}")

    def ends(self) -> tuple[int, str]:
        """Exit code, and what it wrote to stdout; the rest of the log must be JSON."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        for line in err.splitlines():
            json.loads(line)
        return self.process.returncode, out

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._notified.close()


@contextmanager
def running(place: Path, *arguments: str, **settings: str) -> Iterator[Service]:
    service = Service(place, *arguments, **settings)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database and an empty bank."""
    for name in [name for name in os.environ if name.startswith("STREAM_AD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with App(load_settings()) as app:
        app.make_database()
    return tmp_path


def test_a_scorer_is_ready_once_its_bank_is_loaded_and_tells_what_it_did(place):
    with running(place, "serve") as service:
        ready = service.hears("READY=1")
        assert "STATUS=bank 0, 0 pictures, 0 dead letters" in ready
        assert ask(service.address, "/livez") == (200, "ok\n")
        assert ask(service.address, "/readyz") == (200, "ok\n")
        (place / "stream-ad-data/inbox").mkdir(exist_ok=True)
        (place / "stream-ad-data/inbox/a.png").write_bytes(png(7))
        line = service.logs(verdict="unknown product")
        assert (line["topic"], line["partition"], line["offset"], line["task"]) == ("folder:inbox", 0, 0, None)
        samples = scrape(service.address)
        assert samples['stream_ad_images_total{task="none",verdict="unknown product"}'] == 1
        assert samples["stream_ad_batch_size_count"] == 1
        assert samples['stream_ad_stage_seconds_count{stage="write"}'] == 1
        assert service.hears("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        service.hears("STOPPING=1")
        assert service.ends() == (0, "")


def test_a_broker_that_is_down_neither_kills_a_scorer_nor_makes_it_unready(place):
    settings = {
        "STREAM_AD_STREAM__SOURCE": "kafka",
        "STREAM_AD_KAFKA__BOOTSTRAP": f"127.0.0.1:{free_port()}",
    }
    with running(place, "serve", **settings) as service:
        service.hears("READY=1")
        service.logs(level="WARNING")
        assert ask(service.address, "/livez") == (200, "ok\n")
        assert ask(service.address, "/readyz") == (200, "ok\n")
        assert scrape(service.address)['stream_ad_retries_total{what="source"}'] >= 1
        service.process.send_signal(signal.SIGTERM)
        assert service.ends()[0] == 0


def test_a_scorer_whose_database_is_gone_is_alive_and_not_ready(place):
    with running(place, "serve") as service:
        service.hears("READY=1")
        database = place / "stream-ad-data/stream_ad.db"
        for file in database.parent.glob("stream_ad.db*"):
            file.unlink()
        database.mkdir()
        (database / "in the way").touch()
        status, wrong = ask(service.address, "/readyz")
        while status == 200:  # connections that were open still see the file
            status, wrong = ask(service.address, "/readyz")
        assert status == 503
        assert "database" in wrong


def test_a_worker_tells_jobs_by_state_and_gives_back_what_it_has_when_stopped(place):
    with running(place, "worker") as service:
        assert service.hears("READY=1")[1] == "STATUS=waits for a job"
        assert ask(service.address, "/livez") == (200, "ok\n")
        assert ask(service.address, "/readyz") == (200, "ok\n")
        samples = scrape(service.address)
        assert samples['stream_ad_jobs{state="queued"}'] == 0
        assert samples["stream_ad_database_up"] == 1
        service.hears("WATCHDOG=1")
        service.process.send_signal(signal.SIGTERM)
        service.hears("STOPPING=1")
        assert service.ends() == (0, "")


def test_two_scorers_on_one_port_are_refused_with_what_to_do(place):
    with running(place, "serve") as first:
        first.hears("READY=1")
        (place / "notify").unlink()
        with running(place, "serve", STREAM_AD_OPS__LISTEN=first.address, STREAM_AD_OPS__LOG="text") as second:
            _, err = second.process.communicate(timeout=LIMIT_S)
            assert second.process.returncode == 2
            assert f"needed a free address for /livez, /readyz and /metrics, got {first.address}" in err
