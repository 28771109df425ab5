#!/bin/sh
# Installs dist/*.tar.gz and dist/*.whl in empty environments, outside of the source tree, and
# decodes a word with each.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for file in dist/*.tar.gz dist/*.whl; do
  python3 -m venv --clear "$work/env"
  "$work/env/bin/pip" install --quiet --disable-pip-version-check "$root/$file"
  (cd "$work" && "$work/env/bin/python" -c '
from s2s_engine import Engine, demo_model
engine = Engine.load(demo_model())
assert engine.self_test().passed
print(" ".join(engine.decode(list("phonograph")).tokens))')
  echo "ok $file $(wc -c < "$file") bytes"
done
