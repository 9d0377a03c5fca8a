"""Named settings of the detectors: one configuration for every product.

fast      one block of the whole picture, 196 rows: half a pass through the backbone beyond what routing takes
accurate  three blocks of the whole picture and of its nine tiles, 392 rows each: ten passes
paper     CMPMB's literal settings, where they are said (arXiv 2603.21562); slow, and for comparison only

fast and accurate were chosen on validation data alone: normals kept apart with painted defects, and rendered products.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from stream_ad.errors import ConfigError

_FAST_MEMORY: Mapping[str, Any] = {
    "coreset_rows": 196,
    "blocks": (5,),
    "scales": (1,),
    "whitening": 64,
    "candidates": 20_000,
    "top_k": 3,
}
_ACCURATE_MEMORY: Mapping[str, Any] = {
    "coreset_rows": 392,
    "blocks": (3, 5, 7),
    "scales": (1, 3),
    "whitening": 64,
    "candidates": 12_000,
    "top_k": 3,
}
_PAPER_MEMORY: Mapping[str, Any] = {
    "coreset_rows": 196,
    "blocks": (5,),
    "scales": (1,),
    "whitening": 0,
    "candidates": 20_000,
    "top_k": 1,
}
_PROMPTS: Mapping[str, Any] = {
    "text_weight": 0.1,
    "context_tokens": 5,
    "text_steps": 60,
    "text_rate": 5e-3,
    "prompt_length": 1,
    "prompt_steps": 12,
    "prompt_rate": 2e-3,
    "batch_size": 4,
    "regions": 24,
    "prompt_init": "small",
    "text_noise": "regions",
    "pooled_width": 0,
}
#: On validation data text and visual prompts did not earn what they cost (docs/cmpmb.md), with a model that knows no
#: word for defects: text took 0.06 to 0.1 pixel AP on rendered products, prompts moved nothing by more than 0.006.
_MEASURED: Mapping[str, Any] = {"text_weight": 0.0, "prompt_steps": 0}
#: everything that the method has, with our settings: what the comparison calls full
FULL: Mapping[str, Any] = MappingProxyType({"text_weight": 0.1, "prompt_steps": 12})
#: Adam at 5e-5, batches of 8, 50 epochs of 100 pictures
_PAPER_PROMPTS: Mapping[str, Any] = {
    **_PROMPTS,
    "text_steps": 625,
    "text_rate": 5e-5,
    "prompt_length": 2,
    "prompt_steps": 625,
    "prompt_rate": 5e-5,
    "batch_size": 8,
    "prompt_init": "paper",
    "text_noise": "whole",
    "pooled_width": 1024,
}

_PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "fast": {**_FAST_MEMORY, **_PROMPTS, **_MEASURED},
        "accurate": {**_ACCURATE_MEMORY, **_PROMPTS, **_MEASURED},
        "paper": {**_PAPER_MEMORY, **_PAPER_PROMPTS},
    }
)
PRESETS = tuple(_PRESETS)
MEMORY = tuple(_FAST_MEMORY)

#: departures of ours from the paper, each alone: what it changes in the preset `paper`
DEPARTURES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "native_width": {"pooled_width": 0},
        "small_init": {"prompt_init": "small"},
        "rates": {name: _PROMPTS[name] for name in ("text_steps", "text_rate", "prompt_steps", "prompt_rate")},
        "regions": {"text_noise": "regions"},
        "prompt_length": {"prompt_length": 1},
        "top_k": {"top_k": 3},
        "whitening": {"whitening": 64},
        "levels": {"blocks": (3, 5, 7), "scales": (1, 3)},
        "rows": {"coreset_rows": 392},
    }
)


def detector_options(
    preset: str, overrides: Mapping[str, Any] | None = None, *, depth: int | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """What each detector's constructor takes, by the detector's name; `overrides` win, None leaves the preset's.

    `depth`: blocks of the backbone; of one with fewer than a preset reads, the last block stands for those beyond.

    Raises:
        ConfigError: there is no such preset.
    """
    if preset not in _PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    chosen = {name: value for name, value in (overrides or {}).items() if value is not None}
    full = {**_PRESETS[preset], **chosen}
    if depth is not None and "blocks" not in chosen:
        full["blocks"] = tuple(sorted({min(block, depth - 1) for block in full["blocks"]}))
    memory = {name: full[name] for name in MEMORY}
    bare = {"mpa": {}, "promptmad": {}}
    return {"cmpmb": full, "patchcore": memory, "anople": memory, "zero-shot": {"top_k": full["top_k"]}, **bare}
