"""A plant to be hard on: an installation in a folder, a broker behind a wire, a camera, and scorers as processes.

Everything goes through the real command line; the only things of ours inside are files and what the broker keeps.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from benchmarks.stream_records import PRODUCTS, Planned, encoded, picture

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "stream_ad.cli")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
TICKS_S = os.sysconf("SC_CLK_TCK")
#: with which tansu gives partitions within seconds, and busy cores are no deaths
SESSION = {"session_timeout_ms": 3000, "heartbeat_interval_ms": 900}


def environment() -> dict[str, str]:
    """Ours without the caller's settings; one thread per scorer, which share the cores."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("STREAM_AD_")}
    return ours | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(place: Path, *arguments: str) -> str:
    """What a command says. Raises: RuntimeError: its exit code is not 0."""
    ran = subprocess.run(
        [*COMMAND, *arguments],
        cwd=place,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(
            f"`stream-ad {' '.join(arguments)}` ended with {ran.returncode}: {(ran.stdout + ran.stderr)[-800:]}"
        )
    return ran.stdout


def write_settings(place: Path, **sections: Any) -> None:
    """The configuration of an installation; a section given adds to what is the same for all."""
    common: dict[str, Any] = {
        "backbone": {"id": "tiny", "image_size": 64, "threads": 1},
        "detector": {"name": "patchcore", "coreset_rows": 64},
        "calibration": {"folds": 2},
        # untrained, the backbone cannot promise what the gate asks
        "routing": {"refuse": False},
        "gate": {"max_flips": 1, "max_false_alarm_rise": 1},
        "ops": {"log": "json"},
    }
    for name, values in sections.items():
        common[name] = common.get(name, {}) | dict(values) if isinstance(values, Mapping) else values
    (place / "config.yaml").write_text(yaml.safe_dump(common))


def teach(place: Path, *, side: int, good: int = 24) -> None:
    """Learn the products, each with a bank version of its own: bank 2 knows the first two, bank 3 all."""
    command(place, "init")
    for number, product in enumerate(PRODUCTS):
        folder = place / "good" / product
        folder.mkdir(parents=True)
        for row in range(good):
            rng = np.random.default_rng([number, row])
            (folder / f"{row:03d}.jpg").write_bytes(encoded(picture(product, rng, side=side), lossless=False))
        # not --wait, which would need a terminal's patience; the same job by the same worker
        command(place, "add-task", product, "--images", str(folder), "--product-id", product)
    command(place, "worker", "--drain")


@dataclass(slots=True)
class Usage:
    """What a process takes."""

    rss_mb: float
    #: not backed by files
    anonymous_mb: float
    handles: int
    threads: int
    cpu_s: float


def usage(pid: int) -> Usage | None:
    """None: there is no such process any more."""
    folder = Path(f"/proc/{pid}")
    try:
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        times = (folder / "stat").read_text().rpartition(")")[2].split()
        return Usage(
            rss_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
            anonymous_mb=int(status["RssAnon"].split()[0]) * 1024 / 1e6,
            handles=len(list((folder / "fd").iterdir())),
            threads=int(status["Threads"]),
            cpu_s=(int(times[11]) + int(times[12])) / TICKS_S,
        )
    except (OSError, KeyError):  # a process that ends has no VmRSS for a moment
        return None


@dataclass(slots=True)
class Scorer:
    """`stream-ad serve` as a process that is started again whenever it ended; what it says goes to `log`."""

    place: Path
    log: Path
    arguments: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    starts: int = 0
    kills: int = 0
    #: exit codes of ends that nobody asked for
    own_ends: list[int] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    cpu_s: float = 0.0
    _cpu_s: float = 0.0

    def start(self) -> None:
        self.starts += 1
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                [*COMMAND, "serve", *self.arguments],
                cwd=self.place,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError("needed a scorer that was started")
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self.observe()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.kills += 1
            self._account()

    def revive(self) -> None:
        """Start it again when it ended by itself, as a service manager does."""
        if self.process is not None and (code := self.process.poll()) is not None:
            self.own_ends.append(code)
            self._account()
            self.start()

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM; its exit code."""
        process = self.process
        if process is None:
            raise RuntimeError("needed a scorer that was started")
        self.observe()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            self._account()
            self.process = None

    def wait(self, timeout_s: float) -> int:
        """The exit code of one that ends by itself (`--idle`), watched meanwhile."""
        give_up = time.monotonic() + timeout_s
        while self.process is not None and self.process.poll() is None:
            self.observe()
            if time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"needed an end within {timeout_s:.0f} s, see {self.log}")
            time.sleep(0.1)
        self._account()
        code, self.process = (self.process.returncode if self.process else -1), None
        return code

    def observe(self) -> Usage | None:
        """What it takes now; None when it is not running."""
        now = usage(self.process.pid) if self.process is not None else None
        if now is not None:
            self.peak_rss_mb = max(self.peak_rss_mb, now.rss_mb)
            self._cpu_s = now.cpu_s
        return now

    def end(self) -> None:
        """Whatever happened: no process stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _account(self) -> None:
        self.cpu_s += self._cpu_s
        self._cpu_s = 0.0


class Camera:
    """Sends planned records to the topic and waits for the broker, which then has them.

    A record's number decides its partition, so the offsets of a run are the same in the next.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self._producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            max_request_size=8 * 1024**2,
            reconnect_backoff_max_ms=500,
            delivery_timeout_ms=60_000,
            linger_ms=5,
        )
        self._topic, self._partitions = topic, partitions
        self.sent = 0

    def send(self, records: Sequence[Planned]) -> None:
        futures = [
            self._producer.send(
                self._topic,
                partition=record.number % self._partitions,
                key=record.key,
                value=record.value,
                headers=list(record.headers.items()),
            )
            for record in records
        ]
        self._producer.flush(timeout=60)
        for future in futures:
            future.get(timeout=60)
        self.sent += len(records)

    def close(self) -> None:
        self._producer.close(timeout=5)


def read_topic(bootstrap: str, topic: str, partitions: int, *, least: int, quiet_s: float = 4.0) -> Iterator[Any]:
    """Every record of a topic: until nothing came for `quiet_s`, and not before `least` came.

    Not until its end offsets: what tansu says of them lags behind what it has.

    Raises:
        RuntimeError: fewer than `least` came in a minute.
    """
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")) as consumer:
        consumer.assign(places)
        came, last = 0, time.monotonic()
        while came < least or time.monotonic() - last < quiet_s:
            for records in consumer.poll(timeout_ms=500, max_records=2000).values():
                yield from records
                came, last = came + len(records), time.monotonic()
            if time.monotonic() - last > 60:
                raise RuntimeError(f"needed {least} records of {topic}, got {came} and nothing for 60 s")


def committed(bootstrap: str, group: str, topic: str, partitions: int) -> int:
    """How far a group committed, summed over the partitions."""
    places = [TopicPartition(topic, partition) for partition in range(partitions)]
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)) as consumer:
        return sum(consumer.committed(place) or 0 for place in places)
