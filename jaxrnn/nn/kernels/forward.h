// The run forward.
#ifndef JAXRNN_FORWARD_H_
#define JAXRNN_FORWARD_H_

#include <algorithm>
#include <utility>

#include "memory.h"
#include "recurrence.h"

namespace jaxrnn {

template <Cell cell>
typename Recurrence<cell>::ForwardWeights Recurrence<cell>::PackForward(const Arrays& arrays) const {
  ForwardWeights weights;
  const int input = sizes.input, hidden = sizes.hidden;
  for (const Section& section : weights.sections) {
    if (ReadsWeightsDirectly()) break;
    const int depth = (section.reads_inputs ? input : 0) + (section.reads_hidden ? hidden : 0);
    Packed packed(depth, (section.end - section.begin) * padded);
    packed.Clear();
    for (int g = section.begin; g < section.end; ++g) {
      const int column = (g - section.begin) * padded;
      if (section.reads_inputs) {
        packed.SetColumns(0, input, column, hidden,
                          arrays.weight_ih + size_t(kGroups.input_gate[g]) * hidden * input, input);
      }
      if (section.reads_hidden) {
        packed.SetColumns(section.reads_inputs ? input : 0, hidden, column, hidden,
                          arrays.weight_hh + size_t(kGroups.hidden_gate[g]) * hidden * hidden, hidden);
      }
    }
    weights.packed.push_back(std::move(packed));
  }
  weights.bias = Floats(gate_columns + kPanelColumns);
  std::fill_n(weights.bias.get(), gate_columns + kPanelColumns, 0.0f);
  for (int g = 0; g < kGroups.count && arrays.bias_ih; ++g) {
    for (int unit = 0; unit < hidden; ++unit) {
      float& bias = weights.bias.get()[g * padded + unit];
      if (kGroups.input_gate[g] >= 0) bias += arrays.bias_ih[kGroups.input_gate[g] * hidden + unit];
      if (kGroups.hidden_gate[g] >= 0) bias += arrays.bias_hh[kGroups.hidden_gate[g] * hidden + unit];
    }
  }
  return weights;
}

template <Cell cell>
void Recurrence<cell>::SumGates(const ForwardWeights& weights, int unit, int at_once, int count, float* const* sums,
                                const float* const* x_rows, const float* const* h_rows) const {
  const bool is_all = at_once == padded;
  for (size_t s = 0; s < weights.packed.size(); ++s) {
    const Section& section = weights.sections[s];
    const Packed& packed = weights.packed[s];
    const Rows x = {x_rows, section.reads_inputs ? int(sizes.input) : 0},
               h = {h_rows, section.reads_hidden ? int(sizes.hidden) : 0};
    for (int column = unit; column < packed.columns(); column += is_all ? kPanelColumns : padded) {
      const int p = column / kPanelColumns, from = section.begin * padded + column;
      MultiplyPanel(sums, count, is_all ? from : from / padded * at_once, packed.columns() - column,
                    weights.bias.get() + from, x, h, packed.panel(p), packed.vectors(p));
    }
  }
}

template <Cell cell>
void Recurrence<cell>::MultiplyDirectly(const Arrays& arrays, const ForwardWeights& weights, const float* x,
                                        const float* h, float* gates) const {
  const int hidden = sizes.hidden, input = sizes.input;
  std::copy_n(weights.bias.get(), gate_columns, gates);
  for (int g = 0; g < kGroups.count; ++g) {
    const int from_x = kGroups.input_gate[g], from_h = kGroups.hidden_gate[g];
    float* to = gates + g * padded;
    if (from_x >= 0) MultiplyRow(to, arrays.weight_ih + size_t(from_x) * hidden * input, hidden, x, input);
    if (from_h >= 0) MultiplyRow(to, arrays.weight_hh + size_t(from_h) * hidden * hidden, hidden, h, hidden);
  }
}

// A step of R rows of a cell with one gate, all of whose units one vector holds: sums are activated in the registers that
// they are made in. `x` and `output`, of null pointers where nobody reads it, are the rows' first steps; `h` is written
// in place.
template <Cell cell, int R>
void StepOfRows(const Sizes& sizes, const Packed& packed, const float* bias, const float* const* x, float* const* h,
                float* const* output, int64_t step) {
  const int input = int(sizes.input), hidden = int(sizes.hidden);
  const int64_t from = step * input, to = step * hidden;
  const float* panel = packed.panel(0);
  Vec sum[R][1];
  JAXRNN_UNROLL
  for (int i = 0; i < R; ++i) sum[i][0] = Load(bias);
  for (int k = 0; k < input; ++k, panel += kLanes) {
    const Vec right = Load(panel);
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) sum[i][0] += Splat(x[i][from + k]) * right;
  }
  MultiplyAdd<R, 1>(sum, h, hidden, panel);
  JAXRNN_UNROLL
  for (int i = 0; i < R; ++i) {
    const Vec after = Equation<cell>::Activate(sum[i][0]);
    StoreSome(h[i], after, hidden);
    if (output[i]) StoreSome(output[i] + to, after, hidden);
  }
}

template <Cell cell, int... Rs>
auto PickStep(int rows, std::integer_sequence<int, Rs...>) {
  static constexpr decltype(&StepOfRows<cell, 1>) kSteps[] = {&StepOfRows<cell, Rs + 1>...};
  return kSteps[rows - 1];
}

template <Cell cell>
void Recurrence<cell>::ForwardNarrow(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept,
                                     Last last) const {
  constexpr int kMostRows = TileRows(1);
  const Vector<int>& rows = share.rows;
  const int num_rows = rows.size(), hidden = sizes.hidden;
  Vector<const float*> x(num_rows);
  Vector<float*> h(num_rows), output(num_rows);
  Floats running_h(size_t(num_rows) * hidden);  // the task's own: in `last` rows of several threads share cache lines
  for (int i = 0; i < num_rows; ++i) {
    const int64_t place = sizes.Place(rows[i], 0);
    x[i] = arrays.inputs + place * sizes.input;
    h[i] = running_h.get() + size_t(i) * hidden;
    output[i] = At(kept.outputs, place, hidden);
    CopySome(h[i], arrays.h_first + int64_t(rows[i]) * hidden, hidden);
  }
  if (kept.outputs) ZeroTails(share, kept.outputs, hidden);
  for (int64_t turn = 0, count = 0; turn < sizes.steps; ++turn) {
    const int64_t step = StepAt(turn);
    count = share.CountAt(step, count);
    InTiles(int(count), kMostRows, [&](int i, int some) {
      PickStep<cell>(some, std::make_integer_sequence<int, kMostRows>())(
          sizes, weights.packed[0], weights.bias.get(), x.data() + i, h.data() + i, output.data() + i, step);
    });
  }
  for (int i = 0; i < num_rows; ++i) CopySome(last.h + int64_t(rows[i]) * hidden, h[i], hidden);
}

template <Cell cell>
void Recurrence<cell>::Forward(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept,
                               Last last) const {
  if constexpr (kGroups.count == 1) {
    if (IsNarrow() && !share.lengths.empty()) return ForwardNarrow(arrays, weights, share, kept, last);
  }
  const Vector<int>& rows = share.rows;
  const int num_rows = rows.size();
  const int64_t hidden = sizes.hidden, input = sizes.input;
  const int at_once = UnitsAtOnce(), sum_columns = kGroups.count * at_once;
  const bool at_once_all = at_once >= hidden;  // the sums of a step are all made before its first state is written
  Vector<const float*> x(num_rows), c(num_rows), x_rows(num_rows), h_rows(num_rows);
  Vector<float*> h(num_rows), h_after(num_rows), output(num_rows), sum_rows(num_rows);
  Vector<int> active(num_rows);
  Floats sums(size_t(num_rows) * sum_columns);
  const Origins origins(sizes, arrays, rows, Eq::kHasCellState);
  Floats running_c(Eq::kHasCellState && !kept.cells ? size_t(num_rows) * padded : 0);
  // The hidden state before a step and after it, and the step's inputs where they are read again and again: rows one
  // behind the other. In the arrays they are many steps apart, and may then share a few places of the nearest cache.
  Floats running_h(size_t(at_once_all ? 1 : 2) * num_rows * hidden), step_x(ReadsInputsOften() ? size_t(num_rows) * input : 0);
  auto begin_from = [&](int origin, int i) {
    CopySome(h[i], origins.h(origin, i), int(hidden));
    if (Eq::kHasCellState) c[i] = origins.c(origin, i);
  };
  for (int i = 0; i < num_rows; ++i) {
    x[i] = arrays.inputs + sizes.Place(rows[i], 0) * input;
    output[i] = At(kept.outputs, sizes.Place(rows[i], 0), hidden);
    sum_rows[i] = sums.get() + size_t(i) * sum_columns;
    h[i] = running_h.get() + i * hidden;
    h_after[i] = at_once_all ? h[i] : h[i] + num_rows * hidden;
    begin_from(0, i);
  }
  // Plain pointers in local variables: a vector's would be read again after each of the stores below.
  const float **const x_at = x.data(), **const c_at = c.data(), **const x_rows_at = x_rows.data(),
              **const h_rows_at = h_rows.data();
  float **const h_at = h.data(), **const h_after_at = h_after.data(), **const output_at = output.data(),
              *const own_x = step_x.get(), *const own_c = running_c.get(), *const kept_gates = kept.gates,
              *const kept_cells = kept.cells, *const all_sums = sums.get();
  int* const active_at = active.data();
  const int* const row_numbers = rows.data();
  const int64_t batch = sizes.batch, gate_size = gate_columns, cell_size = padded;
  const bool keeps_outputs = kept.outputs, has_lengths = !share.lengths.empty();
  auto take = [=](int number, int i, int64_t step) {
    const float* from = x_at[i] + step * input;
    if (own_x) CopySome(own_x + number * input, from, int(input));
    x_rows_at[number] = own_x ? own_x + number * input : from;
    h_rows_at[number] = h_at[i];
    active_at[number] = i;
  };
  auto row_at = [=](int i, int64_t step) {
    ForwardRow row{};
    row.h_before = h_at[i];
    row.h = h_after_at[i];
    if (keeps_outputs) row.output = output_at[i] + step * hidden;
    if (kept_gates) row.gates = kept_gates + (step * batch + row_numbers[i]) * gate_size;
    if (Eq::kHasCellState) {
      row.c_before = c_at[i];
      row.c = kept_cells ? kept_cells + (step * batch + row_numbers[i]) * cell_size : own_c + i * cell_size;
    }
    return row;
  };
  if (kept.outputs) ZeroTails(share, kept.outputs, hidden);
  for (int64_t turn = 0, count = 0; turn < sizes.steps; ++turn) {
    const int64_t step = StepAt(turn);
    if (has_lengths) {
      count = share.CountAt(step, count);
      for (int i = 0; i < count; ++i) take(i, i, step);
    } else {
      count = 0;
      for (int i = 0; i < num_rows; ++i) {
        const int64_t pair = sizes.Pair(rows[i], step);
        if (arrays.valid && !arrays.valid[pair]) {
          if (kept.outputs) Zero(kept.outputs + sizes.Place(rows[i], step) * hidden, hidden);
          continue;
        }
        if (arrays.reset && arrays.reset[pair]) begin_from(origins.NumberOf(arrays.reset[pair]), i);
        take(count++, i, step);
      }
    }
    for (int i = 0; i < count && ReadsWeightsDirectly(); ++i) {
      MultiplyDirectly(arrays, weights, x_rows[i], h_rows[i], sum_rows[i]);
    }
    for (int begin = 0; begin < hidden; begin += at_once) {
      SumGates(weights, begin, at_once, count, sum_rows.data(), x_rows_at, h_rows_at);
      const int end = std::min<int>(begin + at_once, hidden);
      for (int number = 0; number < count; ++number) {
        const ForwardRow row = row_at(active_at[number], step);
        const float* row_sums = all_sums + size_t(number) * sum_columns;
        for (int unit = begin; unit < end; unit += kLanes) {
          Eq::Forward(row, row_sums + (unit - begin), at_once, unit, hidden - unit, cell_size);
        }
      }
    }
    for (int number = 0; number < count && (!at_once_all || Eq::kHasCellState); ++number) {
      const int i = active_at[number];
      if (Eq::kHasCellState) c_at[i] = row_at(i, step).c;
      if (!at_once_all) std::swap(h_at[i], h_after_at[i]);
    }
  }
  for (int i = 0; i < num_rows; ++i) {
    std::copy_n(h[i], hidden, last.h + rows[i] * hidden);
    if (Eq::kHasCellState) std::copy_n(c[i], hidden, last.c + rows[i] * hidden);
  }
}

}  // namespace jaxrnn

#endif  // JAXRNN_FORWARD_H_
