// What the ids of a hypothesis may be: what a caller forces, forbids and allows.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace s2s {

// A deterministic automaton over ids without end tokens. Arcs of a state are sorted by their id.
struct Automaton {
  static constexpr int32_t kNowhere = -1;

  std::vector<int32_t> begins;  // [states + 1], where each state's arcs begin
  std::vector<int32_t> tokens;  // [arcs]
  std::vector<int32_t> targets;
  std::vector<uint8_t> final;  // [states], where an end token may follow
  int32_t start = 0;

  // The ids that continue `state`; none from nowhere.
  std::span<const int32_t> arcs(int32_t state) const noexcept;
  int32_t next(int32_t state, int32_t token) const noexcept;
  bool may_end(int32_t state) const noexcept { return state != kNowhere && final[state] != 0; }
};

// Fills `allowed` with the ids that may follow `ids`, end tokens among them.
using Continuations =
    std::function<void(std::span<const int32_t> ids, std::vector<int32_t>& allowed)>;

struct Constraints {
  std::vector<int32_t> prefix;              // what every hypothesis begins with, whatever the rest
  std::optional<std::vector<int32_t>> end;  // end tokens in place of the model's
  std::vector<int32_t> suppressed;          // never generated
  float repetition_penalty = 1.0F;          // logits of generated ids: x / p above 0, x * p below
  int32_t no_repeat_ngram_size = 0;         // no n-gram of generated ids twice; 0: any
  std::shared_ptr<const Automaton> automaton;
  Continuations continuations;

  bool filters() const noexcept;
  bool reads_ids() const noexcept {
    return repetition_penalty != 1.0F || no_repeat_ngram_size > 0 || continuations;
  }
};

// Sets to -inf every id that would complete an n-gram which `ids` hold already.
void block_ngrams(std::span<const int32_t> ids, int32_t size, std::span<float> logits) noexcept;

}  // namespace s2s
