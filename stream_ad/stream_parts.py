"""What a stream is made of, from settings: a source, sinks, references, overlays, and how Kafka is reached.

The part of `app.py` that knows their concrete classes; `App.stream` puts them together. Nothing is imported before it
is needed.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stream_ad.config import Settings
from stream_ad.domain.ports import Clock, FileLedger, Sink, Source
from stream_ad.domain.result import Verdict

if TYPE_CHECKING:
    from stream_ad.adapters.disk import DiskGuard
    from stream_ad.adapters.kafka_producer import KafkaProducerOptions
    from stream_ad.adapters.kafka_security import KafkaSecurity
    from stream_ad.adapters.overlay import OverlayFolder
    from stream_ad.services.deadlines import Deadlines
    from stream_ad.services.streaming import StreamOptions


def kafka_source(settings: Settings) -> Source:
    """Images from a topic."""
    from stream_ad.adapters.kafka_source import KafkaSource, KafkaSourceOptions

    kafka = settings.kafka
    return KafkaSource(
        KafkaSourceOptions(
            bootstrap=kafka.bootstrap,
            topics=(kafka.topic,),
            group=kafka.group,
            max_poll_interval_ms=kafka.max_poll_interval_ms,
            session_timeout_ms=kafka.session_timeout_ms,
            heartbeat_interval_ms=kafka.heartbeat_interval_ms,
            max_partition_fetch_bytes=round(kafka.max_request_mb * 1024**2),
            instance=kafka.instance,
            stalled_s=kafka.stalled_s,
            security=kafka_security(settings),
        )
    )


def folder_source(settings: Settings, ledger: FileLedger, clock: Clock) -> Source:
    """Images from the watched folder, which is made where it is missing."""
    from stream_ad.adapters.folder_source import FolderSource

    settings.inbox.mkdir(parents=True, exist_ok=True)
    return FolderSource(
        settings.inbox, ledger, clock, topic=folder_topic(settings.inbox), settle_s=settings.stream.settle_s
    )


def folder_topic(folder: Path) -> str:
    """What a watched folder is called in the database."""
    return f"folder:{folder.name}"


def sinks(settings: Settings, clock: Clock) -> Sequence[Sink]:
    """Where results go beside the database."""
    chosen: list[Sink] = []
    if settings.results_jsonl is not None:
        from stream_ad.adapters.jsonl_sink import JsonLinesSink

        chosen.append(JsonLinesSink(settings.results_jsonl, clock=clock))
    if settings.stream.source == "kafka":
        from stream_ad.adapters.kafka_sink import KafkaSink

        chosen.append(
            KafkaSink(
                kafka_producer_options(settings),
                results_topic=settings.kafka.results_topic,
                dead_letter_topic=settings.dead_letter_topic,
            )
        )
    if settings.mqtt.host is not None:
        from stream_ad.adapters.mqtt_sink import MqttOptions, MqttSink

        chosen.append(MqttSink(MqttOptions(**dict(settings.mqtt))))
    if settings.webhook.url is not None:
        from stream_ad.adapters.webhook_sink import WebhookOptions, WebhookSink

        chosen.append(WebhookSink(WebhookOptions(**dict(settings.webhook)), clock=clock))
    return chosen


def kafka_producer_options(settings: Settings) -> "KafkaProducerOptions":
    """How to send to Kafka."""
    from stream_ad.adapters.kafka_producer import KafkaProducerOptions

    return KafkaProducerOptions(
        bootstrap=settings.kafka.bootstrap,
        max_message_bytes=round(settings.kafka.max_request_mb * 1024**2),
        security=kafka_security(settings),
    )


def kafka_security(settings: Settings) -> "KafkaSecurity":
    """How to connect to Kafka."""
    from stream_ad.adapters.kafka_security import KafkaSecurity

    kafka = settings.kafka
    return KafkaSecurity(
        protocol=kafka.security,
        ca_file=kafka.ca_file,
        cert_file=kafka.cert_file,
        key_file=kafka.key_file,
        key_password_file=kafka.key_password_file,
        check_hostname=kafka.check_hostname,
        mechanism=kafka.mechanism,
        username=kafka.username,
        password_file=kafka.password_file,
    )


def references(settings: Settings) -> Callable[[str, str | None], bytes] | None:
    """What reads the pictures behind references; None: none are allowed."""
    from stream_ad.adapters.references import FileReferences, References

    stream = settings.stream
    if not stream.reference_roots:
        return None
    largest = round(stream.max_reference_mb * 1024**2)
    stores = [root for root in stream.reference_roots if isinstance(root, str)]
    folders = [root for root in stream.reference_roots if isinstance(root, Path)]
    objects = None
    if stores:
        from stream_ad.adapters.object_references import ObjectReferences, S3Options

        objects = ObjectReferences(stores, S3Options(**dict(settings.s3)), max_bytes=largest)
    return References(FileReferences(folders, max_bytes=largest), objects)


def overlays(settings: Settings) -> "OverlayFolder | None":
    """What draws overlays; None: nothing does."""
    if settings.stream.overlays == "none":
        return None
    from stream_ad.adapters.overlay import OverlayFolder

    return OverlayFolder(settings.overlays_dir, of_ok=settings.stream.overlays == "all")


def disk_guard(settings: Settings) -> "DiskGuard":
    """Raises when a disk that a stream writes to is nearly full."""
    from stream_ad.adapters.database import sqlite_file
    from stream_ad.adapters.disk import DiskGuard

    results = settings.results_jsonl
    written = (
        settings.data_dir,
        settings.overlays_dir,
        *([results.parent] if results else []),
        *([file.parent] if (file := sqlite_file(settings.database_url)) else []),
    )
    return DiskGuard(written, min_free_mb=settings.stream.min_free_mb)


def deadlines(settings: Settings) -> "Deadlines":
    """When a verdict comes too late."""
    from stream_ad.services.deadlines import Deadlines

    stream = settings.stream
    return Deadlines(
        default_s=stream.deadline_s,
        by_camera=stream.camera_deadlines_s,
        told=Verdict(stream.late_verdict),
        skip=stream.skip_late,
    )


def options(settings: Settings) -> "StreamOptions":
    """Sizes, times and bounds of a stream."""
    from stream_ad.services.streaming import StreamOptions

    stream = settings.stream
    return StreamOptions(
        batch_size=stream.batch_size,
        linger_s=stream.linger_ms / 1000,
        decode_threads=stream.decode_threads or min(4, os.cpu_count() or 1),
        buffer_records=max(stream.buffer_pictures, 2 * stream.batch_size),
        buffer_bytes=round(stream.buffer_mb * 1024**2),
        picture_bytes=round(stream.picture_mb * 1024**2),
        max_attempts=stream.max_attempts,
        drain_s=stream.drain_s,
        key_names=stream.key_names,
    )
