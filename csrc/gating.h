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

// Where X has gone since the start of a problem, in two sums that never fall: along a fixed heading V, in multiples of
// it, and aside of it, in length. Adam's direction hardly turns from one step to the next, so most of the way is along.
struct Travelled {
  double along;
  double aside;
};

// One step X += rate * d of Adam, from the sums |d|^2, d . V and |V|^2 in float32, whose partial sums carry a relative
// error of additions * epsilon at most; storing X rounds it by epsilon ||X||. A step back counts as aside.
FASTINTERP_SHARED Travelled travelled(float rate, float squared_step, float product, float squared_heading,
                                      float squared_norm, int additions) {
  const float part = squared_heading > 0 && product > 0 ? product / squared_heading : 0.0f;
  const float left = squared_step - 2 * part * product + part * part * squared_heading;
  const float error = static_cast<float>(5 * additions + 10) * FLT_EPSILON * squared_step;
  return {rate * part, rate * std::sqrt((left > 0 ? left : 0.0f) + error) * (1 + 1e-6f) +
                           FLT_EPSILON * std::sqrt(squared_norm) * 1.01f};
}

// Whether the heading should make way for the direction of the next step: too much of the last one was aside of it, and
// it has served for a while. The first one waits until Adam has forgotten its start. Any choice is correct; this one
// took the fewest evaluations.
FASTINTERP_SHARED bool heading_is_spent(long long step, long long renewed, Travelled gone, float norm_heading) {
  constexpr double kTurned = 0.2;
  return step - renewed >= (renewed == 0 ? 4 : 6) && gone.aside > kTurned * gone.along * norm_heading;
}

// What a new heading is expected to let aside of it.
constexpr float kFirstAside = 0.1f;

// What is known of the gate of a pre-activation z = w . x + bias: it cannot change before X has gone as far along or
// aside as this says (Cauchy-Schwarz for what is aside). `toward` is how much |z| may fall for each heading gone.
struct Proof {
  float along;
  float aside;
  float toward;
};

// Spends a margin by which |z| exceeds 0. `aside_per_along` is how the two are expected to grow; any value is safe.
// Rounding to float may not prolong. A filter that does not touch the existing rows has a constant gate.
FASTINTERP_SHARED Proof prove(Travelled now, double margin, double toward, double norm_w, double aside_per_along) {
  if (norm_w == 0) return {INFINITY, INFINITY, 0.0f};
  constexpr double kDown = 1 - 1e-6;
  if (margin <= 0) return {static_cast<float>(now.along * kDown), static_cast<float>(now.aside * kDown), 0.0f};
  const double reach = margin * kDown / (toward + norm_w * aside_per_along);
  return {static_cast<float>((now.along + reach) * kDown),
          static_cast<float>((now.aside + reach * aside_per_along) * kDown), static_cast<float>(toward * (1 + 1e-6))};
}

// From a measured z and its slope w . V. `dot_error` is the error of a product as a multiple of the norms.
FASTINTERP_SHARED Proof prove_measured(Travelled now, float z, float slope, float bias, double norm_w, double norm_x,
                                       float norm_heading, double dot_error, double aside_per_along) {
  const double margin =
      std::fabs(static_cast<double>(z)) - dot_error * norm_w * norm_x - 2 * FLT_EPSILON * std::fabs(bias);
  const double approach = z > 0 ? -slope : slope;
  const double toward = (approach > 0 ? approach : 0) + dot_error * norm_w * norm_heading;
  return prove(now, margin, toward, norm_w, aside_per_along);
}

// When the heading changes, what is left of a proof's margin holds for any new one, of which only the length is known.
FASTINTERP_SHARED Proof prove_again(Travelled now, Proof old, double norm_w, float norm_heading,
                                    double aside_per_along) {
  const double margin = old.toward * (old.along - now.along) + norm_w * (old.aside - now.aside);
  return prove(now, margin * (1 - 1e-5), norm_w * norm_heading * (1 + 1e-5), norm_w, aside_per_along);
}

// CCP: what flipping the gate of a channel with activation a and pre-activation z is worth without the similarity
// term, ||filter|| being `norm`: +-a z + a^2 ||w||^2 / (4 lambda1).
FASTINTERP_SHARED double flip_gain(double a, double z, bool open, double norm, double l2_weight) {
  return (open ? -a : a) * z + a * a * norm * norm / (4 * l2_weight);
}

}  // namespace fastinterp
