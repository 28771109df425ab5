// How long a product takes here, for the choice of compute types, and the steps of a decode, for
// benchmarks. The one place of the engine that reads a clock: deadlines are its callers'.
#pragma once

#include <cstdint>
#include <string>

#include "engine/session.h"
#include "ops/op.h"

namespace s2s {

// Seconds of the fastest of several products of `rows` rows with a row-major weight kept in `type`.
// `isa` as kernels_for() takes it.
double time_product(const float* weight, int64_t outputs, int64_t depth, ComputeType type,
                    int64_t rows, const std::string& isa);

// Where the seconds of one decode's steps go; encoding is none of them.
struct StepTimes {
  int64_t steps = 0;
  double graph = 0.0;   // the operations of the step
  double states = 0.0;  // rows find their places, states move to the hypotheses that go on
  double rank = 0.0;    // log-softmax and the best candidates of each row
  double search = 0.0;  // all that is left: choosing, history, results
};

// Decodes one source with a clock around these parts, each read costing some 20 ns.
StepTimes time_steps(Session& session, Source source, const DecodeRequest& request,
                     int32_t max_length);

}  // namespace s2s
