// The reference level: plain C++ for any processor, the fma emulated exactly.
#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

namespace s2s {
namespace {

#include "vec_portable.h"

#include "table.inl"

}  // namespace

extern const Kernels kPortable;
const Kernels kPortable = make_table("portable");

}  // namespace s2s
