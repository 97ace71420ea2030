// Takes a given way of X with csrc/shared/certificate.h alone, as the loops of optimize_adam do, for
// test_certificate.py: which gates are proven at each place of it, and what they are believed to be.
#include <cstdint>
#include <vector>

#include "../../csrc/optimize_adam/stack-inl.h"
#include "../../csrc/shared/certificate.h"
#include "../../csrc/shared/packed_stack-inl.h"
#include "../../csrc/shared/simd-inl.h"

namespace fastinterp::generic {

// Sees what a stack holds proven.
struct CertifiedStackProbe {
  CertifiedStack& stack;

  bool proven(int64_t layer, int64_t unit) const {
    const Travelled now = stack.course_.now;
    if (!stack.upper_.holds(now, stack.deviation_)) return false;
    return layer > 0 || (now.along < stack.along_[unit] && now.aside < stack.aside_[unit]);
  }
  bool open(int64_t layer, int64_t unit) const { return stack.states_[layer].gate[unit] == 1; }
};

}  // namespace fastinterp::generic

using namespace fastinterp;
using namespace fastinterp::generic;

// X goes through `places` (steps + 1, width), by `directions` (steps, width) times `rates` (steps); `weights` are
// (channels, width) with `bias` (channels), width a multiple of the lanes. `along` is what X has gone before.
extern "C" void walk(int64_t channels, int64_t width, int64_t steps, const float* weights, const float* bias,
                     const float* places, const float* directions, const float* rates, double along, bool* proven,
                     bool* open) {
  std::vector<Proof> proofs(channels, Proof::due());
  std::vector<float> norms(channels), heading(width);
  for (int64_t k = 0; k < channels; ++k) {
    double squared = 0;
    for (int64_t d = 0; d < width; ++d) squared += static_cast<double>(weights[k * width + d]) * weights[k * width + d];
    norms[k] = static_cast<float>(std::sqrt(squared) * (1 + 1e-6));
  }
  Course<double> course;
  course.now.along = along;
  for (Proof& proof : proofs) proof.along = static_cast<float>(along * (1 - 1e-6));
  for (int64_t step = 0;; ++step) {
    const float* x = places + step * width;
    const float squared_norm = dot(x, x, width);
    for (int64_t k = 0; k < channels; ++k) {
      const int64_t place = step * channels + k;
      proven[place] = course.now.along < proofs[k].along && course.now.aside < proofs[k].aside;
      open[place] = step > 0 && open[place - channels];
      if (proven[place]) continue;
      float z, slope;
      dot_pair(weights + k * width, x, heading.data(), width, &z, &slope);
      z += bias[k];
      open[place] = z > 0;
      proofs[k] = prove_measured(course, z, slope, bias[k], norms[k], std::sqrt(static_cast<double>(squared_norm)),
                                 course.norm_heading(), product_error(width / (2 * kLanes)));
    }
    if (step == steps) return;
    const float* direction = directions + step * width;
    const StepSums sums{rates[step], dot(direction, direction, width), dot(direction, heading.data(), width)};
    if (course.renews_heading) heading.assign(direction, direction + width);
    const float* next = x + width;
    course.advance(step + 1, sums, dot(next, next, width), static_cast<int>(width / kLanes + kLanes), [&] {
      for (int64_t k = 0; k < channels; ++k)
        proofs[k] = prove_again(course, proofs[k], norms[k], course.norm_heading());
    });
  }
}

// The same way, with how far flips take relu(weights x + bias) at most from where it was going at the last place at
// which `anew` is set: every one at which a new heading is taken, and the first.
extern "C" void deviate(int64_t channels, int64_t width, int64_t steps, const float* weights, const float* bias,
                        const float* places, const float* directions, const float* rates, double* length, bool* anew) {
  std::vector<float> heading(width);
  std::vector<bool> open(channels);
  Course<float> course;
  Deviation deviation;
  anew[0] = true;
  for (int64_t step = 0; step <= steps; ++step) {
    const float* x = places + step * width;
    if (step > 0) {
      const float* direction = directions + (step - 1) * width;
      const StepSums sums{rates[step - 1], dot(direction, direction, width), dot(direction, heading.data(), width)};
      if (course.renews_heading) heading.assign(direction, direction + width);
      anew[step] = false;
      const Travelled gone = course.advance(step, sums, dot(x, x, width), static_cast<int>(width / kLanes + kLanes),
                                            [&] { anew[step] = true; });
      deviation.advance(gone);
    }
    if (anew[step]) deviation = {};
    for (int64_t k = 0; k < channels; ++k) {
      double z = bias[k], slope = 0, squared = 0;
      for (int64_t d = 0; d < width; ++d) {
        const double w = weights[k * width + d];
        z += w * x[d];
        slope += w * heading[d];
        squared += w * w;
      }
      if (!anew[step] && (z > 0) != open[k]) deviation.flip(std::abs(z), std::abs(slope), std::sqrt(squared));
      open[k] = z > 0;
    }
    length[step] = deviation.length;
  }
}

// Adam through a stack of two layers with one problem, its X in `places` (steps + 1, rows, width) and its gates, those
// of all units of the first layer and then of the second, in `proven` and `open` (steps + 1, units).
extern "C" void descend(int64_t width, const int64_t* channels, const int64_t* kernels, const float* const* weights,
                        const float* const* biases, const double* spectral_norms, const float* target,
                        const float* start, int64_t steps, float rate, float slope, float* places, bool* proven,
                        bool* open) {
  ConvStack stack{{}, {false, slope}};
  PackedStack packed;
  for (int64_t l = 0; l < 2; ++l) {
    stack.layers.push_back({weights[l], biases[l], channels[l], l == 0 ? width : channels[0], kernels[l]});
    packed.add(stack.layers[l], {true, true, true});
  }
  const PackedLayer* layers = packed.layers();
  const int64_t rows = stack.receptive_field(), stride = layers[0].in_stride;
  const std::vector<LayerBounds> bounds = bound_layers(layers, {spectral_norms[0], spectral_norms[1]});
  FloatBuffer x(rows * stride), scratch(CertifiedStack::scratch_floats(layers, 2));
  for (int64_t row = 0; row < rows; ++row) std::copy_n(start + row * width, width, x.data() + row * stride);
  const std::unique_ptr<bool[]> gates(new bool[channels[1]]);
  AdamProblem problem{target, 0, rows, x.data(), gates.get(), 0};
  CertifiedStack certified(layers, bounds.data(), 2, slope, problem, scratch.data());
  const CertifiedStackProbe probe{certified};
  const AdamSettings settings{steps, 0.004f, 0.02f, rate, 0.9, 0.999, 1e-8};
  for (int64_t step = 0; step <= steps; ++step) {
    if (step > 0) certified.step(settings, step);
    certified.look();
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(x.data() + row * stride, width, places + (step * rows + row) * width);
    for (int64_t l = 0; l < 2; ++l) {
      const int64_t outputs = l == 0 ? kernels[1] : 1;
      for (int64_t p = 0; p < outputs; ++p)
        for (int64_t c = 0; c < channels[l]; ++c) {
          *proven++ = probe.proven(l, p * layers[l].out_stride + c);
          *open++ = probe.open(l, p * layers[l].out_stride + c);
        }
    }
  }
}
