// How long a product takes here, for the choice of compute types. The one place that reads a clock.
#pragma once

#include <string>

#include "ops/op.h"

namespace s2s {

// Seconds of the fastest of several products of `rows` rows with a row-major weight kept in `type`.
// `isa` as kernels_for() takes it.
double time_product(const float* weight, int64_t outputs, int64_t depth, ComputeType type,
                    int64_t rows, const std::string& isa);

}  // namespace s2s
