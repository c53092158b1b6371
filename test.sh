#!/usr/bin/env bash
# Sets up an environment of its own, checks the style, runs the tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --editable ".[test]"
.venv/bin/python -m ruff check .
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu
exec .venv/bin/python -m pytest -n 2 "$@"
