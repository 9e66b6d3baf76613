"""Which image a component runs in."""

import os

VERSION = "0.1.0"


def image(component: str) -> str:
    """Return the image reference of a component: `alexnet/<component>:<version>`, in ALEXNET_REGISTRY."""
    registry = os.environ.get("ALEXNET_REGISTRY", "")
    return f"{registry}{'/' if registry else ''}alexnet/{component}:{VERSION}"
