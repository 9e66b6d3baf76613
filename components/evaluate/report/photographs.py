"""Photographs of the dataset, small and inline."""

from typing import Any

from components.evaluate import data
from components.evaluate.report import figures
from components.shared.html import data_uri
from components.shared.records import Features


def inline(record: Features, **options: Any) -> str:
    """Return a photograph as a URI that holds it; `options` are those of `figures.thumbnail`."""
    image_HWC = data.decode(record["image/encoded"]).numpy()
    return data_uri(figures.thumbnail(image_HWC, **options), "image/jpeg")
