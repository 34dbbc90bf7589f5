// The run backward, and the sum of what its tasks found.
#ifndef JAXRNN_BACKWARD_H_
#define JAXRNN_BACKWARD_H_

#include <algorithm>
#include <utility>

#include "memory.h"
#include "recurrence.h"

namespace jaxrnn {

// (step, row) pairs whose gradients are gathered before they are multiplied into those of the weights.
constexpr int kChunkRows = 192;

template <Cell cell>
typename Recurrence<cell>::BackwardWeights Recurrence<cell>::PackBackward(const Arrays& arrays,
                                                                          bool want_inputs) const {
  BackwardWeights weights;
  auto pack = [&](const Section& section, const int (&gates)[kMaxGroups], const float* matrix, int columns) {
    Packed packed((section.end - section.begin) * padded, columns);
    packed.Clear();
    for (int g = section.begin; g < section.end; ++g) {
      for (int unit = 0; unit < sizes.hidden; ++unit) {
        packed.SetRow((g - section.begin) * padded + unit,
                      matrix + (size_t(gates[g]) * sizes.hidden + unit) * columns);
      }
    }
    return packed;
  };
  weights.hidden = pack(OfHidden(), kGroups.hidden_gate, arrays.weight_hh, sizes.hidden);
  if (want_inputs) weights.inputs = pack(OfInputs(), kGroups.input_gate, arrays.weight_ih, sizes.input);
  return weights;
}

// A step back of R rows of a cell with one gate, all of whose units one vector holds: writes the gradients of their gates
// and, in place, those of the state before the step. `h` and `d_output`, of null pointers where there is none, are the
// rows' first steps; `panel` is the hidden state's weights.
template <Cell cell, int R>
void StepBackOfRows(const Sizes& sizes, const float* panel, const float* const* h, const float* const* d_output,
                    float* const* d_gates, float* d_h, int64_t step) {
  const int hidden = int(sizes.hidden);
  const int64_t at = step * hidden;
  JAXRNN_UNROLL
  for (int i = 0; i < R; ++i) {
    Vec d_after = Load(d_h + i * kLanes);
    if (d_output[i]) d_after += LoadSome(d_output[i] + at, hidden);
    Store(d_gates[i], Equation<cell>::Gradient(LoadSome(h[i] + at, hidden), d_after));
  }
  Vec sum[R][1] = {};
  MultiplyAdd<R, 1>(sum, d_gates, kLanes, panel);
  JAXRNN_UNROLL
  for (int i = 0; i < R; ++i) Store(d_h + i * kLanes, sum[i][0]);
}

template <Cell cell, int... Rs>
auto PickStepBack(int rows, std::integer_sequence<int, Rs...>) {
  static constexpr decltype(&StepBackOfRows<cell, 1>) kSteps[] = {&StepBackOfRows<cell, Rs + 1>...};
  return kSteps[rows - 1];
}

template <Cell cell>
void Recurrence<cell>::BackwardNarrow(const Arrays& arrays, const BackwardWeights& weights, const Share& share,
                                      Kept kept, Cotangents cotangents, Gradients gradients, Sums& sums) const {
  constexpr int kMostRows = TileRows(1);
  const Vector<int>& rows = share.rows;
  const int num_rows = rows.size(), hidden = sizes.hidden, input = sizes.input;
  const int most_gathered = std::max(kChunkRows, num_rows);
  sums.joint = OuterSum(most_gathered, input, hidden, gate_columns);
  // Products that are not added up at once are gathered, and so are their factors.
  const bool as_they_lie = sums.joint.AddsRowsAsTheyLie();
  const int capacity = as_they_lie ? num_rows : most_gathered;
  Floats d_h(size_t(num_rows) * kLanes), d_gates(size_t(capacity) * kLanes);
  CopyPadded(d_h.get(), cotangents.h, rows);
  // The rows' first steps, and their states before these.
  Vector<const float*> x(num_rows), outputs(num_rows), d_outputs(num_rows), h_first(num_rows);
  for (int i = 0; i < num_rows; ++i) {
    const int64_t place = sizes.Place(rows[i], 0);
    x[i] = arrays.inputs + place * input;
    outputs[i] = kept.outputs + place * hidden;
    d_outputs[i] = At(cotangents.outputs, place, hidden);
    h_first[i] = arrays.h_first + int64_t(rows[i]) * hidden;
  }
  Vector<float*> gate_rows(capacity), dx_rows(gradients.inputs ? capacity : 0);
  for (int slot = 0; slot < capacity; ++slot) gate_rows[slot] = d_gates.get() + size_t(slot) * kLanes;
  Vector<const float*> x_rows(as_they_lie ? 0 : capacity), h_rows(as_they_lie ? 0 : capacity);
  int gathered = 0;
  auto flush = [&] {
    if (!as_they_lie) sums.joint.Add(x_rows.data(), h_rows.data(), d_gates.get(), kLanes, gathered);
    if (gradients.inputs) MultiplyAll(dx_rows.data(), gathered, {gate_rows.data(), kLanes}, weights.inputs);
    gathered = 0;
  };
  // Takes the products of some rows' gates with their inputs of a step and the states before it.
  auto add = [&](int begin, int end, int64_t step, RowsAt before) {
    if (begin < end && as_they_lie) {
      before.pointers += begin;
      sums.joint.AddAsTheyLie({x.data() + begin, step * input}, before, gate_rows[gathered + begin], kLanes, end - begin);
    }
    for (int i = begin; i < end && !as_they_lie; ++i) {
      x_rows[gathered + i] = x[i] + step * input;
      h_rows[gathered + i] = before.pointers[i] + before.offset;
    }
  };
  if (gradients.inputs) ZeroTails(share, gradients.inputs, input);
  for (int64_t turn = sizes.steps - 1, count = 0; turn >= 0; --turn) {
    const int64_t step = StepAt(turn), previous = reverse ? step + 1 : step - 1;
    count = share.CountAt(step, count);
    if (gathered + count > capacity) flush();
    InTiles(int(count), kMostRows, [&](int i, int some) {
      PickStepBack<cell>(some, std::make_integer_sequence<int, kMostRows>())(
          sizes, weights.hidden.panel(0), outputs.data() + i, d_outputs.data() + i, gate_rows.data() + gathered + i,
          d_h.get() + size_t(i) * kLanes, step);
    });
    const int going_on = reverse ? share.CountAt(step + 1, int(count)) : step ? int(count) : 0;  // the others begin here
    add(0, going_on, step, {outputs.data(), previous * hidden});
    add(going_on, int(count), step, {h_first.data(), 0});
    for (int i = 0; i < count && gradients.inputs; ++i) {
      dx_rows[gathered + i] = gradients.inputs + sizes.Place(rows[i], step) * input;
    }
    gathered += count;
  }
  flush();
  for (int i = 0; i < num_rows; ++i) {
    MoveToOrigin(gradients.h_first + int64_t(rows[i]) * hidden, d_h.get() + size_t(i) * kLanes);
  }
}

template <Cell cell>
void Recurrence<cell>::Backward(const Arrays& arrays, const BackwardWeights& weights, const Share& share, Kept kept,
                                Cotangents cotangents, Gradients gradients, Sums& sums) const {
  const Vector<int>& rows = share.rows;
  const bool is_simple = !share.lengths.empty();
  const int num_rows = rows.size();
  const int64_t hidden = sizes.hidden, input = sizes.input;
  if constexpr (kGroups.count == 1) {
    if (IsNarrow() && is_simple) return BackwardNarrow(arrays, weights, share, kept, cotangents, gradients, sums);
  }
  const Section of_inputs = OfInputs(), of_hidden = OfHidden();
  const int input_columns = ColumnsOf(of_inputs), hidden_columns = ColumnsOf(of_hidden);
  const int capacity = std::max(kChunkRows, num_rows);
  if (HasJointSums()) {
    sums.joint = OuterSum(capacity, input, hidden, gate_columns);
  } else {
    sums.inputs = OuterSum(capacity, input, 0, input_columns);
    sums.hidden = OuterSum(capacity, hidden, 0, hidden_columns);
  }

  const Origins origins(sizes, arrays, rows, Eq::kHasCellState);
  // Of every step of every row, the step before it that counts; -1 - origin where it begins from one of those.
  Vector<int32_t> before(is_simple ? 0 : size_t(sizes.steps) * num_rows);
  for (int i = 0; i < num_rows && !is_simple; ++i) {
    int32_t previous = -1;
    for (int64_t turn = 0; turn < sizes.steps; ++turn) {
      const int64_t step = StepAt(turn), pair = sizes.Pair(rows[i], step);
      if (arrays.valid && !arrays.valid[pair]) continue;
      const uint8_t code = arrays.reset ? arrays.reset[pair] : 0;
      before[turn * num_rows + i] = code ? -1 - origins.NumberOf(code) : previous;
      previous = step;
    }
  }

  Floats d_h(size_t(num_rows) * padded), d_c(size_t(num_rows) * padded);
  // Apart by more than their columns: rows that are a power of two apart would share a few places of the cache.
  const size_t gate_stride = gate_columns + kPanelColumns;
  Floats d_gates(capacity * gate_stride);
  Vector<const float*> x_rows(capacity), h_rows(capacity), gate_pointers(capacity), part(capacity);
  Vector<float*> dx_rows(capacity), d_h_rows(num_rows);
  CopyPadded(d_h.get(), cotangents.h, rows);
  if (Eq::kHasCellState) CopyPadded(d_c.get(), cotangents.c, rows);

  int gathered = 0;
  auto flush = [&] {
    const float* right = d_gates.get();
    if (HasJointSums()) {
      sums.joint.Add(x_rows.data(), h_rows.data(), right, gate_stride, gathered);
    } else {
      sums.inputs.Add(x_rows.data(), nullptr, right + of_inputs.begin * padded, gate_stride, gathered);
      sums.hidden.Add(h_rows.data(), nullptr, right + of_hidden.begin * padded, gate_stride, gathered);
    }
    if (gradients.inputs) {
      for (int i = 0; i < gathered; ++i) part[i] = gate_pointers[i] + of_inputs.begin * padded;
      MultiplyAll(dx_rows.data(), gathered, {part.data(), input_columns}, weights.inputs);
    }
    gathered = 0;
  };

  // Plain pointers in local variables: a vector's would be read again after each of the stores below.
  const float **const x_at = x_rows.data(), **const h_at = h_rows.data(), **const gates_at = gate_pointers.data(),
              **const part_at = part.data();
  float **const dx_at = dx_rows.data(), **const d_h_at = d_h_rows.data();
  float *const d_gates_begin = d_gates.get(), *const d_h_begin = d_h.get(), *const d_c_begin = d_c.get();
  const Origins* const origins_at = &origins;
  const int hidden_offset = of_hidden.begin * padded;
  // Computes the gradients of one row's gates; `slot` is among those gathered, `number` among those of its step.
  auto take = [=](int slot, int number, int i, int64_t row_number, int64_t step, int64_t previous) {
    const int64_t place = sizes.Place(row_number, step), pair = sizes.Pair(row_number, step);
    const float* h_before = previous < 0 ? origins_at->h(-1 - previous, i)
                                         : kept.outputs + sizes.Place(row_number, previous) * hidden;
    const float* c_before = !Eq::kHasCellState ? nullptr
                            : previous < 0     ? origins_at->c(-1 - previous, i)
                                               : kept.cells + sizes.Pair(row_number, previous) * padded;
    float* row_gates = d_gates_begin + size_t(slot) * gate_stride;
    const BackwardRow row = {At(kept.gates, pair, gate_columns),
                             h_before,
                             kept.outputs + place * hidden,
                             c_before,
                             At(kept.cells, pair, padded),
                             row_gates,
                             d_h_begin + size_t(i) * padded,
                             d_c_begin + size_t(i) * padded};
    const float* d_output = At(cotangents.outputs, place, hidden);
    for (int unit = 0; unit < hidden; unit += kLanes) {
      Vec d_after = Load(row.d_h + unit);
      if (d_output) d_after += LoadSome(d_output + unit, hidden - unit);
      Eq::Backward(row, unit, hidden - unit, padded, d_after);
    }
    x_at[slot] = arrays.inputs + place * input;
    h_at[slot] = h_before;
    gates_at[slot] = row_gates;
    if (gradients.inputs) dx_at[slot] = gradients.inputs + place * input;
    part_at[slot] = row_gates + hidden_offset;
    d_h_at[number] = row.d_h;
  };
  if (gradients.inputs) ZeroTails(share, gradients.inputs, input);
  for (int64_t turn = sizes.steps - 1, count = 0; turn >= 0; --turn) {
    const int64_t step = StepAt(turn);
    if (is_simple) count = share.CountAt(step, count);
    if (gathered + (is_simple ? count : num_rows) > capacity) flush();
    const int begin = gathered;
    for (int i = 0; i < count; ++i) {  // none unless is_simple
      const bool is_first = reverse ? step + 1 == share.lengths[i] : step == 0;
      const int64_t previous = is_first ? -1 : reverse ? step + 1 : step - 1;
      take(begin + i, i, i, rows[i], step, previous);
    }
    gathered += count;
    for (int i = 0; i < num_rows && !is_simple; ++i) {
      if (!arrays.valid || arrays.valid[sizes.Pair(rows[i], step)]) {
        take(gathered, gathered - begin, i, rows[i], step, before[turn * num_rows + i]);
        ++gathered;
      } else if (gradients.inputs) {
        Zero(gradients.inputs + sizes.Place(rows[i], step) * input, input);
      }
    }
    const Packed& packed = weights.hidden;
    for (int p = 0; p < packed.num_panels(); ++p) {
      const int column = p * kPanelColumns;
      MultiplyPanel(d_h_rows.data(), gathered - begin, column, RoundUp(packed.columns() - column, kLanes), nullptr,
                    {part.data() + begin, hidden_columns}, {part.data() + begin, 0}, packed.panel(p),
                    packed.vectors(p));
    }
    if (arrays.reset) {
      for (int i = 0; i < num_rows; ++i) {
        const int64_t pair = sizes.Pair(rows[i], step);
        const int64_t code = arrays.reset[pair], target_row = (code - 1) * sizes.batch + rows[i];
        if (!code || (arrays.valid && !arrays.valid[pair])) continue;
        const bool has_target = code <= sizes.targets;
        MoveToOrigin(has_target ? At(gradients.h_targets, target_row, hidden) : nullptr,
                     d_h.get() + size_t(i) * padded);
        if (!Eq::kHasCellState) continue;
        MoveToOrigin(has_target ? At(gradients.c_targets, target_row, hidden) : nullptr,
                     d_c.get() + size_t(i) * padded);
      }
    }
  }
  if (gathered) flush();
  for (int i = 0; i < num_rows; ++i) {
    MoveToOrigin(gradients.h_first + rows[i] * hidden, d_h.get() + size_t(i) * padded);
    if (Eq::kHasCellState) MoveToOrigin(gradients.c_first + rows[i] * hidden, d_c.get() + size_t(i) * padded);
  }
}

template <Cell cell>
void Recurrence<cell>::Reduce(const Vector<Sums>& tasks, Gradients gradients, int begin, int end) const {
  const int hidden = sizes.hidden;
  auto total = [&](OuterSum Sums::*part, int k, int column) {
    Vec sum = Load((tasks[0].*part).row(k) + column);
    for (size_t task = 1; task < tasks.size(); ++task) sum += Load((tasks[task].*part).row(k) + column);
    return sum;
  };
  // One matrix: the sums of `part` with values `first` to `first + depth` of the operands, and with 1. They lie the other
  // way round, and are turned in squares that stay in the nearest cache.
  auto reduce = [&](const Section& section, const int (&gates)[kMaxGroups], OuterSum Sums::*part, int first,
                    int depth, float* matrix, float* bias) {
    float square[kLanes][kLanes];
    for (int g = section.begin; g < section.end; ++g) {
      float* rows = matrix + size_t(gates[g]) * hidden * depth;
      for (int unit = begin; unit < end; unit += kLanes) {
        const int column = (g - section.begin) * padded + unit, units = std::min(kLanes, end - unit);
        for (int k = 0; k < depth; k += kLanes) {
          const int values = std::min(kLanes, depth - k);
          for (int i = 0; i < values; ++i) Store(square[i], total(part, first + k + i, column));
          for (int j = 0; j < units; ++j) {
            float* to = rows + size_t(unit + j) * depth + k;
            for (int i = 0; i < values; ++i) to[i] = square[i][j];
          }
        }
        if (bias) StoreSome(bias + gates[g] * hidden + unit, total(part, (tasks[0].*part).depth() - 1, column), units);
      }
    }
  };
  const bool joint = HasJointSums();
  reduce(OfInputs(), kGroups.input_gate, joint ? &Sums::joint : &Sums::inputs, 0, sizes.input, gradients.weight_ih,
         gradients.bias_ih);
  reduce(OfHidden(), kGroups.hidden_gate, joint ? &Sums::joint : &Sums::hidden, joint ? sizes.input : 0, hidden,
         gradients.weight_hh, gradients.bias_hh);
}

}  // namespace jaxrnn

#endif  // JAXRNN_BACKWARD_H_
