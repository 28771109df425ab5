#!/bin/sh
# Interpreters that end while an engine's threads, iterations and streams are there: all exit with 0.
# Usage: scripts/clean-exits.sh [count], with the python that is first on the PATH
set -eu
cd "$(dirname "$0")/.."
count=${1:-200}
clean=$(seq "$count" | xargs -P 2 -I N sh -c 'if python tests/exits.py N; then echo clean; fi' | grep -c clean) || true
echo "$clean of $count"
test "$clean" = "$count"
