"""The Python API for notebooks and scripts: load a bank, score, adapt, evaluate, plot.

It is the same code that the commands run, without the database where none is needed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stream_ad.adapters.decode import decode
from stream_ad.adapters.heldout import read_heldout
from stream_ad.adapters.image_folders import ImageFolder, find_pictures, no_images
from stream_ad.adapters.overlay import draw_overlay
from stream_ad.app import App
from stream_ad.config import load_settings
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import TaskEvaluation
from stream_ad.domain.images import Mask, Picture
from stream_ad.domain.ports import Progress
from stream_ad.domain.result import Inspection
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import NoImages
from stream_ad.inspection import BankModel
from stream_ad.services.scoring import Scorer


class Workbench:
    """A frozen backbone, its detectors and a bank in memory: all that scoring and adapting need.

    Made by `open_workbench` (an empty bank) or `load_bank` (a published one). Adapting here changes no database.
    """

    def __init__(self, app: App, bank: MemoryBank) -> None:
        self.app = app
        self.scorer: Scorer = app.scorer(bank)

    @property
    def bank(self) -> MemoryBank:
        return self.scorer.bank

    @property
    def model(self) -> BankModel:
        return self.app.model(self.bank)

    def adapt(
        self,
        name: str,
        images: str | Path,
        *,
        class_name: str | None = None,
        detector: str | None = None,
        false_alarm_rate: float | None = None,
        roi: Mask | None = None,
        progress: Progress | None = None,
    ) -> BankEntry:
        """Learn a product from a folder of good pictures and take it into the bank.

        Raises:
            NoImages, TooFewImages, UndecodableImage: the folder does not serve.
            ConfigError: there is no such detector.
        """
        task = Task(
            id=TaskId(name),
            class_name=class_name or name.replace("_", " "),
            false_alarm_rate=false_alarm_rate or self.app.settings.calibration.false_alarm_rate,
        )
        normals = ImageFolder(Path(images), **self.app.decoding)
        entry = self.app.learn(task, normals, detector=detector, roi=roi, progress=progress or _unseen)
        self.scorer.use(self.bank.with_entry(entry, self.bank.version + 1))
        return entry

    def score(self, pictures: Sequence[Picture | str | Path], *, product: str | None = None) -> list[Inspection]:
        """One inspection per picture (an RGB array or a file), in order."""
        arrays = [self._read(one) if isinstance(one, str | Path) else one for one in pictures]
        return self.scorer.inspect(arrays, declared=[product] * len(arrays), cameras=[None] * len(arrays))

    def _read(self, file: str | Path) -> Picture:
        return read_picture(file, grey_bits=self.app.settings.backbone.grey_bits)

    def evaluate(self, heldout: Mapping[str, str | Path]) -> Mapping[TaskId, TaskEvaluation]:
        """Every named task on its held-out folder, through the router.

        Raises:
            UnknownTask: the bank does not have it.
            OverlappingSplits: the shared weights of its entry were trained on some of the pictures.
        """
        from stream_ad.detectors.by_weights import ByWeights
        from stream_ad.detectors.registry import detector_of
        from stream_ad.evaluation.protocol import evaluate

        sets = {TaskId(task): read_heldout(Path(folder), **self.app.decoding) for task, folder in heldout.items()}
        for task, images in sets.items():
            entry = self.bank.entry(task)
            detector = detector_of(entry.detector, self.app.detectors)
            if isinstance(detector, ByWeights):
                detector.require_unseen(task, images.ids, entry.shared_weights)
        return evaluate(self.model, sets, _unseen)


def open_workbench(*, backbone: str | None = None, config: str | Path | None = None) -> Workbench:
    """An empty bank on a backbone, None: the one that settings name; for experiments that leave nothing behind."""
    settings = load_settings(None if config is None else Path(config))
    chosen = settings.backbone.model_copy(update={} if backbone is None else {"id": backbone})
    return Workbench(App(settings.model_copy(update={"backbone": chosen})), MemoryBank(0))


def load_bank(config: str | Path | None = None, *, version: int | None = None) -> Workbench:
    """The active bank of an installation, or any published version of it, ready to score."""
    # entries are mapped files: once they are loaded, the database is not needed
    with App(load_settings(None if config is None else Path(config))) as app:
        return Workbench(app, app.database.banks.load(version))


def read_picture(file: str | Path, *, grey_bits: int | None = None) -> Picture:
    """A picture file as an RGB array, decoded as everywhere in this program; `grey_bits` as in config.yaml.

    Raises: UndecodableImage, NoImages.
    """
    path = Path(file)
    if not path.is_file():
        raise NoImages(f"needed a picture, but {path} does not exist; check the path")
    return decode(path.read_bytes(), grey_bits=grey_bits)


def read_pictures(folder: str | Path) -> list[Picture]:
    """Every picture of a folder, by name. Raises: NoImages: there is none."""
    if not (files := find_pictures(Path(folder))):
        raise no_images(Path(folder))
    return [read_picture(file) for file in files]


def plot(picture: Picture, inspection: Inspection) -> Image.Image:
    """The picture beside its anomaly map on the absolute colour scale, with verdict and threshold."""
    return Image.fromarray(np.asarray(draw_overlay(picture, inspection)))


def _unseen(stage: str, done: int, total: int) -> None:
    """Progress that nobody asked for."""
