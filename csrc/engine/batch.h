// Sentences that share every step while each is where it is: one leaves as soon as it has ended,
// others join. What comes out of a sentence does not depend on its company.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <vector>

#include "engine/session.h"

namespace s2s {

class Batch {
 public:
  // A sentence that has left the batch: its hypotheses, or what went wrong with it.
  struct Left {
    int64_t key = 0;
    std::vector<Hypothesis> hypotheses;
    std::exception_ptr failure;
  };
  // One that wants to join; a prompt is for models without an encoder, constraints stand in place
  // of the request's.
  struct Sentence {
    int64_t key = 0;
    Source source;
    int32_t max_length = 1;
    std::span<const int32_t> prompt;
    std::shared_ptr<const Constraints> constraints;
  };

  // Until it is destroyed, the session is for this batch alone.
  Batch(Session& session, const DecodeRequest& request);
  ~Batch();
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // Sentences that are under way.
  int32_t live() const noexcept { return live_; }
  // Encodes these together; their rows are in the next step. Throws Error(input) where they do not
  // fit into memory: nothing has changed then.
  void join(std::span<const Sentence> sentences, Interruption* interruption = nullptr);
  // Steps until a sentence leaves, none is under way, or the call is interrupted; at most `steps`.
  void run(int64_t steps, Interruption* interruption = nullptr);
  // All sentences leave with what they have.
  void interrupt();
  // Those that have left since the last time.
  std::vector<Left> take();
  // What the sentence that joined first begins with for certain.
  void certain(std::vector<int32_t>& ids) const;

 private:
  struct Member;
  class Part;

  int32_t rows_each() const noexcept;  // of a sentence in a step, at most
  void add(const Sentence& sentence);
  void make_room(std::span<const Source> sources, Interruption* interruption);
  void gather(const std::vector<int32_t>& kept, const std::vector<int64_t>& lengths);
  void step();
  void leave(Member& member, std::exception_ptr failure);

  Session& session_;
  DecodeRequest request_;
  std::unique_ptr<Session> joining_;              // encodes those that join others
  std::vector<std::unique_ptr<Member>> members_;  // in the order of the session's sentences
  std::vector<std::unique_ptr<Member>> unused_;
  std::vector<StepRow> rows_;
  std::vector<Left> left_;
  SearchResults results_;
  int32_t live_ = 0;
};

}  // namespace s2s
