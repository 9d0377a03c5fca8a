"""The result of a training: a folder in open_clip's format, with a card that says what the weights are."""

from pathlib import Path

import open_clip
import torch

from stream_ad.backbones.weights import TEXTURED, write
from stream_ad.training.model import CONFIG, MEAN, STD

CARD_FILE = "README.md"


def write_weights(model: open_clip.CLIP, folder: Path, card: str) -> Path:
    """Half precision: what is lost is far below what a score can show."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD_FILE).write_text(card)
    halves = {name: tensor.detach().to("cpu", torch.float16) for name, tensor in model.state_dict().items()}
    write(halves, CONFIG, MEAN, STD, folder, stem=TEXTURED)
    return folder
