// Certified gating (docs/certificate.md): how long a gate is certain, from one look at its pre-activation. Every loop
// of the optimiser, on both processors, calls this arithmetic, so that what tests/kernels/test_certificate.py walks
// into holds for all of them.
//
// While no gate changes, the gradient of a . a'(X) is constant. X goes along a fixed heading V, in multiples of it, and
// aside of that, in length; a pre-activation z = w . x + bias then changes by at most
//   |slope| * along + ||w|| * aside,   slope = w . V,
// and its gate is certain until that exceeds |z|. Whatever rounding may hide is taken off |z| or added to the way.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace fastinterp {

// Where X has gone since the start of a problem, in two sums that never fall.
struct Travelled {
  double along;  // the heading, in multiples of it
  double aside;  // of the heading, in length
};

// One step X += rate * d of Adam, from the sums |d|^2, d . V and |V|^2 in float32, whose partial sums carry a relative
// error of additions * epsilon at most; storing X rounds it by epsilon ||X||. A step back counts as aside.
FASTINTERP_HOST_DEVICE Travelled travelled(float rate, float squared_step, float product, float squared_heading,
                                           float squared_norm, int additions) {
  const float part = squared_heading > 0 && product > 0 ? product / squared_heading : 0.0f;
  const float left = squared_step - 2 * part * product + part * part * squared_heading;
  const float error = static_cast<float>(5 * additions + 10) * FLT_EPSILON * squared_step;
  return {rate * part, rate * std::sqrt((left > 0 ? left : 0.0f) + error) * (1 + 1e-6f) +
                           FLT_EPSILON * std::sqrt(squared_norm) * 1.01f};
}

// What one Adam step leaves behind for the certificate.
struct StepSums {
  float rate;
  float squared_step;  // |d|^2
  float product;       // d . V; not read where d becomes the heading
};

// The way of X and the heading that measures it. Adam's direction hardly turns from one step to the next, so that most
// of the way is along a direction that it took before; when too much of it is not, the next step's becomes the heading.
// `Ratio` is the type of `aside_per_along`, any value of which is safe.
template <class Ratio>
struct Course {
  Travelled now{0, 0};
  float squared_heading = 0;    // |V|^2; 0 while there is no heading
  Ratio aside_per_along = 1;    // how the two are expected to grow
  int64_t renewed_at = 0;       // the step whose direction the heading is
  bool renews_heading = false;  // with the next step

  FASTINTERP_HOST_DEVICE float norm_heading() const { return std::sqrt(squared_heading) * (1 + 1e-5f); }

  // Takes step number `step`, the first being 1; returns how far it went. Where its direction became the heading,
  // calls carry_proofs() before it counts the step: proofs along the old one must make way then.
  template <class CarryProofs>
  FASTINTERP_HOST_DEVICE Travelled advance(int64_t step, StepSums sums, float squared_norm, int additions,
                                           CarryProofs carry_proofs) {
    if (renews_heading) squared_heading = sums.squared_step;
    const Travelled gone = travelled(sums.rate, sums.squared_step, renews_heading ? sums.squared_step : sums.product,
                                     squared_heading, squared_norm, additions);
    if (gone.along > 0) aside_per_along = static_cast<Ratio>(gone.aside / gone.along);
    if (renews_heading) {
      constexpr float kFirstAside = 0.1f;  // what a new heading is expected to let aside of it
      aside_per_along = kFirstAside * norm_heading();
      renewed_at = step;
      carry_proofs();
    }
    now.along += gone.along;
    now.aside += gone.aside;
    // Too much of the step was aside of the heading, and that has served for a while; the first one waits until Adam
    // has forgotten its start. Any choice is correct; this one took the fewest evaluations.
    constexpr double kTurned = 0.2;
    renews_heading =
        step - renewed_at >= (renewed_at == 0 ? 4 : 6) && gone.aside > kTurned * gone.along * norm_heading();
    return gone;
  }
};

// The relative error of a float32 product, as a multiple of the factors' norms, whose partial sums are `additions`
// deep: every product and every sum rounds by epsilon / 2.
FASTINTERP_HOST_DEVICE double product_error(int64_t additions) {
  return (static_cast<double>(additions) + 8) * FLT_EPSILON;
}

// What the arithmetic of a proof itself may lose: in double where one channel is proven at a time, in float where a
// whole layer is, for speed.
template <class Real>
struct ProofRounding;
template <>
struct ProofRounding<double> {
  static constexpr double kMeasured = 0;  // a float is exact
  static constexpr double kSpent = 1e-6;
};
template <>
struct ProofRounding<float> {
  static constexpr float kMeasured = 1e-5f;
  static constexpr float kSpent = 1e-5f;
};

// What a measured pre-activation is certain of.
template <class Real>
struct Approach {
  Real margin;  // |z| is at least this; 0 or less where rounding hides the gate
  Real toward;  // |z| falls by at most this for each multiple of the heading
};

// From z and its slope w . V as they were computed, each with its error at most.
template <class Real>
FASTINTERP_HOST_DEVICE Approach<Real> approach(float z, float slope, Real z_error, Real slope_error) {
  constexpr Real kLess = 1 - ProofRounding<Real>::kMeasured, kMore = 1 + ProofRounding<Real>::kMeasured;
  const Real size = static_cast<Real>(z > 0 ? z : -z), closing = static_cast<Real>(z > 0 ? -slope : slope);
  return {size * kLess - z_error, (closing > 0 ? closing : 0) * kMore + slope_error};
}

// How many multiples of the heading an approach lasts that loses `rate` with each of them: forever at none.
template <class Real>
FASTINTERP_HOST_DEVICE Real lasting(const Approach<Real>& from, Real rate) {
  if (!(rate > 0)) return static_cast<Real>(INFINITY);
  return (from.margin > 0 ? from.margin : 0) * (1 - ProofRounding<Real>::kSpent) / rate;
}

// The gate of one pre-activation is certain until X has gone further than this, along or aside.
struct Proof {
  float along;
  float aside;
  float toward;  // as in Approach

  // Before anything was measured.
  FASTINTERP_HOST_DEVICE static Proof due() { return {0, 0, 0}; }
  FASTINTERP_HOST_DEVICE static Proof forever() { return {INFINITY, INFINITY, 0}; }
};

// Spends the margin on both ways. Rounding to float may not prolong. A filter of norm 0, which does not touch the
// existing rows, has a constant gate.
template <class Real>
FASTINTERP_HOST_DEVICE Proof prove(Travelled now, const Approach<Real>& from, Real norm_w, Real aside_per_along) {
  if (norm_w == 0) return Proof::forever();
  constexpr Real kLess = 1 - ProofRounding<Real>::kSpent, kMore = 1 + ProofRounding<Real>::kSpent;
  const Real multiples = lasting(from, from.toward + norm_w * aside_per_along);
  // Where neither way is expected to use any of it, what goes aside has the whole margin.
  const Real aside = multiples < INFINITY ? multiples * aside_per_along : lasting(from, norm_w);
  return {static_cast<float>((static_cast<Real>(now.along) + multiples) * kLess),
          static_cast<float>((static_cast<Real>(now.aside) + aside) * kLess), static_cast<float>(from.toward * kMore)};
}

// From one channel's z and slope, float32 products with X and with the heading, whose relative error is `error`.
template <class Ratio>
FASTINTERP_HOST_DEVICE Proof prove_measured(const Course<Ratio>& course, float z, float slope, float bias,
                                            double norm_w, double norm_x, float norm_heading, double error) {
  const Approach<double> from = approach<double>(z, slope, error * norm_w * norm_x + 2 * FLT_EPSILON * std::fabs(bias),
                                                 error * norm_w * norm_heading);
  return prove<double>(course.now, from, norm_w, course.aside_per_along);
}

// When the heading changes, what is left of a proof's margin holds for any new one, of which only the length is known.
template <class Ratio>
FASTINTERP_HOST_DEVICE Proof prove_again(const Course<Ratio>& course, Proof old, double norm_w, float norm_heading) {
  const double margin = old.toward * (old.along - course.now.along) + norm_w * (old.aside - course.now.aside);
  return prove<double>(course.now, {margin * (1 - 1e-5), norm_w * norm_heading * (1 + 1e-5)}, norm_w,
                       course.aside_per_along);
}

// How far flips have taken the activations of the first layer away from where they were going when the layers above
// were proven.
struct Deviation {
  double length = 0;
  double squared_slopes = 0;  // of the flipped units: sum of slope^2, which grows it along the heading
  double squared_norms = 0;   // sum of ||w||^2, which grows it aside

  // A unit's gate was found changed: its activation is off by |z| times 1 - the slope of a closed gate, and by more
  // with the slope along the heading; both with the errors that they were measured with.
  void flip(double off, double slope, double norm) {
    length += off * (1 + 1e-5);
    squared_slopes += slope * slope * (1 + 1e-5);
    squared_norms += norm * norm;
  }

  void advance(Travelled gone) {
    length += (std::sqrt(squared_slopes) * gone.along + std::sqrt(squared_norms) * gone.aside) * (1 + 1e-6);
  }
};

// The gates of all layers above the first, which are proven together: with all gates below fixed, a pre-activation z
// changes by its slope along the heading, by at most `lipschitz_of_input` times what X went aside, and by at most
// `lipschitz_of_first` times the deviation of the first layer's activations.
struct SharedProof {
  float along = 0;
  float aside = 0;
  float deviation = 0;

  static SharedProof forever() { return {INFINITY, INFINITY, INFINITY}; }

  bool holds(Travelled now, const Deviation& off) const {
    return now.along < along && now.aside < aside && off.length < deviation;
  }

  // The proof of a layer of which the shortest-lived unit lasts `multiples` of the heading.
  void shorten(Travelled now, float multiples, float aside_per_along, float deviation_per_along) {
    constexpr float kLess = 1 - ProofRounding<float>::kSpent;
    along = std::fmin(along, static_cast<float>(now.along + multiples) * kLess);
    aside = std::fmin(aside, static_cast<float>(now.aside + multiples * aside_per_along) * kLess);
    deviation = std::fmin(deviation, multiples * deviation_per_along * kLess);
  }
};

}  // namespace fastinterp
