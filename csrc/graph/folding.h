// What a step need not multiply: W sum_j(a_j m_j) is sum_j(a_j W m_j), and q W k_j is q (W k_j).
// The second products are made once a sentence. Decided by shapes and compute types alone, so that
// bits depend on nothing else; knows operations and levels, never their kernels.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "graph/graph.h"

namespace s2s {

// One operation of a plan in the making.
struct Step {
  std::unique_ptr<Op> op;
  Level level;
  std::vector<SlotId> reads;
  std::vector<SlotId> writes;
  std::string node;  // graph.node that it belongs to
};

class Folding {
 public:
  // `fold_bytes`: what the weights of one output must take at least to be folded.
  Folding(Layout& layout, std::vector<Step>& steps, int64_t fold_bytes)
      : layout_(layout), steps_(steps), least_bytes_(fold_bytes) {}

  // A source of features (frames, columns of an image) is much longer than what is made of it:
  // every position would be multiplied for few steps.
  void stop() { stopped_ = true; }
  // Before a node of the decoder is made: takes contexts out of what a product joins, and a product
  // out of what an attention asks with. Gives the references that were folded.
  std::vector<std::string> fold(const NodeSpec& node, const GraphSpec& graph, Call& call);
  // After it: what later nodes may fold.
  void remember(const NodeSpec& node, const Call& call, const Made& made);
  // Tells, of tensors that were taken apart, that they are multiplied.
  void report();

 private:
  struct Attended {
    Attending* attention;
    Value values;
  };
  struct Factor {
    Tensor weight;
    Value x;
  };
  bool pays(const Tensor& weight, int64_t size) const;
  void fold_contexts(const NodeSpec& node, Call& call, std::vector<std::string>& folded);
  void fold_query(const NodeSpec& node, const GraphSpec& graph, Call& call,
                  std::vector<std::string>& folded);
  Value context_of(const Attended& attended, const Tensor& columns, const std::string& node);
  Value product_of(const Value& values, const Tensor& weight, const std::string& node,
                   std::vector<Step>::iterator before);
  Tensor kept(const Tensor& whole, std::vector<int64_t> shape, Memory numbers);

  Layout& layout_;
  std::vector<Step>& steps_;
  int64_t least_bytes_;
  bool stopped_ = false;
  std::map<SlotId, Attended> contexts_;
  std::map<SlotId, Factor> factors_;
  std::deque<Memory> numbers_;                  // of parts, until they are packed
  std::map<const float*, const float*> whole_;  // the tensor that a part is of
};

}  // namespace s2s
