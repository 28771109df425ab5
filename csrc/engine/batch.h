// Many sentences: sorted by length, cut into batches whose live rows share each step, batches
// handed to threads. What comes out does not depend on any of this.
#pragma once

#include <span>
#include <vector>

#include "engine/session.h"

namespace s2s {

using Hypotheses = std::vector<Hypothesis>;

// Decodes `sources` with one thread per session (and its team), at most `batch_size` sentences in a
// step. Results are in the order of the sources. Throws what the first failing batch threw.
std::vector<Hypotheses> decode_batch(std::span<Session* const> sessions,
                                     std::span<const Source> sources, const DecodeRequest& request,
                                     std::span<const int32_t> max_lengths, int32_t batch_size,
                                     Prompts prompts = {});

}  // namespace s2s
