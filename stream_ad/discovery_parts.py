"""What keeps unknown pictures and makes products of them, from settings.

The part of `app.py` that knows their concrete classes. Nothing is imported before it is needed.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stream_ad.config import Settings
from stream_ad.domain.ports import Clock
from stream_ad.domain.task import Task, TaskId

if TYPE_CHECKING:
    from stream_ad.adapters.kept_pictures import KeptPictures
    from stream_ad.adapters.storage import Database
    from stream_ad.backbones.base import Backbone
    from stream_ad.backbones.views import Views
    from stream_ad.detectors.base import Detector
    from stream_ad.domain.discovery import PoolBounds
    from stream_ad.services.discovery import Check, CheckMore, Discovery
    from stream_ad.services.keeping import Keeper
    from stream_ad.services.scoring import ZeroShot


def files(settings: Settings, decoding: Mapping[str, Any]) -> "KeptPictures":
    """Where kept pictures lie."""
    from stream_ad.adapters.kept_pictures import KeptPictures

    return KeptPictures(settings.unknown_dir, settings.task_pictures_dir, **decoding)


def keeper(settings: Settings, database: "Database", clock: Clock, decoding: Mapping[str, Any]) -> "Keeper | None":
    """What keeps pictures of no known product; None: nothing does."""
    from stream_ad.services.keeping import Keeper

    if not settings.discovery.enabled:
        return None
    return Keeper(database.kept_images, files(settings, decoding), clock, bounds=pool_bounds(settings))


def pool_bounds(settings: Settings) -> "PoolBounds":
    """How much is kept."""
    from stream_ad.domain.discovery import PoolBounds

    wanted = settings.discovery
    return PoolBounds(per_camera=wanted.per_camera, images=wanted.images, size_bytes=round(wanted.mb * 1024**2))


def discovery(
    settings: Settings,
    database: "Database",
    clock: Clock,
    decoding: Mapping[str, Any],
    *,
    check: "Check",
    check_more: "CheckMore",
) -> "Discovery":
    """What groups kept pictures and proposes products."""
    from stream_ad.services.discovery import Discovery, DiscoveryOptions

    wanted = settings.discovery
    return Discovery(
        images=database.kept_images,
        proposals=database.proposals,
        files=files(settings, decoding),
        banks=database.banks,
        jobs=database.jobs,
        feedback=database.feedback,
        clock=clock,
        check=check,
        check_more=check_more,
        options=DiscoveryOptions(
            min_images=wanted.min_images,
            per_proposal=wanted.per_proposal,
            by_itself=wanted.approve == "by itself",
            by_itself_images=wanted.by_itself_images,
            false_alarm_rate=settings.calibration.false_alarm_rate,
        ),
    )


def checks(
    database: "Database",
    check_new: Callable[..., Any],
    more: Callable[..., Any],
    detector: str | None,
) -> "tuple[Check, CheckMore]":
    """What makes payloads of folders: for a new task, and for a known one; by this detector, if one is named."""

    def check(task: Task, folder: str) -> Mapping[str, Any]:
        return check_new(task, images=Path(folder), heldout=None, roi=None, detector=detector).payload

    def check_more(task: TaskId, folder: str, heldout: Path | None) -> Mapping[str, Any]:
        from stream_ad.services.heldout import learning_job

        database.tasks.get(task)
        payload = learning_job(task, database.jobs, database.banks).payload
        return more(payload, images=Path(folder), heldout=heldout, detector=detector).payload

    return check, check_more


def zero_shot(backbone: "Backbone", detector: "Detector") -> "tuple[ZeroShot, str]":
    """What scores pictures of no known product, and its name; `detector` needs no picture and has one branch."""
    from stream_ad.detectors.base import uncalibrated

    task = Task(id=TaskId("unknown"), class_name="product")
    arrays = detector.adapt(task, _NoImages(), roi=None, seed=0, progress=lambda stage, done, total: None)
    entry = uncalibrated(detector, task, arrays, backbone.spec)
    (branch,) = detector.branches

    def score(views: "Views") -> Sequence[float]:
        return detector.predict(views, [entry] * len(views)).scores[branch].tolist()

    return score, detector.name


class _NoImages:
    """What a zero-shot detector learns from."""

    ids: Sequence[str] = ()

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)
