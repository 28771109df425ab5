// What an engine is made of for callers without Python: a model, the rules of its calls. Knows the
// engine floor; never who hands it over.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/session.h"

namespace s2s {

// The source rule of a model file, applied in the order of the fields.
struct SourceRule {
  std::vector<int32_t> prepend, append;
  int64_t truncate = 0;         // 0: nothing is cut
  std::vector<int64_t> pad_to;  // the first that is not shorter; empty: none
  bool pad_left = false;
  int32_t pad_id = 0;
  bool reverse = false;

  // Sources stay as they are.
  bool nothing() const noexcept {
    return prepend.empty() && append.empty() && truncate == 0 && pad_to.empty() && !reverse;
  }
  // Appends the prepared ids of a source to `out`.
  void prepare(const int32_t* ids, int64_t length, std::vector<int32_t>& out) const;
};

// A prepared source of length S may generate numerator * S / denominator + addend ids, rounded
// down, and not above `most`.
struct LengthRule {
  int32_t numerator = 0;
  int32_t denominator = 1;
  int32_t addend = 256;
  int32_t most = INT32_MAX;
};

struct Handover {
  std::shared_ptr<const Model> model;
  std::string isa;
  int threads = 1;
  int64_t max_bytes = Workspace::kMaxBytes;
  int64_t max_input_length = 0;
  SourceRule source;
  LengthRule max_length;
  DecodeRequest request;
  double timeout = std::numeric_limits<double>::infinity();  // seconds
};

}  // namespace s2s
