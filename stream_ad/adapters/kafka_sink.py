"""Results and dead letters to Kafka topics."""

from collections.abc import Sequence

from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.domain.message import OutboxMessage
from stream_ad.errors import ConfigError, DataError


class KafkaSink:
    """`domain.ports.Sink`: channel "results" to one topic, "dead-letters" to another.

    A dead letter that is too large for the broker is sent without its bytes, and the header
    `stream_ad.value_omitted` tells their number; the database has them.
    """

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
        try:
            self._producer.send([message])
        except DataError:
            omitted = {**message.headers, "stream_ad.value_omitted": str(len(message.value or b"")).encode()}
            self._producer.send([Outgoing(topic=message.topic, key=message.key, value=None, headers=omitted)])
