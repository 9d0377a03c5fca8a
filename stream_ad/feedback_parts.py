"""How people's word on verdicts is taken down, from settings. The part of `app.py` that knows its classes."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad import change_parts, discovery_parts, stream_parts
from stream_ad.config import Settings
from stream_ad.domain.images import Picture
from stream_ad.domain.ports import Clock
from stream_ad.domain.result import InspectionResult
from stream_ad.errors import DataError

if TYPE_CHECKING:
    from stream_ad.adapters.storage import Database
    from stream_ad.backbones.base import Backbone
    from stream_ad.services.feedback import FeedbackOffice


def picture_of(settings: Settings, database: "Database", clock: Clock, result: InspectionResult) -> bytes:
    """The encoded picture of a result, from where it came.

    Raises:
        DataError: it is gone, or it came from another source than settings name.
        Unavailable: the source is away.
    """
    if result.topic.startswith(stream_parts.folder_topic(Path())):
        from stream_ad.adapters.past_pictures import from_folder

        watched = stream_parts.folder_topic(settings.inbox)
        if result.topic != watched:
            raise DataError(f"needed a result of {watched}, which is watched now, got one of {result.topic}")
        return from_folder(result, settings.inbox, database.files)
    from stream_ad.adapters.past_pictures import from_topic
    from stream_ad.domain.message import DeadLetter, Record, message_id
    from stream_ad.services.messages import read_message

    references = stream_parts.references(settings)

    def read(record: Record) -> bytes:
        message = read_message(record, references, at=clock.now(), key_names=settings.stream.key_names)
        if isinstance(message, DeadLetter):
            raise DataError(f"the picture of {result.message_id!r} cannot be read again: {message.reason}")
        return message.data

    return from_topic(
        result,
        settings.kafka.bootstrap,
        read=read,
        message_id=message_id,
        security=stream_parts.kafka_security(settings),
        max_bytes=round(settings.kafka.max_request_mb * 1024**2),
    )


def look(decoding: Mapping[str, Any], data: bytes) -> tuple[Picture, str]:
    """A picture decoded, and the hash of its pixels. Raises: UndecodableImage."""
    from stream_ad.adapters.decode import decode, pixel_sha256

    picture = decode(data, **decoding)
    return picture, pixel_sha256(picture)


def keep_unknown(
    settings: Settings,
    database: "Database",
    clock: Clock,
    decoding: Mapping[str, Any],
    backbone: Callable[[], "Backbone"],
    result: InspectionResult,
    data: bytes,
    picture: Picture,
) -> None:
    """Take a picture among those of no known product. Loads the backbone: it is known by its embedding."""
    import numpy as np

    from stream_ad.backbones.views import Views
    from stream_ad.domain.proposal import KeptImage

    loaded = backbone()
    files = discovery_parts.files(settings, decoding)
    path, sha256, size_bytes = files.write(data, picture)
    kept = KeptImage(
        id=0,
        place=(result.topic, result.partition, result.offset),
        camera=result.camera,
        path=path,
        sha256=sha256,
        size_bytes=size_bytes,
        embedding=Views(loaded, [picture]).embedding[0].cpu().numpy().astype(np.float32),
        features=str(loaded.spec),
        at=clock.now(),
    )
    files.remove(database.kept_images.keep([kept], discovery_parts.pool_bounds(settings)))


def feedback_office(
    settings: Settings,
    database: "Database",
    clock: Clock,
    decoding: Mapping[str, Any],
    backbone: Callable[[], "Backbone"],
) -> "FeedbackOffice":
    """Takes down what people say of verdicts."""
    from stream_ad.services.feedback import FeedbackOffice

    keep = partial(keep_unknown, settings, database, clock, decoding, backbone)
    return FeedbackOffice(
        feedback=database.feedback,
        pictures=change_parts.feedback_pictures(settings),
        fetch=partial(picture_of, settings, database, clock),
        look=partial(look, decoding),
        pool=keep if settings.discovery.enabled else None,
        clock=clock,
    )
