// The cells: how their gates lie in memory, their equations and the gradients of these, a vector of units at a time.
//
// A row of gates holds groups of `padded` values, one for every hidden unit and some 0 behind them. Each group is a sum
// of what the inputs and the hidden state give, or of one of them only: a GRU's last gate keeps them apart.
#ifndef JAXRNN_CELLS_H_
#define JAXRNN_CELLS_H_

#include "matmul.h"
#include "vector.h"

namespace jaxrnn {

enum class Cell { kTanh = 0, kRelu = 1, kLstm = 2, kGru = 3 };

constexpr int kMaxGroups = 4;

// One row of a step, forward; `gates` gets activations, `output` the hidden state once more, both null where nobody reads
// them. An equation takes the sums of kLanes units from `unit` on, the groups `stride` apart; `count` of these and the
// units behind them there are.
struct ForwardRow {
  float* gates;
  const float* h_before;
  float* h;
  float* output;
  const float* c_before;  // padded
  float* c;               // padded
};

// Keeps the activations of four groups, where somebody reads them.
inline void Keep(const ForwardRow& row, int unit, int padded, const Vec (&groups)[4]) {
  for (int g = 0; row.gates && g < 4; ++g) Store(row.gates + g * padded + unit, groups[g]);
}

inline void StoreHidden(const ForwardRow& row, int unit, Vec h, int count) {
  StoreSome(row.h + unit, h, count);
  if (row.output) StoreSome(row.output + unit, h, count);
}

// One row of a step, backward. `d_gates` is written; `d_h` and `d_c`, padded, hold the gradients of the state after the
// step and get those of the state before it, but for what comes through the recurrent weights.
struct BackwardRow {
  const float* gates;
  const float* h_before;
  const float* h;
  const float* c_before;
  const float* c;
  float* d_gates;
  float* d_h;
  float* d_c;
};

// For each group, which of PyTorch's gates its inputs' and its hidden state's weights are; -1 for none.
struct Groups {
  int count;
  int input_gate[kMaxGroups];
  int hidden_gate[kMaxGroups];
};

template <Cell cell>
struct Equation;

struct Elman {
  static constexpr Groups kGroups = {1, {0}, {0}};
  static constexpr bool kHasCellState = false;
};

template <>
struct Equation<Cell::kTanh> : Elman {
  static Vec Activate(Vec sum) { return Tanh(sum); }
  static void Forward(const ForwardRow& row, const float* sums, int, int unit, int count, int) {
    StoreHidden(row, unit, Activate(Load(sums)), count);
  }
  static Vec Gradient(Vec h, Vec d_h) { return d_h * (1.0f - h * h); }
  static void Backward(const BackwardRow& row, int unit, int count, int, Vec d_h) {
    Store(row.d_gates + unit, Gradient(LoadSome(row.h + unit, count), d_h));
    Store(row.d_h + unit, Vec{});
  }
};

template <>
struct Equation<Cell::kRelu> : Elman {
  static Vec Activate(Vec sum) { return sum < 0.0f ? Vec{} : sum; }  // NaN stays NaN
  static void Forward(const ForwardRow& row, const float* sums, int, int unit, int count, int) {
    StoreHidden(row, unit, Activate(Load(sums)), count);
  }
  static Vec Gradient(Vec h, Vec d_h) { return h > 0.0f ? d_h : Vec{}; }
  static void Backward(const BackwardRow& row, int unit, int count, int, Vec d_h) {
    Store(row.d_gates + unit, Gradient(LoadSome(row.h + unit, count), d_h));
    Store(row.d_h + unit, Vec{});
  }
};

template <>
struct Equation<Cell::kLstm> {
  static constexpr Groups kGroups = {4, {0, 1, 2, 3}, {0, 1, 2, 3}};
  static constexpr bool kHasCellState = true;

  static void Forward(const ForwardRow& row, const float* sums, int stride, int unit, int count, int padded) {
    const Vec i = Sigmoid(Load(sums)), f = Sigmoid(Load(sums + stride)), g = Tanh(Load(sums + 2 * stride)),
              o = Sigmoid(Load(sums + 3 * stride));
    const Vec c = f * Load(row.c_before + unit) + i * g;
    Store(row.c + unit, c);
    StoreHidden(row, unit, o * Tanh(c), count);
    Keep(row, unit, padded, {i, f, g, o});
  }
  static void Backward(const BackwardRow& row, int unit, int, int padded, Vec d_h) {
    const float* gates = row.gates + unit;
    const Vec i = Load(gates), f = Load(gates + padded), g = Load(gates + 2 * padded), o = Load(gates + 3 * padded);
    const Vec tanh_c = Tanh(Load(row.c + unit));
    const Vec d_c = Load(row.d_c + unit) + d_h * o * (1.0f - tanh_c * tanh_c);
    float* d_gates = row.d_gates + unit;
    Store(d_gates, d_c * g * i * (1.0f - i));
    Store(d_gates + padded, d_c * Load(row.c_before + unit) * f * (1.0f - f));
    Store(d_gates + 2 * padded, d_c * i * (1.0f - g * g));
    Store(d_gates + 3 * padded, d_h * tanh_c * o * (1.0f - o));
    Store(row.d_c + unit, d_c * f);
    Store(row.d_h + unit, Vec{});
  }
};

template <>
struct Equation<Cell::kGru> {
  // n's sum of the inputs, r, z, n's sum of the hidden state: what each weight matrix makes lies in one piece.
  static constexpr Groups kGroups = {4, {2, 0, 1, -1}, {-1, 0, 1, 2}};
  static constexpr bool kHasCellState = false;

  static void Forward(const ForwardRow& row, const float* sums, int stride, int unit, int count, int padded) {
    const Vec r = Sigmoid(Load(sums + stride)), z = Sigmoid(Load(sums + 2 * stride)), of_hidden = Load(sums + 3 * stride);
    const Vec n = Tanh(Load(sums) + r * of_hidden);
    StoreHidden(row, unit, (1.0f - z) * n + z * LoadSome(row.h_before + unit, count), count);
    Keep(row, unit, padded, {n, r, z, of_hidden});
  }
  static void Backward(const BackwardRow& row, int unit, int count, int padded, Vec d_h) {
    const float* gates = row.gates + unit;
    const Vec n = Load(gates), r = Load(gates + padded), z = Load(gates + 2 * padded);
    const Vec d_n = d_h * (1.0f - z) * (1.0f - n * n);
    float* d_gates = row.d_gates + unit;
    Store(d_gates, d_n);
    Store(d_gates + padded, d_n * Load(gates + 3 * padded) * r * (1.0f - r));
    Store(d_gates + 2 * padded, d_h * (LoadSome(row.h_before + unit, count) - n) * z * (1.0f - z));
    Store(d_gates + 3 * padded, d_n * r);
    Store(row.d_h + unit, d_h * z);
  }
};

}  // namespace jaxrnn

#endif  // JAXRNN_CELLS_H_
