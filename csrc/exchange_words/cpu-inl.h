// exchange_words's problems, one per thread at a time. What each word adds to the first layer's pre-activations is
// computed once for the whole call; exchanging a word is an addition there, and above it the few positions that see it.
#if defined(FASTINTERP_EXCHANGE_WORDS_INL_H) == defined(FASTINTERP_TOGGLE)
#ifdef FASTINTERP_EXCHANGE_WORDS_INL_H
#undef FASTINTERP_EXCHANGE_WORDS_INL_H
#else
#define FASTINTERP_EXCHANGE_WORDS_INL_H
#endif

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "../shared/activation-inl.h"
#include "../shared/float_buffer.h"
#include "../shared/isa_region.h"
#include "../shared/packed_stack-inl.h"
#include "../shared/stack.h"
#include "cpu.h"

FASTINTERP_BEFORE_NAMESPACE();
namespace fastinterp::FASTINTERP_ISA {

// (U, K * out_stride): what each word adds to the position that sees it through each row of the first layer's kernel.
class WordParts {
 public:
  WordParts(const ConvWeights& layer, const ExchangeBatch& batch)
      : stride_(round_up(layer.out_channels, kPanel)), span_(layer.kernel * stride_), parts_(batch.words * span_) {
    const int64_t D = layer.in_channels, K = layer.kernel;
    FloatBuffer rows(D * span_), packed(packed_size(D, span_));
    for (int64_t c = 0; c < layer.out_channels; ++c)
      for (int64_t d = 0; d < D; ++d)
        for (int64_t k = 0; k < K; ++k) rows[d * span_ + k * stride_ + c] = layer.weight[(c * D + d) * K + k];
    pack_matrix(D, span_, rows.data(), span_, 1, packed.data());
    at::parallel_for(0, batch.words, 16, [&](int64_t first, int64_t last) {
      multiply(last - first, span_, D, batch.vectors + first * D, D, packed.data(), nullptr,
               parts_.data() + first * span_, span_);
    });
  }

  const float* of(int64_t word, int64_t kernel_row) const {
    return parts_.data() + word * span_ + kernel_row * stride_;
  }

 private:
  int64_t stride_, span_;
  mutable FloatBuffer parts_;
};

// One layer's outputs at one problem; those outside [first, end) see past the sentence frame and are 0.
struct ExchangeLayer {
  int64_t outputs, first, end;
  FloatBuffer value;  // (outputs, out_stride), after the activation: with the words as they are
  FloatBuffer trial;  // the same with one word exchanged
};

class WordExchange {
 public:
  WordExchange(const ConvStack& stack, const PackedLayer* layers, const WordParts& parts, const float* packed_factor,
               const ExchangeBatch& batch)
      : stack_(stack),
        layers_(layers),
        count_(stack.size()),
        field_rows_(stack.receptive_field()),
        channels_(stack.layers.back().out_channels),
        stride_(round_up(channels_, kPanel)),
        parts_(parts),
        packed_factor_(packed_factor),
        batch_(batch),
        apart_(batch.candidate_count * stride_),
        whitened_(batch.candidate_count * stride_),
        wanted_(stride_) {
    int64_t rows = field_rows_, widest = 0;
    for (int64_t l = 0; l < count_; ++l) {
      rows -= layers[l].kernel - 1;
      const int64_t units = rows * layers[l].out_stride;
      widest = std::max(widest, units);
      states_.push_back({rows, 0, rows, FloatBuffer(units), FloatBuffer(units)});
    }
    z_ = FloatBuffer(states_[0].outputs * layers[0].out_stride);
    fresh_ = FloatBuffer(widest);
  }

  void solve(int64_t problem) {
    candidates_ = batch_.candidates + problem * field_rows_ * batch_.candidate_count;
    int64_t* chosen = batch_.chosen + problem * field_rows_;
    for (int64_t l = 0, offset = 0; l < count_; ++l) {
      offset += layers_[l].left_padding();
      states_[l].first = std::clamp<int64_t>(batch_.begin[problem] - offset, 0, states_[l].outputs);
      states_[l].end = std::clamp<int64_t>(batch_.end[problem] - offset, 0, states_[l].outputs);
    }
    want(batch_.target + problem * channels_);
    const PackedLayer& layer = layers_[0];
    for (int64_t p = 0; p < states_[0].outputs; ++p)
      std::copy_n(layer.bias, layer.out_stride, z_.data() + p * layer.out_stride);
    for (int64_t row = 0; row < field_rows_; ++row)
      if (candidate(row, 0) >= 0) add_word(row, candidate(row, 0), 1.0f);
    see(0, states_[0].outputs, nullptr);
    keep(0, states_[0].outputs);
    put_apart(0);
    likeness(1);
    float reached = cosines_[0];

    // A row is looked at again only where another word has changed since.
    int64_t changes = 0;
    seen_.assign(field_rows_, -1);
    for (int64_t round = 0; round < batch_.rounds; ++round) {
      const int64_t before = changes;
      for (int64_t row = 0; row < field_rows_; ++row) {
        if (candidate(row, 0) < 0 || seen_[row] == changes) continue;
        if (exchange(row, chosen + row, &reached)) ++changes;
        seen_[row] = changes;
      }
      if (changes == before) break;
    }
    std::copy_n(states_.back().value.data(), channels_, batch_.reached + problem * channels_);
  }

 private:
  int64_t candidate(int64_t row, int64_t number) const { return candidates_[row * batch_.candidate_count + number]; }

  // The whitened direction of the location's own activations.
  void want(const float* target) {
    for (int64_t c = 0; c < channels_; ++c) apart_[c] = target[c] - batch_.mean[c];
    multiply(1, channels_, channels_, apart_.data(), stride_, packed_factor_, nullptr, wanted_.data(), stride_);
    const float length = std::sqrt(dot(wanted_.data(), wanted_.data(), stride_));
    for (int64_t c = 0; c < channels_; ++c) wanted_[c] = length > 0 ? wanted_[c] / length : 0.0f;
  }

  // Tries every candidate of a row; whether one took the place of what stood there.
  bool exchange(int64_t row, int64_t* chosen, float* reached) {
    // The positions of the first layer that see the row.
    const int64_t first = std::max<int64_t>(0, row - layers_[0].kernel + 1);
    const int64_t last = std::min(states_[0].outputs, row + 1);
    add_word(row, candidate(row, *chosen), -1.0f);
    for (int64_t i = 0; i < batch_.candidate_count; ++i) {
      try_word(row, first, last, candidate(row, i));
      put_apart(i);
    }
    likeness(batch_.candidate_count);
    const float highest = *std::max_element(cosines_.begin(), cosines_.end());
    // Of words that differ by rounding alone the nearest is taken, and the one that stands there stays.
    const int64_t best =
        std::find_if(cosines_.begin(), cosines_.end(), [&](float each) { return each >= highest - batch_.tie; }) -
        cosines_.begin();
    // Where the first cosine is NaN nothing is as high as the highest.
    const bool better = best < batch_.candidate_count && cosines_[best] > *reached + batch_.tie;
    if (better) {
      *reached = cosines_[best];
      *chosen = best;
      try_word(row, first, last, candidate(row, best));
      keep(first, last);
    }
    add_word(row, candidate(row, *chosen), 1.0f);
    for_each_seen(first, last, [](ExchangeLayer& state, int64_t from, int64_t to, int64_t stride) {
      std::copy(state.value.data() + from * stride, state.value.data() + to * stride,
                state.trial.data() + from * stride);
    });
    return better;
  }

  // Adds a word to the first layer's pre-activations, or takes it away.
  void add_word(int64_t row, int64_t word, float sign) {
    const PackedLayer& layer = layers_[0];
    const int64_t first = std::max<int64_t>(0, row - layer.kernel + 1), last = std::min(states_[0].outputs, row + 1);
    for (int64_t p = first; p < last; ++p)
      add_scaled(z_.data() + p * layer.out_stride, sign, parts_.of(word, row - p), layer.out_stride);
  }

  // Leaves in `trial` what the layers make of the words with one added at a row that positions [first, last) see.
  void try_word(int64_t row, int64_t first, int64_t last, int64_t word) {
    const PackedLayer& layer = layers_[0];
    for (int64_t p = first; p < last; ++p) {
      const float* part = parts_.of(word, row - p);
      for (int64_t c = 0; c < layer.out_stride; c += kLanes)
        store(fresh_.data() + p * layer.out_stride + c, load(z_.data() + p * layer.out_stride + c) + load(part + c));
    }
    see(first, last, fresh_.data());
  }

  // Leaves in `trial` what the layers make of the pre-activations of the first layer's positions [first, last).
  void see(int64_t first, int64_t last, const float* z) {
    const float* values = z == nullptr ? z_.data() : z;
    for (int64_t l = 0; l < count_; ++l) {
      const PackedLayer& layer = layers_[l];
      ExchangeLayer& state = states_[l];
      if (l > 0) {
        const int64_t from = std::max<int64_t>(0, first - layer.kernel + 1), to = std::min(state.outputs, last);
        multiply(to - from, layer.out_channels, layer.span(), states_[l - 1].trial.data() + from * layer.in_stride,
                 layer.in_stride, layer.forward, layer.bias, fresh_.data() + from * layer.out_stride, layer.out_stride);
        first = from;
        last = to;
        values = fresh_.data();
      }
      for (int64_t p = first; p < last; ++p) {
        float* value = state.trial.data() + p * layer.out_stride;
        const bool exists = p >= state.first && p < state.end;
        for (int64_t c = 0; c < layer.out_stride; ++c)
          value[c] = exists ? activate(stack_.activation, values[p * layer.out_stride + c]) : 0.0f;
      }
    }
  }

  // The words of the trial are those that stand.
  void keep(int64_t first, int64_t last) {
    for_each_seen(first, last, [](ExchangeLayer& state, int64_t from, int64_t to, int64_t stride) {
      std::copy(state.trial.data() + from * stride, state.trial.data() + to * stride,
                state.value.data() + from * stride);
    });
  }

  // Calls `visit` for every layer with its positions [from, to) that see [first, last) of the first.
  template <typename Visit>
  void for_each_seen(int64_t first, int64_t last, Visit visit) {
    for (int64_t l = 0; l < count_; ++l) {
      if (l > 0) first = std::max<int64_t>(0, first - layers_[l].kernel + 1);
      last = std::min(last, states_[l].outputs);
      visit(states_[l], first, last, layers_[l].out_stride);
    }
  }

  void put_apart(int64_t number) {
    const float* value = states_.back().trial.data();
    for (int64_t c = 0; c < channels_; ++c) apart_[number * stride_ + c] = value[c] - batch_.mean[c];
  }

  // Whitened cosines of the first `count` trials with the location's own activations, into cosines_.
  void likeness(int64_t count) {
    multiply(count, channels_, channels_, apart_.data(), stride_, packed_factor_, nullptr, whitened_.data(), stride_);
    cosines_.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      const float* mine = whitened_.data() + i * stride_;
      const float length = std::sqrt(dot(mine, mine, stride_));
      cosines_[i] = length > 0 ? dot(mine, wanted_.data(), stride_) / length : 0.0f;
    }
  }

  const ConvStack& stack_;
  const PackedLayer* layers_;
  int64_t count_, field_rows_, channels_, stride_;
  const WordParts& parts_;
  const float* packed_factor_;
  const ExchangeBatch& batch_;
  FloatBuffer apart_, whitened_, wanted_;  // (M, stride_), (M, stride_), (stride_)
  std::vector<ExchangeLayer> states_;
  FloatBuffer z_, fresh_;  // pre-activations of the first layer; those of a trial in any layer
  std::vector<float> cosines_;
  std::vector<int64_t> seen_;  // for each row, after how many changes it was last looked at
  const int64_t* candidates_ = nullptr;
};

static void exchange_all_words(const ConvStack& stack, const ExchangeBatch& batch) {
  PackedStack packed;
  // The first layer's products are those of the words; of its own packing only the bias is read.
  for (int64_t l = 0; l < stack.size(); ++l) packed.add(stack.layers[l], {false, l > 0, false});
  const int64_t channels = stack.layers.back().out_channels;
  FloatBuffer factor(packed_size(channels, channels));
  pack_matrix(channels, channels, batch.factor, channels, 1, factor.data());
  const WordParts parts(stack.layers[0], batch);
  at::parallel_for(0, batch.count, 1, [&](int64_t first, int64_t last) {
    WordExchange exchange(stack, packed.layers(), parts, factor.data(), batch);
    for (int64_t problem = first; problem < last; ++problem) exchange.solve(problem);
  });
}

}  // namespace fastinterp::FASTINTERP_ISA
FASTINTERP_AFTER_NAMESPACE();

#endif
