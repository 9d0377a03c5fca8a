"""The templates of all pages: escaped, strict about what is missing, with pictures and charts inside the file."""

import base64
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def template(name: str, **filters: Callable[..., Any]) -> Template:
    """A template by its file's name, with filters of its own beside `svg` and `jpeg`."""
    environment = Environment(
        loader=PackageLoader("stream_ad.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": _svg_uri, "jpeg": _jpeg_uri, **filters}
    return environment.get_template(name)


def _svg_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _jpeg_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
