// A recurrence of one cell: how its gates are grouped, what its steps multiply by, and its two runs over time.
#ifndef JAXRNN_RECURRENCE_H_
#define JAXRNN_RECURRENCE_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "cells.h"
#include "matmul.h"

namespace jaxrnn {

// (step, row) pairs up to which the weights are read as they are: packing them costs about as much as four products.
constexpr int64_t kPairsWithoutPacking = 4;

// Consecutive groups of gates that are made of the same operands.
struct Section {
  int begin, end;
  bool reads_inputs, reads_hidden;
};

template <Cell cell>
struct Recurrence {
  using Eq = Equation<cell>;
  static constexpr Groups kGroups = Eq::kGroups;

  Sizes sizes;
  bool reverse;
  int padded, gate_columns;

  Recurrence(const Sizes& sizes, bool reverse)
      : sizes(sizes), reverse(reverse), padded(sizes.padded()), gate_columns(kGroups.count * sizes.padded()) {}

  static std::vector<Section> Sections() {
    std::vector<Section> sections;
    for (int g = 0; g < kGroups.count; ++g) {
      const bool inputs = kGroups.input_gate[g] >= 0, hidden = kGroups.hidden_gate[g] >= 0;
      if (!sections.empty() && sections.back().reads_inputs == inputs && sections.back().reads_hidden == hidden) {
        sections.back().end = g + 1;
      } else {
        sections.push_back({g, g + 1, inputs, hidden});
      }
    }
    return sections;
  }
  static Section Reading(const int (&gates)[kMaxGroups]) {
    int begin = 0, end = kGroups.count;
    while (gates[begin] < 0) ++begin;
    while (gates[end - 1] < 0) --end;
    return {begin, end, false, false};
  }
  static Section OfInputs() { return Reading(kGroups.input_gate); }
  static Section OfHidden() { return Reading(kGroups.hidden_gate); }

  int64_t StepAt(int64_t turn) const { return reverse ? sizes.steps - 1 - turn : turn; }

  // What the forward steps multiply by; `packed` is empty where the weights are read as they are.
  struct ForwardWeights {
    std::vector<Section> sections = Sections();
    std::vector<Packed> packed;
    Floats bias;
  };

  bool ReadsWeightsDirectly() const { return sizes.steps * sizes.batch <= kPairsWithoutPacking; }

  ForwardWeights PackForward(const Arrays& arrays) const;

  // Copies rows of (batch, hidden), null for zeros, into padded ones.
  void CopyPadded(float* to, const float* from, const std::vector<int>& rows) const {
    for (size_t i = 0; i < rows.size(); ++i) {
      float* row = to + i * padded;
      std::fill_n(row, padded, 0.0f);
      if (from) std::copy_n(from + rows[i] * sizes.hidden, sizes.hidden, row);
    }
  }

  void MultiplyDirectly(const Arrays& arrays, const ForwardWeights& weights, const float* x, const float* h,
                        float* gates) const;

  // Zeroes what lies behind the rows' ends, in an array of (time, batch, size).
  void ZeroTails(const Share& share, float* to, int64_t size) const {
    for (size_t i = 0; i < share.lengths.size(); ++i) {
      for (int64_t step = share.lengths[i]; step < sizes.steps; ++step) {
        Zero(to + (step * sizes.batch + share.rows[i]) * size, size);
      }
    }
  }

  void Forward(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept, Last last) const;

  // What the backward steps multiply by: the weights as they are, cut into panels.
  struct BackwardWeights {
    Packed inputs, hidden;
  };

  BackwardWeights PackBackward(const Arrays& arrays, bool want_inputs) const;

  // Gradients of the weights and biases, from the rows of one task. Where both weight matrices make all gates, `joint`
  // holds those of both.
  struct Sums {
    OuterSum joint, inputs, hidden;
  };

  static constexpr bool HasJointSums() {
    for (int g = 0; g < kGroups.count; ++g) {
      if (kGroups.input_gate[g] < 0 || kGroups.hidden_gate[g] < 0) return false;
    }
    return true;
  }

  int ColumnsOf(const Section& section) const { return (section.end - section.begin) * padded; }

  void Backward(const Arrays& arrays, const BackwardWeights& weights, const Share& share, Kept kept,
                Cotangents cotangents, Gradients gradients, Sums& sums) const;

  // Adds a running gradient to that of the initial state, and leaves 0.
  void MoveToFirst(float* first, float* running) const {
    for (int unit = 0; unit < sizes.hidden; ++unit) first[unit] += running[unit];
    std::fill_n(running, padded, 0.0f);
  }

  // Adds up the tasks' sums, in PyTorch's layouts.
  void Reduce(const std::vector<Sums>& tasks, Gradients gradients) const;
};

}  // namespace jaxrnn

#endif  // JAXRNN_RECURRENCE_H_
