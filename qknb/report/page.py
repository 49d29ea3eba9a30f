"""Pages are Jinja2 templates (report/templates): everything is escaped, and one style sheet serves
all. They stand alone: images are in the page, and nothing is loaded.
"""

import base64
import functools
import io
import os
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from qknb.system.files import write_text

__all__ = ["image_address", "render", "render_part", "shown_name", "write_page"]

THUMBNAIL = 240  # pixels


@functools.cache
def _templates():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("qknb.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"address": image_address, "count": "{:,}".format, "text": shown_name}
    return environment


def render(template: str, **context: Any) -> str:
    """A page, or a part of one, from a template of report/templates.

    All values are escaped but those that bring their HTML along (`__html__`), such as tables. What
    is no text (a file name may hold any bytes) becomes question marks.
    """
    text = _templates().get_template(template).render(**context)
    return text.encode("utf-8", "replace").decode("utf-8")


def render_part(template: str, macro: str, *values: Any) -> str:
    """What a macro of a template makes of some values: a part of a page, for a notebook."""
    module = _templates().get_template(template).module
    return str(getattr(module, macro)(*values)).encode("utf-8", "replace").decode("utf-8")


def write_page(path: str | Path, template: str, **context: Any) -> Path:
    """Render a template into a file, atomically."""
    write_text(path, render(template, **context))
    return Path(path)


def image_address(image: Image.Image | np.ndarray | str, size: int = THUMBNAIL) -> str:
    """An image as a data: address, a JPEG of at most `size` pixels a side; an address stays."""
    if isinstance(image, str):
        return image
    small = Image.fromarray(image) if isinstance(image, np.ndarray) else image.copy()
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def shown_name(name: str) -> str:
    """A file name as text: bytes that are no text are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")
