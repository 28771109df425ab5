#include "graph/readers.h"

#include <algorithm>

namespace s2s {

int64_t readers(const GraphSpec& graph, const std::string& reference) {
  int64_t count = 0;
  for (const NodeSpec& node : graph.nodes) {
    for (const auto& [role, references] : node.inputs)
      count += std::count(references.begin(), references.end(), reference);
    if (node.body != nullptr) count += readers(*node.body, "outer." + reference);
  }
  for (const auto& [name, state] : graph.states) count += state.next == reference;
  for (const auto& [name, output] : graph.outputs) count += output == reference;
  return count;
}

std::string output_layer(const GraphSpec& decoder) {
  for (const auto& [name, reference] : decoder.outputs)
    if (name == "logits" && readers(decoder, reference) == 1) return reference;
  return "";
}

}  // namespace s2s
