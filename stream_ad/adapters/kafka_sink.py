"""Results and dead letters to Kafka topics."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.domain.message import OutboxMessage
from stream_ad.errors import ConfigError, DataError

log = logging.getLogger(__name__)

ERROR_HEADERS = "__connect.errors."
OMITTED = "stream_ad.value_omitted"


class KafkaSink:
    """`domain.ports.Sink`: channel "results" to one topic, "dead-letters" to another.

    A dead letter that is too large for the broker is sent without its bytes, and the header
    `stream_ad.value_omitted` tells their number; the database has them. One whose key or own headers are too large
    too is sent with nothing but the reason. What is refused even so is logged and left out, so that it does not keep
    all later messages waiting.
    """

    name = "kafka"
    at_once = 100

    def __init__(self, options: KafkaProducerOptions, *, results_topic: str, dead_letter_topic: str) -> None:
        self._producer = SafeProducer(options)
        self._topics = {"results": results_topic, "dead-letters": dead_letter_topic}

    def send(self, messages: Sequence[OutboxMessage]) -> None:
        outgoing = [self._outgoing(message) for message in messages]
        try:
            self._producer.send(outgoing)
        except DataError:
            for message in outgoing:
                self._send_without_value_if_needed(message)

    def close(self) -> None:
        self._producer.close()

    def _outgoing(self, message: OutboxMessage) -> Outgoing:
        if message.channel not in self._topics:
            raise ConfigError(f"needed a channel of {', '.join(self._topics)}, got {message.channel!r}")
        return Outgoing(
            topic=self._topics[message.channel], key=message.key, value=message.value, headers=message.headers
        )

    def _send_without_value_if_needed(self, message: Outgoing) -> None:
        omitted = {OMITTED: str(len(message.value or b"")).encode()}
        reason = {name: value for name, value in message.headers.items() if name.startswith(ERROR_HEADERS)}
        attempts = [message, replace(message, value=None, headers={**message.headers, **omitted})]
        if reason:
            attempts.append(replace(message, key=None, value=None, headers={**reason, **omitted}))
        refusal = ""
        for attempt in attempts:
            try:
                self._producer.send([attempt])
                return
            except DataError as error:
                refusal = str(error)
        parts = [reason.get(f"{ERROR_HEADERS}{name}", b"?") for name in ("topic", "partition", "offset")]
        about = b"/".join(parts) if reason else message.headers.get("ce_id", b"a result")
        log.error(
            "topic %s got no message about %s: too large even without its value; the database has it. %s",
            message.topic,
            about[:200].decode(errors="replace"),
            refusal,
        )
