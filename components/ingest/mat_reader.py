"""Reads `synsets` of a meta.mat from stdin and writes it to stdout as JSON: run as a file, in a process of its own.

SciPy's reader trusts a file: damaged ones have ended it by segmentation faults, by all kinds of exceptions and by the
machine's memory. Here that ends this process only; `devkit` starts it, and takes every end but a good one for damage.
"""

import io
import json
import resource
import sys
from typing import Any

LIMITS = {
    resource.RLIMIT_AS: 1 << 30,  # bytes of address space; the real file takes a fifth of it
    resource.RLIMIT_CPU: 60,  # seconds; the real file takes one
    resource.RLIMIT_CORE: 0,
}


def plain(value: Any) -> Any:
    """Turn a field into what JSON has; anything else is a TypeError."""
    return value.tolist() if hasattr(value, "tolist") else value


def main() -> None:
    """Write `{"fields": [name, ...], "synsets": [[value, ...], ...]}`."""
    for kind, limit in LIMITS.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    import scipy.io

    data = io.BytesIO(sys.stdin.buffer.read())
    found = scipy.io.loadmat(data, squeeze_me=True, variable_names=["synsets"])
    if "synsets" not in found:
        raise KeyError("synsets")
    synsets = found["synsets"].reshape(-1)
    fields = synsets.dtype.names or ()
    json.dump({"fields": fields, "synsets": [[plain(row[name]) for name in fields] for row in synsets]}, sys.stdout)


if __name__ == "__main__":
    main()
