"""Rebalances whose course the test decides, for brokers that take their time or never end one."""

from collections.abc import Iterable

from kafka.coordinator.assignors.abstract import ConsumerProtocolAssignment  # pyright: ignore[reportAttributeAccessIssue] (old stubs)

from stream_ad.adapters.kafka_source import KafkaSource


class Rebalance:
    """Begins at the source's next poll. The client lives through it as through any; what the broker's coordinator would
    answer is ours to say, and the broker itself knows nothing of it: commits of the member go on to be accepted.
    """

    def __init__(self, source: KafkaSource) -> None:
        assert source._consumer is not None
        self._coordinator = source._consumer._coordinator  # pyright: ignore[reportAttributeAccessIssue] (old stubs)
        self._share: bytes | None = None
        self._coordinator._do_join_and_sync_async = self._answer
        # no answer of the broker will tell the client to go on with them, and to the broker it never left
        self._coordinator._disable_heartbeat = lambda: None
        self._coordinator.request_rejoin()

    def give(self, topic: str, partitions: Iterable[int]) -> None:
        """The member's share, with which the rebalance ends."""
        self._share = ConsumerProtocolAssignment(0, [(topic, sorted(partitions))], b"").encode()

    async def _answer(self) -> bytes:
        while self._share is None:
            await self._coordinator._net.sleep(0.01)
        return self._share


def held(source: KafkaSource) -> set[int]:
    """The partitions that the source reads now."""
    return {place.partition for place in source._group.held}
