"""Weights on disk: one folder per model, in open_clip's own local-dir format. Only `pull` uses a network.

`small` lies in the package; what was pulled, in the installation's weights folder.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stream_ad.errors import WeightsError

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
LOCAL, HUB = "local-dir:", "hf-hub:"
#: our own model, trained on rendered products (docs/training.md); it comes with the program
SMALL = "small"
PACKAGED = Path(__file__).resolve().parents[1] / "weights" / SMALL
#: the `stem` of a model whose patch convolution is a `texture.TexturedPatches`
TEXTURED = "texture"


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """A model's folder on this machine."""

    id: str
    directory: Path

    @property
    def config(self) -> dict[str, Any]:
        """Raises: WeightsError: the file is missing or is no JSON of open_clip's form."""
        path = self.directory / CONFIG_FILE
        try:
            config = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise WeightsError(f"{self.id}: needed {path} in open_clip's format: {error}") from None
        if not isinstance(config, dict) or "vision_cfg" not in config.get("model_cfg", {}):
            raise WeightsError(f"{self.id}: {path} has no model_cfg.vision_cfg, so it is no open_clip model config")
        return config

    @property
    def file(self) -> Path:
        """Raises: WeightsError: the file is missing."""
        path = self.directory / WEIGHTS_FILE
        if not path.is_file():
            raise WeightsError(f"{self.id}: needed the weights in {path}, which is not there")
        return path

    def sha256(self) -> str:
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def locate(model_id: str, weights_dir: Path) -> LocalWeights:
    """Where a model's weights are on this machine.

    Raises:
        WeightsError: they are not here; the message says how to get them.
    """
    if model_id.startswith(LOCAL):
        directory = Path(model_id.removeprefix(LOCAL)).expanduser()
        if not directory.is_dir():
            raise WeightsError(
                f"{model_id}: there is no folder {directory}; it must hold {CONFIG_FILE} and {WEIGHTS_FILE}"
            )
        return LocalWeights(model_id, directory)
    if model_id == SMALL:
        if not (PACKAGED / WEIGHTS_FILE).is_file():
            raise WeightsError(
                f"{SMALL}: needed {PACKAGED / WEIGHTS_FILE}, which comes with the program; install it again"
            )
        return packaged()
    directory = weights_dir / _slug(model_id)
    if not directory.is_dir():
        raise WeightsError(
            f"the weights of {model_id!r} are not on this machine (looked in {directory}). Where there is internet, "
            f"run `stream-ad weights pull {model_id}`; for a machine without, copy that folder over. "
            "Or set backbone.id to local-dir:FOLDER for weights of your own, or to small, which comes with the program"
        )
    return LocalWeights(model_id, directory)


def packaged() -> LocalWeights:
    """The model that comes with the program."""
    return LocalWeights(SMALL, PACKAGED)


def pulled(weights_dir: Path) -> list[LocalWeights]:
    """Every model pulled to this machine, by name."""
    if not weights_dir.is_dir():
        return []
    found = []
    for directory in sorted(weights_dir.iterdir()):
        if (directory / CONFIG_FILE).is_file() and (directory / WEIGHTS_FILE).is_file():
            found.append(LocalWeights(directory.name.replace("--", "/").replace("hf-hub_", HUB), directory))
    return found


def pull(model_id: str, weights_dir: Path) -> LocalWeights:
    """Download a model and keep it in `weights_dir`; from then on no network is needed.

    `model_id` is open_clip's NAME/TAG (`ViT-B-16/openai`) or `hf-hub:ORG/NAME`.

    Raises:
        WeightsError: no such model, or the download failed.
    """
    import open_clip

    if model_id.startswith(LOCAL) or model_id in ("auto", SMALL, "tiny"):
        raise WeightsError(f"{model_id!r} is nothing to download; name open_clip's NAME/TAG or hf-hub:ORG/NAME")
    try:
        if model_id.startswith(HUB):
            model = cast(Any, open_clip.create_model_from_pretrained(model_id, return_transform=False))
            model_cfg: Any = open_clip.get_model_config(model_id)
        else:
            name, _, tag = model_id.partition("/")
            if tag not in open_clip.list_pretrained_tags_by_model(name):
                tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none: no such model"
                raise WeightsError(f"open_clip has no weights {model_id!r}; tags of {name!r}: {tags}")
            model = cast(Any, open_clip.create_model_from_pretrained(name, pretrained=tag, return_transform=False))
            model_cfg = open_clip.get_model_config(name)
            if open_clip.get_pretrained_cfg(name, tag).get("quick_gelu"):
                model_cfg["quick_gelu"] = True
    except WeightsError:
        raise
    # the hub's client raises errors of several libraries; here all of them mean "not downloaded"
    except Exception as error:
        raise WeightsError(
            f"could not download {model_id!r}: {type(error).__name__}: {str(error).splitlines()[0][:300]}. Is there "
            "internet here? Else pull on another machine and copy its folder into this one's weights folder "
            f"({weights_dir})"
        ) from error
    return save(model, model_cfg, model.visual.image_mean, model.visual.image_std, model_id, weights_dir)


def save(
    model: Any,
    model_cfg: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    model_id: str,
    weights_dir: Path,
) -> LocalWeights:
    """Write an open_clip model to its folder among the weights of this machine."""
    directory = weights_dir / _slug(model_id)
    write(model.state_dict(), model_cfg, mean, std, directory)
    return LocalWeights(model_id, directory)


def write(
    state: Mapping[str, Any],
    model_cfg: Mapping[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    directory: Path,
    **beside: str,
) -> None:
    """A folder in open_clip's local-dir format; the weights last, so that a half-written folder is not found.

    `beside`: what our own models say beyond that format (`stem`).
    """
    from safetensors.torch import save_file

    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": list(mean), "std": list(std)}, **beside}
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=1))
    partial = directory / (WEIGHTS_FILE + ".partial")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial)
    # safetensors lets nobody but the owner read it; a service has another user than who pulled
    shutil.copymode(directory / CONFIG_FILE, partial)
    partial.rename(directory / WEIGHTS_FILE)


def _slug(model_id: str) -> str:
    return model_id.replace(HUB, "hf-hub_").replace("/", "--")
