"""Self-contained HTML pages from templates: nothing is fetched, nothing runs.

Only reports import this.
"""

import base64
import functools
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES_DIR = Path(__file__).parent / "templates"


def percent(fraction: float) -> str:
    """Write a fraction as percent with one decimal."""
    return f"{100 * fraction:.1f}\u00a0%"


def data_uri(content: bytes, media: Literal["image/png", "image/jpeg"]) -> str:
    """Inline a picture."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


def picture(content: bytes, density: int = 2) -> dict[str, Any]:
    """Prepare a PNG file for the macro `figure`.

    Args:
        content: the PNG file.
        density: its pixels to a CSS pixel; 2 is crisp on fine screens.
    """
    width = int.from_bytes(content[16:20], "big") // density  # the width stands first in the IHDR chunk
    return {"uri": data_uri(content, "image/png"), "width": width}


@functools.cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES_DIR]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: Any = environment.filters  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    filters.update(percent=percent, thousands="{:,}".format)
    return environment


def _fill(folder: Path, name: str, data: dict[str, Any]) -> Markup:
    return Markup(_environment(folder).get_template(f"{name}.html").render(data))


def render(file: str, **data: Any) -> Markup:
    """Fill in the template of a module: `templates/errors.html` beside `errors.py`.

    Args:
        file: `__file__` of the caller.
        data: what the template names; text is escaped, only what templates made is taken as HTML.

    Raises:
        jinja2.UndefinedError: the template names something that is not in `data`.
    """
    path = Path(file)
    return _fill(path.parent / "templates", path.stem, data)


def page(title: str, body: Markup) -> str:
    """Wrap a body into a whole document that may load nothing but its own data."""
    return str(_fill(TEMPLATES_DIR, "page", {"title": title, "body": body}))
