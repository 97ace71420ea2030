// Words (Eq. 8): the k vocabulary rows of highest cosine for a block of queries, in one pass over the vocabulary.
// Queries are the vector lanes: a row of the vocabulary is read once for every query of the block, and its scores
// are compared with each query's k-th best so far before anything is stored.

#include "gemm.inl"

static inline int64_t topk_scratch_floats(int64_t panels, int64_t width) { return panels * kPanel * (width + 1); }

// Adds a score that beats the query's k-th best. Rows arrive in ascending order and only a strictly higher score
// moves ahead, so ties stay with the lower index.
static void insert_score(float score, int64_t index, int64_t k, float* scores, int64_t* indices) {
  int64_t place = k - 1;
  for (; place > 0 && scores[place - 1] < score; --place) {
    scores[place] = scores[place - 1];
    indices[place] = indices[place - 1];
  }
  scores[place] = score;
  indices[place] = index;
}

// `queries` is (count, width), `inverse_norms` 1 / ||query||, 0 for a zero query. `scores` and `indices` are
// (count, k). Rows whose vocabulary_inverse_norm is 0 are never returned.
static void search_block(const float* queries, const double* inverse_norms, int64_t count, const float* vocabulary,
                         const float* vocabulary_inverse_norms, int64_t words, int64_t width, int64_t k, float* scratch,
                         float* scores, int64_t* indices) {
  const int64_t panels = (count + kPanel - 1) / kPanel;
  float* packed = scratch;
  float* threshold = scratch + panels * kPanel * width;
  std::memset(scratch, 0, sizeof(float) * panels * kPanel * width);
  for (int64_t q = 0; q < count; ++q)
    for (int64_t d = 0; d < width; ++d)
      packed[q / kPanel * kPanel * width + d * kPanel + q % kPanel] =
          static_cast<float>(queries[q * width + d] * inverse_norms[q]);
  for (int64_t q = 0; q < panels * kPanel; ++q)
    threshold[q] = q < count ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < count * k; ++i) scores[i] = -std::numeric_limits<float>::infinity();

  Vec sums[kTileRows][2];
  for (int64_t first = 0; first < words; first += kTileRows) {
    const int64_t rows = std::min(kTileRows, words - first);
    for (int64_t panel = 0; panel < panels; ++panel) {
      multiply_tile_of<kTileRows>(rows, vocabulary + first * width, width, packed + panel * kPanel * width, width,
                                  sums);
      for (int64_t row = 0; row < rows; ++row) {
        const float inverse_norm = vocabulary_inverse_norms[first + row];
        if (inverse_norm == 0) continue;
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t query = panel * kPanel + half * kLanes;
          const Vec cosine = sums[row][half] * inverse_norm;
          if (!any_above(cosine, load(threshold + query))) continue;
          for (int64_t lane = 0; lane < kLanes; ++lane) {
            const int64_t q = query + lane;
            if (!(cosine[lane] > threshold[q])) continue;
            insert_score(cosine[lane], first + row, k, scores + q * k, indices + q * k);
            threshold[q] = scores[q * k + k - 1];
          }
        }
      }
    }
  }
  // Rounding may carry a cosine past 1.
  for (int64_t i = 0; i < count * k; ++i) scores[i] = std::min(1.0f, std::max(-1.0f, scores[i]));
}
