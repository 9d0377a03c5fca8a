"""Frozen image-text encoders. They know pictures and words, nothing of tasks, banks or messages."""

import stream_ad.backbones.torchvision_guard  # noqa: F401  (before anything here imports open_clip)
