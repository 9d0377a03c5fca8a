"""The texts that the model is asked about in training: of a product, flawless, damaged, and each defect by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stream_ad.detectors.text import pair

#: a caption of a noun with a defect (None: flawless)
Caption = Callable[[str, str | None, np.random.Generator], str]


@dataclass(frozen=True, slots=True)
class Words:
    """Defects by name, and who puts them into sentences."""

    defects: Sequence[str]
    caption: Caption

    def asked(self, noun: str, rng: np.random.Generator) -> list[str]:
        """Flawless, damaged, then each defect. Half of the time as the program asks, else as captions say it."""
        generic = noun if rng.random() < 0.5 else str(rng.choice(["part", "product", "object", "surface"]))
        flawless, damaged = pair(generic)
        if rng.random() < 0.5:
            flawless = self.caption(noun, None, rng)
        return [flawless, damaged, *(self.caption(noun, defect, rng) for defect in self.defects)]
