"""What a broker says about our topics, and whether the size limits on a picture's way fit each other."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from stream_ad.adapters.kafka_connection import connect, explained
from stream_ad.adapters.kafka_security import PLAIN, KafkaSecurity

MIB = 1024**2
#: what the client reads in one answer at least, whatever is configured
RECEIVE_BYTES = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicFacts:
    name: str
    #: 0: the topic is not there
    partitions: int
    #: copies of each partition, of the one with the fewest
    replicas: int
    #: largest message that the topic takes (max.message.bytes); None: the broker does not say
    max_message_bytes: int | None


class Remark(NamedTuple):
    """Something to know about the topics."""

    #: whether pictures are refused or stop the line
    grave: bool
    message: str


def ask(
    bootstrap: str, topics: Sequence[str], *, security: KafkaSecurity = PLAIN, timeout_ms: int = 5_000
) -> tuple[int, Sequence[TopicFacts]]:
    """How many brokers there are, and what they say about each topic. Nothing is created by asking.

    Raises:
        Unavailable: no broker answers, or it refuses us.
        ConfigError: a file of the security options is missing or no good.
    """
    settings = {
        "bootstrap_servers": bootstrap.split(","),
        "bootstrap_timeout_ms": timeout_ms,
        "request_timeout_ms": timeout_ms,
        **security.client_settings(),
    }
    with explained(bootstrap, "ask"):
        admin, _ = connect(KafkaAdminClient, settings)
        try:
            brokers = len(admin.describe_cluster()["brokers"])
            described = {topic["name"]: topic["partitions"] for topic in admin.describe_topics(list(topics))}
            there = [name for name in topics if described.get(name)]
            asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
            configs = admin.describe_configs(asked, config_filter="all")  # pyright: ignore[reportCallIssue] (old stubs)
        finally:
            admin.close()
    return brokers, [
        TopicFacts(
            name=name,
            partitions=len(described.get(name, [])),
            replicas=min((len(one["replica_nodes"]) for one in described.get(name, [])), default=0),
            max_message_bytes=_number(configs.get("topic", {}).get(name, {}).get("max.message.bytes", {}).get("value")),
        )
        for name in topics
    ]


def compare(
    images: TopicFacts,
    others: Sequence[TopicFacts],
    *,
    brokers: int,
    producer_bytes: int,
    partition_fetch_bytes: int,
    fetch_bytes: int,
) -> Iterator[Remark]:
    """What does not fit on the way from camera to scorer, and to the topics that we write. Nothing: all fits."""
    for topic in (images, *others):
        if not topic.partitions:
            yield Remark(
                False,
                f"topic {topic.name} is not there; create it, or the broker may make it at the first message with its"
                " own defaults",
            )
        elif topic.replicas == 1 and brokers > 1:
            yield Remark(
                False, f"topic {topic.name} has one copy on {brokers} brokers: a broker that is lost takes it along"
            )
    silent = [topic.name for topic in (images, *others) if topic.partitions and topic.max_message_bytes is None]
    if silent:
        yield Remark(
            False,
            f"the broker does not say max.message.bytes of {', '.join(silent)}; it should be at least"
            f" {producer_bytes:,} (kafka.max_request_mb)",
        )
    limit = images.max_message_bytes
    if limit is not None:
        # a batch that is fetched in spite of the fetch sizes may still be more than one answer can be
        readable = max(RECEIVE_BYTES, fetch_bytes + partition_fetch_bytes)
        if limit < producer_bytes:
            yield Remark(
                True,
                f"topic {images.name} takes messages of at most {limit:,} bytes, kafka.max_request_mb is"
                f" {producer_bytes:,}: `publish` is refused in between; raise max.message.bytes, or lower the setting",
            )
        if limit > readable:
            yield Remark(
                True,
                f"topic {images.name} takes messages of up to {limit:,} bytes, a scorer can read {readable:,}: a larger"
                " one stops its partition for good; lower max.message.bytes",
            )
    for topic in others:
        wanted = producer_bytes if limit is None else min(producer_bytes, limit)
        if topic.max_message_bytes is not None and topic.max_message_bytes < wanted:
            yield Remark(
                False,
                f"topic {topic.name} takes messages of at most {topic.max_message_bytes:,} bytes, pictures have up to"
                f" {wanted:,}: a larger dead letter goes there without its bytes (the database has them)",
            )
    if limit is not None and producer_bytes < limit and others:
        yield Remark(
            False,
            f"cameras may send up to {limit:,} bytes, kafka.max_request_mb is {producer_bytes:,}: a larger dead letter"
            " is sent without its bytes (the database has them)",
        )


def _number(text: str | None) -> int | None:
    return int(text) if text else None
