// How long a product takes here, for the choice of compute types, and the parts of a decode, for
// benchmarks. The one place of the engine that reads a clock: deadlines are its callers'.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "ops/op.h"

namespace s2s {

// Seconds of the fastest of several products of `rows` rows with a row-major weight kept in `type`.
// `isa` as kernels_for() takes it.
double time_product(const float* weight, int64_t outputs, int64_t depth, ComputeType type,
                    int64_t rows, const std::string& isa);

// Where the seconds of one decode go. All of them are in one of these, but those of reading the
// clock, which are taken off.
struct Profile {
  struct Node {
    std::string name;  // graph.node; what the plan adds has a name with a comma
    bool step;         // of all steps, else of what is made once a sentence
    double seconds;
  };
  std::vector<Node> nodes;  // in the order in which they run; a screened output layer is the last
  int64_t steps = 0;
  double begin = 0.0;   // sources are checked and copied
  double states = 0.0;  // rows find their places, states move to the hypotheses that go on
  double rank = 0.0;    // log-softmax and the best candidates of each row
  double search = 0.0;  // all that is left: choosing, history, results
  double clock = 0.0;   // of one read
  const SearchResults* results = nullptr;  // what was decoded, until the session's next call
};

// Decodes sources together, with a clock read behind every operation. The screening of an output
// layer, what it ranks and what it normalises later are that layer's. Seconds are the calling
// thread's, a team's within them. No exact search.
Profile profile(Session& session, std::span<const Source> sources, const DecodeRequest& request,
                std::span<const int32_t> max_lengths);

}  // namespace s2s
