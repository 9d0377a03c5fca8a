"""The card that goes with weights: what they were made of, and what they are good for."""

from datetime import timedelta

import torch

from stream_ad.backbones.registry import device_name
from stream_ad.training.model import CONFIG, FEATURE_BLOCK
from stream_ad.training.trainer import Trainer

CARD = """\
# A small image-text model of industrial products

In open_clip's format, with a stem that knows textures (`stream_ad.backbones.texture`): image tower ViT-{patch} with
{layers} blocks of width {width} ({pixels} px, any multiple of {patch} works), text tower with {text_layers} blocks of
width {text_width} over CLIP's own word pieces, joint width {joint}.
{numbers:.1f} million numbers in half precision. Licence: Apache-2.0.

- Data: {pictures:,} renderings of {lines:,} product families with captions and masks (`stream_ad.demo.families`, split
  `train`). No photograph, and no weights of anybody else.
- Losses: captions (InfoNCE); patches and pictures against "flawless" and "damaged" and against the words for defects;
  nearest-patch comparison within a family; distances like those of textures. Last values: {losses}.
- Steps: {step:,} of {steps:,}, {batch} views each. Seed: {seed}.
- Made on {device} with torch {torch} in {spent}.

**Good for** a first look where no other weights are at hand, tests, the demo: patch features for memories (block
{block}), and the words {defects}.

**Not good for** anything but pictures of products: it never saw a photograph, a person or an animal. Words that no
caption has are noise to it. For real work compare it with a public model on your own pictures.
"""


def card(trainer: Trainer) -> str:
    """In Markdown, of a run as it is now."""
    vision, text = CONFIG["vision_cfg"], CONFIG["text_cfg"]
    options = trainer.options
    return CARD.format(
        patch=vision["patch_size"],
        layers=vision["layers"],
        width=vision["width"],
        pixels=vision["image_size"],
        text_layers=text["layers"],
        text_width=text["width"],
        joint=CONFIG["embed_dim"],
        numbers=sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6,
        pictures=trainer.pool.taken * options.shots,
        lines=trainer.pool.taken,
        step=trainer.step,
        steps=options.steps,
        batch=options.lines * (options.good + options.damaged),
        seed=options.seed,
        device=device_name(trainer.device),
        torch=torch.__version__,
        spent=timedelta(seconds=round(trainer.seconds)),
        losses=", ".join(f"{name} {value:.2f}" for name, value in trainer.last.items()),
        block=FEATURE_BLOCK,
        defects=", ".join(trainer.words.defects),
    )
