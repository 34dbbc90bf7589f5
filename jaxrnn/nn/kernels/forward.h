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

template <Cell cell>
void Recurrence<cell>::Forward(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept,
                               Last last) const {
  const Vector<int>& rows = share.rows;
  const int num_rows = rows.size();
  const int64_t hidden = sizes.hidden, input = sizes.input;
  Vector<const float*> h(num_rows), c(num_rows), x_rows(num_rows), h_rows(num_rows);
  Vector<float*> sum_rows(num_rows);
  Vector<ForwardRow> active(num_rows);
  const int at_once = UnitsAtOnce(), sum_columns = kGroups.count * at_once;
  Floats sums(size_t(num_rows) * sum_columns);
  for (int i = 0; i < num_rows; ++i) sum_rows[i] = sums.get() + size_t(i) * sum_columns;
  const Origins origins(sizes, arrays, rows, Eq::kHasCellState);
  Floats running_c(Eq::kHasCellState && !kept.cells ? size_t(num_rows) * padded : 0);
  // The hidden state before a step and after it, and the step's inputs where they are read again and again: rows one
  // behind the other. In the arrays they are many steps apart, and may then share a few places of the nearest cache.
  Floats running_h(2 * size_t(num_rows) * hidden), step_x(ReadsInputsOften() ? size_t(num_rows) * input : 0);
  auto begin_from = [&](int origin, int i) {
    h[i] = origins.h(origin, i);
    if (Eq::kHasCellState) c[i] = origins.c(origin, i);
  };
  for (int i = 0; i < num_rows; ++i) begin_from(0, i);
  // Plain pointers in local variables: a vector's would be read again after each of the stores below.
  const float **const x_at = x_rows.data(), **const h_at = h_rows.data(), **const h_now = h.data(),
              **const c_now = c.data();
  ForwardRow* const active_at = active.data();
  float *const outputs = kept.outputs, *const kept_gates = kept.gates,
               *const cells = kept.cells ? kept.cells : running_c.get(), *const own_h = running_h.get(),
               *const own_x = step_x.get();
  const bool keeps_cells = kept.cells;
  const float* const inputs = arrays.inputs;
  auto take = [=](int number, int i, int64_t row_number, int64_t step) {
    const int64_t place = sizes.Place(row_number, step), pair = sizes.Pair(row_number, step);
    x_at[number] = inputs + place * input;
    if (own_x) {
      CopySome(own_x + number * input, x_at[number], int(input));
      x_at[number] = own_x + number * input;
    }
    h_at[number] = h_now[i];
    ForwardRow& row = active_at[number];
    row.gates = kept_gates ? kept_gates + pair * gate_columns : nullptr;
    row.h = own_h + i * hidden;
    if (row.h == h_now[i]) row.h += num_rows * hidden;
    row.output = outputs ? outputs + place * hidden : nullptr;
    row.h_before = h_now[i];
    h_now[i] = row.h;
    if (Eq::kHasCellState) {
      row.c_before = c_now[i];
      row.c = cells + (keeps_cells ? pair : i) * padded;
      c_now[i] = row.c;
    }
  };
  if (outputs) ZeroTails(share, outputs, hidden);
  for (int64_t turn = 0, count = 0; turn < sizes.steps; ++turn) {
    const int64_t step = StepAt(turn);
    if (!share.lengths.empty()) {
      count = share.CountAt(step, count);
      for (int i = 0; i < count; ++i) take(i, i, rows[i], step);
    } else {
      count = 0;
      for (int i = 0; i < num_rows; ++i) {
        const int64_t pair = sizes.Pair(rows[i], step);
        if (arrays.valid && !arrays.valid[pair]) {
          if (outputs) Zero(outputs + sizes.Place(rows[i], step) * hidden, hidden);
          continue;
        }
        if (arrays.reset && arrays.reset[pair]) begin_from(origins.NumberOf(arrays.reset[pair]), i);
        take(count++, i, rows[i], step);
      }
    }
    for (int i = 0; i < count && ReadsWeightsDirectly(); ++i) {
      MultiplyDirectly(arrays, weights, x_rows[i], h_rows[i], sum_rows[i]);
    }
    for (int begin = 0; begin < hidden; begin += at_once) {
      SumGates(weights, begin, at_once, count, sum_rows.data(), x_at, h_at);
      const int end = std::min<int>(begin + at_once, hidden);
      for (int i = 0; i < count; ++i) {
        for (int unit = begin; unit < end; unit += kLanes) {
          Eq::Forward(active_at[i], sum_rows[i] + unit - begin, at_once, unit, hidden - unit, padded);
        }
      }
    }
  }
  for (int i = 0; i < num_rows; ++i) {
    std::copy_n(h[i], hidden, last.h + rows[i] * hidden);
    if (Eq::kHasCellState) std::copy_n(c[i], hidden, last.c + rows[i] * hidden);
  }
}

}  // namespace jaxrnn

#endif  // JAXRNN_FORWARD_H_
