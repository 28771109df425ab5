// Who reads a value of a graph. Knows names alone.
#pragma once

#include <cstdint>
#include <string>

#include "graph/graph.h"

namespace s2s {

// How often a value is read, in the bodies of scans, too.
int64_t readers(const GraphSpec& graph, const std::string& reference);

// The node that makes a decoder's logits; empty where something else reads it, too.
std::string output_layer(const GraphSpec& decoder);

}  // namespace s2s
