// Which of many proofs have run out, a vector of them at a time.
#if defined(FASTINTERP_DUE_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_DUE_INL_H
#undef FASTINTERP_DUE_INL_H
#else
#define FASTINTERP_DUE_INL_H
#endif

#include <algorithm>
#include <cfloat>
#include <cstdint>
#include <limits>

#include "../shared/certificate.h"
#include "../shared/isa_region.h"
#include "../shared/simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

static float lowest(const float* values, int64_t count) {
  Vec low = broadcast(std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; i += kLanes) low = at_most(low, load(values + i));
  float lanes[kLanes];
  store(lanes, low);
  return *std::min_element(lanes, lanes + kLanes);
}

// Calls visit(i) for every one of `count` proofs, a whole number of vectors, that has run out.
template <class Visit>
static void for_each_due(Travelled now, const float* along, const float* aside, int64_t count, Visit visit) {
  // Rounded up, so that no channel that is due is passed over.
  const Vec gone_along = broadcast(static_cast<float>(now.along) * (1 + 2 * FLT_EPSILON) + FLT_MIN);
  const Vec gone_aside = broadcast(static_cast<float>(now.aside) * (1 + 2 * FLT_EPSILON) + FLT_MIN);
  for (int64_t first = 0; first < count; first += kLanes) {
    uint32_t due = above(gone_along, load(along + first)) | above(gone_aside, load(aside + first));
    for (; due != 0; due &= due - 1) visit(first + __builtin_ctz(due));
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
