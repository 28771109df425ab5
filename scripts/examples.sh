#!/bin/sh
# Runs what examples/ shows, with the Python that is given: each checks its own answers.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
python=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r examples/cython_g2p_stage "$work/stage"
(
  cd "$work/stage"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --target "$work/installed" .
  PYTHONPATH="$work/installed:${PYTHONPATH:-}" \
    "$python" -m g2p_stage words.txt "$work/phonemes.txt" --check
)
cd "$root/examples/g2p_en_dropin"
"$python" compare.py --random
checkpoint=${S2S_SHARED_DATA:-}/g2p_en/checkpoint20.npz
[ ! -f "$checkpoint" ] || "$python" compare.py "$checkpoint"
cd "$root/examples/asyncio_service"
"$python" check.py
