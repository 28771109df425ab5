// The kernel source of every instruction set: included inside an anonymous namespace, after a
// vector header, so that no two levels share a symbol.
// Each file uses those before it.
// clang-format off
#include "lanes.inl"
#include "math.inl"
#include "tiles.inl"
#include "quantised.inl"
#include "linear.inl"
#include "elementwise.inl"
#include "reduce.inl"
#include "top_k.inl"
#include "cells.inl"
#include "layer_norm.inl"
#include "attention.inl"
#include "enclose.inl"
// clang-format on

constexpr Kernels make_table(const char* isa) {
  return {isa,         kByteOffset, linear,    quantise,   copy,       binary,
          interpolate, map,         softmax,   pool,       lstm_gates, gru_gates,
          gru_reset,   layer_norm,  attention, normaliser, top_k,      enclose};
}
