// A recurrence of one cell: how its gates are grouped, what its steps multiply by, and its two runs over time.
#ifndef JAXRNN_RECURRENCE_H_
#define JAXRNN_RECURRENCE_H_

#include <algorithm>
#include <cstdint>

#include "arrays.h"
#include "cells.h"
#include "matmul.h"
#include "memory.h"

namespace jaxrnn {

// (step, row) pairs up to which the weights are read as they are: packing them costs about as much as four products.
constexpr int64_t kPairsWithoutPacking = 4;

// What a step may begin from in place of the state before it, by number: 0 is the first state, 1 and on are the targets
// of resets, and the number behind the last target is zeros.
class Origins {
 public:
  Origins(const Sizes& sizes, const Arrays& arrays, const Vector<int>& rows, bool has_cell_state)
      : targets_(arrays.reset ? int(std::min(sizes.targets, kMaxTargets)) : 0),
        batch_(sizes.batch),
        hidden_(sizes.hidden),
        padded_(sizes.padded()),
        arrays_(&arrays),
        rows_(&rows),
        zeros_(arrays.reset ? padded_ : 0),
        c_(has_cell_state ? size_t(targets_ + 1) * rows.size() * padded_ : 0) {
    if (arrays.reset) std::fill_n(zeros_.get(), padded_, 0.0f);
    for (int number = 0; number <= targets_ && has_cell_state; ++number) {
      const float* from = number ? arrays.c_targets + (number - 1) * batch_ * hidden_ : arrays.c_first;
      for (size_t i = 0; i < rows.size(); ++i) {
        float* row = c_.get() + (number * rows.size() + i) * padded_;
        std::copy_n(from + rows[i] * hidden_, hidden_, row);
        std::fill(row + hidden_, row + padded_, 0.0f);
      }
    }
  }

  int NumberOf(uint8_t code) const { return std::min<int>(code, targets_ + 1); }
  // The hidden state of the task's row i: as many values as there are units.
  const float* h(int number, int i) const {
    if (number > targets_) return zeros_.get();
    const int64_t row = (*rows_)[i] * hidden_;
    return number ? arrays_->h_targets + (number - 1) * batch_ * hidden_ + row : arrays_->h_first + row;
  }
  // Its cell state, padded; for cells that have one.
  const float* c(int number, int i) const {
    return number > targets_ ? zeros_.get() : c_.get() + (number * rows_->size() + i) * padded_;
  }

 private:
  static constexpr int64_t kMaxTargets = 255;  // that a code can name

  int targets_;
  int64_t batch_, hidden_;
  int padded_;
  const Arrays* arrays_;
  const Vector<int>* rows_;
  Floats zeros_, c_;
};

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

  static Vector<Section> Sections() {
    Vector<Section> sections;
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
    Vector<Section> sections = Sections();
    Vector<Packed> packed;
    Floats bias;
  };

  // Units whose gates are summed before they are activated: those of a panel of each gate, where no panel goes on into
  // the next gate. Their sums, for all rows of a task, are still in the nearest cache then.
  int UnitsAtOnce() const { return padded % kPanelColumns || ReadsWeightsDirectly() ? padded : kPanelColumns; }

  bool ReadsWeightsDirectly() const { return sizes.steps * sizes.batch <= kPairsWithoutPacking; }

  // Whether a step's inputs are multiplied by more than a panel or two.
  bool ReadsInputsOften() const { return gate_columns > 2 * kPanelColumns && !ReadsWeightsDirectly(); }

  ForwardWeights PackForward(const Arrays& arrays) const;

  // Copies rows of (batch, hidden), null for zeros, into padded ones.
  void CopyPadded(float* to, const float* from, const Vector<int>& rows) const {
    for (size_t i = 0; i < rows.size(); ++i) {
      float* row = to + i * padded;
      std::fill_n(row, padded, 0.0f);
      if (from) std::copy_n(from + rows[i] * sizes.hidden, sizes.hidden, row);
    }
  }

  // Sums the gates of `at_once` units from `unit` on, of `count` rows.
  void SumGates(const ForwardWeights& weights, int unit, int at_once, int count, float* const* sums,
                const float* const* x_rows, const float* const* h_rows) const;
  void MultiplyDirectly(const Arrays& arrays, const ForwardWeights& weights, const float* x, const float* h,
                        float* gates) const;

  // Zeroes what lies behind the rows' ends, in an array of (batch, time, size).
  void ZeroTails(const Share& share, float* to, int64_t size) const {
    for (size_t i = 0; i < share.lengths.size(); ++i) {
      const int64_t length = share.lengths[i];
      Zero(to + sizes.Place(share.rows[i], length) * size, (sizes.steps - length) * size);
    }
  }

  // Whether steps can be taken by `StepOfRows` and `StepBackOfRows`.
  bool IsNarrow() const { return kGroups.count == 1 && padded == kLanes && !ReadsWeightsDirectly(); }

  void Forward(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept, Last last) const;
  // Does the same where `IsNarrow`, of rows whose valid steps are their first ones and none of which resets.
  void ForwardNarrow(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept,
                     Last last) const;

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
  void BackwardNarrow(const Arrays& arrays, const BackwardWeights& weights, const Share& share, Kept kept,
                      Cotangents cotangents, Gradients gradients, Sums& sums) const;

  // Adds a running gradient to that of what a step began from, null where nobody reads it, and leaves 0.
  void MoveToOrigin(float* origin, float* running) const {
    for (int unit = 0; unit < sizes.hidden && origin; ++unit) origin[unit] += running[unit];
    std::fill_n(running, padded, 0.0f);
  }

  // Adds up the tasks' sums for the units from `begin`, a multiple of kLanes, to `end`, in PyTorch's layouts.
  void Reduce(const Vector<Sums>& tasks, Gradients gradients, int begin, int end) const;
};

}  // namespace jaxrnn

#endif  // JAXRNN_RECURRENCE_H_
