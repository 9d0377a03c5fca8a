"""The camera's side: pictures of a folder to a Kafka topic, as CloudEvents in binary mode."""

import hashlib
import logging
import mimetypes
import secrets
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stream_ad.adapters.folder_scan import FolderScan, Found, picture_files
from stream_ad.adapters.kafka_producer import KafkaProducerOptions, Outgoing, SafeProducer
from stream_ad.domain.ports import Clock
from stream_ad.errors import ConfigError, NoImages, Unavailable

log = logging.getLogger(__name__)

MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    topic: str
    #: None: the picture's first sub-folder, if it has one
    camera: str | None = None
    #: id of the product that the pictures are declared to show
    product: str | None = None
    #: pictures a second, taken now as a camera takes them; None: as fast as the broker takes them, taken when the file
    #: was written
    rate: float | None = None
    #: the folder again and again, each time as new pictures
    loop: bool = False
    #: start a W3C trace with each picture
    trace: bool = False
    #: keep going with files that come later
    watch: bool = False
    #: larger files are sent as a reference; 0 sends every one so
    reference_above_bytes: int = 6 * MIB
    settle_s: float = 0.5
    scan_every_s: float = 0.2
    retry_s: float = 1.0


def publish(
    directory: Path,
    producer: KafkaProducerOptions,
    options: PublishOptions,
    *,
    clock: Clock,
    stop: threading.Event,
    on_sent: Callable[[str, int], None] | None = None,
) -> int:
    """How many pictures were sent; `on_sent` is told each name and the count so far. Oldest file first.

    A file is sent once in a run (unless in a loop), and again when it changed. References are absolute file:// paths:
    scorers must see the folder under the same path and allow it.

    Raises:
        NoImages: there is no picture in the folder, and `watch` is off.
        ConfigError: the folder is missing, the rate is not above zero, or both `loop` and `watch` are asked for.
        Unavailable: the broker is away; with `watch` or `loop` only before the first picture, afterwards it is waited
            for.
        DataError: a picture is larger than the broker allows.
    """
    if options.rate is not None and options.rate <= 0:
        raise ConfigError(f"needed a rate above 0 pictures a second, got {options.rate}")
    if options.loop and options.watch:
        raise ConfigError("needed either a folder to play again and again or one to watch, got both")
    if not directory.is_dir():
        raise ConfigError(f"needed a folder of pictures, there is none at {directory}")
    scan, shutter = FolderScan(directory, settle_s=options.settle_s), _Shutter(clock, options.rate, stop)
    safe, sent, count = SafeProducer(producer), set[Found](), 0
    try:
        while not stop.is_set():
            complete = scan.complete(clock) if options.watch else sorted(picture_files(directory))
            if not complete and not options.watch:
                raise NoImages(f"needed .png, .jpg, .bmp, .tif or .webp pictures in {directory}, found none")
            for file in complete:
                if file in sent and not options.loop:
                    continue
                taken_at = shutter.next()
                if stop.is_set() or not _send(
                    safe, directory, file, options, taken_at, patient=bool(count), clock=clock, stop=stop
                ):
                    break
                sent.add(file)
                count += 1
                if on_sent is not None:
                    on_sent(file.path, count)
            if not options.watch and not options.loop:
                break
            if options.watch:
                _sleep_until(clock.now() + timedelta(seconds=options.scan_every_s), clock, stop)
    finally:
        safe.close()
    return count


class _Shutter:
    """A camera's beat: it does not drift by what sending takes, and makes up for at most a second of a hold-up."""

    def __init__(self, clock: Clock, rate: float | None, stop: threading.Event) -> None:
        self._clock, self._stop, self._rate = clock, stop, rate
        self._due = clock.now()

    def next(self) -> datetime | None:
        """Wait for the next beat; when the picture was taken. None: there is no beat."""
        if self._rate is None:
            return None
        due = self._due = max(self._due, self._clock.now() - timedelta(seconds=1))
        _sleep_until(due, self._clock, self._stop)
        self._due = due + timedelta(seconds=1 / self._rate)
        return self._clock.now()


def message_of(
    directory: Path, file: Found, data: bytes, options: PublishOptions, taken_at: datetime | None = None
) -> Outgoing:
    """A picture as a message, taken when its file was written, or at `taken_at`.

    Its id depends on camera, name and content alone, so a repeat can be told; in a loop on the time too.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    camera = options.camera or (file.path.split("/", 1)[0] if "/" in file.path else None)
    time = (taken_at or datetime.fromtimestamp(file.modified_ns / 1e9, UTC)).isoformat()
    again = f"@{time}" if options.loop else ""
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{camera or ''}/{file.path}#{sha256}{again}")),
        "ce_source": "stream-ad/publish",
        "ce_type": "stream-ad.image/1",
        "ce_subject": file.path,
        "ce_time": time,
        "content-type": mimetypes.guess_type(file.path)[0] or "application/octet-stream",
        "sha256": sha256,
    }
    headers |= {name: text for name, text in (("camera", camera), ("product", options.product)) if text}
    if options.trace:
        headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    inline = len(data) <= options.reference_above_bytes
    if not inline:
        headers["ce_dataref"] = (directory / file.path).resolve().as_uri()
    return Outgoing(
        topic=options.topic,
        key=camera.encode() if camera else None,
        value=data if inline else None,
        headers={name: text.encode() for name, text in headers.items()},
    )


def _send(
    producer: SafeProducer,
    directory: Path,
    file: Found,
    options: PublishOptions,
    taken_at: datetime | None,
    *,
    patient: bool,
    clock: Clock,
    stop: threading.Event,
) -> bool:
    try:
        message = message_of(directory, file, (directory / file.path).read_bytes(), options, taken_at)
    except OSError as error:
        log.warning("%s was left out: %s", file.path, error.strerror)
        return True
    while not stop.is_set():
        try:
            producer.send([message])
            return True
        except Unavailable as error:
            if not ((options.watch or options.loop) and patient):
                raise
            log.warning("%s is sent again in %s s: %s", file.path, options.retry_s, error)
            _sleep_until(clock.now() + timedelta(seconds=options.retry_s), clock, stop)
    return False


def _sleep_until(due: datetime, clock: Clock, stop: threading.Event) -> None:
    while not stop.is_set() and (left_s := (due - clock.now()).total_seconds()) > 0:
        clock.sleep(min(left_s, 0.2))
