#!/bin/sh
# Installs dist/*.tar.gz and dist/*.whl in empty environments, outside of the source tree, and
# decodes a word with each. The wheel must pass the tests there, among them the build of another
# package with the Cython door.
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
  case "$file" in
    *.whl)
      "$work/env/bin/pip" install --quiet --disable-pip-version-check -c constraints.txt \
        "$root/$file[test]"
      "$work/env/bin/pytest" -q -p no:cacheprovider
      ;;
  esac
  echo "ok $file $(wc -c < "$file") bytes"
done
