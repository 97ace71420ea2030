// What the similarity term does to an ascent: its worth and its gradient, the tilt, at any X (Eq. 7).
#if defined(FASTINTERP_TILT_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_TILT_INL_H
#undef FASTINTERP_TILT_INL_H
#else
#define FASTINTERP_TILT_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "../shared/isa_region.h"
#include "../shared/simd-inl.h"
#include "settings.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// The rows of X that exist, `rows` of `width` floats each, and what is measured of them.
struct TiltedRows {
  int64_t rows;
  int64_t width;
  float* unit_sum;      // s, (width)
  float* inverse_norm;  // 1 / ||x_i||, or 0 for a zero row

  static int64_t scratch_floats(int64_t most_rows, int64_t width) { return width + round_up(most_rows, kLanes); }

  // lambda2 Sim(X) - lambda1 ||X||^2.
  double worth(const CcpSettings& settings, const float* x) {
    double squares = 0;
    std::fill_n(unit_sum, width, 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      const float squared = dot(x + row * width, x + row * width, width);
      inverse_norm[row] = squared > 0 ? 1 / std::sqrt(squared) : 0.0f;
      squares += squared;
      add_scaled(unit_sum, inverse_norm[row], x + row * width, width);
    }
    const double similarity = static_cast<double>(dot(unit_sum, unit_sum, width)) / static_cast<double>(rows);
    return settings.similarity_weight * similarity - settings.l2_weight * squares;
  }

  // Writes pull + lambda2 dSim/dX, twice lambda1 times the X that maximises what has this gradient at X. worth() of
  // the same X comes before it.
  void tilted_pull(const CcpSettings& settings, const float* x, const float* pull, float* tilted) const {
    const float pair = rows > 1 ? static_cast<float>(2 * settings.similarity_weight / static_cast<double>(rows)) : 0.0f;
    for (int64_t row = 0; row < rows; ++row) {
      const float* here = x + row * width;
      const float inverse = inverse_norm[row], toward = pair * inverse;
      const float back = toward * (inverse * dot(here, unit_sum, width));
      for (int64_t d = 0; d < width; d += kLanes)
        store(tilted + row * width + d,
              load(pull + row * width + d) + toward * load(unit_sum + d) - back * (inverse * load(here + d)));
    }
  }
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
