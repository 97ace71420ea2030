// Input optimisation of one problem of a deeper layer (Eq. 5-7) with a piecewise-linear activation: while no gate of
// any layer changes, the gradient of a . a'(X) is constant.
//
// Gates of the first layer are proven one by one, as those of a single layer are. Those above it are proven together,
// by one pass forward of X and of the heading (SharedProof, docs/certificate.md).
#if defined(FASTINTERP_STACK_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_STACK_INL_H
#undef FASTINTERP_STACK_INL_H
#else
#define FASTINTERP_STACK_INL_H
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "../shared/certificate.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/simd-inl.h"
#include "adam_step-inl.h"
#include "bounds.h"
#include "cpu.h"
#include "due-inl.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// One layer of the stack at one problem; every array is (outputs, out_stride).
struct LayerState {
  int64_t outputs;
  int64_t first;  // of the outputs that exist; the others see past the sentence frame
  int64_t end;
  float* z;
  float* z_slope;      // how z changes with each multiple of the heading
  float* gate;         // 1 open, slope closed, 0 where the location does not exist
  float* coefficient;  // gradient of a . a'(X) with respect to the layer's activations
};

class CertifiedStack {
 public:
  static int64_t scratch_floats(const PackedLayer* layers, int64_t count) {
    int64_t field_rows = receptive_field(layers, count), widest = 0;
    int64_t total = adam_state_floats(field_rows, layers[0].in_stride);
    for (int64_t l = 0; l < count; ++l) {
      const int64_t outputs = field_rows - layers[l].kernel + 1;
      total += 4 * outputs * layers[l].out_stride;
      if (l == 0) total += 3 * outputs * layers[l].out_stride;  // proofs and norms
      widest = std::max({widest, outputs * layers[l].out_stride, outputs * layers[l].span()});
      field_rows = outputs;
    }
    return total + 3 * widest;
  }

  CertifiedStack(const PackedLayer* layers, const LayerBounds* bounds, int64_t count, float slope, AdamProblem& problem,
                 float* scratch)
      : layers_(layers), count_(count), bounds_(bounds), slope_(slope), problem_(problem) {
    const int64_t field_rows = receptive_field(layers, count);
    adam_ = make_state(problem, layers[0], field_rows, scratch);
    pull_ = scratch;
    heading_ = adam_.heading - problem.begin * layers[0].in_stride;
    float* cursor = scratch + adam_state_floats(field_rows, layers[0].in_stride);
    const auto take = [&cursor](int64_t floats) { return std::exchange(cursor, cursor + floats); };
    int64_t rows = field_rows, offset = 0, widest = 0;
    for (int64_t l = 0; l < count; ++l) {
      const PackedLayer& layer = layers[l];
      rows -= layer.kernel - 1;
      offset += layer.left_padding();
      const int64_t floats = rows * layer.out_stride;
      LayerState state{rows,
                       std::clamp<int64_t>(problem.begin - offset, 0, rows),
                       std::clamp<int64_t>(problem.end - offset, 0, rows),
                       take(floats),
                       take(floats),
                       take(floats),
                       take(floats)};
      std::memset(state.z, 0, sizeof(float) * 4 * floats);
      states_.push_back(state);
      widest = std::max({widest, floats, rows * layer.span()});
    }
    const int64_t units = states_[0].outputs * layers[0].out_stride;
    along_ = take(units);
    aside_ = take(units);
    norm_ = take(units);
    values_ = take(widest);
    heading_values_ = take(widest);
    columns_ = take(widest);
    measure_unit_norms();
    measure_norms(adam_);
  }

  // Takes the gates that may have changed anew, and with them the gradient. What flips in the first layer may be too
  // much for the proof above it.
  void look() {
    if (upper_.holds(course_.now, deviation_) && (course_.now.along >= next_along_ || course_.now.aside >= next_aside_))
      check_first_layer();
    if (!upper_.holds(course_.now, deviation_)) refresh();
  }

  // Step number `step`, the first being 1; look() comes before it.
  void step(const AdamSettings& settings, int64_t step) {
    // Nothing is known along a new heading: the next step finds all proofs due, and refreshes them.
    const Travelled gone = adam_step_on_course(adam_, settings, step, course_, [this] { upper_ = {}; });
    last_along_ = gone.along;
    deviation_.advance(gone);
  }

  // Leaves the gates of the last layer at the X that was reached.
  void finish() {
    refresh();
    const LayerState& last = states_[count_ - 1];
    for (int64_t k = 0; k < layers_[count_ - 1].out_channels; ++k)
      problem_.gates[k] = problem_.target[k] != 0 && last.z[k] > 0;
  }

 private:
  friend struct CertifiedStackProbe;  // tests/kernels/certificate_walk.cpp

  static constexpr float kNever = std::numeric_limits<float>::infinity();

  void measure_unit_norms() {
    const PackedLayer& layer = layers_[0];
    for (int64_t p = 0; p < states_[0].outputs; ++p)
      for (int64_t c = 0; c < layer.out_stride; ++c) {
        double squared = 0;
        for (int64_t k = 0; k < layer.kernel && c < layer.out_channels; ++k)
          if (p + k >= problem_.begin && p + k < problem_.end) squared += layer.squared_norms[c * layer.kernel + k];
        norm_[p * layer.out_stride + c] = static_cast<float>(std::sqrt(squared) * (1 + 1e-6));
      }
  }

  // One pass forward of X and of the heading. Takes every gate anew, and with them the gradient where one above the
  // first layer changed or none is known yet, and proves everything.
  void refresh() {
    problem_.evaluations += layers_[count_ - 1].out_channels;
    flips_.clear();
    bool upper_changed = !has_gradient_;
    SharedProof upper = SharedProof::forever();
    const float* input = problem_.x;
    const float norm_heading = course_.norm_heading();
    const bool proves = norm_heading > 0 && unproven_refreshes_ == 0;
    const float* heading = heading_;
    double input_norm = std::sqrt(adam_.squared_norm), heading_norm = norm_heading, input_error = 0, heading_error = 0;
    // How far flips may take the first layer for each heading gone: as far as they did since the last refresh.
    const double gone = course_.now.along - refreshed_along_;
    const float deviation_per_along =
        std::max(0.02f * norm_heading, gone > 0 ? static_cast<float>(deviation_.length / gone) : 0.0f);
    for (int64_t l = 0; l < count_; ++l) {
      const PackedLayer& layer = layers_[l];
      LayerState& state = states_[l];
      multiply(state.outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, layer.bias,
               state.z, layer.out_stride);
      if (proves)
        multiply(state.outputs, layer.out_channels, layer.span(), heading, layer.in_stride, layer.forward, nullptr,
                 state.z_slope, layer.out_stride);
      // Errors of z and of its slope: what the layer adds, and what it makes of its input's.
      const double added = product_error(layer.span());
      const float z_error = static_cast<float>((added * input_norm + input_error) * (1 + 1e-5));
      const float slope_error = static_cast<float>((added * heading_norm + heading_error) * (1 + 1e-5));
      for (int64_t p = state.first; p < state.end; ++p)
        for (int64_t c = 0; c < layer.out_channels; ++c) {
          const int64_t unit = p * layer.out_stride + c;
          const float gate = state.z[unit] > 0 ? 1.0f : slope_;
          if (gate == state.gate[unit]) continue;
          if (l == 0) {
            flips_.emplace_back(unit, gate - state.gate[unit]);
          } else {
            upper_changed = true;
          }
          state.gate[unit] = gate;
        }
      if (proves && l == 0) prove_first_layer(z_error, slope_error);
      if (proves && l > 0)
        upper.shorten(course_.now,
                      shortest_of_layer(layer, state, bounds_[l], z_error, slope_error, deviation_per_along),
                      course_.aside_per_along, deviation_per_along);
      if (l + 1 == count_) break;
      const int64_t floats = state.outputs * layer.out_stride;
      for (int64_t i = 0; i < floats; ++i) values_[i] = state.gate[i] * state.z[i];
      input = values_;
      if (!proves) continue;
      for (int64_t i = 0; i < floats; ++i) heading_values_[i] = state.gate[i] * state.z_slope[i];
      heading = heading_values_;
      input_error = bounds_[l].frobenius * (added * input_norm + input_error);
      heading_error = bounds_[l].frobenius * (added * heading_norm + heading_error);
      input_norm = std::sqrt(dot(values_, values_, floats)) * (1 + 1e-4);
      heading_norm = std::sqrt(dot(heading_values_, heading_values_, floats)) * (1 + 1e-4);
    }
    if (upper_changed) {
      take_gradient();
    } else {
      for (const auto& [unit, change] : flips_) add_flip_to_gradient(unit, change);
    }
    upper_ = proves ? upper : SharedProof{};
    if (slope_ == 1) {  // open and closed are the same
      upper_ = SharedProof::forever();
      next_along_ = next_aside_ = kNever;
    }
    if (unproven_refreshes_ > 0) {
      --unproven_refreshes_;
    } else if (proves) {
      // Proofs that run out at once cost more than they save: leave them for a while.
      constexpr int64_t kTries = 8, kLongestPause = 128;
      const bool lasts = upper_.along > course_.now.along + 2 * last_along_;
      fails_ = lasts ? 0 : fails_ + 1;
      if (lasts) pause_ = kTries;
      if (fails_ >= kTries) {
        unproven_refreshes_ = pause_ = std::min(2 * pause_, kLongestPause);
        fails_ = kTries / 2;
      }
    }
    deviation_ = {};
    refreshed_along_ = course_.now.along;
  }

  void prove_first_layer(float z_error, float slope_error) {
    const LayerState& state = states_[0];
    const int64_t stride = layers_[0].out_stride;
    std::fill_n(along_, state.outputs * stride, kNever);
    std::fill_n(aside_, state.outputs * stride, kNever);
    for (int64_t p = state.first; p < state.end; ++p)
      for (int64_t i = p * stride; i < p * stride + layers_[0].out_channels; ++i) {
        const Proof proof = prove<float>(
            course_.now, approach<float>(state.z[i], state.z_slope[i], norm_[i] * z_error, norm_[i] * slope_error),
            norm_[i], course_.aside_per_along);
        along_[i] = proof.along;
        aside_[i] = proof.aside;
      }
    find_next();
  }

  // How many multiples of the heading the layer's shortest-lived gate lasts.
  float shortest_of_layer(const PackedLayer& layer, const LayerState& state, const LayerBounds& bounds, float z_error,
                          float slope_error, float deviation_per_along) const {
    float shortest = kNever;
    for (int64_t p = state.first; p < state.end; ++p)
      for (int64_t c = 0; c < layer.out_channels; ++c) {
        const int64_t unit = p * layer.out_stride + c;
        const Approach<float> from =
            approach<float>(state.z[unit], state.z_slope[unit], bounds.norm[c] * z_error, bounds.norm[c] * slope_error);
        shortest =
            std::min(shortest, lasting(from, from.toward + bounds.lipschitz_of_input[c] * course_.aside_per_along +
                                                 bounds.lipschitz_of_first[c] * deviation_per_along));
      }
    return shortest;
  }

  void find_next() {
    const int64_t units = states_[0].outputs * layers_[0].out_stride;
    next_along_ = lowest(along_, units);
    next_aside_ = lowest(aside_, units);
  }

  // Evaluates the units of the first layer that are due.
  void check_first_layer() {
    const PackedLayer& layer = layers_[0];
    LayerState& state = states_[0];
    const double norm_x = std::sqrt(adam_.squared_norm), error = product_error(layer.span() / (2 * kLanes));
    const float norm_heading = course_.norm_heading();
    for_each_due(course_.now, along_, aside_, state.outputs * layer.out_stride, [&](int64_t unit) {
      const int64_t p = unit / layer.out_stride, k = unit % layer.out_stride;
      float z, z_slope;
      dot_pair(layer.rows + k * layer.span(), problem_.x + p * layer.in_stride, heading_ + p * layer.in_stride,
               layer.span(), &z, &z_slope);
      z += layer.bias[k];
      const float gate = z > 0 ? 1.0f : slope_;
      if (gate != state.gate[unit]) {
        add_flip_to_gradient(unit, gate - state.gate[unit]);
        state.gate[unit] = gate;
        // What the unit's activation does from here on is not what the layers above were proven with.
        deviation_.flip(std::abs((1 - slope_) * z) + error * norm_[unit] * norm_x,
                        std::abs(z_slope) + error * norm_[unit] * norm_heading, norm_[unit]);
      }
      const Proof proof = prove_measured(course_, z, z_slope, layer.bias[k], norm_[unit], norm_x, norm_heading, error);
      along_[unit] = proof.along;
      aside_[unit] = proof.aside;
    });
    find_next();
  }

  // A flip of the first layer changes the gradient by one filter.
  void add_flip_to_gradient(int64_t unit, float change) {
    const PackedLayer& layer = layers_[0];
    const int64_t p = unit / layer.out_stride, k = unit % layer.out_stride;
    const float scale = change * states_[0].coefficient[unit];
    if (scale == 0) return;
    const int64_t first = std::max(p, problem_.begin), end = std::min(p + layer.kernel, problem_.end);
    add_scaled(pull_ + first * layer.in_stride, scale, layer.rows + k * layer.span() + (first - p) * layer.in_stride,
               (end - first) * layer.in_stride);
  }

  // One pass backward with the gates as they are.
  void take_gradient() {
    has_gradient_ = true;
    const LayerState& last = states_[count_ - 1];
    std::copy_n(problem_.target, layers_[count_ - 1].out_channels, last.coefficient);
    for (int64_t l = count_ - 1; l >= 0; --l) {
      const PackedLayer& layer = layers_[l];
      const LayerState& state = states_[l];
      const int64_t floats = state.outputs * layer.out_stride, span = layer.span();
      for (int64_t i = 0; i < floats; ++i) values_[i] = state.gate[i] * state.coefficient[i];
      multiply(state.outputs, span, layer.out_channels, values_, layer.out_stride, layer.backward, nullptr, columns_,
               span);
      float* gradient = l == 0 ? pull_ : states_[l - 1].coefficient;
      std::memset(gradient, 0, sizeof(float) * (state.outputs + layer.kernel - 1) * layer.in_stride);
      for (int64_t p = 0; p < state.outputs; ++p)
        add_scaled(gradient + p * layer.in_stride, 1.0f, columns_ + p * span, span);
    }
  }

  const PackedLayer* layers_;
  int64_t count_;
  const LayerBounds* bounds_;
  float slope_;
  AdamProblem& problem_;
  AdamState adam_;
  float* pull_;     // over the whole receptive field
  float* heading_;  // over the whole receptive field
  std::vector<LayerState> states_;
  float* along_;  // Proof of each unit of the first layer, and the norm of its filter over the existing rows
  float* aside_;
  float* norm_;
  float* values_;                                 // what a layer passes on, of X
  float* heading_values_;                         // and of the heading
  float* columns_;                                // what each output passes back to the inputs it reads
  std::vector<std::pair<int64_t, float>> flips_;  // of the first layer at a refresh: unit, change of its gate
  bool has_gradient_ = false;
  Course<float> course_;
  SharedProof upper_;     // of the gates above the first layer
  Deviation deviation_;   // since the last refresh
  float next_along_ = 0;  // the lowest of the first layer's proofs
  float next_aside_ = 0;
  double refreshed_along_ = 0;      // course_.now.along at the last refresh
  double last_along_ = 0;           // of the last step
  int64_t fails_ = 0;               // proofs in a row that ran out at once
  int64_t pause_ = 8;               // for how many refreshes to do without proofs after that
  int64_t unproven_refreshes_ = 0;  // how many of them are left
};

// Every activation but tanh.
static void optimize_stack(const PackedLayer* layers, const LayerBounds* bounds, int64_t count,
                           const AdamSettings& settings, float slope, AdamProblem& problem, float* scratch) {
  problem.evaluations = 0;
  CertifiedStack stack(layers, bounds, count, slope, problem, scratch);
  for (int64_t step = 1; step <= settings.steps; ++step) {
    stack.look();
    stack.step(settings, step);
  }
  stack.finish();
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
