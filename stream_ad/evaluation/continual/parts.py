"""What was done, on disk: a run that was cut off goes on, and a finished one is not done again.

A part is a JSON file, perhaps with arrays beside it, named by a hash of all that it depends on. It is there whole or
not at all.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def digest(*values: Any) -> str:
    """One name for everything that a part depends on; values as JSON has them."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Parts:
    """Finished parts in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        """The part, or None when it is still to be done."""
        path = self.root / kind / f"{key}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def put(
        self,
        kind: str,
        key: str,
        content: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """Keep a part; the JSON file comes last, so that a part without its arrays and files is none."""
        for name, data in (files or {}).items():
            _write(self.root / kind / f"{key}-{name}", data)
        if arrays is not None:
            packed = io.BytesIO()
            np.savez_compressed(packed, **arrays)  # pyright: ignore[reportArgumentType]
            _write(self.root / kind / f"{key}.npz", packed.getvalue())
        text = json.dumps(content, allow_nan=False, indent=1)
        _write(self.root / kind / f"{key}.json", text.encode())

    def arrays(self, kind: str, key: str) -> dict[str, np.ndarray]:
        with np.load(self.root / kind / f"{key}.npz") as packed:
            return {name: packed[name] for name in packed.files}

    def file(self, kind: str, key: str, name: str) -> bytes:
        return (self.root / kind / f"{key}-{name}").read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
