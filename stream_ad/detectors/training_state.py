"""Trainings that go on after a kill: their states, saved whole or not at all, and only for a run of equal settings."""

import hashlib
import io
import json
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError

from stream_ad.detectors.shared_weights import write_durably
from stream_ad.errors import DataError


@runtime_checkable
class Stateful(Protocol):
    """A module or an optimiser."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


#: what reading a file that was cut short, or that another version wrote, raises
UNREADABLE = (pickle.UnpicklingError, EOFError, RuntimeError, KeyError, ValueError, SafetensorError)


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of such a file."""
    return DataError(
        f"needed what an earlier run left in {path}, but it is damaged or another version's"
        f" ({type(error).__name__}); delete it, and it is made anew"
    )


def digest(of: Any) -> str:
    """A name for what a state must agree with, given as JSON has it."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def save(path: Path, step: int, last: Mapping[str, float], parts: Mapping[str, Stateful]) -> None:
    """The parts after a step, on disk before this returns. Raises: OSError: they cannot be written."""
    state = {"step": step, "last": dict(last)} | {name: part.state_dict() for name, part in parts.items()}
    put(path, in_bytes(state))


def put(path: Path, data: bytes) -> None:
    """The file is there whole or not at all; its folder is made. Raises: OSError: it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    write_durably(partial, data)
    partial.rename(path)


def in_bytes(state: Mapping[str, Any]) -> bytes:
    """As torch saves it. Not straight into a file: where the disk is full, torch raises no OSError."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def restore(path: Path, parts: Mapping[str, Stateful], device: torch.device) -> tuple[int, dict[str, float]]:
    """The step that a saved state is of and the last losses, the parts as they were then; 0 where none was saved."""
    if not path.is_file():
        return 0, {}
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return state["step"], state["last"]
    except UNREADABLE as error:
        raise unreadable(path, error) from error


class Resumable(ABC):
    """Steps that go on where they were cut off."""

    #: done, and in all
    step: int
    steps: int
    #: steps between two saved states
    save_every: int

    def run(
        self,
        *,
        until: Callable[[], bool] = lambda: False,
        told: Callable[[int, float], None] = lambda step, loss: None,
    ) -> None:
        """To the last step, or until asked to stop; saved either way. `told`: after each step, with its loss."""
        while self.step < self.steps and not until():
            loss = self._learn()
            self.step += 1
            told(self.step, loss)
            if self._to_be_saved():
                self._save()
        self._save()

    @abstractmethod
    def _learn(self) -> float:
        """The step after those that were done; its loss."""

    @abstractmethod
    def _save(self) -> None: ...

    def _to_be_saved(self) -> bool:
        """Whether the state after this step is one to go on from."""
        return self.step % self.save_every == 0
