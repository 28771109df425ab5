#include "search/history.h"

#include <algorithm>
#include <cstddef>
#include <span>

#include "core/power.h"

namespace s2s {

void History::clear(bool alignment) {
  links_.clear();
  weights_.clear();
  begins_.assign(1, 0);
  step_row_ = 0;
  next_row_ = 0;
  alignment_ = alignment;
}

void History::begin_step(const StepModel& model, int32_t rows) {
  step_row_ = next_row_;
  next_row_ += rows;
  if (!alignment_) return;
  for (int32_t row = 0; row < rows; ++row) {
    const std::span<const float> weights = model.alignment(row);
    weights_.insert(weights_.end(), weights.begin(), weights.end());
    begins_.push_back(static_cast<int64_t>(weights_.size()));
  }
}

int32_t History::add(int32_t parent, int32_t row, Candidate token) {
  links_.push_back({token.id, parent, token.value, step_row_ + row});
  return static_cast<int32_t>(links_.size()) - 1;
}

void History::settle(std::span<const LogSoftmax> steps) noexcept {
  for (Link& link : links_) link.log_prob = steps[static_cast<size_t>(link.row)](link.log_prob);
}

double History::log_prob(int32_t link) {
  path_.clear();
  for (; link >= 0; link = links_[link].parent) path_.push_back(link);
  double sum = 0.0;
  for (size_t i = path_.size(); i-- > 0;) sum += links_[path_[i]].log_prob;
  return sum;
}

int32_t History::length(int32_t link) const noexcept {
  int32_t count = 0;
  for (; link >= 0; link = links_[link].parent) ++count;
  return count;
}

void History::append_ids(int32_t link, std::vector<int32_t>& ids) const {
  const auto first = static_cast<std::ptrdiff_t>(ids.size());
  for (; link >= 0; link = links_[link].parent) ids.push_back(links_[link].token);
  std::reverse(ids.begin() + first, ids.end());
}

double History::coverage(int32_t link, int32_t heads) {
  path_.clear();
  for (; link >= 0; link = links_[link].parent) path_.push_back(links_[link].row);
  covered_.clear();
  for (size_t j = path_.size(); j-- > 0;) {
    const int64_t begin = begins_[path_[j]], end = begins_[path_[j] + 1];
    covered_.resize(static_cast<size_t>((end - begin) / heads));
    const float* weights = weights_.data() + begin;
    for (double& sum : covered_) {
      double weight = 0.0;
      for (int32_t head = 0; head < heads; ++head) weight += *weights++;
      sum += weight / heads;
    }
  }
  double total = 0.0;
  for (const double sum : covered_) total += logarithm(std::clamp(sum, 0x1p-126, 1.0)).high;
  return total;
}

void History::read(int32_t link, int32_t length, FinishReason reason, bool alignment,
                   Hypothesis& hypothesis) const {
  const int32_t id_count = length - (reason == FinishReason::eos && length > 0 ? 1 : 0);
  hypothesis.ids.resize(static_cast<size_t>(id_count));
  hypothesis.token_log_probs.resize(static_cast<size_t>(length));
  hypothesis.reason = reason;
  int32_t at = link;
  for (int32_t i = length - 1; i >= 0; --i) {
    const Link& token = links_[at];
    if (i < id_count) hypothesis.ids[i] = token.token;
    hypothesis.token_log_probs[i] = token.log_prob;
    at = token.parent;
  }
  hypothesis.alignment.clear();
  if (alignment) read_alignment(link, length, hypothesis.alignment);
}

void History::read_common(std::span<End> ends, std::vector<int32_t>& ids) const {
  int32_t length = ends.empty() ? 0 : ends.front().length;
  for (const End& end : ends) length = std::min(length, end.length);
  for (End& end : ends)
    for (; end.length > length; --end.length) end.link = links_[end.link].parent;
  const auto differ = [&] {
    return std::any_of(ends.begin(), ends.end(),
                       [&](const End& end) { return end.link != ends.front().link; });
  };
  for (; length > 0 && differ(); --length)
    for (End& end : ends) end.link = links_[end.link].parent;
  ids.resize(static_cast<size_t>(length));
  int32_t at = length > 0 ? ends.front().link : -1;
  for (int32_t i = length - 1; i >= 0; --i, at = links_[at].parent) ids[i] = links_[at].token;
}

void History::read_alignment(int32_t link, int32_t length, std::vector<float>& alignment) const {
  if (!alignment_ || length == 0) return;
  // every row of a sentence has the same number of source positions
  const int32_t last = links_[link].row;
  const int64_t positions = begins_[last + 1] - begins_[last];
  alignment.resize(static_cast<size_t>(length * positions));
  for (int32_t i = length - 1; i >= 0; --i) {
    const Link& token = links_[link];
    std::copy_n(weights_.data() + begins_[token.row], positions, alignment.data() + i * positions);
    link = token.parent;
  }
}

}  // namespace s2s
