#include "engine/batch.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/busy.h"

namespace s2s {

// A sentence under way, or one that has left and still has its place among the session's.
struct Batch::Member {
  int64_t key = 0;
  int64_t length = 0;
  bool live = false;
  int32_t first = 0;  // its rows in the step before
  int32_t rows = 0;   // in this step
  std::vector<int32_t> prompt;
  std::span<const int32_t> prompt_view;
  SearchOptions options;
  Search search;
};

// The rows of one member as its search sees them: a model that has just made their step; of one
// row that is `alone`, all but the logits.
class Batch::Part final : public StepModel {
 public:
  Part(Session& session, int32_t first, bool alone = false)
      : session_(session), first_(first), alone_(alone) {}
  int32_t vocabulary() const noexcept override { return session_.vocabulary(); }
  void step(std::span<const StepRow> rows, StepScores& scores) override {
    if (alone_) return session_.screen(rows, scores);
    session_.rank(rows, static_cast<std::size_t>(first_), scores);
    if (scores.deferred) session_.screening_.computed();
  }
  bool defers() const noexcept override { return session_.defers(); }
  std::span<const LogSoftmax> settle() override { return session_.settle(); }
  std::span<const float> alignment(int32_t row) const noexcept override {
    return session_.alignment(first_ + row);
  }
  int32_t heads() const noexcept override { return session_.heads(); }

 private:
  Session& session_;
  int32_t first_;
  bool alone_;
};

namespace {

int64_t positions_of(const Plan& plan, Along along, int64_t source_length) {
  if (along == kItems) return 1;
  const auto [a, b] = plan.lengths[static_cast<std::size_t>(along)];
  return a * source_length + b;
}

// Floats that one sentence of this source length has in a slot.
std::size_t block(const Plan& plan, const Slot& slot, int64_t source_length) {
  return static_cast<std::size_t>(positions_of(plan, slot.along, source_length) *
                                  positions_of(plan, slot.across, source_length) * slot.width);
}

}  // namespace

Batch::Batch(Session& session, const DecodeRequest& request)
    : session_(session), request_(request) {}

Batch::~Batch() = default;

int32_t Batch::rows_each() const noexcept {
  return rows_of_sentence(request_.rules, request_.beam_size, request_.num_hypotheses);
}

void Batch::join(std::span<const Sentence> sentences, Interruption* interruption) {
  const Session::Busy busy(session_, interruption);
  std::vector<Source> sources;
  for (const Sentence& sentence : sentences) sources.push_back(sentence.source);
  make_room(sources, interruption);
  const bool alone = live_ == 0 && sentences.size() == 1;
  for (const Sentence& sentence : sentences) add(sentence);
  if (alone) members_.back()->search.defer(Part(session_, 0), members_.back()->options);
}

// The first sentences are encoded where they stay. Later ones are encoded apart; then those that
// are still under way close up, and the new ones stand behind them.
void Batch::make_room(std::span<const Source> sources, Interruption* interruption) {
  if (live_ == 0) {
    session_.begin(sources, rows_each());
    while (!members_.empty()) {
      unused_.push_back(std::move(members_.back()));
      members_.pop_back();
    }
    return;
  }
  if (!joining_)
    joining_ = std::make_unique<Session>(session_.model_, session_.isa(), session_.threads(),
                                         session_.member_bytes_, session_.max_bytes());
  const Session::Busy busy(*joining_, interruption);
  joining_->begin(sources, 0);
  std::vector<int32_t> kept;
  std::vector<int64_t> lengths;
  Counts counts;
  const auto count = [&](int64_t length) {
    lengths.push_back(length);
    const auto n = static_cast<double>(length);
    counts = {counts.items + 1, counts.positions + n, counts.squares + n * n};
  };
  for (std::size_t m = 0; m < members_.size(); ++m) {
    if (!members_[m]->live) continue;
    kept.push_back(static_cast<int32_t>(m));
    count(members_[m]->length);
  }
  for (const Source& source : sources) count(session_.length_of(source));
  const double beam = rows_each();
  session_.workspace_.reserve(
      {counts, {counts.items * beam, counts.positions * beam, counts.squares * beam}}, true);
  gather(kept, lengths);
  session_.frames_.start(lengths);
}

void Batch::gather(const std::vector<int32_t>& kept, const std::vector<int64_t>& lengths) {
  const Plan& plan = session_.plan_;
  for (const SlotId id : plan.kept) {
    const Slot& slot = plan.slots[static_cast<std::size_t>(id)];
    float* to = session_.workspace_.floats(id);
    const float* from = to;
    std::size_t next = 0;
    for (std::size_t m = 0; m < members_.size(); ++m) {
      const std::size_t size = block(plan, slot, members_[m]->length);
      if (next < kept.size() && kept[next] == static_cast<int32_t>(m)) {
        std::memmove(to, from, size * sizeof(float));
        to += size;
        ++next;
      }
      from += size;
    }
    std::size_t size = 0;
    for (std::size_t n = kept.size(); n < lengths.size(); ++n)
      size += block(plan, slot, lengths[n]);
    std::memcpy(to, joining_->workspace_.floats(id), size * sizeof(float));
  }
  std::vector<std::unique_ptr<Member>> members;
  for (const int32_t m : kept) members.push_back(std::move(members_[static_cast<std::size_t>(m)]));
  for (std::unique_ptr<Member>& member : members_)
    if (member) unused_.push_back(std::move(member));
  members_ = std::move(members);
}

void Batch::add(const Sentence& sentence) {
  if (unused_.empty()) unused_.push_back(std::make_unique<Member>());
  std::unique_ptr<Member> member = std::move(unused_.back());
  unused_.pop_back();
  member->key = sentence.key;
  member->length = session_.length_of(sentence.source);
  member->live = true;
  member->first = 0;
  member->rows = 0;
  member->prompt.assign(sentence.prompt.begin(), sentence.prompt.end());
  member->prompt_view = member->prompt;
  const bool prompted = session_.plan_.inputs.empty();
  DecodeRequest request = request_;
  if (sentence.constraints) request.rules.constraints = sentence.constraints;
  session_.fill(member->options, request, prompted ? Prompts{&member->prompt_view, 1} : Prompts{});
  member->search.open(member->options, session_.vocabulary(), {&sentence.max_length, 1});
  members_.push_back(std::move(member));
  ++live_;
}

void Batch::run(int64_t steps, Interruption* interruption) {
  const Session::Busy busy(session_, interruption);
  for (; steps > 0 && live_ > 0 && left_.empty() && !session_.interrupted(); --steps) step();
}

void Batch::step() {
  rows_.clear();
  for (std::size_t m = 0; m < members_.size(); ++m) {
    Member& member = *members_[m];
    member.rows = 0;
    if (!member.live) continue;
    try {
      for (const StepRow& row : member.search.rows()) session_.check_step(row);
    } catch (...) {
      leave(member, std::current_exception());
      continue;
    }
    const auto first = static_cast<int32_t>(rows_.size());
    for (StepRow row : member.search.rows()) {
      if (row.parent >= 0) row.parent += member.first;
      row.sentence = static_cast<int32_t>(m);
      rows_.push_back(row);
    }
    member.first = first;
    member.rows = static_cast<int32_t>(rows_.size()) - first;
  }
  if (rows_.empty()) return;
  session_.options_.alignment = request_.alignment;
  session_.options_.rules.coverage = request_.rules.coverage;
  const bool alone = live_ == 1 && rows_.size() == 1 &&
                     members_[static_cast<std::size_t>(rows_.front().sentence)]->search.deferred();
  if (alone)
    session_.run_inputs(rows_);
  else
    session_.run_step(rows_);
  for (const std::unique_ptr<Member>& member : members_) {
    if (member->rows == 0) continue;
    Part part(session_, member->first, alone);
    try {
      member->search.proceed(part, member->options);
      if (!member->search.live()) leave(*member, nullptr);
    } catch (...) {
      leave(*member, std::current_exception());
    }
  }
}

void Batch::leave(Member& member, std::exception_ptr failure) {
  Left& left = left_.emplace_back();
  left.key = member.key;
  left.failure = std::move(failure);
  member.live = false;
  --live_;
  try {
    if (!left.failure) {
      results_.reset(1, request_.num_hypotheses);
      Part part(session_, member.first);
      member.search.settle(part, member.options);
      member.search.close(member.options, results_);
      const std::span<const Hypothesis> found = results_.sentence(0);
      left.hypotheses.assign(found.begin(), found.end());
    }
  } catch (...) {
    left.failure = std::current_exception();
  }
  member.options.rules.constraints.reset();
}

void Batch::interrupt() {
  const Session::Busy busy(session_);
  for (const std::unique_ptr<Member>& member : members_) {
    if (!member->live) continue;
    member->search.interrupt(member->options);
    leave(*member, nullptr);
  }
}

std::vector<Batch::Left> Batch::take() { return std::exchange(left_, {}); }

void Batch::certain(std::vector<int32_t>& ids) const {
  const Member& only = *members_.front();
  only.search.certain(only.options, 0, ids);
}

}  // namespace s2s
