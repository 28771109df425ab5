// An immutable model: its plan and the rules of its target. Shared by any number of sessions.
#pragma once

#include <memory>
#include <vector>

#include "graph/plan.h"

namespace s2s {

struct TargetRule {
  int32_t start = -1;  // -1: "none"
  std::vector<int32_t> end;
};

class Model {
 public:
  // Checks everything again. Tensors are copied into packed form; nothing of `spec` is kept.
  Model(const ModelSpec& spec, TargetRule target);

  const Plan& plan() const noexcept { return plan_; }
  const TargetRule& target() const noexcept { return target_; }
  int64_t vocabulary() const noexcept { return plan_.logits.type.size; }

 private:
  Plan plan_;
  TargetRule target_;
};

}  // namespace s2s
