// The plan of a model: its graphs checked and made ready, operation by operation, over one table of
// slots. Decoder nodes that depend on the encoder alone run once per sentence; what nobody reads
// does not run. A plan depends on graphs and shapes only: never on ISA, threads, batch or step.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "ops/screened.h"

namespace s2s {

// What the caller hands in for each sentence.
struct PlanInput {
  std::string name;
  ValueType type;
  SlotId slot = -1;
};

// A state: rows of `next` move into `slot` between two steps; a sentence starts from `initial`.
struct PlanState {
  SlotId slot = -1;
  SlotId next = -1;
  SlotId initial = -1;  // -1: zeros
  int64_t width = 0;
  Along along = kItems;
};

struct PlanOutput {
  std::string name;
  Value value;
};

struct Plan {
  std::vector<Slot> slots;
  std::vector<Length> lengths;
  std::vector<std::unique_ptr<Op>> sentence_ops;
  std::vector<std::unique_ptr<Op>> row_ops;
  std::vector<std::unique_ptr<Op>> fixed_ops;  // keep the data of constants
  std::map<const Op*, std::string> nodes;      // what each belongs to, as graph.node
  // What makes the logits, behind row_ops, where it is large enough to be screened.
  std::unique_ptr<ScreenedLinear> screened;
  std::string screened_weight;     // its tensor
  std::size_t screened_bytes = 0;  // what this keeps beside it
  std::vector<PlanInput> inputs;
  std::vector<PlanOutput> outputs;  // of the encoder
  std::vector<PlanState> states;
  std::vector<SlotId> kept;  // slots of the sentence level that a step reads
  bool has_decoder = false;
  bool row_maps = false;       // row operations work on positions
  SlotId source_length = -1;   // sentence level, float
  SlotId position = -1;        // sentence level, positions, ids
  int64_t position_bound = 0;  // sources may not be longer where `position` is set
  SlotId token = -1;
  SlotId step = -1;
  int64_t step_bound = 0;
  std::size_t step_bytes = 0;                        // of the weights that a step multiplies
  Value logits;                                      // vector of the decoder
  bool normalised = false;                           // these are log-probabilities already
  Value alignment;                                   // slot -1 where the decoder has none
  std::map<std::string, ComputeType> compute_types;  // what each tensor is multiplied in
  std::map<std::string, int64_t> float_columns;      // folded first columns, which no type changes
  std::map<std::string, std::vector<std::string>> folded;  // by graph.node: what is not multiplied
};

// Throws Error(model_format) naming the node.
Plan make_plan(const ModelSpec& model);

}  // namespace s2s
