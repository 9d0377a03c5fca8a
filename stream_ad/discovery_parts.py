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
    from stream_ad.services.discovery import Check, CheckMore, Discovery
    from stream_ad.services.keeping import Keeper
    from stream_ad.services.scoring import ZeroShot


def files(settings: Settings, decoding: Mapping[str, Any]) -> "KeptPictures":
    """Where kept pictures lie."""
    from stream_ad.adapters.kept_pictures import KeptPictures

    return KeptPictures(settings.unknown_dir, settings.task_pictures_dir, **decoding)


def keeper(settings: Settings, database: "Database", clock: Clock, decoding: Mapping[str, Any]) -> "Keeper | None":
    """What keeps pictures of no known product; None: nothing does."""
    from stream_ad.domain.discovery import PoolBounds
    from stream_ad.services.keeping import Keeper

    wanted = settings.discovery
    if not wanted.enabled:
        return None
    bounds = PoolBounds(per_camera=wanted.per_camera, images=wanted.images, size_bytes=round(wanted.mb * 1024**2))
    return Keeper(database.kept_images, files(settings, decoding), clock, bounds=bounds)


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
    check_folders: Callable[..., Any],
    more: Callable[..., Any],
) -> "tuple[Check, CheckMore]":
    """What makes payloads of folders: for a new task, and for a known one."""

    def check(task: Task, folder: str) -> Mapping[str, Any]:
        return check_folders(task, images=Path(folder), heldout=None, roi=None, detector=None).payload

    def check_more(task: TaskId, folder: str, heldout: Path | None) -> Mapping[str, Any]:
        from stream_ad.services.heldout import learning_job

        database.tasks.get(task)
        payload = learning_job(task, database.jobs, database.banks).payload
        return more(payload, images=Path(folder), heldout=heldout).payload

    return check, check_more


def zero_shot(backbone: "Backbone") -> "tuple[ZeroShot, str]":
    """What scores pictures of no known product, and its name."""
    import numpy as np

    from stream_ad.detectors.zero_shot import ZeroShot
    from stream_ad.domain.bank import BankEntry, Calibration

    detector = ZeroShot(backbone)
    task = Task(id=TaskId("unknown"), class_name="product")
    texts = detector.adapt(task, _NoImages(), roi=None, seed=0, progress=lambda stage, done, total: None)
    none = np.zeros(0)
    entry = BankEntry(
        task=task,
        detector=detector.name,
        arrays=texts,
        calibration=Calibration(
            score_scales={},
            map_scales={},
            scores=none,
            map_peaks=none,
            key_distances=none,
            embedding_distances=none,
            out_of_fold=False,
        ),
        features=backbone.spec,
        shared_weights=None,
        splits={},
    )

    def score(views: "Views") -> Sequence[float]:
        raw = detector.predict(views, [entry] * len(views))
        return raw.scores["text"].tolist()

    return score, detector.name


class _NoImages:
    """What a zero-shot detector learns from."""

    ids: Sequence[str] = ()

    def __len__(self) -> int:
        return 0

    def __getitem__(self, index: int) -> Any:
        raise IndexError(index)
