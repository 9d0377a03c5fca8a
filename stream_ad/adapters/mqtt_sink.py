"""Verdicts by MQTT, which the gateways of PLCs understand.

A result goes to `<topic>/results/<camera>`, a dead letter to `<topic>/dead-letters`, each as its JSON document. Quality
of service is 1: the broker has confirmed every message when `send` returns.
"""

import contextlib
import re
import ssl
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from stream_ad.adapters.documents import DEAD_LETTER, Document, document
from stream_ad.adapters.secrets import read_secret
from stream_ad.domain.message import OutboxMessage
from stream_ad.errors import ConfigError, DataError, Unavailable

#: reasons by which a broker says that it will never take this very message: topic name invalid, payload invalid
NEVER = (0x90, 0x99)
FAILURE = 0x80
#: what has a meaning in topics, and what has none
NO_LEVEL = re.compile(r"[/+#\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOptions:
    host: str
    port: int = 1883
    topic: str = "stream-ad"
    #: verdicts, and "dead letter"
    send: Collection[str] = ("OK", "NG", "unknown product", "late", DEAD_LETTER)
    #: 5 tells when a broker does not let us publish; 3.1.1 keeps silent
    version: Literal["5", "3.1.1"] = "5"
    #: whether the broker keeps a camera's last verdict for who comes later
    retain: bool = False
    client_id: str = ""
    username: str | None = None
    password_file: Path | None = None
    tls: bool = False
    #: certificates of the authorities that may have signed the broker's; None: those of the system
    ca_file: Path | None = None
    timeout_s: float = 10.0


class MqttSink:
    """`domain.ports.Sink`: publishes to one broker, connected when there is something to send."""

    name = "mqtt"
    at_once = 20

    def __init__(self, options: MqttOptions) -> None:
        self._options = options
        self._link: _Link | None = None
        self._secured()  # better now than at the first verdict
        if options.password_file is not None:
            read_secret(options.password_file, "mqtt.password_file")

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        documents = [one for one in map(document, messages) if one.kind in self._options.send]
        if not documents:
            return
        try:
            if self._link is None or self._link.lost:
                self.close()
                self._link = _Link(self._options, self._secured())
            self._link.publish(documents)
        except Unavailable:
            self.close()  # or what is still on its way would be sent once more when the broker comes back
            raise

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _secured(self) -> ssl.SSLContext | None:
        if not self._options.tls:
            return None
        try:
            return ssl.create_default_context(cafile=self._options.ca_file)
        except OSError as error:
            raise ConfigError(
                f"mqtt.ca_file needs PEM certificates, {self._options.ca_file} has none: {error}"
            ) from error


class _Link:
    """One connection, from its beginning to its first failure."""

    def __init__(self, options: MqttOptions, security: ssl.SSLContext | None) -> None:
        self._options = options
        self._address = f"{options.host}:{options.port}"
        self._news = threading.Condition()
        self._answer: ReasonCode | None = None
        self._confirmed: dict[int, int] = {}
        self.lost = False
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=MQTTv5 if options.version == "5" else MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = options.timeout_s
        client.on_connect, client.on_disconnect, client.on_publish = (
            self._connected,
            self._disconnected,
            self._published,
        )
        if options.username is not None:
            password = options.password_file and read_secret(options.password_file, "mqtt.password_file")
            client.username_pw_set(options.username, password)
        if security is not None:
            client.tls_set_context(security)
        try:
            client.connect(options.host, options.port, keepalive=30)
        except (OSError, ValueError) as error:
            raise Unavailable(f"MQTT broker {self._address} does not answer: {error}") from error
        client.loop_start()
        with self._news:
            self._news.wait_for(lambda: self._answer is not None or self.lost, options.timeout_s)
        if self._answer is None or self._answer.is_failure:
            self.close()
            said = "said nothing" if self._answer is None else f"refused us: {self._answer}"
            raise Unavailable(f"MQTT broker {self._address} {said}; check mqtt.version, username and password_file")

    def publish(self, documents: Sequence[Document]) -> None:
        until = time.monotonic() + self._options.timeout_s
        sent = [(one, self._begin(one)) for one in documents]
        numbers = [number for _, number in sent]
        with self._news:
            self._news.wait_for(
                lambda: self.lost or all(number in self._confirmed for number in numbers), until - time.monotonic()
            )
            codes = [self._confirmed.pop(number, None) for number in numbers]
        failed = [(one, code) for (one, _), code in zip(sent, codes, strict=True) if code is None or code >= FAILURE]
        if not failed:
            return
        one, code = failed[0]
        if code in NEVER:
            raise DataError(f"MQTT broker {self._address} refuses {one.id} with reason {code:#x}")
        if code is not None:
            raise Unavailable(
                f"MQTT broker {self._address} did not take {one.id}, reason {code:#x};"
                f" may we publish to {self._topic(one)}?"
            )
        how = "the connection broke" if self.lost else f"no answer within {self._options.timeout_s:g} s"
        raise Unavailable(f"MQTT broker {self._address} did not confirm {len(failed)} messages: {how}")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._client.disconnect()
        self._client.loop_stop()

    def _begin(self, one: Document) -> int:
        try:
            info = self._client.publish(
                self._topic(one), one.body, qos=1, retain=self._options.retain, properties=self._properties(one)
            )
        except ValueError as error:  # larger than MQTT can say, or no topic
            raise DataError(f"{one.id} cannot be said in MQTT: {error}") from error
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise Unavailable(f"MQTT broker {self._address} is away: {info.rc.name}")
        return info.mid

    def _topic(self, one: Document) -> str:
        if one.kind == DEAD_LETTER:
            return f"{self._options.topic}/dead-letters"
        # a level of its own, whatever the camera is called
        return f"{self._options.topic}/results/{NO_LEVEL.sub('_', one.camera or '-')}"

    def _properties(self, one: Document) -> Properties | None:
        if self._options.version != "5":
            return None
        properties: Any = Properties(PacketTypes.PUBLISH)
        properties.PayloadFormatIndicator = 1
        properties.ContentType = one.headers["content-type"]
        properties.UserProperty = [
            (name.removeprefix("ce_"), value) for name, value in one.headers.items() if name != "content-type"
        ]
        return properties

    # called by paho's thread

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._news:
            self._answer = reason
            self._news.notify_all()

    def _disconnected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self._news:
            self.lost = True
            self._news.notify_all()

    def _published(self, client: Any, data: Any, number: int, reason: Any, properties: Any) -> None:
        with self._news:
            self._confirmed[number] = reason.value
            self._news.notify_all()
