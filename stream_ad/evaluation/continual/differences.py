"""How much the full method is better than each other one: paired bootstrap over pictures, mean over tasks and seeds."""

from typing import Any

from stream_ad.evaluation.continual.run import Bench


def differences(bench: Bench) -> dict[str, Any]:
    return {}
