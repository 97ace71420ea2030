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

// Units whose y is to be found; what stands for each of them is at its place in the arrays.
struct Box {
  int64_t count;
  const int64_t* place;  // (count)
  const float* most;     // by place
  const float* gram;     // (places, stride): dz_i/dX . dz_j/dX
  int64_t stride;
  double half;          // 1 / (2 lambda1)
  const double* norms;  // by place: ||dz_i/dX||
  double reach;         // how large X is
};

// Exact in one coordinate after the other, z of all places following. y and z by place.
static void solve_box(const Box& box, double* y, double* z) {
  constexpr int kMostSweeps = 2000;
  constexpr double kFine = 1e-8;  // of what X can make of z
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool moved = false;
    for (int64_t i = 0; i < box.count; ++i) {
      const int64_t u = box.place[i];
      const float* products = box.gram + u * box.stride;
      const double curvature = box.half * products[u], most = box.most[u];
      // A unit that X cannot move says itself which end of the box it is at.
      const double wanted = curvature > 0 ? y[u] + z[u] / curvature : z[u] > 0 ? most : 0.0;
      const double step = std::clamp(wanted, 0.0, most) - y[u];
      if (step == 0) continue;
      y[u] += step;
      for (int64_t j = 0; j < box.stride; ++j) z[j] -= box.half * step * products[j];
      moved |= std::abs(step) * curvature > kFine * box.norms[u] * box.reach;
    }
    if (!moved) break;
  }
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
