// A session made ready for its largest decode: one that takes every row and every step it may. What
// depends on what a decode finds is reserved by the search.
#include <algorithm>

#include "engine/busy.h"
#include "engine/session.h"

namespace s2s {

void Session::warm_up(int64_t source_length, int32_t sentences, DecodeRequest request,
                      int32_t max_length) {
  if (request.rules.sampling.on)
    request.beam_size = std::max(request.beam_size, request.num_hypotheses);
  request.num_hypotheses = request.beam_size;
  request.alignment = plan_.alignment.slot >= 0;
  request.rules.min_length = max_length + 1;  // so that no hypothesis ends before the maximum
  request.rules.sampling = {};
  request.rules.constraints = nullptr;
  request.rules.exact = false;

  int64_t width = 1;
  for (const PlanInput& input : plan_.inputs) width = std::max(width, input.type.size);
  const auto length = static_cast<std::size_t>(source_length);
  const std::vector<int32_t> ids(length);
  const std::vector<float> features(length * static_cast<std::size_t>(width));
  std::vector<SourceInput> source;
  for (const PlanInput& input : plan_.inputs) {
    const bool sequence = input.type.kind == Kind::ids || input.type.kind == Kind::sequence;
    const bool integers = input.type.kind == Kind::ids || input.type.kind == Kind::id;
    source.push_back({integers ? ids.data() : nullptr, integers ? nullptr : features.data(),
                      sequence ? source_length : 1});
  }
  const auto count = static_cast<std::size_t>(sentences);
  const std::vector<Source> sources(count, source);
  if (!plan_.has_decoder) {
    const Busy busy(*this);
    begin(sources, 0);
    return;
  }
  const std::vector<std::span<const int32_t>> prompts(plan_.inputs.empty() ? count : 0, ids);
  const std::vector<int32_t> max_lengths(count, max_length);
  {
    const Busy busy(*this);
    fill(options_, request, prompts);
    search_.reserve(options_, model_->vocabulary(), max_lengths);
  }
  decode(sources, request, max_lengths, prompts);
}

}  // namespace s2s
