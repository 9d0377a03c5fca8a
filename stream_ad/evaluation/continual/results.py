"""From the parts of a run to the figures, as the JSON file has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from stream_ad.domain.evaluation import METRICS
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId
from stream_ad.evaluation.calibration import TaskAlarms, pooled_alarms
from stream_ad.evaluation.continual.measure import ALPHAS
from stream_ad.evaluation.continual.run import Arrivals, Bench
from stream_ad.evaluation.continual.variants import Variant
from stream_ad.evaluation.forgetting import average, backward_transfer, forgetting_measure, regret

MODES = ("routed", "oracle")


def figures(bench: Bench) -> dict[str, Any]:
    """`tasks` and `detectors`; every number that is not defined is null."""
    first = bench.sequences[0]
    return {
        "tasks": [bench.tasks[place].id for place in first.order],
        "detectors": {variant.name: _method(bench, variant) for variant in bench.plan.variants},
    }


def parts_of(bench: Bench, arrivals: Arrivals, variant: Variant) -> list[dict[str, Any]]:
    """What was measured of one method in one order, in the order of arrival."""
    found = [bench.kit.parts.get("measured", bench.key(arrivals, variant, place)) for place in arrivals.order]
    return [part for part in found if part is not None]


def matrix(parts: Sequence[Mapping[str, Any]], mode: str, metric: str) -> Float64[np.ndarray, "steps tasks"]:
    """R: rows after each task, columns each task; NaN above the diagonal and where nothing was measured."""
    scores = np.full((len(parts), len(parts)), np.nan)
    for column, part in enumerate(parts):
        for step in part["steps"]:
            value = step[mode][metric]
            scores[step["step"], column] = np.nan if value is None else value
    return scores


def _method(bench: Bench, variant: Variant) -> dict[str, Any]:
    orders = [_order(bench, arrivals, variant) for arrivals in bench.sequences]
    summaries = [
        {"seed": arrivals.seed, "tasks": [bench.tasks[place].id for place in arrivals.order]}
        | {key: value for key, value in order.items() if key not in ("R", "oracle", "per_task")}
        | {"oracle": {key: order["oracle"][key] for key in ("average", "fm", "bwt")}}
        for arrivals, order in zip(bench.sequences, orders, strict=True)
    ]
    held = bench.sequences[0].held[variant.name][-1]
    return orders[0] | {
        "about": variant.about,
        "family": variant.family.value,
        "rows": held.rows,
        "megabytes": round(held.megabytes, 3),
        "budget_rows": bench.budget(variant),
        "image_size": variant.image_size,
        "features": str(bench.kit.backbone(variant.image_size).spec),
        "options": dict(variant.told),
        "orders": summaries,
    }


def _order(bench: Bench, arrivals: Arrivals, variant: Variant) -> dict[str, Any]:
    parts = parts_of(bench, arrivals, variant)
    routes = arrivals.held[variant.name][-1].routes
    told = _mode(parts, "oracle")
    guessed = _mode(parts, "routed")
    images = sum(len(part["images"]["ids"]) for part in parts)

    def over_images(count: int) -> float | None:
        return count / images if routes and images else None

    unseen = [part["unseen_refused"] for part in parts]
    return guessed | {
        "routing_accuracy": over_images(sum(part["steps"][-1].get("recognised", 0) for part in parts)),
        "unknown_rate_known": over_images(sum(part["steps"][-1].get("refused", 0) for part in parts)),
        "unknown_rate_unseen": None if None in unseen else over_images(sum(unseen)),
        "oracle": told
        | {"regret": dict.fromkeys(METRICS, 0.0), "routing_accuracy": None}
        | {"unknown_rate_known": None, "unknown_rate_unseen": None, "seconds": None},
        "false_alarms": _false_alarms(parts),
        "per_task": {
            part["task"]: _task(part)
            | {"suspects": len(arrivals.held[variant.name][-1].entries[TaskId(part["task"])].suspects)}
            for part in parts
        },
        "seconds": arrivals.seconds[variant.name] + sum(part["seconds"] for part in parts),
    }


def _mode(parts: Sequence[Mapping[str, Any]], mode: str) -> dict[str, Any]:
    found: dict[str, Any] = {"R": {}, "average": {}, "fm": {}, "bwt": {}, "regret": {}}
    for metric in METRICS:
        scores = matrix(parts, mode, metric)
        found["R"][metric] = plain(scores)
        found["average"][metric] = plain(average(scores))
        found["fm"][metric] = plain(forgetting_measure(scores))
        found["bwt"][metric] = plain(backward_transfer(scores))
        cost = regret(scores, matrix(parts, "oracle", metric))[-1]
        found["regret"][metric] = plain(cost[~np.isnan(cost)].mean()) if not np.isnan(cost).all() else None
    return found | _flips(parts, mode)


def _flips(parts: Sequence[Mapping[str, Any]], mode: str) -> dict[str, Any]:
    """Verdicts that changed between a task's own step and the last one, over all tasks but the last."""
    if any("verdicts" not in part for part in parts):
        return {"flips": None, "flips_detail": None}
    detail = {"compared": 0, "newly_missed": 0, "new_false_alarms": 0, "put_right": 0, "other": 0}
    flips = 0
    for part in parts[:-1]:
        verdicts = part["verdicts"][mode]
        for bad, before, after in zip(part["images"]["defective"], verdicts["first"], verdicts["last"], strict=True):
            detail["compared"] += 1
            flips += before != after
            was, now = ((verdict != Verdict.OK) == bad for verdict in (before, after))
            if was and not now:
                detail["newly_missed" if bad else "new_false_alarms"] += 1
            elif now and not was:
                detail["put_right"] += 1
            elif before != after:
                detail["other"] += 1
    return {"flips": flips, "flips_detail": detail}


def _false_alarms(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Good pictures above thresholds that promise a rate, against what chance allows."""
    if any("alarms" not in part for part in parts):
        return None
    found = {}
    for alpha in ALPHAS:
        name = f"{alpha:g}"
        alarms = [(part["task"], part["alarms"][name]) for part in parts]
        pooled = pooled_alarms(
            [TaskAlarms(task, one["calibrated_on"], one["good"], one["oracle"]) for task, one in alarms], alpha
        )
        found[name] = {
            "alarms": pooled.alarms,
            "images": pooled.images,
            "rate": pooled.alarms / pooled.images if pooled.images else None,
            "expected": pooled.expected,
            "low": pooled.interval.low,
            "high": pooled.interval.high,
            "inside": pooled.as_promised,
            "cannot_be_promised": list(pooled.left_out),
            "routed": sum(one["routed"] for _, one in alarms),
            "routed_or_refused": sum(one["routed_or_refused"] for _, one in alarms),
            "good": sum(one["good"] for _, one in alarms),
            "per_task": dict(alarms),
        }
    return found


def _task(part: Mapping[str, Any]) -> dict[str, Any]:
    """One task after the last step."""
    last = part["steps"][-1]
    images = len(part["images"]["ids"])
    defective = sum(part["images"]["defective"])
    found = {
        "routed": last["routed"],
        "oracle": last["oracle"],
        "good": images - defective,
        "defective": defective,
        "unmarked": part["unmarked"],
        "synthetic": part["synthetic"],
        "routing_accuracy": last["recognised"] / images if "recognised" in last else None,
        "unknown_rate_known": last["refused"] / images if "refused" in last else None,
        "unknown_rate_unseen": None if part["unseen_refused"] is None else part["unseen_refused"] / images,
    }
    if "verdicts" in part:
        pairs = list(zip(part["images"]["defective"], part["verdicts"]["routed"]["last"], strict=True))
        found["detected"] = sum(bad and verdict != Verdict.OK for bad, verdict in pairs)
        found["alarms"] = sum(not bad and verdict != Verdict.OK for bad, verdict in pairs)
    if "routed_to" in part:
        went = [to for to in part["routed_to"] if to != part["task"]]
        found["taken_for"] = {to: went.count(to) for to in sorted(set(went))}
    return found


def plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, np.ndarray):
        return [plain(part) for part in value]
    return None if np.isnan(value) else float(value)


def test_reads(bench: Bench) -> list[dict[str, Any]]:
    """Every time that a method looked at test pictures, in the order of time."""
    reads = [
        {"method": variant.name, "seed": arrivals.seed, "task": part["task"], **read}
        for arrivals in bench.sequences
        for variant in bench.plan.variants
        for part in parts_of(bench, arrivals, variant)
        for read in part["reads"]
    ]
    return sorted(reads, key=lambda read: read["at"])


def gallery(bench: Bench) -> dict[str, list[tuple[str, bytes]]]:
    """Of each task captions and pictures, by the first method in the first order."""
    first, variant = bench.sequences[0], bench.plan.variants[0]
    shown = {}
    for place in first.order:
        key = bench.key(first, variant, place)
        captions = (bench.kit.parts.get("measured", key) or {}).get("examples", [])
        if captions:
            shown[bench.tasks[place].id] = [
                (caption, bench.kit.parts.file("measured", key, f"{index}.jpg"))
                for index, caption in enumerate(captions)
            ]
    return shown


def data(bench: Bench) -> dict[str, Any]:
    """Which pictures, by hashes that anybody with the same data set can compare."""
    found = {}
    for place, product in enumerate(bench.plan.products):
        test = bench.test(place)
        found[product.id] = {
            "class_name": product.class_name,
            "layout": product.layout,
            "dataset": product.dataset,
            "category": product.category,
            "complete": product.complete and bench.plan.limit is None,
            "note": product.note,
            "train": len(bench.normals[place]),
            "train_sha256": bench.hashes[place][0],
            "left_out_because_in_test": bench.left_out.get(product.id, 0),
            "test_good": sum(not flag for flag in test.defective),
            "test_defective": sum(map(bool, test.defective)),
            "test_sha256": bench.hashes[place][1],
        }
    return found
