#!/bin/sh
# Cross-builds the core for 64-bit Arm and runs its test programs under qemu-user; then compares what
# `neon`, `neon_dot` and Arm's `portable` compute, kernel by kernel and decode by decode, with what
# this machine's `portable` and its fastest instruction set compute. Needs cmake, a C++ compiler, and
# Debian's packages qemu-user and g++-aarch64-linux-gnu. Says nothing about speed.
set -eu
cd "$(dirname "$0")/.."
for tool in cmake qemu-aarch64 aarch64-linux-gnu-g++; do
  command -v "$tool" > /dev/null || {
    echo "test-neon: no $tool; apt-get install cmake qemu-user g++-aarch64-linux-gnu" >&2
    exit 1
  }
done
host=build/neon-host
arm=build/neon-arm
cmake -S . -B "$host" -DS2S_TESTS=ON > /dev/null
cmake -S . -B "$arm" -DS2S_TESTS=ON -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake > /dev/null
cmake --build "$host" --parallel 2 --target bits > /dev/null
cmake --build "$arm" --parallel 2 > /dev/null
run() { qemu-aarch64 -L /usr/aarch64-linux-gnu "$@"; }

ctest --test-dir "$arm" --output-on-failure

# Detection: a Cortex-A72 has no dot product, qemu's default processor has.
test "$(run "$arm/bits" | tr '\n' ' ')" = "portable neon neon_dot "
test "$(run -cpu cortex-a72 "$arm/bits" | tr '\n' ' ')" = "portable neon "

cases=200
models="s2s_engine/data/g2p.safetensors tests/data/format-1.safetensors"
"$host/bits" portable $cases $models > "$arm/expected.txt"
"$host/bits" "$("$host/bits" | tail -1)" $cases $models | cmp - "$arm/expected.txt"
for isa in portable neon neon_dot; do
  run "$arm/bits" $isa $cases $models > "$arm/$isa.txt"
  cmp "$arm/$isa.txt" "$arm/expected.txt"
  echo "$isa: $(wc -l < "$arm/$isa.txt") results with the bits of $(uname -m)"
done
