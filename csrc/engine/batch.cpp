#include "engine/batch.h"

#include <algorithm>
#include <exception>
#include <numeric>

#include "core/team.h"

namespace s2s {
namespace {

int64_t length_of(const Source& source) {
  int64_t length = 0;
  for (const SourceInput& input : source) length = std::max(length, input.length);
  return length;
}

}  // namespace

std::vector<Hypotheses> decode_batch(std::span<Session* const> sessions,
                                     std::span<const Source> sources, const DecodeRequest& request,
                                     std::span<const int32_t> max_lengths, int32_t batch_size,
                                     Prompts prompts) {
  std::vector<std::size_t> order(sources.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return length_of(sources[a]) > length_of(sources[b]);
  });
  const auto size = static_cast<std::size_t>(batch_size);
  const std::size_t batches = (sources.size() + size - 1) / size;
  std::vector<Hypotheses> results(sources.size());
  std::vector<std::exception_ptr> failures(batches);
  const auto run = [&](std::size_t batch, Session& session) {
    const std::size_t first = batch * size, last = std::min(first + size, sources.size());
    std::vector<Source> inputs;
    std::vector<int32_t> limits;
    std::vector<std::span<const int32_t>> leads;
    for (std::size_t n = first; n < last; ++n) {
      inputs.push_back(sources[order[n]]);
      limits.push_back(max_lengths[order[n]]);
      if (!prompts.empty()) leads.push_back(prompts[order[n]]);
    }
    const SearchResults& found = session.decode(inputs, request, limits, leads);
    for (std::size_t n = first; n < last; ++n) {
      const auto hypotheses = found.sentence(static_cast<int32_t>(n - first));
      results[order[n]].assign(hypotheses.begin(), hypotheses.end());
    }
  };
  Team team(static_cast<int>(sessions.size()));
  team.run(static_cast<int64_t>(batches), team.threads(), [&](int64_t batch, int member) noexcept {
    const auto b = static_cast<std::size_t>(batch);
    try {
      run(b, *sessions[static_cast<std::size_t>(member)]);
    } catch (...) {
      failures[b] = std::current_exception();
    }
  });
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return results;
}

}  // namespace s2s
