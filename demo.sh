#!/usr/bin/env bash
# Sets up an environment of its own, trains a model on real data, exports it, calls it from C.
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install --quiet --editable ".[demo]"
exec .venv/bin/python examples/digits.py "$@"
