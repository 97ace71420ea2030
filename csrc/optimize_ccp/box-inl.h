// The concave rest of a linearised objective, maximised exactly: with pulls that a relu takes back,
//   maximise over X   p . X - sum_u most_u relu(z_u(X)) - lambda1 ||X||^2,   z_u linear in X, most_u > 0,
// is at its dual a box: X = (p - sum_u y_u dz_u/dX) / (2 lambda1) with y_u in [0, most_u], y_u = 0 where z_u < 0,
// most_u where z_u > 0, and anything between where z_u = 0, at the kink.
#if defined(FASTINTERP_BOX_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_BOX_INL_H
#undef FASTINTERP_BOX_INL_H
#else
#define FASTINTERP_BOX_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../shared/isa_region.h"
#include "../shared/simd-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// Units whose share y is to be found, by their place in z, and what z they move.
struct Box {
  int64_t count;
  const int64_t* unit;  // (count)
  const float* most;    // by place
  const float* gram;    // (places, stride): dz_i/dX . dz_j/dX
  int64_t stride;
  float half;         // 1 / (2 lambda1)
  const float* fine;  // by place: how near to 0 z counts as a kink
};

// Exact in one coordinate after the other, each with all of z following; both arrays by place.
static void solve_box(const Box& box, float* y, float* z) {
  constexpr int kMostSweeps = 1000;
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool moved = false;
    for (int64_t i = 0; i < box.count; ++i) {
      const int64_t u = box.unit[i];
      const float* products = box.gram + u * box.stride;
      const float curvature = box.half * products[u];
      // A unit that X cannot move says itself which end of the box it is at.
      const float wanted = curvature > 0 ? y[u] + z[u] / curvature : z[u] > 0 ? box.most[u] : 0.0f;
      const float step = std::clamp(wanted, 0.0f, box.most[u]) - y[u];
      if (step == 0) continue;
      y[u] += step;
      add_scaled(z, -box.half * step, products, box.stride);
      moved |= std::abs(step) * curvature > box.fine[u];
    }
    if (!moved) break;
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
