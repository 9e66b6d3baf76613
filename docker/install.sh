#!/bin/sh
# Make /venv from one lock, in a builder stage: hashes for every package, and for what builds those that are published
# as sources only (a few pure-Python ones of Beam's). Neither pip, uv nor a compiler is in /venv.
set -eu
/uv/bin/uv venv --quiet --python python /venv
VIRTUAL_ENV=/venv /uv/bin/uv pip install --quiet --no-cache --no-deps --require-hashes --compile-bytecode \
  --build-constraints /requirements/build.txt --requirements "$1"
# C and C++ headers and the packages' own tests: nothing reads them at run time.
find /venv -type d \( -name tests -o -path '*/tensorflow/include' -o -path '*/pyarrow/include' -o -path '*/nvidia/*/include' \) \
  -prune -exec rm -rf {} +
