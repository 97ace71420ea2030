// Saliency (Eq. 1-3) of one sentence on one thread: forward through the stack, then back from the predicted class
// to the explained layer. Activations never leave the cache between the two.

#include "activation.inl"
#include "gemm.inl"

// Scratch of one sentence. The input of layer l stands at inputs(l) in length + kernel - 1 rows, the outer ones
// zero ('same' padding); its output is written straight into the middle of the next layer's input.
struct SentenceScratch {
  const Classifier* model;
  float* memory;

  static int64_t input_floats(const Classifier& model, int64_t l) {
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
static int64_t gradient_floats(const Classifier& model) {
  int64_t widest = 0;
  for (int64_t l = 0; l < model.count; ++l) widest = std::max(widest, SentenceScratch::input_floats(model, l));
  return widest;
}

static int64_t saliency_scratch_floats(const Classifier& model) {
  const int64_t last_stride = model.layers[model.count - 1].out_stride;
  int64_t total = (model.length + 1) * last_stride + 2 * gradient_floats(model), span = 0;
  for (int64_t l = 0; l < model.count; ++l) {
    total += SentenceScratch::input_floats(model, l);
    span = std::max(span, model.layers[l].span());
  }
  return total + model.length * span;
}

// Max over time and the linear layer; `position[c]` is where channel c has its maximum, the first one on a tie.
// Returns the predicted class, the lowest on a tie.
static int64_t classify(const Classifier& model, const float* values, float* maximum, int64_t* position,
                        float* class_scores) {
  const ConvLayer& last = model.layers[model.count - 1];
  for (int64_t c = 0; c < last.out_channels; ++c) {
    maximum[c] = values[c];
    position[c] = 0;
  }
  for (int64_t i = 1; i < model.length; ++i)
    for (int64_t c = 0; c < last.out_channels; ++c)
      if (values[i * last.out_stride + c] > maximum[c]) {
        maximum[c] = values[i * last.out_stride + c];
        position[c] = i;
      }
  int64_t predicted = 0;
  for (int64_t k = 0; k < model.classes; ++k) {
    double score = model.class_bias[k];
    for (int64_t c = 0; c < last.out_channels; ++c)
      score += static_cast<double>(model.class_weight[k * last.out_channels + c]) * maximum[c];
    class_scores[k] = static_cast<float>(score);
    if (class_scores[k] > class_scores[predicted]) predicted = k;
  }
  return predicted;
}

// `sentence` is (L, channels of the first layer); `position` holds one integer per channel of the last layer.
static void explain_sentence(const Classifier& model, int64_t explained, const float* sentence, float* memory,
                             int64_t* position, Explanation result) {
  const SentenceScratch scratch{&model, memory};
  const ConvLayer* layers = model.layers;
  const ConvLayer& first = layers[0];
  const ConvLayer& last = layers[model.count - 1];
  const int64_t length = model.length;

  std::memset(memory, 0, sizeof(float) * (scratch.maximum() - memory));
  for (int64_t i = 0; i < length; ++i)
    std::memcpy(scratch.inputs(0) + (i + first.left_padding()) * first.in_stride, sentence + i * first.in_channels,
                sizeof(float) * first.in_channels);
  for (int64_t l = 0; l < model.count; ++l) {
    multiply(length, layers[l].out_channels, layers[l].span(), scratch.inputs(l), layers[l].in_stride,
             layers[l].forward, layers[l].bias, scratch.outputs(l), layers[l].out_stride);
    activate_all(model.activation, scratch.outputs(l), length * layers[l].out_stride);
  }
  float* maximum = scratch.maximum();
  const int64_t predicted = classify(model, scratch.outputs(model.count - 1), maximum, position, result.class_scores);
  const float* class_row = model.class_weight + predicted * last.out_channels;

  const float* values = scratch.outputs(explained);
  const int64_t channels = layers[explained].out_channels, stride = layers[explained].out_stride;
  for (int64_t i = 0; i < length; ++i)
    std::memcpy(result.activations + i * channels, values + i * stride, sizeof(float) * channels);

  // Eq. 1 at the last layer: channel c has the gradient class_row[c] at its maximum and nowhere else.
  if (explained == model.count - 1) {
    std::memset(result.scores, 0, sizeof(float) * length);
    for (int64_t c = 0; c < channels; ++c) result.scores[position[c]] += class_row[c] * maximum[c];
    return;
  }

  // Through the last convolution: a sum of at most C filters, one at each channel's maximum.
  float* gradient = scratch.backward();
  float* lower = gradient + gradient_floats(model);
  float* columns = lower + gradient_floats(model);
  std::memset(gradient, 0, sizeof(float) * SentenceScratch::input_floats(model, model.count - 1));
  for (int64_t c = 0; c < last.out_channels; ++c) {
    const float arriving = class_row[c] * derivative(model.activation, maximum[c]);
    if (arriving != 0)
      add_scaled(gradient + position[c] * last.in_stride, arriving, last.rows + c * last.span(), last.span());
  }
  // Through every other: each location scatters its gradient over the inputs it reads.
  for (int64_t l = model.count - 2; l > explained; --l) {
    const ConvLayer& layer = layers[l];
    float* arriving = gradient + layers[l + 1].left_padding() * layer.out_stride;
    multiply_by_derivative(model.activation, scratch.outputs(l), arriving, length * layer.out_stride);
    multiply(length, layer.span(), layer.out_channels, arriving, layer.out_stride, layer.backward, nullptr, columns,
             layer.span());
    std::memset(lower, 0, sizeof(float) * SentenceScratch::input_floats(model, l));
    for (int64_t i = 0; i < length; ++i)
      add_scaled(lower + i * layer.in_stride, 1.0f, columns + i * layer.span(), layer.span());
    std::swap(gradient, lower);
  }

  // Eq. 3.
  const float* arrived = gradient + layers[explained + 1].left_padding() * stride;
  for (int64_t i = 0; i < length; ++i) result.scores[i] = dot(arrived + i * stride, values + i * stride, stride);
}
