"""From pictures and what is declared of them to verdicts."""

from collections.abc import Callable, Sequence

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.inspection import BankModel, Finding
from stream_ad.routing.router import Route


class Scorer:
    """Inspects pictures against a bank that can be swapped between two batches.

    A scorer in doubt never says OK: an image whose declared product is not in the bank, or that looks like another
    product than the declared one, is an unknown product unless it is NG anyway.
    """

    def __init__(self, make_model: Callable[[MemoryBank], BankModel], bank: MemoryBank) -> None:
        self._make_model = make_model
        self._model = make_model(bank)

    @property
    def bank(self) -> MemoryBank:
        return self._model.bank

    def use(self, bank: MemoryBank) -> None:
        """Score against this bank from the next batch on.

        Raises:
            BankError: the bank does not fit this program; the old one stays in use.
        """
        self._model = self._make_model(bank)

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
            return [self._nothing_known(model) for _ in pictures]
        views = model.views(pictures)
        routes = model.route(views)
        told = [self._told(model.bank, product, camera) for product, camera in zip(declared, cameras, strict=True)]
        entries = [entry or route.entry for (entry, _), route in zip(told, routes, strict=True)]
        findings = model.find(views, entries)
        return [
            self._judge(model, finding, route, *one) for finding, route, one in zip(findings, routes, told, strict=True)
        ]

    @staticmethod
    def _told(bank: MemoryBank, product: str | None, camera: str | None) -> tuple[BankEntry | None, str | None]:
        """The entry that a header or the camera names, and what names it."""
        if product is not None:
            for entry in bank:
                if product == entry.task.id or product in entry.task.product_ids:
                    return entry, f"product {product!r}"
            return None, f"product {product!r}"
        for entry in bank:
            if camera is not None and camera in entry.task.cameras:
                return entry, f"camera {camera!r}"
        return None, None

    @staticmethod
    def _judge(model: BankModel, finding: Finding, route: Route, told: BankEntry | None, by: str | None) -> Inspection:
        entry = finding.entry
        alarm = None
        if by is not None and told is None:
            alarm = f"{by} is declared, but no task of the bank has that id"
        elif told is not None and (route.refused or route.entry.task.id != told.task.id):
            seen = "no known product" if route.refused else f"task {route.entry.task.id!r}"
            alarm = f"{by} stands for task {told.task.id!r}, but the picture looks like {seen}"
        calibration = entry.calibration
        ng = finding.score > entry.threshold
        if alarm is not None:
            # only a declared task's own NG is sure; anything else is in doubt
            verdict = Verdict.NG if ng and told is not None else Verdict.UNKNOWN
        elif route.refused:
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
            margin=route.margin,
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
