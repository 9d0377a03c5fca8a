"""A product line."""

import re
from dataclasses import dataclass
from typing import NewType

from stream_ad.errors import ConfigError

TaskId = NewType("TaskId", str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One product line and what its operators chose for it.

    Raises:
        ConfigError: the id is no plain name, or the false-alarm rate is not in (0, 1).
    """

    id: TaskId
    #: the noun that fills the text prompts, e.g. "metal nut"
    class_name: str
    #: ids by which a message header may declare this product
    product_ids: tuple[str, ...] = ()
    #: cameras that see this product and nothing else
    cameras: tuple[str, ...] = ()
    #: share of good parts that may be called NG, in (0, 1)
    false_alarm_rate: float = 0.05

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", self.id):
            raise ConfigError(
                "a task name needs 1 to 100 letters, digits, '_', '-' or '.', the first one a letter"
                f" or digit; got {self.id!r}"
            )
        if not 0 < self.false_alarm_rate < 1:
            raise ConfigError(
                "false-alarm rate must be between 0 and 1 (0.05 = one good part in twenty);"
                f" got {self.false_alarm_rate}"
            )

    @property
    def seed(self) -> int:
        """A seed of its own for every task, so that the final bank does not depend on the order of arrival."""
        return int.from_bytes(self.id.encode()) % (2**31 - 1)
