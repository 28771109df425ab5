// Layers that do not need each other, as the two directions of a bidirectional one: members of the
// team take one each. Knows what steps read and write; never what a layer computes.
#pragma once

#include <vector>

#include "graph/folding.h"

namespace s2s {

// Steps in an order in which they may run. Layers of the sentence level that need none of the steps
// from the first of them on are one step.
std::vector<Step> side_by_side(std::vector<Step> steps);

}  // namespace s2s
