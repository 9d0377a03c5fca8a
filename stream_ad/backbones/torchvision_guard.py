"""open_clip imports torchvision, whose compiled part must match torch's build.

A CPU-only torch beside the common (CUDA) torchvision fails at `import torchvision` with "operator torchvision::nms
does not exist". Nothing of ours or of open_clip's image-text models calls these operators, so declaring them lets
the import go through. `stream-ad doctor` says so; each job and scorer would say it again and again.
"""

import logging
import sys

import torch

_declared: torch.library.Library | None = None  # the declarations live as long as this object


def import_torchvision() -> bool:
    """Import torchvision; False when its compiled operators had to be declared without code."""
    global _declared
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        _declared = torch.library.Library("torchvision", "DEF")
        _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401

        logging.getLogger(__name__).debug(
            "torchvision was built for another torch (CPU-only torch beside a CUDA torchvision): its compiled "
            "operators are off; stream-ad does not use them"
        )
    return _declared is None


import_torchvision()
