// The arrays of a recurrence, as both calls get them, and the rows that one task takes.
#ifndef JAXRNN_ARRAYS_H_
#define JAXRNN_ARRAYS_H_

#include <algorithm>
#include <cstdint>

#include "matmul.h"
#include "memory.h"
#include "vector.h"

namespace jaxrnn {

struct Sizes {
  int64_t models, steps, batch, input, hidden, targets;
  int padded() const { return RoundUp(int(hidden), kLanes); }
  // Where a step of a row stands in what is (batch, time, ..), and in what is (time, batch, ..).
  int64_t Place(int64_t row, int64_t step) const { return row * steps + step; }
  int64_t Pair(int64_t row, int64_t step) const { return step * batch + row; }
};

// One model's arrays; null where there is none. What has features lies as layers have it, (batch, time, features), so that
// nothing is turned on the way here; masks, and cells and gates that are kept for the other call, are (time, batch, ..).
// Targets of resets are (targets, batch, hidden). Before a step that counts, reset 0 does nothing, 1 and on put the state to that row's
// target 0 and on, and a code that has no target puts it to zeros.
struct Arrays {
  const float* inputs;
  const bool* valid;
  const uint8_t* reset;
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *h_first, *c_first, *h_targets, *c_targets;
};
struct Kept {
  float *outputs, *cells, *gates;  // cells and gates are padded; null is what nobody reads
};
struct Last {
  float *h, *c;
};
struct Cotangents {
  const float *outputs, *h, *c;
};
struct Gradients {
  float *inputs, *weight_ih, *weight_hh, *bias_ih, *bias_hh, *h_first, *c_first;  // inputs may be null
  float *h_targets, *c_targets;                                                   // so may these
};

inline const float* At(const float* base, int64_t index, int64_t size) { return base ? base + index * size : nullptr; }
inline float* At(float* base, int64_t index, int64_t size) { return base ? base + index * size : nullptr; }

// The rows of one task. Where every row's valid steps are its first ones, and none resets, the longest row comes first
// and `lengths` says how many steps each has: then the rows of a step are the first few, and nothing is looked up.
// Otherwise `lengths` is empty.
struct Share {
  Vector<int> rows, lengths;

  // How many rows a step has, from those of the step next to it.
  int CountAt(int64_t step, int count) const {
    while (count > 0 && lengths[count - 1] <= step) --count;
    while (count < int(lengths.size()) && lengths[count] > step) ++count;
    return count;
  }
};

inline void Zero(float* to, int64_t size) {
  for (int64_t i = 0; i < size; i += kLanes) StoreSome(to + i, Vec{}, int(std::min<int64_t>(size - i, kLanes)));
}

}  // namespace jaxrnn

#endif  // JAXRNN_ARRAYS_H_
