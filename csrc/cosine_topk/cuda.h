// The cosine search as its glue, cuda.cpp, calls it: device pointers, a stream, plain numbers.
#pragma once

#include <cstdint>

namespace fastinterp::cuda {

constexpr int kTile = 128;      // queries of a block, and words that pass it together
constexpr int kFewQueries = 4;  // up to here every word is multiplied in float32
constexpr int kMostNeighbors = 64;

// Vectors in 8 bits: tiles of kTile vectors, each (width / 16 rounded up, kTile, 16) bytes.
struct Codes {
  int8_t* bytes;
  float* scale;  // vector / ||vector|| is scale * code up to `error`
  float* error;
  float* longest;  // one number: no ||scale * code|| is above it
};

struct Search {
  const float* queries;        // (Q, D)
  const float* vocabulary;     // (V, D)
  const float* inverse_norms;  // (V); a word whose entry is 0 is never returned
  int64_t query_count;
  int64_t words;
  int width;
  int k;
  int shares;    // of the vocabulary
  int lists;     // of found words that they leave
  float* units;  // (Q, D): q / ||q||
  Codes query_codes;
  Codes word_codes;
  // The k best of each share, or of each warp of it where queries are few: (lists, Q, k).
  float* found_cosines;
  int64_t* found_indices;
  float* cosines;    // (Q, k)
  int64_t* indices;  // (Q, k)
};

// Bytes of the codes of `count` vectors.
int64_t code_bytes(int64_t count, int64_t width);

// In how many shares the vocabulary is searched on the current device, and how many lists that leaves.
int64_t search_shares(int64_t queries, int64_t words);
int64_t search_lists(int64_t queries, int64_t shares);

void search_words(const Search& search, void* stream);

}  // namespace fastinterp::cuda
