"""Every sink with its other side: a real broker, a real HTTP server, a file; and a wire between that can fail."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from stream_ad.adapters.in_memory import ManualClock
from stream_ad.adapters.jsonl_sink import JsonLinesSink
from stream_ad.adapters.kafka_producer import KafkaProducerOptions
from stream_ad.adapters.kafka_sink import KafkaSink
from stream_ad.adapters.mqtt_sink import MqttOptions, MqttSink
from stream_ad.adapters.webhook_sink import WebhookOptions, WebhookSink
from stream_ad.domain.message import OutboxMessage, Record
from stream_ad.domain.ports import Sink
from stream_ad.domain.result import Verdict
from stream_ad.services.messages import dead_letter
from stream_ad.services.outgoing import dead_letter_message, result_message
from stream_ad.services.verdicts import result_of
from tests.broker import broker_behind, create_topic, free_port, read_all
from tests.stream_kit import inspection_of
from tests.test_overlay import message
from tests.wire import Wire

NOW = datetime(2026, 11, 22, 23, 59, tzinfo=UTC)
EVERYTHING = ("OK", "NG", "unknown product", "late", "dead letter")
PATIENCE_S = 30.0


def a_result(offset: int = 3, **changes: Any) -> OutboxMessage:
    inspection = inspection_of(**{"score": 7.5, "verdict": Verdict.NG} | changes)
    seen = replace(message(offset), camera="cam/1")
    return result_message(result_of(seen, inspection, at=NOW, since=NOW, overlay=None))


def a_dead_letter(value: bytes | None = b"\xff\x00 no picture", offset: int = 4) -> OutboxMessage:
    record = Record(topic="t", partition=1, offset=offset, key=b"cam", value=value, headers={"camera": b"S\xc3\xbcd"})
    return dead_letter_message(dead_letter(record, "decode", ValueError("no picture: ü"), at=NOW))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Line:
    """A sink and the place behind it."""

    sink: Sink
    #: ids of what arrived; waits until there are so many
    arrived: Callable[[int], list[str]]
    leave: Callable[[], Any]
    come_back: Callable[[], Any]


# --- HTTP


@dataclass
class Receiver:
    """An HTTP server that keeps what is posted and answers as it is told."""

    port: int = 0
    status: int = 204
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?token=1"


@contextmanager
def receiver() -> Iterator[Receiver]:
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if kept.status < 300:
                kept.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(kept.status)
            if kept.status in (301, 302, 307, 308):
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


# --- MQTT


def mosquitto_binary() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip("needs mosquitto, an MQTT broker: apt-get install mosquitto")
    return found


@contextmanager
def mosquitto(folder: Path, *more: str) -> Iterator[str]:
    """The address of a broker, with these lines in its configuration besides."""
    binary, port = mosquitto_binary(), free_port()
    configuration = folder / "mosquitto.conf"
    # as root it would become another user, who cannot read the test's folder
    own = ["per_listener_settings false", f"listener {port} 127.0.0.1", "user root"]
    configuration.write_text("\n".join([*own, *(more or ["allow_anonymous true"])]) + "\n")
    process = subprocess.Popen(
        [binary, "-c", str(configuration)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if b"running" in line:
                break
        else:
            raise RuntimeError(f"needed a broker, mosquitto ended with {process.wait()}")
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.stdout.close()
        process.wait(timeout=10)


class Subscriber:
    """What a PLC's gateway sees: topics with their payloads."""

    def __init__(self, address: str, topic: str = "#", *, user: tuple[str, str] | None = None) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self.properties: list[Any] = []
        self._news = threading.Condition()
        self._subscribed = False
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.on_message = self._keep
        self._client.on_subscribe = self._begin
        host, _, port = address.partition(":")
        self._client.connect(host, int(port))
        self._client.subscribe(topic, qos=1)
        self._client.loop_start()
        with self._news:
            assert self._news.wait_for(lambda: self._subscribed, PATIENCE_S)

    def wait_for(self, count: int) -> list[tuple[str, bytes]]:
        with self._news:
            self._news.wait_for(lambda: len(self.seen) >= count, PATIENCE_S)
            return list(self.seen)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _begin(self, *_: Any) -> None:
        with self._news:
            self._subscribed = True
            self._news.notify_all()

    def _keep(self, client: Any, data: Any, message: Any) -> None:
        with self._news:
            self.seen.append((message.topic, message.payload))
            self.properties.append(message.properties)
            self._news.notify_all()


# --- all of them


@contextmanager
def jsonl_line(folder: Path) -> Iterator[Line]:
    place = folder / "out"
    file = place / "results.jsonl"

    def arrived(count: int) -> list[str]:
        there = [path for path in (file, place / "results.dead-letters.jsonl") if path.exists()]
        return [line["id"] for path in there for line in lines(path)]

    def leave() -> None:
        place.rename(folder / "unmounted")
        place.write_text("")  # not even root makes a folder of a file

    def come_back() -> None:
        place.unlink()
        (folder / "unmounted").rename(place)

    yield Line(JsonLinesSink(file, clock=ManualClock(NOW)), arrived, leave, come_back)


@contextmanager
def webhook_line(folder: Path) -> Iterator[Line]:
    with receiver() as there, Wire(f"127.0.0.1:{there.port}") as wire:
        options = WebhookOptions(url=f"http://{wire.address}/hook", send=EVERYTHING, timeout_s=5.0)
        sink = WebhookSink(options, clock=ManualClock(NOW))
        yield Line(sink, lambda _: [json.loads(body)["id"] for *_, body in there.requests], wire.refuse, wire.accept)


@contextmanager
def mqtt_line(folder: Path) -> Iterator[Line]:
    with mosquitto(folder) as broker, Wire(broker) as wire, closing(Subscriber(broker)) as subscriber:
        host, _, port = wire.address.partition(":")

        def arrived(count: int) -> list[str]:
            return [json.loads(payload)["id"] for _, payload in subscriber.wait_for(count)]

        with closing(MqttSink(MqttOptions(host=host, port=int(port), timeout_s=5.0))) as sink:
            yield Line(sink, arrived, wire.refuse, wire.accept)


@contextmanager
def kafka_line(folder: Path) -> Iterator[Line]:
    with Wire() as wire, broker_behind(wire) as bootstrap:
        for topic in ("r", "d"):
            create_topic(bootstrap, topic)
        options = KafkaProducerOptions(bootstrap=bootstrap, request_timeout_ms=1000, delivery_timeout_ms=3000)

        def arrived(count: int) -> list[str]:
            ids: list[str] = []
            give_up = time.monotonic() + PATIENCE_S
            while len(ids) < count and time.monotonic() < give_up:
                ids = [dict(record.headers)["ce_id"].decode() for record in read_all(bootstrap, "r", count, 1.0)]
                ids += [dict(record.headers)["stream_ad.id"].decode() for record in read_all(bootstrap, "d", 1, 1.0)]
            return ids

        with closing(KafkaSink(options, results_topic="r", dead_letter_topic="d")) as sink:
            yield Line(sink, arrived, wire.refuse, wire.accept)
        with suppress(Exception):
            wire.accept()


LINES = {"jsonl": jsonl_line, "webhook": webhook_line, "mqtt": mqtt_line, "kafka": kafka_line}


def ids(messages: Sequence[OutboxMessage]) -> list[str]:
    return [message.id for message in messages]
