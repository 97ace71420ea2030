// Saliency (Eq. 1-3) of one sentence on one thread: forward through the stack, then back from the predicted class
// to the explained layer. Activations never leave the cache between the two. A location that sees no token has the
// activations of the sentence that is all padding, which are computed once and copied.
#if defined(FASTINTERP_SALIENCY_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_SALIENCY_INL_H
#undef FASTINTERP_SALIENCY_INL_H
#else
#define FASTINTERP_SALIENCY_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "../shared/activation-inl.h"
#include "../shared/float_buffer.h"
#include "../shared/gemm-inl.h"
#include "../shared/isa_region.h"
#include "../shared/packed_layer.h"
#include "../shared/packed_stack-inl.h"
#include "../shared/simd-inl.h"
#include "../shared/stack.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// Scratch of one sentence. The input of layer l stands at inputs(l) in length + kernel - 1 rows, the outer ones
// zero ('same' padding); its output is written straight into the middle of the next layer's input.
struct SentenceScratch {
  const TextNetwork* model;
  float* memory;

  static int64_t input_floats(const TextNetwork& model, int64_t l) {
    return (model.length + model.layers[l].kernel - 1) * model.layers[l].in_stride;
  }

  float* inputs(int64_t l) const {
    float* cursor = memory;
    for (int64_t i = 0; i < l; ++i) cursor += input_floats(*model, i);
    return cursor;
  }

  float* outputs(int64_t l) const {
    float* next = inputs(l + 1);
    return l + 1 == model->count ? next : next + model->layers[l + 1].left_padding() * model->layers[l].out_stride;
  }

  float* maximum() const {
    return outputs(model->count - 1) + model->length * model->layers[model->count - 1].out_stride;
  }
  float* backward() const { return maximum() + model->layers[model->count - 1].out_stride; }
};

// The widest gradient with respect to a padded input, in floats.
static int64_t gradient_floats(const TextNetwork& model) {
  int64_t widest = 0;
  for (int64_t l = 0; l < model.count; ++l) widest = std::max(widest, SentenceScratch::input_floats(model, l));
  return widest;
}

static int64_t saliency_scratch_floats(const TextNetwork& model) {
  const int64_t last_stride = model.layers[model.count - 1].out_stride;
  int64_t total = (model.length + 1) * last_stride + 2 * gradient_floats(model), span = 0;
  for (int64_t l = 0; l < model.count; ++l) {
    total += SentenceScratch::input_floats(model, l);
    span = std::max(span, model.layers[l].span());
  }
  return total + model.length * span;
}

// What every sentence shares: the sentence of nothing but padding, and where its channels have their maximum from
// each location on.
struct PaddingColumns {
  SentenceScratch scratch;
  std::vector<int64_t> maximum_from;  // (L, channels of the last layer): the first location of the highest value
};

// Forward through the stack. Rows of outputs(l) from the first that sees no token on come from `padding`, or are
// computed where that is null.
static void forward(const TextNetwork& model, const float* tokens, int64_t token_count, const PaddingColumns* padding,
                    SentenceScratch scratch) {
  const PackedLayer& first = model.layers[0];
  int64_t seen = token_count;
  for (int64_t l = 0; l < model.count; ++l) {
    const PackedLayer& layer = model.layers[l];
    seen = padding == nullptr ? model.length : seen == 0 ? 0 : std::min(model.length, seen + layer.left_padding());
    if (l == 0) {
      float* rows = scratch.inputs(0) + first.left_padding() * first.in_stride;
      for (int64_t i = 0; i < token_count; ++i)
        std::memcpy(rows + i * first.in_stride, tokens + i * first.in_channels, sizeof(float) * first.in_channels);
      const int64_t read = std::min(model.length, seen + first.kernel);
      if (read > token_count)
        std::memset(rows + token_count * first.in_stride, 0, sizeof(float) * (read - token_count) * first.in_stride);
    }
    multiply(seen, layer.out_channels, layer.span(), scratch.inputs(l), layer.in_stride, layer.forward, layer.bias,
             scratch.outputs(l), layer.out_stride);
    activate_all(model.activation, scratch.outputs(l), seen * layer.out_stride);
    if (padding != nullptr)
      std::memcpy(scratch.outputs(l) + seen * layer.out_stride, padding->scratch.outputs(l) + seen * layer.out_stride,
                  sizeof(float) * (model.length - seen) * layer.out_stride);
  }
}

static PaddingColumns explain_padding(const TextNetwork& model, float* memory) {
  PaddingColumns padding{{&model, memory}, {}};
  forward(model, nullptr, 0, nullptr, padding.scratch);
  const PackedLayer& last = model.layers[model.count - 1];
  const float* values = padding.scratch.outputs(model.count - 1);
  const int64_t channels = last.out_channels;
  padding.maximum_from.resize(model.length * channels);
  for (int64_t i = model.length - 1; i >= 0; --i)
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t after = i + 1 < model.length ? padding.maximum_from[(i + 1) * channels + c] : i;
      const bool higher = values[after * last.out_stride + c] > values[i * last.out_stride + c];
      padding.maximum_from[i * channels + c] = higher ? after : i;
    }
  return padding;
}

// Max over time and the linear layer; `position[c]` is where channel c has its maximum, the first one on a tie.
// Returns the predicted class, the lowest on a tie.
static int64_t classify(const TextNetwork& model, const PaddingColumns& padding, int64_t seen, const float* values,
                        float* maximum, int64_t* position, float* class_scores) {
  const PackedLayer& last = model.layers[model.count - 1];
  const int64_t channels = last.out_channels;
  for (int64_t c = 0; c < channels; ++c) {
    position[c] = seen == 0 ? padding.maximum_from[c] : 0;
    maximum[c] = values[position[c] * last.out_stride + c];
  }
  for (int64_t i = 1; i < seen; ++i)
    for (int64_t c = 0; c < channels; ++c)
      if (values[i * last.out_stride + c] > maximum[c]) {
        maximum[c] = values[i * last.out_stride + c];
        position[c] = i;
      }
  for (int64_t c = 0; 0 < seen && seen < model.length && c < channels; ++c) {
    const int64_t unseen = padding.maximum_from[seen * channels + c];
    if (values[unseen * last.out_stride + c] > maximum[c]) {
      maximum[c] = values[unseen * last.out_stride + c];
      position[c] = unseen;
    }
  }
  int64_t predicted = 0;
  for (int64_t k = 0; k < model.classes; ++k) {
    double score = model.class_bias[k];
    for (int64_t c = 0; c < channels; ++c)
      score += static_cast<double>(model.class_weight[k * channels + c]) * maximum[c];
    class_scores[k] = static_cast<float>(score);
    if (class_scores[k] > class_scores[predicted]) predicted = k;
  }
  return predicted;
}

// What a thread keeps from one sentence to the next.
struct SentenceMemory {
  FloatBuffer floats;               // of SentenceScratch
  std::vector<int64_t> position;    // (channels of the last layer): where each has its maximum
  std::vector<char> reached;        // (L): locations of a layer that the gradient reaches
  std::vector<char> reached_below;  // (L): those of the layer below it

  explicit SentenceMemory(const TextNetwork& model)
      : floats(saliency_scratch_floats(model)),
        position(model.layers[model.count - 1].out_channels),
        reached(model.length),
        reached_below(model.length) {}
};

// `tokens` is (token_count, channels of the first layer).
static void explain_sentence(const TextNetwork& model, const PaddingColumns& padding, const float* tokens,
                             int64_t token_count, SentenceMemory& memory, Explanation result) {
  const SentenceScratch scratch{&model, memory.floats.data()};
  const int64_t explained = model.explained;
  int64_t* position = memory.position.data();
  std::vector<char>&reached = memory.reached, &reached_below = memory.reached_below;
  const PackedLayer* layers = model.layers;
  const PackedLayer& last = layers[model.count - 1];
  const int64_t length = model.length;
  forward(model, tokens, token_count, &padding, scratch);

  int64_t seen = token_count;
  for (int64_t l = 0; l < model.count && seen > 0; ++l) seen = std::min(length, seen + layers[l].left_padding());
  float* maximum = scratch.maximum();
  const int64_t predicted =
      classify(model, padding, seen, scratch.outputs(model.count - 1), maximum, position, result.class_scores);
  const float* class_row = model.class_weight + predicted * last.out_channels;

  const float* values = scratch.outputs(explained);
  const int64_t channels = layers[explained].out_channels, stride = layers[explained].out_stride;
  if (result.activations != nullptr)
    for (int64_t i = 0; i < length; ++i)
      std::memcpy(result.activations + i * channels, values + i * stride, sizeof(float) * channels);

  // Eq. 1 at the last layer: channel c has the gradient class_row[c] at its maximum and nowhere else.
  std::memset(result.scores, 0, sizeof(float) * length);
  if (explained == model.count - 1) {
    for (int64_t c = 0; c < channels; ++c) result.scores[position[c]] += class_row[c] * maximum[c];
    return;
  }

  // Through the last convolution: a sum of at most C filters, one at each channel's maximum. `reached` marks the
  // locations that read them; all others have no gradient.
  float* gradient = scratch.backward();
  float* lower = gradient + gradient_floats(model);
  float* columns = lower + gradient_floats(model);
  std::memset(gradient, 0, sizeof(float) * SentenceScratch::input_floats(model, model.count - 1));
  std::fill(reached.begin(), reached.end(), 0);
  const auto mark = [length](std::vector<char>& flags, const PackedLayer& layer, int64_t first, int64_t end) {
    const int64_t low = std::max<int64_t>(0, first - layer.left_padding());
    const int64_t high = std::min(length, end + layer.kernel - 1 - layer.left_padding());
    std::fill(flags.begin() + low, flags.begin() + high, 1);
  };
  for (int64_t c = 0; c < last.out_channels; ++c) {
    const float arriving = class_row[c] * derivative(model.activation, maximum[c]);
    if (arriving == 0) continue;
    add_scaled(gradient + position[c] * last.in_stride, arriving, last.rows + c * last.span(), last.span());
    mark(reached, last, position[c], position[c] + 1);
  }
  // Through every other: each reached location scatters its gradient over the inputs it reads.
  for (int64_t l = model.count - 2; l > explained; --l) {
    const PackedLayer& layer = layers[l];
    float* arriving = gradient + layers[l + 1].left_padding() * layer.out_stride;
    std::memset(lower, 0, sizeof(float) * SentenceScratch::input_floats(model, l));
    std::fill(reached_below.begin(), reached_below.end(), 0);
    for (int64_t first = 0; first < length; ++first) {
      if (!reached[first]) continue;
      int64_t end = first;
      while (end < length && reached[end]) ++end;
      float* run = arriving + first * layer.out_stride;
      multiply_by_derivative(model.activation, scratch.outputs(l) + first * layer.out_stride, run,
                             (end - first) * layer.out_stride);
      multiply(end - first, layer.span(), layer.out_channels, run, layer.out_stride, layer.backward, nullptr, columns,
               layer.span());
      for (int64_t i = first; i < end; ++i)
        add_scaled(lower + i * layer.in_stride, 1.0f, columns + (i - first) * layer.span(), layer.span());
      mark(reached_below, layer, first, end);
      first = end;
    }
    std::swap(gradient, lower);
    reached.swap(reached_below);
  }

  // Eq. 3.
  const float* arrived = gradient + layers[explained + 1].left_padding() * stride;
  for (int64_t i = 0; i < length; ++i)
    if (reached[i]) result.scores[i] = dot(arrived + i * stride, values + i * stride, stride);
}

static void explain_sentences(const ConvStack& stack, TextNetwork model, const SaliencyBatch& batch) {
  const int64_t last = stack.size() - 1;
  PackedStack packed;
  for (int64_t l = 0; l <= last; ++l) packed.add(stack.layers[l], {l == last, true, l > model.explained && l < last});
  model.layers = packed.layers();
  const int64_t width = model.layers[0].in_channels, channels = model.layers[model.explained].out_channels;
  FloatBuffer padding_memory(saliency_scratch_floats(model));
  const PaddingColumns padding = explain_padding(model, padding_memory.data());
  at::parallel_for(0, batch.count, 1, [&](int64_t first, int64_t end) {
    SentenceMemory memory(model);
    for (int64_t b = first; b < end; ++b)
      explain_sentence(model, padding, batch.embedded + b * batch.positions * width, batch.lengths[b], memory,
                       {batch.scores + b * model.length, batch.class_scores + b * model.classes,
                        batch.activations == nullptr ? nullptr : batch.activations + b * model.length * channels});
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
