// The operators on a GPU: checks tensors, lays weights out, allocates, launches. Needs no CUDA header and no CUDA build
// of torch to compile. Values that live on the GPU are not looked at, so nothing here waits for it: rows, lengths and
// k out of range, which the CPU operators refuse, are clamped by the kernels.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/library.h>

#include "../problems.h"
#include "../schemas.h"
#include "ccp.h"
#include "device.h"
#include "optimize.h"
#include "saliency.h"
#include "topk.h"

namespace fastinterp::cuda {
namespace {

// The device of the first tensor made current, and the stream that is current there.
class OnDevice {
 public:
  explicit OnDevice(at::Device device) : guard_(device) {
#ifndef FASTINTERP_EMULATED
    use_device(device.index());
    stream_ = c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
#endif
  }
  void* stream() const { return stream_; }

 private:
  c10::DeviceGuard guard_;
  void* stream_ = nullptr;
};

void check_same_device(at::Device device, at::TensorList tensors, const char* names) {
  for (const at::Tensor& tensor : tensors)
    TORCH_CHECK_VALUE(tensor.device() == device, names, ": expected all on ", device, ", got one on ", tensor.device());
}

// (C, K, C_in) of torch's (C, C_in, K): one filter after another.
at::Tensor filter_rows(const at::Tensor& weight) { return weight.permute({0, 2, 1}).contiguous(); }

// Whether row `first` + i of a receptive field lies inside the sentence frame, (B, count, 1).
at::Tensor existing(const at::Tensor& begin, const at::Tensor& end, int64_t first, int64_t count) {
  const at::Tensor place = at::arange(first, first + count, begin.options());
  return place.ge(begin.unsqueeze(1)).logical_and_(place.lt(end.unsqueeze(1))).unsqueeze(2);
}

// The gradient of a . a'(X) through a whole stack, by the products of torch's BLAS.
class DenseStack {
 public:
  DenseStack(const ConvStack& stack, at::TensorList weights, at::TensorList biases, const at::Tensor& begin,
             const at::Tensor& end)
      : stack_(stack), biases_(biases.vec()) {
    int64_t rows = stack.field(stack.size() - 1), offset = 0;
    for (int64_t l = 0; l < stack.size(); ++l) {
      const ConvWeights& layer = stack.layers[l];
      rows -= layer.kernel - 1;
      offset += (layer.kernel - 1) / 2;
      filters_.push_back(filter_rows(weights[l]).flatten(1));  // (C, K * C_in)
      exists_.push_back(existing(begin, end, offset, rows));
    }
  }

  // The last layer's values before the activation, (B, C); keeps what `gradient` needs.
  at::Tensor forward(const at::Tensor& x) {
    values_.clear();
    at::Tensor hidden = x, reached;
    for (int64_t l = 0; l < stack_.size(); ++l) {
      const ConvWeights& layer = stack_.layers[l];
      const int64_t problems = hidden.size(0), rows = hidden.size(1), outputs = rows - layer.kernel + 1;
      const int64_t span = layer.kernel * layer.in_channels;
      const at::Tensor windows =
          hidden.as_strided({problems, outputs, span}, {rows * layer.in_channels, layer.in_channels, 1})
              .reshape({problems * outputs, span});
      reached = at::addmm(biases_[l], windows, filters_[l].t());
      // Outside the sentence frame a convolution sees zeros, not the activation of a bias.
      hidden = activate(reached).view({problems, outputs, layer.out_channels}).mul(exists_[l]);
      values_.push_back(hidden);
    }
    return reached;
  }

  at::Tensor gradient(const at::Tensor& target) const {
    at::Tensor arriving = target.unsqueeze(1);
    for (int64_t l = stack_.size() - 1; l >= 0; --l) {
      const ConvWeights& layer = stack_.layers[l];
      const int64_t problems = arriving.size(0), outputs = arriving.size(1);
      const at::Tensor slopes = arriving.mul(derivative(values_[l])).mul(exists_[l]);
      const at::Tensor columns = at::mm(slopes.view({problems * outputs, layer.out_channels}), filters_[l])
                                     .view({problems, outputs, layer.kernel, layer.in_channels});
      arriving = at::zeros({problems, outputs + layer.kernel - 1, layer.in_channels}, target.options());
      for (int64_t k = 0; k < layer.kernel; ++k) arriving.narrow(1, k, outputs).add_(columns.select(2, k));
    }
    return arriving;
  }

 private:
  at::Tensor activate(const at::Tensor& z) const {
    return stack_.activation.is_tanh ? at::tanh(z) : at::leaky_relu(z, stack_.activation.slope);
  }
  at::Tensor derivative(const at::Tensor& values) const {
    if (stack_.activation.is_tanh) return values.square().neg_().add_(1);
    return at::where(values.gt(0), at::Scalar(1.0f), at::Scalar(stack_.activation.slope)).to(values.scalar_type());
  }

  const ConvStack& stack_;
  std::vector<at::Tensor> biases_, filters_, exists_, values_;
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> optimize_adam(
    const at::Tensor& target, at::TensorList weights, at::TensorList biases, const at::Tensor& start,
    const at::Tensor& begin, const at::Tensor& end, c10::string_view activation, int64_t steps, double l2_weight,
    double similarity_weight, double learning_rate, double beta1, double beta2, double epsilon) {
  const ConvStack stack =
      check_adam(target, weights, biases, start, begin, end, std::string(activation), steps, epsilon);
  check_same_device(target.device(), {start, begin, end}, "start, begin, end");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  const OnDevice on(target.device());
  const int64_t problems = target.size(0), field = start.size(1), width = start.size(2);
  const int64_t channels = target.size(1);
  const AdamWeights adam{static_cast<float>(l2_weight), static_cast<float>(similarity_weight),
                         static_cast<float>(beta1), static_cast<float>(beta2)};
  const at::Tensor table = at::empty({steps, 2}, start.options());
  auto* numbers = reinterpret_cast<AdamNumbers*>(table.data_ptr<float>());
  adam_table({learning_rate, beta1, beta2, epsilon, steps, numbers}, on.stream());

  if (stack.size() == 1 && !stack.activation.is_tanh && fits_certified(channels, field, width)) {
    at::Tensor optimum = at::zeros_like(start);
    at::Tensor gates = at::zeros({problems, channels}, start.options().dtype(at::kBool));
    at::Tensor evaluations = at::zeros({problems}, begin.options());
    const at::Tensor rows = filter_rows(weights[0]);
    const at::Tensor squared_norms = rows.to(at::kDouble).square().sum(2);
    certified_adam(
        {target.const_data_ptr<float>(), rows.const_data_ptr<float>(), squared_norms.const_data_ptr<double>(),
         stack.layers[0].bias, start.const_data_ptr<float>(), begin.const_data_ptr<int64_t>(),
         end.const_data_ptr<int64_t>(), numbers, adam, stack.activation.slope, static_cast<int>(steps),
         static_cast<int>(channels), static_cast<int>(field), static_cast<int>(width), optimum.data_ptr<float>(),
         gates.data_ptr<bool>(), evaluations.data_ptr<int64_t>()},
        problems, on.stream());
    return {optimum, gates, evaluations};
  }
  at::Tensor x = start.mul(existing(begin, end, 0, field));
  const at::Tensor first_sum = at::zeros_like(x), second_sum = at::zeros_like(x);
  DenseStack dense(stack, weights, biases, begin, end);
  for (int64_t step = 0; step < steps; ++step) {
    dense.forward(x);
    const at::Tensor pull = dense.gradient(target);
    dense_adam_step({pull.const_data_ptr<float>(), begin.const_data_ptr<int64_t>(), end.const_data_ptr<int64_t>(),
                     numbers + step, adam, static_cast<int>(field), static_cast<int>(width), x.data_ptr<float>(),
                     first_sum.data_ptr<float>(), second_sum.data_ptr<float>()},
                    problems, on.stream());
  }
  const at::Tensor gates = dense.forward(x).gt(0).logical_and_(target.ne(0));
  return {x, gates, at::full({problems}, (steps + 1) * channels, begin.options())};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> optimize_ccp(const at::Tensor& target,
                                                                        at::TensorList weights, at::TensorList biases,
                                                                        const at::Tensor& begin, const at::Tensor& end,
                                                                        c10::string_view activation,
                                                                        int64_t max_iterations, double tolerance,
                                                                        double l2_weight, double similarity_weight) {
  const ConvStack stack =
      check_ccp(target, weights, biases, begin, end, std::string(activation), max_iterations, l2_weight);
  check_same_device(target.device(), {begin, end, weights[0], biases[0]}, "begin, end, weights, biases");
  const int64_t problems = target.size(0), channels = target.size(1), kernel = stack.layers[0].kernel;
  const int64_t width = stack.layers[0].in_channels;
  constexpr int64_t kMostBytes = 160 * 1024;  // of shared memory, what every GPU from sm_80 on can give a block
  TORCH_CHECK_VALUE(ccp_bytes(channels, kernel, width) <= kMostBytes, "weights: a layer of shape ", weights[0].sizes(),
                    " is too large for this solver on a GPU");
  const OnDevice on(target.device());
  const at::Tensor rows = filter_rows(weights[0]);
  // What depends on the edge, for every edge that a receptive field can have.
  std::vector<at::Tensor> grams, norms;
  const int64_t center = stack.center(0);
  for (int64_t first = 0; first <= center; ++first)
    for (int64_t last = center + 1; last <= kernel; ++last) {
      const at::Tensor part = rows.slice(1, first, last).flatten(1);
      grams.push_back(at::mm(part, part.t()));
      norms.push_back(part.to(at::kDouble).square().sum(1).sqrt_());
    }
  const at::Tensor gram = at::stack(grams), norm = at::stack(norms);
  at::Tensor optimum = at::zeros({problems, kernel, width}, target.options());
  at::Tensor gates = at::zeros({problems, channels}, target.options().dtype(at::kBool));
  at::Tensor iterations = at::zeros({problems}, begin.options());
  at::Tensor residual = at::zeros({problems}, target.options());
  ccp({target.const_data_ptr<float>(), rows.const_data_ptr<float>(), stack.layers[0].bias, gram.const_data_ptr<float>(),
       norm.const_data_ptr<double>(), begin.const_data_ptr<int64_t>(), end.const_data_ptr<int64_t>(), l2_weight,
       similarity_weight, tolerance, max_iterations, activation == "relu", static_cast<int>(channels),
       static_cast<int>(kernel), static_cast<int>(width), optimum.data_ptr<float>(), gates.data_ptr<bool>(),
       iterations.data_ptr<int64_t>(), residual.data_ptr<float>()},
      problems, on.stream());
  return {optimum, gates, iterations, residual};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> saliency(const at::Tensor& embedded, const at::Tensor& lengths,
                                                        int64_t frame, at::TensorList weights, at::TensorList biases,
                                                        const at::Tensor& class_weight, const at::Tensor& class_bias,
                                                        c10::string_view activation, int64_t layer,
                                                        bool keep_activations) {
  const ConvStack stack = check_saliency(embedded, lengths, frame, weights, biases, class_weight, class_bias,
                                         std::string(activation), layer);
  check_same_device(embedded.device(), {lengths, class_weight, class_bias}, "lengths, class_weight, class_bias");
  check_same_device(embedded.device(), weights, "weights");
  check_same_device(embedded.device(), biases, "biases");
  TORCH_CHECK_VALUE(stack.size() <= kMostLayers, "weights: expected at most ", kMostLayers, " layers on a GPU, got ",
                    stack.size());
  const OnDevice on(embedded.device());
  const int64_t count = embedded.size(0), classes = class_weight.size(0), last = stack.size() - 1;
  const at::TensorOptions floats = embedded.options();
  at::Tensor scores = at::empty({count, frame}, floats), class_scores = at::empty({count, classes}, floats);
  at::Tensor activations = at::empty({keep_activations ? count : 0, frame, stack.layers[layer].out_channels}, floats);

  Sentences sentences{};
  std::vector<at::Tensor> kept;
  int64_t widest = embedded.size(2);
  for (int64_t l = 0; l <= last; ++l) {
    const ConvWeights& weight = stack.layers[l];
    kept.push_back(weights[l].permute({2, 1, 0}).contiguous());  // (K, C_in, C)
    const at::Tensor& forward = kept.back();
    sentences.layers[l].forward = forward.const_data_ptr<float>();
    kept.push_back(weights[l].permute({2, 0, 1}).contiguous());  // (K, C, C_in)
    sentences.layers[l].backward = kept.back().const_data_ptr<float>();
    kept.push_back(at::empty({frame, weight.out_channels}, floats));
    sentences.layers[l].padding = kept.back().data_ptr<float>();
    sentences.layers[l].bias = weight.bias;
    sentences.layers[l].values = sentences.scratch_floats;
    sentences.layers[l].in_channels = static_cast<int>(weight.in_channels);
    sentences.layers[l].out_channels = static_cast<int>(weight.out_channels);
    sentences.layers[l].kernel = static_cast<int>(weight.kernel);
    sentences.scratch_floats += frame * weight.out_channels;
    widest = std::max(widest, weight.out_channels);
  }
  sentences.gradient = sentences.scratch_floats;
  sentences.gradient_floats = frame * widest;
  sentences.scratch_floats += 2 * sentences.gradient_floats;
  const int64_t blocks = saliency_blocks(count);
  const at::Tensor scratch = at::empty({blocks, sentences.scratch_floats}, floats);
  const at::Tensor padding_maximum = at::empty({frame, stack.layers[last].out_channels}, floats.dtype(at::kInt));
  sentences.embedded = embedded.const_data_ptr<float>();
  sentences.lengths = lengths.const_data_ptr<int64_t>();
  sentences.count = count;
  sentences.positions = static_cast<int>(embedded.size(1));
  sentences.frame = static_cast<int>(frame);
  sentences.layer_count = static_cast<int>(stack.size());
  sentences.explained = static_cast<int>(layer);
  sentences.is_tanh = stack.activation.is_tanh;
  sentences.slope = stack.activation.slope;
  sentences.class_weight = class_weight.const_data_ptr<float>();
  sentences.class_bias = class_bias.const_data_ptr<float>();
  sentences.classes = static_cast<int>(classes);
  sentences.padding_maximum = padding_maximum.data_ptr<int>();
  sentences.scratch = scratch.data_ptr<float>();
  sentences.scores = scores.data_ptr<float>();
  sentences.class_scores = class_scores.data_ptr<float>();
  sentences.activations = keep_activations ? activations.data_ptr<float>() : nullptr;
  saliency(sentences, blocks, on.stream());
  return {scores, class_scores, activations};
}

std::tuple<at::Tensor, at::Tensor> cosine_topk(const at::Tensor& queries, const at::Tensor& vocabulary,
                                               const at::Tensor& inverse_norms, int64_t k) {
  check_search(queries, vocabulary, inverse_norms);
  check_same_device(queries.device(), {vocabulary, inverse_norms}, "vocabulary, inverse_norms");
  const int64_t count = queries.size(0), words = vocabulary.size(0), width = queries.size(1);
  const int64_t most = std::min<int64_t>(words, kMostNeighbors);
  TORCH_CHECK_VALUE(k >= 1 && k <= most, "k: expected 1 to ", most, " on a GPU, got ", k);
  TORCH_CHECK_VALUE(words <= std::numeric_limits<int>::max(), "vocabulary: too many words, ", words);
  const OnDevice on(queries.device());
  const at::TensorOptions floats = queries.options(), integers = floats.dtype(at::kLong);
  at::Tensor cosines = at::empty({count, k}, floats), indices = at::empty({count, k}, integers);
  const bool coded = count > kFewQueries;
  const int64_t shares = search_shares(count, words), lists = search_lists(count, shares);
  // Zeroed, since the last tile of either may be only part full.
  const at::Tensor query_bytes = at::zeros({coded ? code_bytes(count, width) : 0}, floats.dtype(at::kChar));
  const at::Tensor word_bytes = at::zeros({coded ? code_bytes(words, width) : 0}, floats.dtype(at::kChar));
  const at::Tensor query_numbers = at::empty({2, coded ? count : 0}, floats);
  const at::Tensor word_numbers = at::empty({2, coded ? words : 0}, floats);
  const at::Tensor longest = at::zeros({1}, floats), units = at::empty_like(queries);
  const at::Tensor found_cosines = at::empty({lists, count, k}, floats);
  const at::Tensor found_indices = at::empty({lists, count, k}, integers);
  const auto codes_of = [&](const at::Tensor& bytes, const at::Tensor& numbers) {
    float* scale = numbers.data_ptr<float>();
    return Codes{coded ? bytes.data_ptr<int8_t>() : nullptr, scale, scale + numbers.size(1), longest.data_ptr<float>()};
  };
  search({queries.const_data_ptr<float>(), vocabulary.const_data_ptr<float>(), inverse_norms.const_data_ptr<float>(),
          count, words, static_cast<int>(width), static_cast<int>(k), static_cast<int>(shares), static_cast<int>(lists),
          units.data_ptr<float>(), codes_of(query_bytes, query_numbers), codes_of(word_bytes, word_numbers),
          found_cosines.data_ptr<float>(), found_indices.data_ptr<int64_t>(), cosines.data_ptr<float>(),
          indices.data_ptr<int64_t>()},
         on.stream());
  return {cosines, indices};
}

void implement(torch::Library& m) {
  m.impl("saliency", &saliency);
  m.impl("optimize_adam", &optimize_adam);
  m.impl("optimize_ccp", &optimize_ccp);
  m.impl("cosine_topk", &cosine_topk);
}

}  // namespace

#ifdef FASTINTERP_EMULATED
// tests/emulation: the same code on CPU tensors, kernels run thread by thread.
TORCH_LIBRARY(fastinterp_emulated, m) { define_operators(m); }
TORCH_LIBRARY_IMPL(fastinterp_emulated, CPU, m) { implement(m); }
#else
TORCH_LIBRARY_IMPL(fastinterp, CUDA, m) { implement(m); }
#endif

}  // namespace fastinterp::cuda
