"""The whole benchmark in order: learn everything, then measure, then put the figures together.

Learning is finished before the first test picture is looked at. It goes task by task over all methods, and measuring
too, so that the frozen features of a task's pictures are computed once and need not all be kept.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from stream_ad.backbones.base import Backbone
from stream_ad.detectors.by_weights import ByWeights
from stream_ad.detectors.registry import make_detector
from stream_ad.domain.images import HeldoutSet, ImageSet, Subset, split_hash
from stream_ad.domain.ports import EntryStore, Progress
from stream_ad.domain.product import Product
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError
from stream_ad.evaluation.continual.gallery import Draw, examples
from stream_ad.evaluation.continual.learned import Learn, Learner
from stream_ad.evaluation.continual.measure import Measurement, Routes
from stream_ad.evaluation.continual.methods import Held, make_method
from stream_ad.evaluation.continual.parts import Parts, digest
from stream_ad.evaluation.continual.test_set import Limited, Prompted, TestSet
from stream_ad.evaluation.continual.variants import Variant

MAP_SIZE = 224  # px, whatever a method's input size
FALSE_ALARM_RATE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    products: Sequence[Product]
    variants: Sequence[Variant]
    preset: str
    seed: int = 0
    #: orders of arrival, each with a seed of its own; the first is that of the products
    orders: int = 1
    #: rows of all tasks together for the methods with a budget; None: a third of what each has without one
    budget: int | None = None
    #: pictures per set, for a quick look
    limit: int | None = None
    #: px, of the maps that pixel metrics are taken on
    map_size: int = MAP_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a run works with; the command line puts it together."""

    #: a frozen backbone at an input size, the same one every time
    backbone: Callable[[int], Backbone]
    learn: Learn
    entries: EntryStore
    parts: Parts
    now: Callable[[], datetime]
    progress: Progress
    #: hash of all code that a score depends on
    code: str
    #: draws an example; None: no pictures
    draw: Draw | None = None
    #: memories that each leave a part of the training pictures out, for calibration
    folds: int = 5


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """One order of arrival, with what every method held after each task of it."""

    seed: int
    #: places of the products, in order of arrival
    order: Sequence[int]
    held: dict[str, list[Held]]
    seconds: dict[str, float]


@dataclass(slots=True, eq=False)
class Bench:
    """One run of the benchmark. `learn` and `measure` leave parts; `results.assemble` reads them."""

    plan: Plan
    kit: Kit
    tasks: list[Task] = field(default_factory=list)
    normals: list[ImageSet] = field(default_factory=list)
    #: pictures that are in a training and a test set both, by task: not learned
    left_out: dict[str, int] = field(default_factory=dict)
    #: hashes of the training and the test pictures, by task
    hashes: list[tuple[str, str]] = field(default_factory=list)
    sequences: list[Arrivals] = field(default_factory=list)
    _done: int = 0

    def run(self) -> None:
        """Everything that is still to be done.

        Raises:
            DataError: a product has no normal pictures left, or there are fewer than two products.
            OverlappingSplits: a method's shared weights were trained on pictures that it would be judged by.
            NoSharedWeights: a method needs some, and has none.
        """
        if len(self.plan.products) < 2:
            raise DataError(
                f"a sequence needs at least two products, got {len(self.plan.products)}; give a folder with more, or"
                " name more of them with --tasks"
            )
        self._open()
        kit = self.kit
        learner = Learner(kit.backbone, kit.learn, kit.entries, kit.parts, kit.code, folds=kit.folds)
        for number in range(self.plan.orders):
            self.sequences.append(self._learn(number, learner))
        for place in range(len(self.tasks)):
            self._measure(place)

    def key(self, sequence: Arrivals, variant: Variant, place: int) -> str:
        """Name of the part of one method on one task."""
        arrived = sequence.order
        return digest(
            {
                "code": self.kit.code,
                "method": variant.name,
                "options": variant.told,
                "image_size": variant.image_size,
                "features": str(self.kit.backbone(variant.image_size).spec),
                "budget": self.budget(variant),
                "sequence": [[self.tasks[i].id, self.hashes[i][0]] for i in arrived],
                "seed": sequence.seed,
                "task": [self.tasks[place].id, self.hashes[place][1]],
                "map_size": self.plan.map_size,
                "folds": self.kit.folds,
            }
        )

    def budget(self, variant: Variant) -> int | None:
        """Rows that the method may keep of all tasks together; None: not bounded."""
        if not variant.budgeted:
            return None
        return self.plan.budget or max(len(self.tasks), len(self.tasks) * variant.rows // 3)

    def test(self, place: int) -> HeldoutSet:
        test = self.plan.products[place].test
        return test if self.plan.limit is None else Limited(test, self.plan.limit)

    @property
    def configuration(self) -> str:
        """Hash of all that decides on the figures, the data included."""
        return digest([self.key(a, v, place) for a in self.sequences for v in self.plan.variants for place in a.order])

    @property
    def work(self) -> int:
        """Units of progress: methods x tasks x orders, learned and measured."""
        return 2 * len(self.plan.variants) * len(self.plan.products) * self.plan.orders

    def _open(self) -> None:
        """Decode everything once: wrong pictures, and weights that learned them, show before an hour is spent."""
        shared = self._shared()
        for number, product in enumerate(self.plan.products):
            self.kit.progress(f"reading {product.id}", number, len(self.plan.products))
            held = set(product.test.ids)
            rows = [row for row, id in enumerate(product.train.ids) if id not in held]
            if len(rows) < len(product.train):
                self.left_out[product.id] = len(product.train) - len(rows)
            rows = rows[: self.plan.limit]
            if not rows:
                raise DataError(f"{product.id} has no training picture that is not among its test pictures too")
            self.normals.append(product.train if len(rows) == len(product.train) else Subset(product.train, rows))
            task = Task(id=TaskId(product.id), class_name=product.class_name, false_alarm_rate=FALSE_ALARM_RATE)
            self.tasks.append(task)
            judged = self.test(number).ids
            for detector in shared:
                detector.require_unseen(task.id, judged)
            self.hashes.append((split_hash(self.normals[-1].ids), split_hash(judged)))

    def _shared(self) -> list[ByWeights]:
        """The methods' detectors that score by shared weights. Raises: NoSharedWeights: one has none."""
        made = [
            make_detector(one.detector, self.kit.backbone(one.image_size), one.options) for one in self.plan.variants
        ]
        found = [detector for detector in made if isinstance(detector, ByWeights)]
        for detector in found:
            detector.shared_weights  # noqa: B018 - reading it says that there are none
        return found

    def _learn(self, number: int, learner: Learner) -> Arrivals:
        seed = self.plan.seed + number
        order = list(range(len(self.tasks)))
        if number:
            order = np.random.default_rng(seed).permutation(len(order)).tolist()
        methods = [
            make_method(v, learner, tasks=len(order), budget=self.budget(v), seed=seed) for v in self.plan.variants
        ]
        held: dict[str, list[Held]] = {method.variant.name: [] for method in methods}
        for place in order:
            for method in methods:
                self._tell(f"{method.variant.name} learns {self.tasks[place].id}", number)
                held[method.variant.name].append(method.learn(self.tasks[place], self.normals[place]))
        seconds = {method.variant.name: method.seconds for method in methods}
        return Arrivals(seed, order, held, self._first_said(seed, seconds))

    def _first_said(self, seed: int, seconds: dict[str, float]) -> dict[str, float]:
        """What each method took when it was first run to its end: of a repeat, most comes from the disk."""
        found = {}
        for variant in self.plan.variants:
            key = digest(self.kit.code, variant.name, variant.told, self.budget(variant), seed, self.hashes)
            known = self.kit.parts.get("seconds", key)
            if known is None:
                known = {"seconds": seconds[variant.name]}
                self.kit.parts.put("seconds", key, known)
            found[variant.name] = known["seconds"]
        return found

    def _measure(self, place: int) -> None:
        """All methods, in all orders, on one task's test pictures."""
        task = self.tasks[place]
        todo = [
            (number, sequence, variant, key)
            for number, sequence in enumerate(self.sequences)
            for variant in self.plan.variants
            if self.kit.parts.get("measured", key := self.key(sequence, variant, place)) is None
        ]
        self._done += self.plan.orders * len(self.plan.variants) - len(todo)
        if not todo:
            return
        test = TestSet(self.test(place), self.plan.map_size)
        routes = Routes(test)
        prompted: dict[int, Prompted] = {}
        for number, sequence, variant, key in todo:
            self._tell(f"{variant.name} on {task.id}", number)
            started = time.monotonic()
            size = variant.image_size
            backbone = prompted.setdefault(size, Prompted(self.kit.backbone(size)))
            measurement = Measurement(
                test=test,
                task=task.id,
                own=list(sequence.order).index(place),
                held=sequence.held[variant.name],
                backbone=backbone,
                detector=make_detector(variant.detector, backbone, variant.options),
                block=variant.key_block,
                routes=routes,
                now=self.kit.now,
            )
            measured = measurement.run()
            shown = (
                examples(measured, test, self.kit.draw)
                if self.kit.draw is not None and number == 0 and variant is self.plan.variants[0]
                else []
            )
            content: dict[str, Any] = measured.content(test, thresholds=variant.changed is None)
            content |= {
                "method": variant.name,
                "task": task.id,
                "reads": measurement.reads,
                "seconds": time.monotonic() - started,
                "examples": [example.caption for example in shown],
            }
            files = {f"{index}.jpg": example.jpeg for index, example in enumerate(shown)}
            self.kit.parts.put("measured", key, content, measured.arrays(test), files)

    def _tell(self, what: str, number: int) -> None:
        order = f", order {number + 1}" if self.plan.orders > 1 else ""
        self.kit.progress(what + order, self._done, self.work)
        self._done += 1
