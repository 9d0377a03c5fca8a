"""Sticky routing: a camera's pictures belong to the product that it showed last, until something speaks against it.

A picture's product is taken from the camera's last routed picture when fewer than `checks - 1` pictures have gone
without routing since, and when it is OK as that product: one that is not is routed before its verdict. So a change on
the line shows at the first picture that is not OK as the old product, and at the latest `checks - 1` pictures later.

What a picture gets does not depend on the batch that it comes in: the pictures of one camera are decided in their
order, as if each came alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stream_ad.backbones.views import Views
from stream_ad.domain.bank import BankEntry
from stream_ad.inspection import BankModel, Finding
from stream_ad.routing.router import Route


class Told(NamedTuple):
    """What is declared of a picture."""

    #: the task that it stands for; None: nothing is declared, or nothing that the bank knows
    entry: BankEntry | None
    #: what declares it, in words; None: nothing
    by: str | None


class Judged(NamedTuple):
    """One picture scored; without a route, it was taken for what its camera showed last."""

    finding: Finding
    route: Route | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a camera shows."""

    entry: BankEntry
    #: pictures since the last one that was routed
    unrouted: int = 0


Standings = Mapping[str, Standing]


def judge(
    model: BankModel,
    views: Views,
    told: Sequence[Told],
    cameras: Sequence[str | None],
    standings: Standings,
    *,
    checks: int,
) -> tuple[list[Judged], Standings]:
    """Every picture scored, routed where it must be, and what the cameras show after the last one."""
    batch = _Batch(model, views, told)
    while True:
        after = dict(standings)
        judged = [batch.decide(row, camera, after, checks) for row, camera in enumerate(cameras)]
        if not batch.compute():
            return [one for one in judged if one is not None], after


class _Batch:
    """Routes and findings of a batch, computed for many pictures at a time once it is known that they are needed."""

    def __init__(self, model: BankModel, views: Views, told: Sequence[Told]) -> None:
        self.model, self.views, self.told = model, views, told
        self._routes: dict[int, Route] = {}
        self._findings: dict[tuple[int, str], Finding] = {}
        self._to_route: list[int] = []
        self._to_find: list[tuple[int, BankEntry]] = []

    def decide(self, row: int, camera: str | None, standings: dict[str, Standing], checks: int) -> Judged | None:
        """What comes of a picture, and what its camera shows after it; None: something must be computed first.

        Until it is, the picture is taken to be what its camera shows.
        """
        standing = standings.get(camera) if camera is not None else None
        entry, by = self.told[row]
        if standing is not None and standing.unrouted < checks - 1 and (by is None or entry is standing.entry):
            finding = self._finding(row, standing.entry)
            if finding is None or finding.score <= standing.entry.threshold:
                standings[str(camera)] = Standing(standing.entry, standing.unrouted + 1)
                return None if finding is None else Judged(finding, None)
        route = self._routes.get(row)
        if route is None:
            self._to_route.append(row)
            if standing is not None:
                standings[str(camera)] = Standing(standing.entry)
            return None
        if camera is not None:
            if route.refused or (by is not None and entry is not route.entry):
                standings.pop(camera, None)
            else:
                standings[camera] = Standing(route.entry)
        finding = self._finding(row, entry or route.entry)
        return None if finding is None else Judged(finding, route)

    def compute(self) -> bool:
        """What was missed, whether anything was."""
        missed = bool(self._to_route or self._to_find)
        if self._to_route:
            rows, self._to_route = self._to_route, []
            views = self.views.select(rows)
            routes = self.model.route(views)
            self._routes |= dict(zip(rows, routes, strict=True))
            # with the features that the route took
            entries = [self.told[row].entry or route.entry for row, route in zip(rows, routes, strict=True)]
            fresh = [place for place, row in enumerate(rows) if (row, entries[place].task.id) not in self._findings]
            self._find(views.select(fresh), [rows[place] for place in fresh], [entries[place] for place in fresh])
        if self._to_find:
            found, self._to_find = self._to_find, []
            rows = [row for row, _ in found]
            self._find(self.views.select(rows), rows, [entry for _, entry in found])
        return missed

    def _finding(self, row: int, entry: BankEntry) -> Finding | None:
        found = self._findings.get((row, entry.task.id))
        if found is None:
            self._to_find.append((row, entry))
        return found

    def _find(self, views: Views, rows: Sequence[int], entries: Sequence[BankEntry]) -> None:
        if rows:
            for row, finding in zip(rows, self.model.find(views, entries), strict=True):
                self._findings[row, finding.entry.task.id] = finding
