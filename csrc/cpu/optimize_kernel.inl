// Input optimisation (Eq. 5-7) of one problem on one thread: maximise
//   a . a'(X) - lambda1 ||X||^2 + lambda2 Sim(X),   Sim(X) = ||s||^2 / N,   s = sum_i x_i / ||x_i||
// with Adam. The state of a problem stays in the first-level cache from the first step to the last.

#include "activation.inl"
#include "gemm.inl"

// Steps between two looks at which vectors have moments large enough for the short Adam formula.
constexpr int64_t kReviewSteps = 16;

// Adam's view of one problem: `rows` existing positions of `width` floats each, `used` of them real. The moments are
// kept as plain decaying sums (without the factors 1 - beta), which saves two products an element.
struct AdamState {
  int64_t rows;
  int64_t width;
  int64_t used;
  float* x;
  float* pull;  // gradient of a . a'(X)
  float* first_sum;
  float* second_sum;
  float* unit_sum;      // s, (width)
  float* inverse_norm;  // 1 / ||x_i||, or 0 for a zero row
  float* alignment;     // u_i . s
  float* needs_root;    // per vector of x: 1 where the short formula would not be exact
  float* heading;       // V, a direction that Adam took before
  double squared_norm;  // ||X||^2
  float squared_heading;
};

static inline int64_t adam_state_floats(int64_t field, int64_t width) {
  return (4 * field + 1) * width + 2 * round_up(field, kLanes) + round_up(field * width / kLanes, kLanes);
}

// Lays the state out in `scratch`, zeroed. The arrays cover the whole field, so that the gradient of a clipped
// problem can be written at its own row; x, pull and the moments then point at row `begin`.
static AdamState make_state(const Problem& problem, const ConvLayer& layer, int64_t field, float* scratch) {
  const int64_t width = layer.in_stride;
  std::memset(scratch, 0, sizeof(float) * adam_state_floats(field, width));
  AdamState state;
  state.rows = problem.end - problem.begin;
  state.width = width;
  state.used = layer.in_channels;
  state.x = problem.x + problem.begin * width;
  state.pull = scratch + problem.begin * width;
  state.first_sum = scratch + (field + problem.begin) * width;
  state.second_sum = scratch + (2 * field + problem.begin) * width;
  state.unit_sum = scratch + 3 * field * width;
  state.inverse_norm = state.unit_sum + width;
  state.alignment = state.inverse_norm + round_up(field, kLanes);
  state.needs_root = state.alignment + round_up(field, kLanes);
  state.heading = state.needs_root + round_up(field * width / kLanes, kLanes) + problem.begin * width;
  state.squared_norm = 0;
  state.squared_heading = 0;
  return state;
}

static void set_norm(AdamState& state, int64_t row, float squared) {
  state.inverse_norm[row] = squared > 0 ? 1.0f / std::sqrt(squared) : 0.0f;
  state.squared_norm += squared;
}

static void measure_norms(AdamState& state) {
  state.squared_norm = 0;
  for (int64_t row = 0; row < state.rows; ++row) {
    const float* x = state.x + row * state.width;
    set_norm(state, row, dot(x, x, state.width));
  }
}

// s and u_i . s, from which both Sim and its gradient follow in O(N D).
static void measure_similarity(AdamState& state) {
  for (int64_t d = 0; d < state.width; d += kLanes) {
    Vec total{};
    for (int64_t row = 0; row < state.rows; ++row)
      total += state.inverse_norm[row] * load(state.x + row * state.width + d);
    store(state.unit_sum + d, total);
  }
  for (int64_t row = 0; row < state.rows; ++row)
    state.alignment[row] = state.inverse_norm[row] * dot(state.x + row * state.width, state.unit_sum, state.width);
}

static AdamNumbers numbers_at(const AdamSettings& settings, int64_t step) {
  return adam_numbers(settings.learning_rate, settings.beta1, settings.beta2, settings.epsilon,
                      static_cast<double>(step));
}

// Marks the vectors in which some v may come so close to the floor, before the next review, that
//   1 / (sqrt(v) + floor) = y - floor y^2 + O(floor^2 y^3),   y = 1 / sqrt(v),
// is not exact in float32 without its last term. v loses at most a factor beta2 a step.
static void review_moments(AdamState& state, const AdamSettings& settings, int64_t step) {
  const double floor = numbers_at(settings, step + kReviewSteps - 1).floor / 2.5e-4;
  const double smallest = floor * floor / std::pow(settings.beta2, kReviewSteps);
  for (int64_t row = 0; row < state.rows; ++row) {
    float* v = state.second_sum + row * state.width;
    for (int64_t d = state.used; d < state.width; ++d) v[d] = 1;  // columns of padding: anything but 0
    for (int64_t d = 0; d < state.width; d += kLanes) {
      float low = v[d];
      for (int64_t lane = 1; lane < kLanes; ++lane) low = std::min(low, v[d + lane]);
      state.needs_root[(row * state.width + d) / kLanes] = low > smallest && low > FLT_MIN ? 0.0f : 1.0f;
    }
  }
}

enum class Heading {
  none,    // nobody asks how far X has gone
  follow,  // measure against the heading
  renew,   // make this step's direction the heading
};

// One Adam step. Returns how far it went.
template <Heading HEADING>
static Travelled adam_step(AdamState& state, const AdamSettings& settings, int64_t step) {
  // With one row Sim is the constant 1; computing its gradient would only feed rounding noise to Adam.
  const float similarity_weight = state.rows > 1 ? settings.similarity_weight : 0.0f;
  if (similarity_weight != 0) measure_similarity(state);
  if ((step - 1) % kReviewSteps == 0) review_moments(state, settings, step);

  const AdamNumbers now = numbers_at(settings, step);
  const Vec beta1 = broadcast(static_cast<float>(settings.beta1));
  const Vec beta2 = broadcast(static_cast<float>(settings.beta2));
  const Vec rate = broadcast(now.rate), floor = broadcast(now.floor);
  float squared_step = 0, product = 0;
  state.squared_norm = 0;
  for (int64_t row = 0; row < state.rows; ++row) {
    const float inverse_norm = state.inverse_norm[row];
    const float toward = 2 * similarity_weight / static_cast<float>(state.rows) * inverse_norm;
    const Vec toward_sum = broadcast(toward);
    const Vec shrink = broadcast(2 * settings.l2_weight + toward * state.alignment[row] * inverse_norm);
    float* x = state.x + row * state.width;
    float* m = state.first_sum + row * state.width;
    float* v = state.second_sum + row * state.width;
    const float* pull = state.pull + row * state.width;
    const float* needs_root = state.needs_root + row * state.width / kLanes;
    float* heading = state.heading + row * state.width;
    Vec moved{}, headed{}, norm{};
    for (int64_t d = 0; d < state.width; d += kLanes) {
      const Vec old_x = load(x + d);
      const Vec gradient = (load(pull + d) - shrink * old_x) + toward_sum * load(state.unit_sum + d);
      const Vec new_m = beta1 * load(m + d) + gradient;
      const Vec new_v = beta2 * load(v + d) + gradient * gradient;
      store(m + d, new_m);
      store(v + d, new_v);
      Vec direction;
      if (__builtin_expect(needs_root[d / kLanes] != 0, 0)) {
        direction = new_m * reciprocal(square_root(new_v) + floor);
      } else {
        // One Newton step on the estimate y and the floor's first order, in one factor.
        const Vec y = rsqrt_estimate(new_v);
        const Vec residual = 1.0f - new_v * y * y;
        direction = new_m * y * ((1.0f - floor * y) + 0.5f * residual);
      }
      const Vec new_x = old_x + rate * direction;
      store(x + d, new_x);
      if constexpr (HEADING != Heading::none) moved += direction * direction;
      if constexpr (HEADING == Heading::follow) headed += direction * load(heading + d);
      if constexpr (HEADING == Heading::renew) store(heading + d, direction);
      norm += new_x * new_x;
    }
    if constexpr (HEADING != Heading::none) squared_step += sum(moved);
    if constexpr (HEADING == Heading::follow) product += sum(headed);
    set_norm(state, row, sum(norm));
  }
  if constexpr (HEADING == Heading::renew) state.squared_heading = product = squared_step;
  return travelled(now.rate, squared_step, product, state.squared_heading, static_cast<float>(state.squared_norm),
                   static_cast<int>(state.width / kLanes + kLanes));
}

static float lowest(const float* values, int64_t count) {
  Vec low = broadcast(std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < count; i += kLanes) low = at_most(low, load(values + i));
  float lanes[kLanes];
  store(lanes, low);
  return *std::min_element(lanes, lanes + kLanes);
}

// Calls visit(i) for every one of `count` proofs, a whole number of vectors, that has run out.
template <class Visit>
static void for_each_due(Travelled now, const float* along, const float* aside, int64_t count, Visit visit) {
  // Rounded up, so that no channel that is due is passed over.
  const Vec gone_along = broadcast(static_cast<float>(now.along) * (1 + 2 * FLT_EPSILON) + FLT_MIN);
  const Vec gone_aside = broadcast(static_cast<float>(now.aside) * (1 + 2 * FLT_EPSILON) + FLT_MIN);
  for (int64_t first = 0; first < count; first += kLanes) {
    uint32_t due = above(gone_along, load(along + first)) | above(gone_aside, load(aside + first));
    for (; due != 0; due &= due - 1) visit(first + __builtin_ctz(due));
  }
}

// What certified gating keeps of the channels whose gate matters; arrays of out_channels rounded up to whole vectors.
struct CertifiedChannels {
  int64_t count = 0;
  int64_t* channel;
  float* along;  // Proof of each, and the norm of its filter over the existing rows
  float* aside;
  float* toward;
  float* norm;
  float next_along = 0;  // the lowest of each
  float next_aside = 0;

  CertifiedChannels(int64_t out_channels, float* scratch, int64_t* channels)
      : channel(channels),
        along(scratch),
        aside(along + round_up(out_channels, kLanes)),
        toward(aside + round_up(out_channels, kLanes)),
        norm(toward + round_up(out_channels, kLanes)) {}

  Proof proof(int64_t i) const { return {along[i], aside[i], toward[i]}; }

  void set(int64_t i, Proof proof) {
    along[i] = proof.along;
    aside[i] = proof.aside;
    toward[i] = proof.toward;
  }

  void find_next() {
    next_along = lowest(along, count);
    next_aside = lowest(aside, count);
  }
};

static inline int64_t certified_scratch_floats(const ConvLayer& layer) {
  return adam_state_floats(layer.kernel, layer.in_stride) + 4 * round_up(layer.out_channels, kLanes);
}

// Certified gating, first layer with a piecewise-linear activation: only channels whose proof has run out are
// evaluated, each for its pre-activation and for how that changes along the heading. `channels` holds out_channels
// entries.
static void optimize_certified(const ConvLayer& layer, const AdamSettings& settings, float slope, Problem& problem,
                               float* scratch, int64_t* channels) {
  constexpr float kNever = std::numeric_limits<float>::infinity();
  AdamState state = make_state(problem, layer, layer.kernel, scratch);
  const int64_t length = state.rows * state.width;
  const float* rows = layer.rows + problem.begin * layer.in_stride;
  measure_norms(state);

  CertifiedChannels active(layer.out_channels, scratch + adam_state_floats(layer.kernel, layer.in_stride), channels);
  for (int64_t k = 0; k < layer.out_channels; ++k) {
    problem.gates[k] = false;
    if (problem.target[k] == 0) continue;
    // A closed gate passes slope * a_k w_k; opening it adds the rest.
    add_scaled(state.pull, slope * problem.target[k], rows + k * layer.span(), length);
    double squared_norm = 0;
    for (int64_t p = problem.begin; p < problem.end; ++p) squared_norm += layer.norms[k * layer.kernel + p];
    active.channel[active.count] = k;
    active.norm[active.count] = static_cast<float>(std::sqrt(squared_norm) * (1 + 1e-6));
    active.set(active.count++, {0, 0, 0});
  }
  for (int64_t i = active.count; i < round_up(active.count, kLanes); ++i) active.set(i, {kNever, kNever, 0});

  // Error of a float32 dot product, as a multiple of the norms.
  const double dot_error = (static_cast<double>(length / (2 * kLanes)) + 8) * FLT_EPSILON;
  Travelled now{0, 0};
  float norm_heading = 0;
  double aside_per_along = 1;
  int64_t renewed = 0;
  bool renew = false;
  problem.evaluations = 0;
  for (int64_t step = 1;; ++step) {
    if (now.along >= active.next_along || now.aside >= active.next_aside) {
      const double norm_x = std::sqrt(state.squared_norm);
      for_each_due(now, active.along, active.aside, active.count, [&](int64_t i) {
        const int64_t k = active.channel[i];
        const float* row = rows + k * layer.span();
        float z, climb;
        dot_pair(row, state.x, state.heading, length, &z, &climb);
        z += layer.bias[k];
        const bool open = z > 0;
        if (open != problem.gates[k]) {
          const float rest = (1 - slope) * problem.target[k];
          add_scaled(state.pull, open ? rest : -rest, row, length);
          problem.gates[k] = open;
        }
        active.set(i, prove_measured(now, z, climb, layer.bias[k], active.norm[i], norm_x, norm_heading, dot_error,
                                     aside_per_along));
        ++problem.evaluations;
      });
      active.find_next();
    }
    if (step > settings.steps) break;  // the last pass leaves `gates` at the returned X
    const Travelled gone =
        renew ? adam_step<Heading::renew>(state, settings, step) : adam_step<Heading::follow>(state, settings, step);
    if (gone.along > 0) aside_per_along = gone.aside / gone.along;
    if (renew) {
      norm_heading = std::sqrt(state.squared_heading) * (1 + 1e-5f);
      aside_per_along = kFirstAside * norm_heading;
      for (int64_t i = 0; i < active.count; ++i)
        active.set(i, prove_again(now, active.proof(i), active.norm[i], norm_heading, aside_per_along));
      active.find_next();
      renewed = step;
    }
    now.along += gone.along;
    now.aside += gone.aside;
    renew = heading_is_spent(step, renewed, gone, norm_heading);
  }
}

// Receptive-field width of the stack's last layer; it shrinks by kernel - 1 with each layer, down to 1.
static inline int64_t field_of(const ConvLayer* layers, int64_t count) {
  int64_t field = 1;
  for (int64_t l = 0; l < count; ++l) field += layers[l].kernel - 1;
  return field;
}

#include "certified_stack.inl"

static int64_t dense_scratch_floats(const ConvLayer* layers, int64_t count) {
  int64_t field = field_of(layers, count);
  int64_t total = adam_state_floats(field, layers[0].in_stride);
  int64_t widest = 0;
  for (int64_t l = 0; l < count; ++l) {
    const int64_t outputs = field - layers[l].kernel + 1;
    total += 2 * outputs * layers[l].out_stride;  // activations and their gradients
    widest = std::max(widest, outputs * layers[l].kernel * layers[l].in_stride);
    field = outputs;
  }
  return total + widest + layers[count - 1].out_stride;
}

// One pass through the stack: a'(X) forward, then the gradient of a . a'(X) into `pull` (whole field).
static void dense_gradient(const ConvLayer* layers, int64_t count, Activation activation, const Problem& problem,
                           int64_t field, bool forward_only, float* buffers, float* pull, float* last_values) {
  // forward
  float* cursor = buffers;
  const float* input = problem.x;
  int64_t rows = field, offset = 0;
  for (int64_t l = 0; l < count; ++l) {
    const ConvLayer& layer = layers[l];
    const int64_t outputs = rows - layer.kernel + 1;
    offset += layer.left_padding();
    multiply(outputs, layer.out_channels, layer.span(), input, layer.in_stride, layer.forward, layer.bias, cursor,
             layer.out_stride);
    if (l == count - 1) std::memcpy(last_values, cursor, sizeof(float) * layer.out_stride);
    for (int64_t p = 0; p < outputs; ++p) {
      float* row = cursor + p * layer.out_stride;
      // Outside the sentence frame a convolution sees zeros, not the activation of a bias.
      const bool exists = p + offset >= problem.begin && p + offset < problem.end;
      for (int64_t c = 0; c < layer.out_stride; ++c) row[c] = exists ? activate(activation, row[c]) : 0.0f;
    }
    input = cursor;
    cursor += 2 * outputs * layer.out_stride;
    rows = outputs;
  }
  if (forward_only) return;

  // backward
  float* columns = cursor;
  int64_t outputs = 1;
  for (int64_t l = count - 1; l >= 0; --l) {
    const ConvLayer& layer = layers[l];
    float* values = cursor - 2 * outputs * layer.out_stride;
    float* slopes = values + outputs * layer.out_stride;
    cursor = values;
    for (int64_t p = 0; p < outputs; ++p) {
      const bool exists = p + offset >= problem.begin && p + offset < problem.end;
      for (int64_t c = 0; c < layer.out_channels; ++c) {
        const int64_t i = p * layer.out_stride + c;
        const float arriving = l == count - 1 ? problem.target[c] : slopes[i];
        slopes[i] = exists ? arriving * derivative(activation, values[i]) : 0.0f;
      }
    }
    const int64_t span = layer.span();
    multiply(outputs, span, layer.out_channels, slopes, layer.out_stride, layer.backward, nullptr, columns, span);
    const int64_t inputs = outputs + layer.kernel - 1;
    float* gradient = l == 0 ? pull : cursor - inputs * layer.in_stride;
    std::memset(gradient, 0, sizeof(float) * inputs * layer.in_stride);
    for (int64_t p = 0; p < outputs; ++p) add_scaled(gradient + p * layer.in_stride, 1.0f, columns + p * span, span);
    offset -= layer.left_padding();
    outputs = inputs;
  }
}

// Any activation: the whole gradient at every step.
static void optimize_dense(const ConvLayer* layers, int64_t count, const AdamSettings& settings, Activation activation,
                           Problem& problem, float* scratch) {
  const int64_t field = field_of(layers, count);
  const ConvLayer& last = layers[count - 1];
  AdamState state = make_state(problem, layers[0], field, scratch);
  float* pre_activations = scratch + adam_state_floats(field, layers[0].in_stride);
  float* buffers = pre_activations + last.out_stride;
  float* pull = scratch;  // row 0 of the field; state.pull starts at row `begin`
  measure_norms(state);
  for (int64_t step = 1; step <= settings.steps; ++step) {
    dense_gradient(layers, count, activation, problem, field, false, buffers, pull, pre_activations);
    adam_step<Heading::none>(state, settings, step);
  }
  dense_gradient(layers, count, activation, problem, field, true, buffers, pull, pre_activations);
  for (int64_t k = 0; k < last.out_channels; ++k) problem.gates[k] = problem.target[k] != 0 && pre_activations[k] > 0;
  problem.evaluations = (settings.steps + 1) * last.out_channels;
}
