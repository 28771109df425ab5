#!/bin/sh
# Makes an environment of its own, installs the package with the test extra and further extras
# given as arguments (torch, onnx), and runs the tests. Arguments that begin with - go to pytest.
set -eu
cd "$(dirname "$0")/.."
extras=test
options=
for argument in "$@"; do
  case "$argument" in
    -*) options="$options $argument" ;;
    *) extras="$extras,$argument" ;;
  esac
done
python3 -m venv .venv-test
.venv-test/bin/pip install --quiet --disable-pip-version-check -c constraints.txt ".[$extras]"
# shellcheck disable=SC2086  # the options are words
.venv-test/bin/pytest -q $options
