// Saliency (Eq. 1-3) on a GPU, the method of cpu-inl.h. A block explains a sentence at a time:
// forward through the stack, then back from the predicted class to the explained layer; activations stay in scratch
// that the L2 cache holds, and only scores are written. A location that sees no token has the activations of the
// sentence that is all padding, which one block computes first.
//
// Every convolution is a product of tiles of 32 locations by 128 channels: a thread has 4 by 4 of it in registers,
// chunks of both factors pass through shared memory.
#include "../shared/block.h"
#include "cuda.h"

namespace fastinterp::cuda {
namespace {

constexpr int kThreads = 256, kTileRows = 32, kTileColumns = 128, kChunk = 16;

// Rows of a layer's activations: those that see a token from the sentence, the others from the padding.
struct Rows {
  const float* own;
  const float* beyond;  // null: zeros
  int count;            // rows of `own`
  int frame;
  int width;

  FASTINTERP_DEVICE float at(int row, int column) const {
    if (row < 0 || row >= frame) return 0;
    if (row < count) return own[static_cast<int64_t>(row) * width + column];
    return beyond == nullptr ? 0.0f : beyond[static_cast<int64_t>(row) * width + column];
  }
};

struct SaliencyMemory {
  float* left;     // (kChunk, kTileRows)
  float* right;    // (kChunk, kTileColumns)
  float* maximum;  // (channels of the last layer)
  int* position;   // (channels of the last layer)
  int* reached;    // (frame): locations that the gradient reaches
  int* below;      // (frame): those of the layer below
  int* list;       // (frame)
  float* class_scores;
  int* found;
};

FASTINTERP_DEVICE float activate(const Sentences& sentences, float z) {
  return sentences.is_tanh ? tanhf(z) : z > 0 ? z : sentences.slope * z;
}

FASTINTERP_DEVICE float derivative(const Sentences& sentences, float value) {
  return sentences.is_tanh ? 1 - value * value : value > 0 ? 1.0f : sentences.slope;
}

// out(row, c) = finish(sum over k, d of in(row + direction * (k - shift), d) * weight(k * in.width + d, c), c) for
// `count` rows, those of `list` or the first ones: direction 1 is a convolution, -1 its transpose.
template <class Finish>
FASTINTERP_DEVICE void convolve(const Block& block, const Rows& in, const float* weight, int kernel, int columns,
                                int direction, int shift, const int* list, int count, float* out,
                                const SaliencyMemory& shared, Finish finish) {
  const int depth = kernel * in.width, thread = block.thread();
  const int row0 = thread / 32 * 4, column0 = thread % 32 * 4;
  for (int first_row = 0; first_row < count; first_row += kTileRows)
    for (int first_column = 0; first_column < columns; first_column += kTileColumns) {
      float sums[4][4] = {};
      for (int chunk = 0; chunk < depth; chunk += kChunk) {
        for (int i = thread; i < kTileRows * kChunk; i += kThreads) {
          const int row = first_row + i / kChunk, d = chunk + i % kChunk;
          float value = 0;
          if (row < count && d < depth) {
            const int k = d / in.width;
            value = in.at((list == nullptr ? row : list[row]) + direction * (k - shift), d - k * in.width);
          }
          shared.left[i % kChunk * kTileRows + i / kChunk] = value;
        }
        for (int i = thread; i < kTileColumns * kChunk; i += kThreads) {
          const int d = chunk + i / kTileColumns, column = first_column + i % kTileColumns;
          shared.right[i] = d < depth && column < columns ? weight[static_cast<int64_t>(d) * columns + column] : 0.0f;
        }
        block.sync();
#pragma unroll
        for (int d = 0; d < kChunk; ++d) {
          float a[4], b[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            a[i] = shared.left[d * kTileRows + row0 + i];
            b[i] = shared.right[d * kTileColumns + column0 + i];
          }
#pragma unroll
          for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int j = 0; j < 4; ++j) sums[i][j] += a[i] * b[j];
        }
        block.sync();
      }
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int row = first_row + row0 + i, column = first_column + column0 + j;
          if (row < count && column < columns)
            out[static_cast<int64_t>(list == nullptr ? row : list[row]) * columns + column] =
                finish(sums[i][j], column);
        }
    }
  block.sync();
}

FASTINTERP_DEVICE int locations_that_see(const Sentences& sentences, int tokens, int layers) {
  int seen = tokens;
  for (int l = 0; l < layers && tokens > 0; ++l) {
    seen += (sentences.layers[l].kernel - 1) / 2;
    if (seen > sentences.frame) seen = sentences.frame;
  }
  return seen;
}

// Activations of layer l as rows; `scratch` is the block's.
FASTINTERP_DEVICE Rows values_of(const Sentences& sentences, const float* scratch, int tokens, int l) {
  const GpuLayer& layer = sentences.layers[l];
  return {scratch + layer.values, layer.padding, locations_that_see(sentences, tokens, l + 1), sentences.frame,
          layer.out_channels};
}

FASTINTERP_DEVICE SaliencyMemory lay_out(const Block& block, const Sentences& sentences) {
  const int channels = sentences.layers[sentences.layer_count - 1].out_channels;
  SaliencyMemory shared;
  shared.left = reinterpret_cast<float*>(block.memory());
  shared.right = shared.left + kChunk * kTileRows;
  shared.maximum = shared.right + kChunk * kTileColumns;
  shared.class_scores = shared.maximum + channels;
  shared.position = reinterpret_cast<int*>(shared.class_scores + sentences.classes);
  shared.reached = shared.position + channels;
  shared.below = shared.reached + sentences.frame;
  shared.list = shared.below + sentences.frame;
  shared.found = shared.list + sentences.frame;
  return shared;
}

int64_t shared_bytes(const Sentences& sentences) {
  const int64_t channels = sentences.layers[sentences.layer_count - 1].out_channels;
  return static_cast<int64_t>(sizeof(float)) * (kChunk * (kTileRows + kTileColumns) + 2 * channels + sentences.classes +
                                                3 * static_cast<int64_t>(sentences.frame) + 1);
}

// The sentence that is all padding.
struct PaddingKernel {
  using Arguments = Sentences;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 1;

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& sentences) {
    const SaliencyMemory shared = lay_out(block, sentences);
    Rows in{nullptr, nullptr, 0, sentences.frame, sentences.layers[0].in_channels};
    for (int l = 0; l < sentences.layer_count; ++l) {
      const GpuLayer& layer = sentences.layers[l];
      convolve(block, in, layer.forward, layer.kernel, layer.out_channels, 1, (layer.kernel - 1) / 2, nullptr,
               sentences.frame, layer.padding, shared,
               [&](float sum, int c) { return activate(sentences, sum + layer.bias[c]); });
      in = {layer.padding, nullptr, sentences.frame, sentences.frame, layer.out_channels};
    }
    for (int c = block.thread(); c < in.width; c += kThreads) {
      int best = sentences.frame - 1;
      for (int i = sentences.frame - 1; i >= 0; --i) {
        if (!(in.at(best, c) > in.at(i, c))) best = i;
        sentences.padding_maximum[static_cast<int64_t>(i) * in.width + c] = best;
      }
    }
  }
};

struct SaliencyKernel {
  using Arguments = Sentences;
  static constexpr int kMostThreads = kThreads, kBlocksPerProcessor = 2;

  // Max over time, where each channel has it (the first one on a tie), and the class scores. Returns the predicted
  // class, the lowest on a tie.
  static FASTINTERP_DEVICE int classify(const Block& block, const Sentences& sentences, const Rows& values,
                                        const SaliencyMemory& shared) {
    for (int c = block.thread(); c < values.width; c += kThreads) {
      int best = values.count == 0 ? sentences.padding_maximum[c] : 0;
      for (int i = 1; i < values.count; ++i)
        if (values.at(i, c) > values.at(best, c)) best = i;
      if (0 < values.count && values.count < sentences.frame) {
        const int unseen = sentences.padding_maximum[static_cast<int64_t>(values.count) * values.width + c];
        if (values.at(unseen, c) > values.at(best, c)) best = unseen;
      }
      shared.position[c] = best;
      shared.maximum[c] = values.at(best, c);
    }
    block.sync();
    for (int k = block.thread(); k < sentences.classes; k += kThreads) {
      double score = sentences.class_bias[k];
      for (int c = 0; c < values.width; ++c)
        score +=
            static_cast<double>(sentences.class_weight[static_cast<int64_t>(k) * values.width + c]) * shared.maximum[c];
      shared.class_scores[k] = static_cast<float>(score);
    }
    block.sync();
    int predicted = 0;
    for (int k = 1; k < sentences.classes; ++k)
      if (shared.class_scores[k] > shared.class_scores[predicted]) predicted = k;
    return predicted;
  }

  // Marks the inputs that location `i` of a layer reads.
  static FASTINTERP_DEVICE void mark(int* flags, const GpuLayer& layer, int frame, int i) {
    const int first = i - (layer.kernel - 1) / 2;
    for (int r = first < 0 ? 0 : first; r < first + layer.kernel && r < frame; ++r) flags[r] = 1;
  }

  // Eq. 1-2: the gradient of the predicted class's score with respect to the explained layer, (frame, C), for the rows
  // that `shared.reached` marks.
  static FASTINTERP_DEVICE const float* gradient_of(const Block& block, const Sentences& sentences,
                                                    const float* class_row, int tokens, float* scratch,
                                                    SaliencyMemory& shared) {
    const int frame = sentences.frame, thread = block.thread();
    float* gradient = scratch + sentences.gradient;
    float* lower = gradient + sentences.gradient_floats;
    // Through the last convolution: a sum of at most C filters, one at each channel's maximum.
    const GpuLayer& last = sentences.layers[sentences.layer_count - 1];
    const int shift = (last.kernel - 1) / 2, width = last.in_channels;
    for (int i = thread; i < frame; i += kThreads) shared.reached[i] = 0;
    for (int64_t e = thread; e < static_cast<int64_t>(frame) * width; e += kThreads) gradient[e] = 0;
    block.sync();
    if (thread == 0)
      for (int c = 0; c < last.out_channels; ++c)
        if (class_row[c] * derivative(sentences, shared.maximum[c]) != 0)
          mark(shared.reached, last, frame, shared.position[c]);
    for (int d = thread; d < width; d += kThreads)
      for (int c = 0; c < last.out_channels; ++c) {
        const float arriving = class_row[c] * derivative(sentences, shared.maximum[c]);
        if (arriving == 0) continue;
        for (int k = 0; k < last.kernel; ++k) {
          const int row = shared.position[c] + k - shift;
          if (row >= 0 && row < frame)
            gradient[static_cast<int64_t>(row) * width + d] +=
                arriving * last.backward[(static_cast<int64_t>(k) * last.out_channels + c) * width + d];
        }
      }
    block.sync();
    // Through every other, for the locations that the gradient has reached.
    for (int l = sentences.layer_count - 2; l > sentences.explained; --l) {
      const GpuLayer& layer = sentences.layers[l];
      const Rows values = values_of(sentences, scratch, tokens, l);
      for (int64_t e = thread; e < static_cast<int64_t>(frame) * layer.out_channels; e += kThreads) {
        const int row = static_cast<int>(e / layer.out_channels);
        if (shared.reached[row])
          gradient[e] *= derivative(
              sentences, values.at(row, static_cast<int>(e - static_cast<int64_t>(row) * layer.out_channels)));
        else
          gradient[e] = 0;
      }
      for (int i = thread; i < frame; i += kThreads) shared.below[i] = 0;
      block.sync();
      if (thread == 0)
        for (int i = 0; i < frame; ++i)
          if (shared.reached[i]) mark(shared.below, layer, frame, i);
      block.sync();
      list_where(block, frame, [&](int i) { return shared.below[i] != 0; }, shared.list, shared.found);
      const Rows arriving{gradient, nullptr, frame, frame, layer.out_channels};
      convolve(block, arriving, layer.backward, layer.kernel, layer.in_channels, -1, (layer.kernel - 1) / 2,
               shared.list, *shared.found, lower, shared, [](float sum, int) { return sum; });
      float* const swapped = gradient;
      gradient = lower;
      lower = swapped;
      int* const flags = shared.reached;
      shared.reached = shared.below;
      shared.below = flags;
    }
    return gradient;
  }

  static FASTINTERP_DEVICE void explain(const Block& block, const Sentences& sentences, int64_t sentence,
                                        float* scratch, SaliencyMemory& shared) {
    const int frame = sentences.frame, thread = block.thread();
    const int tokens = clamp(sentences.lengths[sentence], 0, sentences.positions);
    Rows in{sentences.embedded + sentence * sentences.positions * sentences.layers[0].in_channels, nullptr, tokens,
            frame, sentences.layers[0].in_channels};
    for (int l = 0; l < sentences.layer_count; ++l) {
      const GpuLayer& layer = sentences.layers[l];
      const Rows out = values_of(sentences, scratch, tokens, l);
      convolve(block, in, layer.forward, layer.kernel, layer.out_channels, 1, (layer.kernel - 1) / 2, nullptr,
               out.count, scratch + layer.values, shared,
               [&](float sum, int c) { return activate(sentences, sum + layer.bias[c]); });
      in = out;
    }
    const int predicted = classify(block, sentences, in, shared);
    const float* class_row = sentences.class_weight + static_cast<int64_t>(predicted) * in.width;
    for (int k = thread; k < sentences.classes; k += kThreads)
      sentences.class_scores[sentence * sentences.classes + k] = shared.class_scores[k];

    const Rows values = values_of(sentences, scratch, tokens, sentences.explained);
    if (sentences.activations != nullptr)
      for (int64_t e = thread; e < static_cast<int64_t>(frame) * values.width; e += kThreads) {
        const int row = static_cast<int>(e / values.width);
        sentences.activations[sentence * frame * values.width + e] =
            values.at(row, static_cast<int>(e - static_cast<int64_t>(row) * values.width));
      }
    float* scores = sentences.scores + sentence * frame;
    if (sentences.explained == sentences.layer_count - 1) {
      // The last layer's channels have their gradient at their maximum and nowhere else.
      for (int i = thread; i < frame; i += kThreads) {
        float score = 0;
        for (int c = 0; c < values.width; ++c)
          if (shared.position[c] == i) score += class_row[c] * shared.maximum[c];
        scores[i] = score;
      }
    } else {
      const float* gradient = gradient_of(block, sentences, class_row, tokens, scratch, shared);
      for (int i = block.warp(); i < frame; i += block.warps()) {  // Eq. 3
        float score = 0;
        if (shared.reached[i])
          for (int c = block.lane(); c < values.width; c += 32)
            score += gradient[static_cast<int64_t>(i) * values.width + c] * values.at(i, c);
        score = warp_sum(block, score);
        if (block.lane() == 0) scores[i] = score;
      }
    }
    block.sync();
  }

  static FASTINTERP_DEVICE void run(const Block& block, const Arguments& sentences) {
    SaliencyMemory shared = lay_out(block, sentences);
    float* scratch = sentences.scratch + block.x() * sentences.scratch_floats;
    for (int64_t sentence = block.x(); sentence < sentences.count; sentence += block.blocks())
      explain(block, sentences, sentence, scratch, shared);
  }
};

}  // namespace

int64_t saliency_blocks(int64_t sentences) {
  const int64_t most = static_cast<int64_t>(processors()) * SaliencyKernel::kBlocksPerProcessor;
  return sentences < most ? sentences : most;
}

void explain_sentences(const Sentences& sentences, int64_t blocks, void* stream) {
  launch<PaddingKernel>(1, 1, kThreads, shared_bytes(sentences), stream, sentences);
  launch<SaliencyKernel>(blocks, 1, kThreads, shared_bytes(sentences), stream, sentences);
}

}  // namespace fastinterp::cuda
