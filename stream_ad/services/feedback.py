"""People's word on verdicts: the result is found, its picture copied at once, and what was said kept in quarantine.

Nothing changes by it: a job takes false alarms in when somebody asks (`stream-ad tasks patch`), and only if the gate
passes.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from stream_ad.domain.feedback import Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.images import Picture
from stream_ad.domain.message import Place
from stream_ad.domain.ports import Clock, FeedbackRepository, PictureStore
from stream_ad.domain.result import InspectionResult, Verdict
from stream_ad.errors import DataError

log = logging.getLogger(__name__)

SHOWN = 5  # results that a message names

Fetch = Callable[[InspectionResult], bytes]
"""The encoded picture of a result, from where it came. Raises: DataError: it is gone; Unavailable: not now."""

Look = Callable[[bytes], tuple[Picture, str]]
"""A picture decoded, and the hash of its pixels. Raises: UndecodableImage."""

Pool = Callable[[InspectionResult, bytes, Picture], None]
"""Takes a picture among those of no known product."""

#: what can be said of which verdicts
FITS: Mapping[FeedbackKind, tuple[Verdict, ...]] = {
    FeedbackKind.FALSE_ALARM: (Verdict.NG,),
    FeedbackKind.MISSED: (Verdict.OK,),
    FeedbackKind.WRONG_PRODUCT: (Verdict.OK, Verdict.NG),
}


class Said(NamedTuple):
    feedback: Feedback
    #: False: the same was said before, and that stands
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackOffice:
    """Takes down what people say."""

    feedback: FeedbackRepository
    pictures: PictureStore
    fetch: Fetch
    look: Look
    #: None: pictures of no known product are not kept
    pool: Pool | None
    clock: Clock

    def say(self, name: str, kind: FeedbackKind, *, who: str, reason: str) -> Said:
        """Note what is said of the result of that name: its place, its message id or the sender's name for it.

        Raises:
            DataError: there is no such result or several, it has another verdict, or its picture is gone.
            Unavailable: where the picture came from is away; say it again later.
        """
        result = self._result(name)
        place = result.topic, result.partition, result.offset
        if (before := self.feedback.at(place, kind)) is not None:
            if (
                kind is FeedbackKind.WRONG_PRODUCT
                and before.state is FeedbackState.QUARANTINED
                and self.pool is not None
            ):
                # it was taken down, and then the pool was away
                data = self.pictures.get(before.path)
                before = self._join_pool(before, result, data, self.look(data)[0])
            return Said(before, new=False)
        _check(result, kind)
        data = self.fetch(result)
        picture, sha256 = self.look(data)
        # the file first: what was said without its picture would be worth nothing
        path = self.pictures.put(data)
        said = self.feedback.add(
            place=place,
            kind=kind,
            who=who,
            reason=reason,
            task=result.task,
            path=path,
            sha256=sha256,
            at=self.clock.now(),
        )
        return Said(self._join_pool(said, result, data, picture), new=True)

    def _join_pool(self, said: Feedback, result: InspectionResult, data: bytes, picture: Picture) -> Feedback:
        """A picture of another product joins those of no known product, where these are kept. Twice is once."""
        if self.pool is None or said.kind is not FeedbackKind.WRONG_PRODUCT:
            return said
        self.pool(result, data, picture)
        outcome = "kept among the pictures of no known product, of which new ones are proposed"
        self.feedback.settle(FeedbackState.APPLIED, {said.id: outcome})
        return self.feedback.get(said.id)

    def _result(self, name: str) -> InspectionResult:
        found = self.feedback.results(name)
        if not found:
            raise DataError(
                f"no result is called {name!r}: needed a message id, topic/partition/offset, or a picture's file as the"
                " folder names it (cam1/0001.jpg); retention may have deleted it"
            )
        if len(found) > 1:
            shown = "; ".join(
                f"{shown_place((one.topic, one.partition, one.offset))} ({one.verdict}, {one.scored_at:%Y-%m-%d %H:%M})"
                for one in found[:SHOWN]
            )
            raise DataError(f"{len(found)} results are called {name!r}; name one by its place: {shown}")
        return found[0]


def _check(result: InspectionResult, kind: FeedbackKind) -> None:
    """Raises: DataError: that cannot be said of this verdict."""
    if result.verdict in FITS[kind] and result.task is not None:
        return
    advice = {
        FeedbackKind.FALSE_ALARM: "teach an unknown product with `stream-ad add-task` or `stream-ad tasks add-images`"
        if result.verdict is Verdict.UNKNOWN
        else "what was not called NG is no false alarm",
        FeedbackKind.MISSED: "what was not called OK was not missed",
        FeedbackKind.WRONG_PRODUCT: "it was judged as no product; such pictures are kept for discovery by themselves"
        " (if discovery.enabled), and what is proposed of them is in `stream-ad tasks proposals`",
    }[kind]
    needed = " or ".join(FITS[kind])
    raise DataError(
        f"needed a result with the verdict {needed} to call it a {kind}, {result.message_id!r} is"
        f" {result.verdict!s}: {advice}"
    )


def shown_place(place: Place) -> str:
    """How people name a place."""
    topic, partition, offset = place
    return f"{topic}/{partition}/{offset}"
