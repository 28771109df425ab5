// Layers that do not need each other, as the two directions of a bidirectional one: members of the
// team take one each. Knows what steps read and write; never what a layer computes.
#pragma once

#include <vector>

#include "graph/folding.h"

namespace s2s {

// The steps of the sentence level in an order in which they may run; layers that none of the steps
// between them needs are one step.
std::vector<Step> side_by_side(std::vector<Step> steps);

}  // namespace s2s
