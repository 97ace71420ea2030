// The small dense system of one Gauss-Newton step, in double.
#if defined(FASTINTERP_CONTRAST_SOLVE_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_CONTRAST_SOLVE_INL_H
#undef FASTINTERP_CONTRAST_SOLVE_INL_H
#else
#define FASTINTERP_CONTRAST_SOLVE_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../shared/isa_region.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// x . y in double, four partial sums.
static double dot_of(const float* x, const float* y, int64_t length) {
  double parts[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= length; i += 4)
    for (int64_t lane = 0; lane < 4; ++lane) parts[lane] += static_cast<double>(x[i + lane]) * y[i + lane];
  for (; i < length; ++i) parts[0] += static_cast<double>(x[i]) * y[i];
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// (S P S G + rho I) lambda = S P r over the channels whose slope s is not 0; the others' lambda is 0.
struct StepSolver {
  explicit StepSolver(int64_t channels)
      : channels(channels),
        channel(channels),
        slope(channels),
        right(channels),
        gram_(channels * channels),
        system_(channels * channels) {}

  double& gram(int64_t i, int64_t j) { return gram_[i * channels + j]; }

  // Leaves lambda in `right`. rho is `damping` times the mean diagonal of S P S G over all channels; false where that
  // is not more than 0.
  bool solve(int64_t active, const float* precision, double damping) {
    double trace = 0;
    for (int64_t i = 0; i < active; ++i) {
      double* row = &system_[i * channels];
      std::fill_n(row, active, 0.0);
      for (int64_t k = 0; k < active; ++k) {
        const double weight = static_cast<double>(slope[i]) * precision[channel[i] * channels + channel[k]] * slope[k];
        const double* from = &gram_[k * channels];
        for (int64_t j = 0; j < active; ++j) row[j] += weight * from[j];
      }
      trace += row[i];
    }
    if (!(trace > 0)) return false;
    const double rho = damping * trace / static_cast<double>(channels);
    for (int64_t i = 0; i < active; ++i) system_[i * channels + i] += rho;
    eliminate(active);
    return true;
  }

  int64_t channels;
  std::vector<int64_t> channel;  // number of each active channel
  std::vector<float> slope;      // its slope
  std::vector<double> right;     // S P r of it; then lambda

 private:
  // Gaussian elimination with row pivots.
  void eliminate(int64_t size) {
    for (int64_t k = 0; k < size; ++k) {
      int64_t pivot = k;
      for (int64_t i = k + 1; i < size; ++i)
        if (std::abs(system_[i * channels + k]) > std::abs(system_[pivot * channels + k])) pivot = i;
      if (pivot != k) {
        std::swap_ranges(&system_[k * channels], &system_[k * channels] + size, &system_[pivot * channels]);
        std::swap(right[k], right[pivot]);
      }
      const double* from = &system_[k * channels];
      for (int64_t i = k + 1; i < size; ++i) {
        double* row = &system_[i * channels];
        const double factor = row[k] / from[k];
        for (int64_t j = k + 1; j < size; ++j) row[j] -= factor * from[j];
        right[i] -= factor * right[k];
      }
    }
    for (int64_t k = size - 1; k >= 0; --k) {
      for (int64_t j = k + 1; j < size; ++j) right[k] -= system_[k * channels + j] * right[j];
      right[k] /= system_[k * channels + k];
    }
  }

  std::vector<double> gram_, system_;  // (channels, channels), the first `active` rows and columns of use
};

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
