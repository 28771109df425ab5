#include "engine/frames.h"

#include <utility>

#include "core/errors.h"

namespace s2s {

Frames::Frames(const Plan& plan)
    : lengths_(plan.lengths),
      row_maps_needed_(plan.row_maps),
      sentence_maps_(plan.lengths.size()),
      row_maps_(plan.lengths.size()),
      sentence_positions_(plan.lengths.size()),
      row_positions_(plan.lengths.size()) {}

void Frames::start(std::span<const int64_t> source_lengths) {
  for (std::size_t length = 0; length < lengths_.size(); ++length)
    start_length(source_lengths, length);
  sentences_ = {static_cast<int32_t>(source_lengths.size()), sentence_positions_.data(), nullptr,
                nullptr};
}

void Frames::start_length(std::span<const int64_t> source_lengths, std::size_t length) {
  Maps& maps = sentence_maps_[length];
  const auto [a, b] = lengths_[length];
  maps.offsets.assign(1, 0);
  maps.item.clear();
  for (std::size_t item = 0; item < source_lengths.size(); ++item) {
    const int64_t end = maps.offsets.back() + a * source_lengths[item] + b;
    if (end > INT32_MAX)
      throw Error(ErrorKind::input_too_long, "the batch has more than 2^31 positions");
    maps.offsets.push_back(static_cast<int32_t>(end));
    maps.item.resize(static_cast<std::size_t>(end), static_cast<int32_t>(item));
  }
  sentence_positions_[length] = {maps.offsets.back(), maps.offsets.data(), maps.item.data(),
                                 nullptr, nullptr};
}

void Frames::step(std::span<const StepRow> rows) {
  sentence_of_row_.clear();
  steps_.clear();
  for (const StepRow& row : rows) {
    sentence_of_row_.push_back(row.sentence);
    steps_.push_back(row.step);
  }
  for (std::size_t length = 0; length < lengths_.size(); ++length) step_length(rows, length);
  rows_ = {static_cast<int32_t>(rows.size()), row_positions_.data(), sentence_of_row_.data(),
           steps_.data()};
}

void Frames::step_length(std::span<const StepRow> rows, std::size_t length) {
  Maps& maps = row_maps_[length];
  const std::vector<int32_t>& of_sentence = sentence_maps_[length].offsets;
  std::swap(maps.offsets, maps.before);
  maps.offsets.assign(1, 0);
  for (const StepRow& row : rows) {
    const auto s = static_cast<std::size_t>(row.sentence);
    maps.offsets.push_back(maps.offsets.back() + of_sentence[s + 1] - of_sentence[s]);
  }
  row_positions_[length] = {maps.offsets.back(), maps.offsets.data(), nullptr, nullptr, nullptr};
  if (!row_maps_needed_) return;
  maps.item.clear();
  maps.sentence.clear();
  maps.sentence_position.clear();
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const auto s = static_cast<std::size_t>(rows[r].sentence);
    for (int32_t p = of_sentence[s]; p < of_sentence[s + 1]; ++p) {
      maps.item.push_back(static_cast<int32_t>(r));
      maps.sentence.push_back(rows[r].sentence);
      maps.sentence_position.push_back(p);
    }
  }
  row_positions_[length].item = maps.item.data();
  row_positions_[length].sentence = maps.sentence.data();
  row_positions_[length].sentence_position = maps.sentence_position.data();
}

int32_t Frames::source_length(int32_t sentence) const noexcept {
  const std::vector<int32_t>& offsets = sentence_maps_[kSource].offsets;
  const auto s = static_cast<std::size_t>(sentence);
  return offsets[s + 1] - offsets[s];
}

}  // namespace s2s
