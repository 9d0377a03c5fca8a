"""Training of backbones. Knows no renderer and no product: pictures come as `Line`s from whoever starts it."""

import stream_ad.backbones.torchvision_guard  # noqa: F401  (before anything here imports open_clip)
