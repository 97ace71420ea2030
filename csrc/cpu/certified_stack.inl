// Certified gating through a stack of layers with a piecewise-linear activation: while no gate of any layer changes,
// the gradient of a . a'(X) is constant. Included by optimize_kernel.inl.
//
// Gates of the first layer are proven one by one, as those of a single layer are. Those above it are proven together,
// by one pass forward of X and of the heading: with all gates below it fixed, a pre-activation z changes by its slope
// along the heading, by at most `lipschitz` times what X went aside, and by at most `bend` times what flips of the
// first layer have bent its activations away from where they were going. The two are products of norms of the layers.

// Gates that are proven together.
struct UpperProof {
  float along = 0;
  float aside = 0;
  float bent = 0;
};

// One layer of the stack at one problem; every array is (outputs, out_stride).
struct LayerState {
  int64_t outputs;
  int64_t first;  // of the outputs that exist; the others see past the sentence frame
  int64_t end;
  float* z;
  float* climb;        // how z changes along the heading
  float* gate;         // 1 open, slope closed, 0 where the location does not exist
  float* coefficient;  // gradient of a . a'(X) with respect to the layer's activations
};

class CertifiedStack {
 public:
  static int64_t scratch_floats(const ConvLayer* layers, int64_t count) {
    int64_t field = field_of(layers, count), widest = 0;
    int64_t total = adam_state_floats(field, layers[0].in_stride);
    for (int64_t l = 0; l < count; ++l) {
      const int64_t outputs = field - layers[l].kernel + 1;
      total += 4 * outputs * layers[l].out_stride;
      if (l == 0) total += 3 * outputs * layers[l].out_stride;  // proofs and norms
      widest = std::max({widest, outputs * layers[l].out_stride, outputs * layers[l].span()});
      field = outputs;
    }
    return total + 3 * widest;
  }

  CertifiedStack(const ConvLayer* layers, const LayerBounds* bounds, int64_t count, float slope, Problem& problem,
                 float* scratch)
      : layers_(layers), count_(count), bounds_(bounds), slope_(slope), problem_(problem) {
    const int64_t field = field_of(layers, count);
    adam_ = make_state(problem, layers[0], field, scratch);
    pull_ = scratch;
    heading_ = adam_.heading - problem.begin * layers[0].in_stride;
    float* cursor = scratch + adam_state_floats(field, layers[0].in_stride);
    const auto take = [&cursor](int64_t floats) { return std::exchange(cursor, cursor + floats); };
    int64_t rows = field, offset = 0, widest = 0;
    for (int64_t l = 0; l < count; ++l) {
      const ConvLayer& layer = layers[l];
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
    climbs_ = take(widest);
    columns_ = take(widest);
    measure_unit_norms();
    measure_norms(adam_);
  }

  void run(const AdamSettings& settings) {
    int64_t renewed = 0;
    bool renew = false;
    for (int64_t step = 1; step <= settings.steps; ++step) {
      if (now_.along >= upper_.along || now_.aside >= upper_.aside || bent_ >= upper_.bent) {
        refresh();
      } else if (now_.along >= next_along_ || now_.aside >= next_aside_) {
        check_first_layer();
      }
      const Travelled gone =
          renew ? adam_step<Heading::renew>(adam_, settings, step) : adam_step<Heading::follow>(adam_, settings, step);
      if (gone.along > 0) aside_per_along_ = static_cast<float>(gone.aside / gone.along);
      if (renew) {
        norm_heading_ = std::sqrt(adam_.squared_heading) * (1 + 1e-5f);
        aside_per_along_ = kFirstAside * norm_heading_;
        upper_ = {};  // nothing is known along the new heading
        renewed = step;
      }
      now_.along += gone.along;
      now_.aside += gone.aside;
      last_along_ = gone.along;
      bent_ += (std::sqrt(bending_climb_) * gone.along + std::sqrt(bending_norm_) * gone.aside) * (1 + 1e-6);
      renew = heading_is_spent(step, renewed, gone, norm_heading_);
    }
    refresh();
    const LayerState& last = states_[count_ - 1];
    for (int64_t k = 0; k < layers_[count_ - 1].out_channels; ++k)
      problem_.gates[k] = problem_.target[k] != 0 && last.z[k] > 0;
  }

 private:
  static constexpr float kNever = std::numeric_limits<float>::infinity();

  void measure_unit_norms() {
    const ConvLayer& layer = layers_[0];
    for (int64_t p = 0; p < states_[0].outputs; ++p)
      for (int64_t c = 0; c < layer.out_stride; ++c) {
        double squared = 0;
        for (int64_t k = 0; k < layer.kernel && c < layer.out_channels; ++k)
          if (p + k >= problem_.begin && p + k < problem_.end) squared += layer.norms[c * layer.kernel + k];
        norm_[p * layer.out_stride + c] = static_cast<float>(std::sqrt(squared) * (1 + 1e-6));
      }
  }

  float dot_error(int64_t depth) const { return static_cast<float>(depth + 8) * FLT_EPSILON; }

  // One pass forward of X and of the heading. Takes every gate anew, and with them the gradient where one above the
  // first layer changed or none is known yet, and proves everything.
  void refresh() {
    problem_.evaluations += layers_[count_ - 1].out_channels;
    flips_.clear();
    bool upper_changed = !has_gradient_;
    UpperProof upper{kNever, kNever, kNever};
    const float* input = problem_.x;
    const bool proves = norm_heading_ > 0 && rests_ == 0;
    const float* heading = heading_;
    double input_norm = std::sqrt(adam_.squared_norm), heading_norm = norm_heading_, input_error = 0, climb_error = 0;
    // How much flips may bend for each heading gone: as much as they did since the last refresh.
    const double gone = now_.along - refreshed_along_;
    const float bent_per_along = std::max(0.02f * norm_heading_, gone > 0 ? static_cast<float>(bent_ / gone) : 0.0f);
    for (int64_t l = 0; l < count_; ++l) {
      const ConvLayer& layer = layers_[l];
      LayerState& state = states_[l];
      multiply(state.outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, layer.bias,
               state.z, layer.out_stride);
      if (proves)
        multiply(state.outputs, layer.out_channels, layer.span(), heading, layer.in_stride, layer.forward, nullptr,
                 state.climb, layer.out_stride);
      // Errors of z and of its slope: what the layer adds, and what it makes of its input's.
      const double added = dot_error(layer.span());
      const float z_error = static_cast<float>((added * input_norm + input_error) * (1 + 1e-5));
      const float slope_error = static_cast<float>((added * heading_norm + climb_error) * (1 + 1e-5));
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
      if (proves && l > 0) prove_upper_layer(layer, state, bounds_[l], z_error, slope_error, bent_per_along, upper);
      if (l + 1 == count_) break;
      const int64_t floats = state.outputs * layer.out_stride;
      for (int64_t i = 0; i < floats; ++i) values_[i] = state.gate[i] * state.z[i];
      input = values_;
      if (!proves) continue;
      for (int64_t i = 0; i < floats; ++i) climbs_[i] = state.gate[i] * state.climb[i];
      heading = climbs_;
      input_error = bounds_[l].frobenius * (added * input_norm + input_error);
      climb_error = bounds_[l].frobenius * (added * heading_norm + climb_error);
      input_norm = std::sqrt(dot(values_, values_, floats)) * (1 + 1e-4);
      heading_norm = std::sqrt(dot(climbs_, climbs_, floats)) * (1 + 1e-4);
    }
    if (upper_changed) {
      take_gradient();
    } else {
      for (const auto& [unit, change] : flips_) bend_gradient(unit, change);
    }
    upper_ = proves ? upper : UpperProof{};
    if (slope_ == 1) {  // open and closed are the same
      upper_ = {kNever, kNever, kNever};
      next_along_ = next_aside_ = kNever;
    }
    if (rests_ > 0) {
      --rests_;
    } else if (proves) {
      // Proofs that run out at once cost more than they save: leave them for a while.
      constexpr int64_t kTries = 8, kLongestRest = 128;
      const bool lasts = upper_.along > now_.along + 2 * last_along_;
      fails_ = lasts ? 0 : fails_ + 1;
      if (lasts) rest_ = kTries;
      if (fails_ >= kTries) {
        rests_ = rest_ = std::min(2 * rest_, kLongestRest);
        fails_ = kTries / 2;
      }
    }
    bent_ = bending_climb_ = bending_norm_ = 0;
    refreshed_along_ = now_.along;
  }

  void prove_first_layer(float z_error, float slope_error) {
    const LayerState& state = states_[0];
    const int64_t stride = layers_[0].out_stride;
    const float along = static_cast<float>(now_.along), aside = static_cast<float>(now_.aside);
    std::fill_n(along_, state.outputs * stride, kNever);
    std::fill_n(aside_, state.outputs * stride, kNever);
    constexpr float kDown = 1 - 1e-5f;
    for (int64_t p = state.first; p < state.end; ++p)
      for (int64_t i = p * stride; i < p * stride + layers_[0].out_channels; ++i) {
        const float norm = norm_[i], z = state.z[i];
        const float margin = std::max(0.0f, std::abs(z) * kDown - norm * z_error - 2 * FLT_EPSILON * std::abs(z));
        const float toward =
            std::max(0.0f, z > 0 ? -state.climb[i] : state.climb[i]) * (1 + 1e-5f) + norm * slope_error;
        // A filter that does not touch the existing rows has a constant gate.
        const float reach = norm > 0 ? margin * kDown / (toward + norm * aside_per_along_) : kNever;
        along_[i] = (along + reach) * kDown;
        aside_[i] = (aside + reach * aside_per_along_) * kDown;
      }
    find_next();
  }

  void prove_upper_layer(const ConvLayer& layer, const LayerState& state, const LayerBounds& bounds, float z_error,
                         float slope_error, float bent_per_along, UpperProof& upper) const {
    constexpr float kDown = 1 - 1e-5f;
    float shortest = kNever;
    for (int64_t p = state.first; p < state.end; ++p)
      for (int64_t c = 0; c < layer.out_channels; ++c) {
        const int64_t unit = p * layer.out_stride + c;
        const float z = state.z[unit];
        const float margin = std::max(0.0f, std::abs(z) * kDown - bounds.norm[c] * z_error);
        const float toward =
            std::max(0.0f, z > 0 ? -state.climb[unit] : state.climb[unit]) * (1 + 1e-5f) + bounds.norm[c] * slope_error;
        const float rate = toward + bounds.lipschitz[c] * aside_per_along_ + bounds.bend[c] * bent_per_along;
        shortest = std::min(shortest, rate > 0 ? margin * kDown / rate : kNever);
      }
    upper.along = std::min(upper.along, static_cast<float>(now_.along + shortest) * kDown);
    upper.aside = std::min(upper.aside, static_cast<float>(now_.aside + shortest * aside_per_along_) * kDown);
    upper.bent = std::min(upper.bent, shortest * bent_per_along * kDown);
  }

  void find_next() {
    const int64_t units = states_[0].outputs * layers_[0].out_stride;
    next_along_ = lowest(along_, units);
    next_aside_ = lowest(aside_, units);
  }

  // Evaluates the units of the first layer that are due.
  void check_first_layer() {
    const ConvLayer& layer = layers_[0];
    LayerState& state = states_[0];
    const double norm_x = std::sqrt(adam_.squared_norm);
    for_each_due(now_, along_, aside_, state.outputs * layer.out_stride, [&](int64_t unit) {
      const int64_t p = unit / layer.out_stride, k = unit % layer.out_stride;
      float z, climb;
      dot_pair(layer.rows + k * layer.span(), problem_.x + p * layer.in_stride, heading_ + p * layer.in_stride,
               layer.span(), &z, &climb);
      z += layer.bias[k];
      const float gate = z > 0 ? 1.0f : slope_;
      if (gate != state.gate[unit]) {
        bend_gradient(unit, gate - state.gate[unit]);
        state.gate[unit] = gate;
        // What the unit's activation does from here on is not what the layers above were proven with.
        bent_ += std::abs((1 - slope_) * z) * (1 + 1e-5);
        bending_climb_ += static_cast<double>(climb) * climb * (1 + 1e-5);
        bending_norm_ += static_cast<double>(norm_[unit]) * norm_[unit];
      }
      const Proof proof = prove_measured(now_, z, climb, layer.bias[k], norm_[unit], norm_x, norm_heading_,
                                         dot_error(layer.span() / (2 * kLanes)), aside_per_along_);
      along_[unit] = proof.along;
      aside_[unit] = proof.aside;
    });
    find_next();
  }

  // A flip of the first layer changes the gradient by one filter.
  void bend_gradient(int64_t unit, float change) {
    const ConvLayer& layer = layers_[0];
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
      const ConvLayer& layer = layers_[l];
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

  const ConvLayer* layers_;
  int64_t count_;
  const LayerBounds* bounds_;
  float slope_;
  Problem& problem_;
  AdamState adam_;
  float* pull_;  // whole field, as is `heading_`
  float* heading_;
  std::vector<LayerState> states_;
  float* along_;  // Proof of each unit of the first layer, and the norm of its filter over the existing rows
  float* aside_;
  float* norm_;
  float* values_;
  float* climbs_;
  float* columns_;
  std::vector<std::pair<int64_t, float>> flips_;  // of the first layer at a refresh: unit, change of its gate
  bool has_gradient_ = false;
  Travelled now_{0, 0};
  double refreshed_along_ = 0;
  double last_along_ = 0;  // of the last step
  int64_t fails_ = 0;      // proofs in a row that ran out at once
  int64_t rest_ = 8;       // how long to do without them after that
  int64_t rests_ = 0;      // refreshes left of it
  float norm_heading_ = 0;
  float aside_per_along_ = 1;
  float next_along_ = 0;
  float next_aside_ = 0;
  UpperProof upper_;
  double bent_ = 0;           // how far flips have bent the first layer's activations since the last refresh
  double bending_climb_ = 0;  // of the flipped units: sum of squared slopes, of squared norms
  double bending_norm_ = 0;
};

static int64_t stack_scratch_floats(const ConvLayer* layers, int64_t count) {
  return CertifiedStack::scratch_floats(layers, count);
}

// Every activation but tanh; the last pass leaves `gates` at the returned X.
static void optimize_stack(const ConvLayer* layers, const LayerBounds* bounds, int64_t count,
                           const AdamSettings& settings, float slope, Problem& problem, float* scratch) {
  problem.evaluations = 0;
  CertifiedStack(layers, bounds, count, slope, problem, scratch).run(settings);
}
