// Arithmetic that the CPU and the CUDA optimiser share: one formula, so that what a test proves of one holds for both.
#pragma once

#include <cfloat>
#include <cmath>

#if defined(__CUDACC__)
#define FASTINTERP_SHARED __host__ __device__ inline
#else
#define FASTINTERP_SHARED inline
#endif

namespace fastinterp {

// The numbers of one Adam step: x += rate * m / (sqrt(v) + floor) for moments kept as plain decaying sums, without the
// factors 1 - beta.
struct AdamNumbers {
  float rate;
  float floor;
};

FASTINTERP_SHARED AdamNumbers adam_numbers(double learning_rate, double beta1, double beta2, double epsilon,
                                           double step) {
  const double first = (1 - beta1) / (1 - std::pow(beta1, step));
  const double second = std::sqrt((1 - beta2) / (1 - std::pow(beta2, step)));
  return {static_cast<float>(learning_rate * first / second), static_cast<float>(epsilon / second)};
}

// Length of one step, rounded up far enough to stay a bound in float32: a sum of `additions` squares per partial sum
// carries a relative error of additions * epsilon at most, and storing X rounds it by epsilon ||X||.
FASTINTERP_SHARED double step_bound(float rate, double squared_step, double squared_norm, double additions) {
  return rate * std::sqrt(squared_step) * (1 + additions * FLT_EPSILON) + FLT_EPSILON * std::sqrt(squared_norm) * 1.01;
}

// The path length up to which the gate of pre-activation z = w . x + bias, measured at path length `path`, is proven:
// Cauchy-Schwarz, less what rounding may hide. `dot_error` is the error of the product as a multiple of ||w|| ||x||.
// A filter that does not touch the existing rows has a constant gate. Rounding to float may not prolong.
FASTINTERP_SHARED float proven_until(double path, float z, float bias, double norm_w, double norm_x, double dot_error) {
  if (norm_w == 0) return INFINITY;
  const double certain =
      std::fabs(static_cast<double>(z)) - dot_error * norm_w * norm_x - 2 * FLT_EPSILON * std::fabs(bias);
  if (certain <= 0) return static_cast<float>(path * (1 - 1e-6));
  return static_cast<float>((path + certain / norm_w * (1 - 1e-6)) * (1 - 1e-6));
}

// CCP: what flipping the gate of a channel with activation a and pre-activation z is worth without the similarity
// term, ||filter|| being `norm`: +-a z + a^2 ||w||^2 / (4 lambda1).
FASTINTERP_SHARED double flip_gain(double a, double z, bool open, double norm, double l2_weight) {
  return (open ? -a : a) * z + a * a * norm * norm / (4 * l2_weight);
}

// Whether word a stands before word b among the nearest: higher cosine, then lower index.
FASTINTERP_SHARED bool ranks_before(float cosine_a, long long index_a, float cosine_b, long long index_b) {
  return cosine_a > cosine_b || (cosine_a == cosine_b && index_a < index_b);
}

}  // namespace fastinterp
