"""A Kafka producer that is safe by default, shared by the sink and the camera's side."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import KafkaError, MessageSizeTooLargeError

from stream_ad.adapters.kafka_connection import Producer, connect, explained
from stream_ad.adapters.kafka_security import PLAIN, KafkaSecurity
from stream_ad.errors import ConfigError, DataError, StreamAdError, Unavailable

log = logging.getLogger(__name__)

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaProducerOptions:
    bootstrap: str
    #: largest message; topics and broker must allow as much (max.message.bytes, message.max.bytes)
    max_message_bytes: int = 8 * MIB
    #: how long sending, with all retries, may take
    delivery_timeout_ms: int = 30_000
    request_timeout_ms: int = 10_000
    reconnect_backoff_max_ms: int = 1_000
    security: KafkaSecurity = PLAIN
    #: given to the client as they are
    client: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message for one topic."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


class SafeProducer:
    """Connects at the first send. Idempotent, waits for all in-sync replicas; any doubt is `Unavailable`.

    Raises:
        ConfigError: a file of the security options is missing or no good.
    """

    def __init__(self, options: KafkaProducerOptions) -> None:
        options.security.client_settings()
        self.options = options
        self._producer: Producer | None = None

    def send(self, messages: Sequence[Outgoing]) -> None:
        """Returns when the broker has every one.

        Raises:
            Unavailable: some may be there.
            DataError: a message is larger than client or broker allow; the others may be there.
        """
        options = self.options
        timeout_s = options.delivery_timeout_ms / 1000
        try:
            with explained(options.bootstrap, "write to"):
                producer = self._connected()
                try:
                    futures = [
                        producer.send(m.topic, key=m.key, value=_sendable(m), headers=list(m.headers.items()))
                        for m in messages
                    ]
                    producer.flush(timeout=timeout_s)
                    for future in futures:
                        future.get(timeout=timeout_s)
                except MessageSizeTooLargeError as error:
                    raise DataError(
                        f"needed messages of at most {options.max_message_bytes:,} bytes (and what Kafka at"
                        f" {options.bootstrap} allows): {error}; raise max.message.bytes of the topic, or send a"
                        " reference"
                    ) from error
        except DataError:
            raise
        except StreamAdError:
            self._forget()  # an idempotent producer that gave up on a message refuses all later ones
            raise

    def close(self) -> None:
        self._forget()

    def _connected(self) -> Producer:
        if self._producer is None:
            options = self.options
            try:
                security = options.security.client_settings()
            except ConfigError as error:  # it was there at the start: somebody is replacing it
                raise Unavailable(str(error)) from error
            settings: dict[str, Any] = {
                "bootstrap_servers": options.bootstrap.split(","),
                "max_request_size": options.max_message_bytes,
                "delivery_timeout_ms": options.delivery_timeout_ms,
                "request_timeout_ms": options.request_timeout_ms,
                "bootstrap_timeout_ms": options.request_timeout_ms,
                "max_block_ms": options.request_timeout_ms,
                "reconnect_backoff_max_ms": options.reconnect_backoff_max_ms,
                **security,
            }
            self._producer, _ = connect(Producer, settings | dict(options.client))
        return self._producer

    def _forget(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=1)
            except (KafkaError, OSError, RuntimeError) as error:  # its flush fails when the broker is away
                log.info("producer closed with messages unsent: %s", error)


def _sendable(message: Outgoing) -> bytes | None:
    """The value; an empty one when there is neither key nor value, which the client refuses to send."""
    return b"" if message.value is None and message.key is None else message.value
