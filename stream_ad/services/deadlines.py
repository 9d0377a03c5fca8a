"""When a verdict comes too late for the part that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stream_ad.domain.result import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long after its capture a picture's verdict is of use, by camera.

    Both clocks count: the one that stamped the picture and this machine's. A picture without a time has no deadline.
    """

    default_s: float | None = None
    by_camera: Mapping[str, float] = field(default_factory=dict)
    #: what a late picture is called instead of OK or unknown product; NG stays NG
    told: Verdict = Verdict.LATE
    #: whether a picture that is late already is not scored any more, so that a backlog does not make the next one late
    skip: bool = False

    def late(self, camera: str | None, captured_at: datetime | None, now: datetime) -> bool:
        limit_s = self.by_camera.get(camera, self.default_s) if camera is not None else self.default_s
        return limit_s is not None and captured_at is not None and (now - captured_at).total_seconds() > limit_s
