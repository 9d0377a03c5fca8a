"""From a backbone's name to the backbone."""

import copy
import hashlib
import logging
import os
import platform
from functools import lru_cache
from pathlib import Path

import open_clip
import torch
from safetensors.torch import load_file

from stream_ad.backbones import tiny
from stream_ad.backbones.texture import textured
from stream_ad.backbones.vit import VitBackbone
from stream_ad.backbones.weights import SMALL, TEXTURED, LocalWeights, locate, pulled
from stream_ad.domain.bank import FeatureSpec
from stream_ad.errors import ConfigError, WeightsError

PREFERRED = ("ViT-B-16/openai",)  # the papers' backbone
RANDOM = "random:"
SMALL_CAVEAT = "small was trained on rendered products alone; compare it with a public model on your own pictures"
UNTRAINED = "weights drawn at random, nothing was learned; as fast as trained ones, its verdicts mean nothing"


def load_backbone(id: str, *, image_size: int, weights_dir: Path, device: str = "auto") -> VitBackbone:
    """A frozen backbone by name, from weights on this machine; no network is used.

    `id` is open_clip's NAME/TAG, `hf-hub:ORG/NAME`, `local-dir:FOLDER`, `small` (ours, it comes with the program),
    `tiny` (untrained), `random:NAME` (seeded weights, for measuring speed), or `auto`: the best that was pulled,
    otherwise `small`. What should be known of ours and of what is untrained is in its `caveat`.

    Raises:
        WeightsError: the weights are missing or do not fit the model.
        ConfigError: no such device, or an image size that the patches do not divide.
    """
    target = chosen_device(device)
    if id == "auto":
        id = best_available(weights_dir)
    if id == "tiny":
        model = copy.deepcopy(_tiny())
        spec = FeatureSpec(backbone="tiny", weights_sha256=_state_sha256(model), image_size=image_size)
        return VitBackbone(model, spec=spec, mean=tiny.MEAN, std=tiny.STD, device=target, caveat=tiny.CAVEAT)
    if id.startswith(RANDOM):
        model = _random(id.removeprefix(RANDOM))
        spec = FeatureSpec(backbone=id, weights_sha256=_state_sha256(model), image_size=image_size)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        return VitBackbone(model, spec=spec, mean=mean, std=std, device=target, caveat=f"{id}: {UNTRAINED}")
    weights = locate(id, weights_dir)
    config = weights.config
    preprocess = config.get("preprocess_cfg", {})
    spec = FeatureSpec(backbone=_name(id), weights_sha256=weights.sha256(), image_size=image_size)
    return VitBackbone(
        _load(weights),
        spec=spec,
        mean=preprocess.get("mean", open_clip.OPENAI_DATASET_MEAN),
        std=preprocess.get("std", open_clip.OPENAI_DATASET_STD),
        device=target,
        caveat=SMALL_CAVEAT if id == SMALL else "",
    )


def best_available(weights_dir: Path) -> str:
    """The name that `auto` stands for on this machine."""
    here = [weights.id for weights in pulled(weights_dir)]
    return next((name for name in (*PREFERRED, *here) if name in here), SMALL)


def _load(weights: LocalWeights) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    config = weights.config
    text = config["model_cfg"].get("text_cfg", {})
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        raise WeightsError(
            f"{weights.id}: its text tower needs a tokenizer from a hub; choose a model with CLIP's own tokenizer"
        )
    try:
        model = _created(f"local-dir:{weights.directory}", weights.id)
        if (stem := config.get("stem")) == TEXTURED:
            textured(model)
        elif stem is not None:
            raise WeightsError(f"{weights.id}: its stem is {stem!r}, and this program knows {TEXTURED!r} alone")
        state = {name: tensor.float() for name, tensor in load_file(weights.file).items()}
        model.load_state_dict(state)
    except WeightsError:
        raise
    # open_clip and safetensors raise errors of many kinds on a bad file; all mean the same to a user
    except Exception as error:
        reason = " ".join(str(error).split())[:400]
        raise WeightsError(
            f"{weights.id}: the weights in {weights.directory} do not fit the model of its open_clip_config.json: "
            f"{reason}"
        ) from error
    return model


def _random(name: str) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    """A model of open_clip with weights of one seed."""
    if name not in open_clip.list_models():
        raise WeightsError(f"{RANDOM}{name}: open_clip has no model {name!r}; choose one such as ViT-B-16 or ViT-B-32")
    text = (open_clip.get_model_config(name) or {}).get("text_cfg", {})
    if text.get("hf_tokenizer_name") or text.get("hf_model_name"):
        raise WeightsError(f"{RANDOM}{name}: its text tower comes from a hub; choose one such as ViT-B-16 or ViT-B-32")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _created(name, f"{RANDOM}{name}")


def _created(name: str, id: str) -> open_clip.CLIP | open_clip.CustomTextCLIP:
    quiet = logging.getLogger()  # open_clip warns there that no weights were loaded
    quiet.addFilter(_no_random_weights_warning)
    try:
        model = open_clip.create_model(name, load_weights=False)
    finally:
        quiet.removeFilter(_no_random_weights_warning)
    if not isinstance(model, open_clip.CLIP | open_clip.CustomTextCLIP):
        raise WeightsError(f"{id}: needed a CLIP model, got {type(model).__name__}; choose another one")
    return model


def _no_random_weights_warning(record: logging.LogRecord) -> bool:
    return "Model initialized randomly" not in record.getMessage()


def _name(id: str) -> str:
    """What an entry says of its backbone: a folder by its last name, since its path differs between machines."""
    return f"local-dir:{Path(id.removeprefix('local-dir:')).name}" if id.startswith("local-dir:") else id


def chosen_device(device: str) -> torch.device:
    """A device by name; auto: the GPU where there is one. Raises: ConfigError: there is no such device."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"backbone.device must be auto, cpu, cuda or cuda:N, got {device!r}") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"backbone.device is {device!r}, but torch sees no CUDA device; use auto or cpu")
    return chosen


def device_name(device: torch.device) -> str:
    """What a card says of where weights were made."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' * (threads > 1)} of a CPU ({platform.machine()}, {os.cpu_count()} cores)"


@lru_cache(maxsize=1)
def _tiny() -> open_clip.CLIP:
    return tiny.tiny_model()


def _state_sha256(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
