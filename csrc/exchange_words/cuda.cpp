// fastinterp::exchange_words on a GPU: all candidates of a row of as many fields at once as memory allows, in torch's
// matrix products. Once a round it waits for the device, to see whether anything changed.
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "../shared/batched.h"
#include "../shared/gpu.h"
#include "check.h"

namespace fastinterp::cuda {
namespace {

constexpr int64_t kFloatsAtOnce = 1 << 25;  // of the trials' first layers

// Some problems of a call.
class ExchangePart {
 public:
  // `parts` (U, K, C_1): what each word adds to the position that sees it through each row of the kernel.
  ExchangePart(const Problems& problems, const ConvStack& stack, const at::Tensor& parts, const at::Tensor& candidates,
               const at::Tensor& mean, const at::Tensor& factor, double tie, int64_t first, int64_t count)
      : problems_(problems),
        activation_(stack.activation),
        kernel_(stack.layers[0].kernel),
        positions_(stack.receptive_field() - kernel_ + 1),
        parts_(parts),
        candidates_(candidates.narrow(0, first, count)),
        mean_(mean),
        factor_(factor),
        tie_(tie) {
    const at::Tensor begin = problems.begin.narrow(0, first, count), end = problems.end.narrow(0, first, count);
    exists_ = existing(stack, begin, end);
    repeated_ = existing(stack, begin.repeat_interleave(candidates.size(2)), end.repeat_interleave(candidates.size(2)));
    occupied_ = candidates_.select(2, 0) >= 0;
    wanted_ = at::matmul(problems.target.narrow(0, first, count) - mean, factor);
  }

  // Returns the candidate of each row and the activations that they give.
  std::pair<at::Tensor, at::Tensor> solve(int64_t rounds) {
    const int64_t count = candidates_.size(0), rows = candidates_.size(1);
    at::Tensor chosen = at::zeros({count, rows}, candidates_.options());
    at::Tensor z = problems_.biases[0].expand({count, positions_, -1}).clone();
    for (int64_t row = 0; row < rows; ++row) add(z, row, part(row, chosen.select(1, row)));
    at::Tensor reached = likeness(see(z, exists_).unsqueeze(1)).select(1, 0);
    for (int64_t round = 0; round < rounds; ++round) {
      const at::Tensor before = chosen.clone();
      for (int64_t row = 0; row < rows; ++row) {
        at::Tensor without = z.clone();
        add(without, row, -part(row, chosen.select(1, row)));
        const at::Tensor cosines = likeness(try_all(without, row));
        // Of words that differ by rounding alone the nearest is taken, and the one that stands there stays.
        const at::Tensor near = cosines >= std::get<0>(cosines.max(1, true)) - tie_;
        const at::Tensor best = near.to(at::kByte).argmax(1);
        const at::Tensor gained = cosines.gather(1, best.unsqueeze(1)).select(1, 0);
        const at::Tensor better = (gained > reached + tie_).logical_and(occupied_.select(1, row));
        reached = at::where(better, gained, reached);
        chosen.select(1, row).copy_(at::where(better, best, chosen.select(1, row)));
        add(without, row, part(row, chosen.select(1, row)));
        z = without;
      }
      if (before.equal(chosen)) break;
    }
    return {chosen, see(z, exists_)};
  }

 private:
  // (B, K, C_1) of one candidate of each field's row; 0 where the row stays empty.
  at::Tensor part(int64_t row, const at::Tensor& number) const {
    const at::Tensor word = candidates_.select(1, row).gather(1, number.unsqueeze(1)).select(1, 0);
    return parts_of(word) * occupied_.select(1, row).view({-1, 1, 1});
  }

  // (N, K, C_1) of words (N), of which those of empty rows are none.
  at::Tensor parts_of(const at::Tensor& words) const {
    return parts_.index_select(0, words.clamp(0, parts_.size(0) - 1));
  }

  // Adds (..., K, C_1) parts of the word at a row to (..., positions, C_1) values of the first layer.
  void add(const at::Tensor& values, int64_t row, const at::Tensor& part) const {
    const int64_t first = std::max<int64_t>(0, row - kernel_ + 1), last = std::min(positions_, row + 1);
    for (int64_t p = first; p < last; ++p) values.select(-2, p).add_(part.select(-2, row - p));
  }

  // Activations (B, M, C) with each candidate at a row.
  at::Tensor try_all(const at::Tensor& without, int64_t row) const {
    const int64_t count = candidates_.size(0), each = candidates_.size(2);
    const at::Tensor words = candidates_.select(1, row).reshape({-1});
    const at::Tensor trials = without.unsqueeze(1).repeat({1, each, 1, 1});
    add(trials, row, parts_of(words).view({count, each, kernel_, -1}));
    return see(trials.flatten(0, 1), repeated_).view({count, each, -1});
  }

  at::Tensor see(const at::Tensor& z, const std::vector<at::Tensor>& exists) const {
    const std::vector<at::Tensor> all = see_above(z, problems_.weights, problems_.biases, activation_, exists);
    return activate(activation_, all.back().select(1, 0));
  }

  // Whitened cosines (B, M) of activations (B, M, C) with the locations' own.
  at::Tensor likeness(const at::Tensor& activations) const {
    const at::Tensor mine = at::matmul(activations - mean_, factor_), its = wanted_.unsqueeze(1);
    const at::Tensor lengths = mine.norm(2, 2) * its.norm(2, 2);
    return at::where(lengths > 0, (mine * its).sum(2) / lengths, 0);
  }

  const Problems& problems_;
  Activation activation_;
  int64_t kernel_, positions_;
  const at::Tensor& parts_;
  at::Tensor candidates_;
  const at::Tensor &mean_, &factor_;
  double tie_;
  std::vector<at::Tensor> exists_, repeated_;
  at::Tensor occupied_, wanted_;
};

std::tuple<at::Tensor, at::Tensor> exchange_words(const at::Tensor& target, at::TensorList weights,
                                                  at::TensorList biases, const at::Tensor& begin, const at::Tensor& end,
                                                  c10::string_view activation, const at::Tensor& vectors,
                                                  const at::Tensor& candidates, const at::Tensor& mean,
                                                  const at::Tensor& factor, int64_t rounds, double tie) {
  const Problems problems{target, weights, biases, begin, end, activation};
  const ConvStack stack = check_exchange(problems, vectors, candidates, mean, factor, rounds, tie);
  check_same_device(target.device(), {begin, end, vectors, candidates, mean, factor},
                    "begin, end, vectors, candidates, mean, factor");
  check_same_device(target.device(), weights, "weights");
  check_same_device(target.device(), biases, "biases");
  const int64_t count = target.size(0), rows = stack.receptive_field(), channels = stack.layers[0].out_channels;
  const int64_t kernel = stack.layers[0].kernel;
  std::vector<at::Tensor> chosen{at::zeros({0, rows}, candidates.options())};
  std::vector<at::Tensor> reached{at::zeros({0, target.size(1)}, target.options())};
  const at::Tensor words = vectors.size(0) > 0 ? vectors : at::zeros({1, vectors.size(1)}, vectors.options());
  const at::Tensor parts = at::matmul(words, weights[0].permute({1, 2, 0}).flatten(1)).view({-1, kernel, channels});
  const int64_t at_once =
      std::max<int64_t>(1, kFloatsAtOnce / (candidates.size(2) * (rows - kernel + 1) * channels * kernel));
  for (int64_t first = 0; first < count; first += at_once) {
    ExchangePart part(problems, stack, parts, candidates, mean, factor, tie, first, std::min(at_once, count - first));
    auto [part_chosen, part_reached] = part.solve(rounds);
    chosen.push_back(part_chosen);
    reached.push_back(part_reached);
  }
  return {at::cat(chosen), at::cat(reached)};
}

}  // namespace

FASTINTERP_GPU_LIBRARY(m) { m.impl("exchange_words", &exchange_words); }

}  // namespace fastinterp::cuda
