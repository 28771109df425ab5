#!/bin/sh
# Makes an environment of its own, builds and installs the package, and decodes words with the
# model that ships with it: words given as arguments, or a few built-in ones.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check ".[cli]"
.venv/bin/s2s-engine demo "$@"
