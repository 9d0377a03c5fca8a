"""Pictures that people spoke of, and what two banks say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.feedback import Feedback
from stream_ad.domain.images import Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.services.work import Desk


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Feedback with its pictures; an `ImageSet`. Few: all are in memory."""

    said: Sequence[Feedback]
    pictures: Sequence[Picture]

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, index: int) -> Picture:
        return self.pictures[index]

    @property
    def ids(self) -> Sequence[str]:
        return [one.sha256 for one in self.said]


def marked(said: Sequence[Feedback], desk: Desk) -> Marked:
    """Their pictures. Raises: DataError: one is gone or damaged."""
    return Marked(said, [desk.work.marked(one.path) for one in said])


def compared(pictures: Marked, before: MemoryBank, after: MemoryBank, desk: Desk) -> Mapping[int, tuple[bool, str]]:
    """By feedback: whether it is OK now, and a sentence with its score before and after against the threshold."""
    if not len(pictures):
        return {}
    then = desk.work.judge(before, pictures.pictures)
    now = desk.work.judge(after, pictures.pictures)
    return {
        one.id: (new.verdict is Verdict.OK, _sentence(one, old, new))
        for one, old, new in zip(pictures.said, then, now, strict=True)
    }


def _sentence(said: Feedback, old: Inspection, new: Inspection) -> str:
    was = "no score" if old.score is None else f"{old.score:.2f}"
    if new.score is None or new.threshold is None:
        return f"feedback {said.id}: score {was}, and none now"
    text = f"feedback {said.id}: score {was} -> {new.score:.2f}, threshold {new.threshold:.2f}: {_verdict(new)}"
    if new.verdict is Verdict.OK:
        return text
    if new.task != said.task:
        return f"{text}; it looks more like {new.task!r} than like {said.task!r}"
    if new.verdict is Verdict.UNKNOWN:
        return f"{text}; it is strange as a whole, not in places: that takes `stream-ad tasks add-images {said.task}`"
    if old.score is not None and new.score < old.score:
        return f"{text}; what is left does not come from the memory of patches"
    return text


def _verdict(inspection: Inspection) -> str:
    return {Verdict.OK: "OK", Verdict.NG: "NG"}.get(inspection.verdict, str(inspection.verdict))
