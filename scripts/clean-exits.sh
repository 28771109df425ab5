#!/bin/sh
# Interpreters that end while an engine's threads, iterations and streams are there: all exit with 0.
# Usage: scripts/clean-exits.sh [count]
set -eu
cd "$(dirname "$0")/.."
count=${1:-200}
clean=0
for number in $(seq "$count"); do
  if python tests/exits.py "$number"; then clean=$((clean + 1)); fi
done
echo "$clean of $count"
test "$clean" = "$count"
