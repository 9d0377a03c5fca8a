"""Earlier figures, as far as they may stand beside figures made now."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from stream_ad.domain.evaluation import Evaluation, TaskEvaluation
from stream_ad.domain.images import HeldoutSet
from stream_ad.domain.task import TaskId


class Comparable:
    """Earlier evaluations of published banks, as far as they can be compared with one made now.

    A figure counts only if it was measured by the same program and settings on the same pictures.
    """

    def __init__(self, evaluations: Sequence[Evaluation], provenance: Mapping[str, Any]) -> None:
        self._heldout: Mapping[str, str] = provenance["heldout"]
        same = {key: str(value) for key, value in provenance.items() if key != "heldout"}
        self._evaluations = [
            evaluation
            for evaluation in evaluations
            if evaluation.published
            and same == {key: str(value) for key, value in evaluation.provenance.items() if key != "heldout"}
        ]

    def of_version(self, version: int, tasks: Mapping[TaskId, HeldoutSet]) -> Mapping[TaskId, TaskEvaluation] | None:
        """What was measured of these tasks when that bank was published; None: not all of it."""
        if not tasks:
            return {}
        for evaluation in reversed(self._evaluations):
            if evaluation.bank_version == version and all(
                self._same_pictures(evaluation, task) and evaluation.tasks[task].outcomes for task in tasks
            ):
                return {task: evaluation.tasks[task] for task in tasks}
        return None

    def best_auroc(self, tasks: Mapping[TaskId, HeldoutSet]) -> Mapping[TaskId, float]:
        """Each task's best routed image AUROC; a task without any is not there."""
        best: dict[TaskId, float] = {}
        for evaluation in self._evaluations:
            for task in tasks:
                if self._same_pictures(evaluation, task):
                    auroc = evaluation.tasks[task].routed.get("image_auroc", math.nan)
                    if not math.isnan(auroc):
                        best[task] = max(auroc, best.get(task, -math.inf))
        return best

    def _same_pictures(self, evaluation: Evaluation, task: TaskId) -> bool:
        there = evaluation.provenance.get("heldout") or {}
        return task in evaluation.tasks and there.get(task) == self._heldout[task]
