// scan: a body of operations run position by position, with states carried between them. The plan
// makes the body; its vectors are values of the items, so that all items take a step together.
#pragma once

#include "ops/op.h"

namespace s2s {

// A state of the body. `initial` fills it before the first position; `next` becomes it after each.
struct ScanState {
  Value value;
  bool starts = false;  // false: zeros
  Reader initial;
  Reader next;
};

struct ScanParts {
  std::vector<Reader> x;  // joined into `input`, position by position
  Along along = kSource;
  bool backward = false;
  Value input;  // vector: the features of one position
  std::vector<ScanState> states;
  std::vector<std::unique_ptr<Op>> body;
  Reader result;   // of the body, for each position
  Value sequence;  // where results go
};

std::unique_ptr<Op> make_scan(Call& call, ScanParts parts);

}  // namespace s2s
