"""From pictures and what is declared of them to verdicts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.inspection import BankModel
from stream_ad.services.sticky import Judged, Standings, Told, judge

ZeroShot = Callable[[Views], Sequence[float]]
"""How defective each picture looks to a method that knows no product: log-odds, above 0 more likely than not."""


class Scorer:
    """Inspects pictures against a bank that can be swapped between two batches.

    A scorer in doubt never says OK: an image whose declared product is not in the bank, or that looks like another
    product than the declared one, is an unknown product unless it is NG anyway.
    """

    def __init__(
        self,
        make_model: Callable[[MemoryBank], BankModel],
        bank: MemoryBank,
        *,
        sticky_checks: int = 1,
        embed_unknown: bool = False,
        zero_shot: ZeroShot | None = None,
        zero_shot_name: str = "zero-shot",
    ) -> None:
        """What judges pictures by a bank.

        Args:
            sticky_checks: above 1, at least every so many-th picture of a camera is routed; 1: every one.
            embed_unknown: inspections of pictures of no known product have their embedding, for discovery.
            zero_shot: scores such pictures; they stay an unknown product, whatever it says.
        """
        self._make_model = make_model
        self._embed_unknown, self._zero_shot, self._zero_shot_name = embed_unknown, zero_shot, zero_shot_name
        self._sticky_checks = sticky_checks
        self.use(bank)

    @property
    def bank(self) -> MemoryBank:
        return self._model.bank

    @property
    def model(self) -> BankModel:
        """What scores, made of the bank."""
        return self._model

    def use(self, bank: MemoryBank) -> None:
        """Score against this bank from the next batch on.

        Raises:
            BankError: the bank does not fit this program; the old one stays in use.
        """
        self._model = self._make_model(bank)
        self._declares = _Declarations(bank)
        self._standings: Standings = {}

    def inspect(
        self,
        pictures: Sequence[Picture],
        *,
        declared: Sequence[str | None],
        cameras: Sequence[str | None],
    ) -> list[Inspection]:
        """One inspection per picture, in order. A batch of mixed products is one call."""
        model = self._model
        if not pictures:
            return []
        if not len(model.bank):
            unknown = [self._nothing_known(model) for _ in pictures]
            if not (self._embed_unknown or self._zero_shot):
                return unknown
            with model.at_work():
                return self._of_no_product(model.views(pictures), unknown, list(range(len(unknown))))
        told = [self._declares(product, camera) for product, camera in zip(declared, cameras, strict=True)]
        with model.at_work():
            views = model.views(pictures)
            judged, standings = judge(model, views, told, cameras, self._standings, checks=self._sticky_checks)
            self._standings = standings
            inspections = [self._inspection(model, one, *each) for one, each in zip(judged, told, strict=True)]
            strange = [
                row
                for row, (one, (entry, by)) in enumerate(zip(judged, told, strict=True))
                if inspections[row].verdict is Verdict.UNKNOWN
                and ((one.route is not None and one.route.refused) or (by is not None and entry is None))
            ]
            return self._of_no_product(views, inspections, strange)

    def _of_no_product(self, views: Views, inspections: list[Inspection], rows: Sequence[int]) -> list[Inspection]:
        """The inspections; those of these rows with what is wanted of pictures that are of no known product."""
        if not rows or not (self._embed_unknown or self._zero_shot):
            return inspections
        chosen = views.select(rows)
        embeddings = chosen.embedding.cpu().numpy().astype(np.float32) if self._embed_unknown else [None] * len(rows)
        for row, embedding in zip(rows, embeddings, strict=True):
            inspections[row] = replace(inspections[row], embedding=embedding)
        if self._zero_shot is not None:
            # nothing is calibrated, so there is neither threshold nor p-value
            for row, score in zip(rows, self._zero_shot(chosen), strict=True):
                inspections[row] = replace(
                    inspections[row],
                    detector=self._zero_shot_name,
                    score=float(score),
                    p_value=None,
                    threshold=None,
                    map=None,
                    map_threshold=None,
                )
        return inspections

    @staticmethod
    def _inspection(model: BankModel, judged: Judged, told: BankEntry | None, by: str | None) -> Inspection:
        finding, route = judged
        entry = finding.entry
        alarm = None
        if by is not None and told is None:
            alarm = f"{by} is declared, but no task of the bank has that id"
        elif told is not None and route is not None and (route.refused or route.entry is not told):
            seen = "no known product" if route.refused else f"task {route.entry.task.id!r}"
            alarm = f"{by} stands for task {told.task.id!r}, but the picture looks like {seen}"
        calibration = entry.calibration
        ng = finding.score > entry.threshold
        if alarm is not None:
            # only a declared task's own NG is sure; anything else is in doubt
            verdict = Verdict.NG if ng and told is not None else Verdict.UNKNOWN
        elif route is not None and route.refused:
            verdict = Verdict.UNKNOWN
        else:
            verdict = Verdict.NG if ng else Verdict.OK
        return Inspection(
            task=entry.task.id,
            detector=entry.detector,
            score=finding.score,
            p_value=calibration.p_value(finding.score),
            threshold=entry.threshold,
            verdict=verdict,
            bank_version=model.bank.version,
            features=str(entry.features),
            margin=None if route is None else route.margin,
            alarm=alarm,
            map=finding.map,
            map_threshold=calibration.map_threshold(entry.task.false_alarm_rate),
        )

    @staticmethod
    def _nothing_known(model: BankModel) -> Inspection:
        return Inspection(
            task=None,
            detector=None,
            score=None,
            p_value=None,
            threshold=None,
            verdict=Verdict.UNKNOWN,
            bank_version=model.bank.version,
            features=str(model.backbone.spec),
            margin=None,
        )


class _Declarations:
    """Which task a product header or a camera stands for."""

    def __init__(self, bank: MemoryBank) -> None:
        self._products: dict[str, BankEntry] = {entry.task.id: entry for entry in bank}
        seen: dict[str, list[BankEntry]] = {}
        for entry in bank:
            for alias in entry.task.product_ids:
                self._products.setdefault(alias, entry)
            for camera in entry.task.cameras:
                seen.setdefault(camera, []).append(entry)
        # a camera that was given to several tasks tells nothing: its pictures are routed
        self._cameras = {camera: entries[0] for camera, entries in seen.items() if len(entries) == 1}

    def __call__(self, product: str | None, camera: str | None) -> Told:
        if product is not None:
            return Told(self._products.get(product), f"product {product!r}")
        entry = self._cameras.get(camera) if camera is not None else None
        return Told(entry, None if entry is None else f"camera {camera!r}")
