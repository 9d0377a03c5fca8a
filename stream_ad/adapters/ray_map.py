"""One function over many items, by this process and by whatever a Ray cluster has to spare."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from stream_ad.adapters.ray_cluster import Share, connect, reason
from stream_ad.errors import StreamAdError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Overtaken(Exception):
    """Somebody else has the result of what this process works at."""


def map_on_cluster(
    there: Callable[[Any, Item], Result | None],
    common: Any,
    items: Sequence[Item],
    here: Callable[[Item, Callable[[], None]], Result],
    *,
    address: str,
    share: Share,
) -> list[Result]:
    """The result of every item, in their order.

    This process takes items from the front, the cluster from the back, and what nobody finished yet is taken here
    too: so nothing waits for a cluster that is busy, slow or gone, and a job that holds a place in the cluster cannot
    wait for a second one. Ray repeats nothing.

    `there(common, item)` runs on the cluster, importable by its name; None: it cannot say, do it here. `here(item,
    look)` runs in this process and calls `look` now and then, which ends it by `Overtaken` when the cluster was faster.
    Both must give the same result. What `here` raises ends all.
    """
    try:
        connect(address)
    except StreamAdError as error:
        log.warning("evaluating without the cluster: %s", error)
        return [here(item, lambda: None) for item in items]
    import ray
    from ray.exceptions import RayError

    remote: Any = ray.remote(there)
    remote = remote.options(**share.options, max_retries=0)
    held = ray.put(common)
    # the first is begun here at once
    asked = {remote.remote(held, items[place]): place for place in reversed(range(1, len(items)))}
    done: dict[int, Result] = {}
    elsewhere = 0

    def gather() -> None:
        nonlocal elsewhere
        for answer in ray.wait(list(asked), num_returns=len(asked), timeout=0)[0] if asked else ():
            place = asked.pop(answer)
            try:
                result = ray.get(answer)
            except RayError as error:
                log.warning("an evaluation on the cluster was lost and is done here: %s", reason(error))
                continue
            if result is not None and place not in done:
                done[place] = result
                elsewhere += 1

    try:
        for place, item in enumerate(items):

            def look(place: int = place) -> None:
                gather()
                if place in done:
                    raise Overtaken

            try:
                look()
                done[place] = here(item, look)
            except Overtaken:
                pass
    finally:
        for answer in asked:
            ray.cancel(answer)
    log.info("%d of %d evaluations were done elsewhere on the cluster", elsewhere, len(items))
    return [done[place] for place in range(len(items))]
