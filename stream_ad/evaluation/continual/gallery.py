"""Example pictures of a task, worst mistakes first."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from stream_ad.domain.images import Mask, Picture
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.evaluation.continual.measure import Measured
from stream_ad.evaluation.continual.test_set import TestSet

SHOWN = 6  # of each task


@runtime_checkable
class Draw(Protocol):
    """A picture with its map, the outline of the true defect and the verdict, as a JPEG file."""

    def __call__(self, picture: Picture, inspection: Inspection, truth: Mask | None) -> bytes: ...


class Example(NamedTuple):
    caption: str
    jpeg: bytes


def examples(measured: Measured, test: TestSet, draw: Draw) -> list[Example]:
    """Missed defects by the lowest score, false alarms by the highest, then what was found and what passed."""
    last = measured.last
    verdicts = last.verdicts("routed")
    over = np.array([one.score - entry.threshold for one, entry in zip(last.routed, last.guessed, strict=True)])
    ng = np.array([verdict is not Verdict.OK for verdict in verdicts])
    bad = test.defective
    by_score = np.argsort(over, kind="stable").tolist()
    missed = [row for row in by_score if bad[row] and not ng[row]]
    alarms = [row for row in reversed(by_score) if not bad[row] and ng[row]]
    found = [row for row in by_score if bad[row] and ng[row]]
    passed = [row for row in reversed(by_score) if not bad[row] and not ng[row]]
    # mistakes fill at most two thirds, so that what works is seen too
    chosen = [*missed[:2], *alarms[:2]]
    for rest in (found[-1:], found[:1], passed[:1], missed[2:], alarms[2:], passed[1:], found[1:-1]):
        chosen += [row for row in rest if row not in chosen][: SHOWN - len(chosen)]
    shown = []
    for row in chosen[:SHOWN]:
        entry, scored = last.guessed[row], last.routed[row]
        image = test.image(row)
        right = ng[row] == bad[row]
        judged = "" if right else (", missed" if bad[row] else ", false alarm")
        away = "" if entry.task.id == last.told[row].task.id else f", taken for {entry.task.id}"
        caption = (
            f"{image.kind}: {verdicts[row]}{judged}{away}; score {scored.score:.2f}, NG above {entry.threshold:.2f}"
        )
        inspection = Inspection(
            task=entry.task.id,
            detector=entry.detector,
            score=scored.score,
            p_value=entry.calibration.p_value(scored.score),
            threshold=entry.threshold,
            verdict=verdicts[row],
            bank_version=len(measured.steps),
            features=str(entry.features),
            margin=None,
            map=scored.map,
            map_threshold=entry.calibration.map_threshold(entry.task.false_alarm_rate),
        )
        shown.append(Example(caption, draw(image.pixels, inspection, image.mask)))
    return shown
