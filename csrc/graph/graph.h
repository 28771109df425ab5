// Graphs as they were read: plain data that nothing has checked yet.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ops/op.h"

namespace s2s {

struct GraphSpec;

struct NodeSpec {
  std::string name;
  std::string op;
  std::map<std::string, std::vector<std::string>> inputs;  // references by role
  std::map<std::string, std::string> weights;              // tensor names by role
  std::map<std::string, Attribute> attributes;
  std::shared_ptr<const GraphSpec> body;  // of a scan
};

struct StateSpec {
  ValueType type;
  std::string initial;  // empty: zeros
  std::string next;
};

struct InputSpec {
  std::string name;
  ValueType type;
};

struct GraphSpec {
  std::vector<InputSpec> inputs;
  std::vector<std::pair<std::string, StateSpec>> states;
  std::vector<NodeSpec> nodes;
  std::vector<std::pair<std::string, std::string>> outputs;
};

inline constexpr int64_t kFoldBytes = 256;

struct ModelSpec {
  std::optional<GraphSpec> encoder;
  std::optional<GraphSpec> decoder;
  std::map<std::string, Tensor> tensors;
  int64_t fold_bytes = kFoldBytes;  // graph/folding.h
  // Output layers of at least so many bytes of weights are screened in int8 (ops/screened.h).
  int64_t screen_from = kScreenFrom;
  static constexpr int64_t kScreenFrom = int64_t{1} << 23;
};

}  // namespace s2s
