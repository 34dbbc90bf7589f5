// A masked recurrence over time, forward and backward, as two calls that XLA makes on a CPU.
//
// What `jaxrnn.recurrence` computes with `lax.scan`, for its own cells in float32. Rows of a batch have nothing to tell
// each other, so each thread runs its own through all steps, with weights that were packed once; steps that do not
// count are not computed at all. The gradients of the weights are matmuls over some hundred (step, row) pairs at a time,
// while these are in the cache. Sums are made in an order that depends on the sizes and the number of threads alone.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cells.h"
#include "matmul.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {
namespace {

namespace ffi = xla::ffi;
using FloatBuffer = ffi::Buffer<ffi::F32>;
using MaskBuffer = ffi::Buffer<ffi::PRED>;
using FloatResult = ffi::Result<FloatBuffer>;

// Multiply-adds below which a call stays on one thread: waking another takes some microseconds.
constexpr int64_t kWorkOfAThread = 1 << 16;
// (step, row) pairs up to which the weights are read as they are: packing them costs about as much as four products.
constexpr int64_t kPairsWithoutPacking = 4;
// (step, row) pairs whose gradients are gathered before they are multiplied into those of the weights.
constexpr int kChunkRows = 192;

struct Sizes {
  int64_t models, steps, batch, input, hidden;
  int padded() const { return RoundUp(int(hidden), kLanes); }
};

// One model's arrays, time-major; null where there is none. Shapes are those of `jaxrnn.recurrence`.
struct Arrays {
  const float* inputs;
  const bool *valid, *reset;
  const float *weight_ih, *weight_hh, *bias_ih, *bias_hh, *h_first, *c_first;
};
struct Kept {
  float *outputs, *cells, *gates;  // cells and gates are padded, and null where nothing is kept
};
struct Last {
  float *h, *c;
};
struct Cotangents {
  const float *outputs, *h, *c;
};
struct Gradients {
  float *inputs, *weight_ih, *weight_hh, *bias_ih, *bias_hh, *h_first, *c_first;  // inputs may be null
};

const float* At(const float* base, int64_t index, int64_t size) { return base ? base + index * size : nullptr; }
float* At(float* base, int64_t index, int64_t size) { return base ? base + index * size : nullptr; }

template <typename B>
auto DataOrNull(B& buffer) -> decltype(buffer.typed_data()) {
  return buffer.element_count() ? buffer.typed_data() : nullptr;
}
float* DataOrNull(FloatResult& buffer) { return buffer->element_count() ? buffer->typed_data() : nullptr; }

// Runs task(0) .. task(count - 1), here and on the pool's threads; returns when all have ended. Waits only for tasks
// that a thread has begun, so it cannot wait for a thread that waits for it.
void RunTasks(ffi::ThreadPool& pool, int count, const std::function<void(int)>& task) {
  if (count == 1) return task(0);
  struct Shared {
    std::atomic<int> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, &task] {
    for (int number; (number = shared->next.fetch_add(1)) < count;) {
      task(number);
      if (shared->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->all_done.notify_one();
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  work();
  for (int spin = 0; spin < 20000 && shared->done.load() < count; ++spin) __asm__ volatile("" ::: "memory");
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done.load() == count; });
}

// The rows of one task. Where every row's valid steps are its first ones, and none resets, the longest row comes first
// and `lengths` says how many steps each has: then the rows of a step are the first few, and nothing is looked up.
// Otherwise `lengths` is empty.
struct Share {
  std::vector<int> rows, lengths;

  // How many rows a step has, from those of the step next to it.
  int CountAt(int64_t step, int count) const {
    while (count > 0 && lengths[count - 1] <= step) --count;
    while (count < int(lengths.size()) && lengths[count] > step) ++count;
    return count;
  }
};

void Zero(float* to, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) Store(to + i, Vec{});
  for (; i < size; ++i) to[i] = 0.0f;
}

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

  ForwardWeights PackForward(const Arrays& arrays) const {
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

  // Copies rows of (batch, hidden), null for zeros, into padded ones.
  void CopyPadded(float* to, const float* from, const std::vector<int>& rows) const {
    for (size_t i = 0; i < rows.size(); ++i) {
      float* row = to + i * padded;
      std::fill_n(row, padded, 0.0f);
      if (from) std::copy_n(from + rows[i] * sizes.hidden, sizes.hidden, row);
    }
  }

  void MultiplyDirectly(const Arrays& arrays, const ForwardWeights& weights, const float* x, const float* h,
                        float* gates) const {
    const int hidden = sizes.hidden, input = sizes.input;
    std::copy_n(weights.bias.get(), gate_columns, gates);
    for (int g = 0; g < kGroups.count; ++g) {
      const int from_x = kGroups.input_gate[g], from_h = kGroups.hidden_gate[g];
      float* to = gates + g * padded;
      if (from_x >= 0) MultiplyRow(to, arrays.weight_ih + size_t(from_x) * hidden * input, hidden, x, input);
      if (from_h >= 0) MultiplyRow(to, arrays.weight_hh + size_t(from_h) * hidden * hidden, hidden, h, hidden);
    }
  }

  // Zeroes what lies behind the rows' ends, in an array of (time, batch, size).
  void ZeroTails(const Share& share, float* to, int64_t size) const {
    for (size_t i = 0; i < share.lengths.size(); ++i) {
      for (int64_t step = share.lengths[i]; step < sizes.steps; ++step) {
        Zero(to + (step * sizes.batch + share.rows[i]) * size, size);
      }
    }
  }

  void Forward(const Arrays& arrays, const ForwardWeights& weights, const Share& share, Kept kept, Last last) const {
    const std::vector<int>& rows = share.rows;
    const int num_rows = rows.size();
    const int64_t batch = sizes.batch, hidden = sizes.hidden;
    std::vector<const float*> h(num_rows), c(num_rows), x_rows(num_rows), h_rows(num_rows);
    std::vector<float*> gate_rows(num_rows);
    std::vector<ForwardRow> active(num_rows);
    Floats gates(kept.gates ? 0 : size_t(num_rows) * gate_columns);
    Floats first_c(Eq::kHasCellState ? size_t(num_rows) * padded : 0);
    Floats running_c(Eq::kHasCellState && !kept.cells ? size_t(num_rows) * padded : 0);
    if (Eq::kHasCellState) CopyPadded(first_c.get(), arrays.c_first, rows);
    for (int i = 0; i < num_rows; ++i) {
      h[i] = arrays.h_first + rows[i] * hidden;
      c[i] = At(first_c.get(), i, padded);
    }
    // Plain pointers in local variables: a vector's would be read again after each of the stores below.
    const float **const x_at = x_rows.data(), **const h_at = h_rows.data(), **const h_now = h.data(),
                **const c_now = c.data();
    float** const gates_at = gate_rows.data();
    ForwardRow* const active_at = active.data();
    float *const outputs = kept.outputs, *const kept_gates = kept.gates, *const own_gates = gates.get(),
                 *const cells = kept.cells ? kept.cells : running_c.get();
    const bool keeps_cells = kept.cells;
    const int64_t input = sizes.input;
    const float* const inputs = arrays.inputs;
    auto take = [=](int place, int i, int64_t pair) {
      float* output = outputs + pair * hidden;
      float* row_gates = kept_gates ? kept_gates + pair * gate_columns : own_gates + size_t(place) * gate_columns;
      x_at[place] = inputs + pair * input;
      h_at[place] = h_now[i];
      gates_at[place] = row_gates;
      ForwardRow& row = active_at[place];
      row.gates = row_gates;
      row.h = output;
      row.h_before = h_now[i];
      h_now[i] = output;
      if (Eq::kHasCellState) {
        row.c_before = c_now[i];
        row.c = cells + (keeps_cells ? pair : i) * padded;
        c_now[i] = row.c;
      }
    };
    ZeroTails(share, kept.outputs, hidden);
    for (int64_t turn = 0, count = 0; turn < sizes.steps; ++turn) {
      const int64_t step = StepAt(turn);
      if (!share.lengths.empty()) {
        count = share.CountAt(step, count);
        for (int i = 0; i < count; ++i) take(i, i, step * batch + rows[i]);
      } else {
        count = 0;
        for (int i = 0; i < num_rows; ++i) {
          const int64_t pair = step * batch + rows[i];
          if (arrays.valid && !arrays.valid[pair]) {
            Zero(kept.outputs + pair * hidden, hidden);
            continue;
          }
          if (arrays.reset && arrays.reset[pair]) {
            h[i] = arrays.h_first + rows[i] * hidden;
            c[i] = At(first_c.get(), i, padded);
          }
          take(count++, i, pair);
        }
      }
      for (int i = 0; i < count && ReadsWeightsDirectly(); ++i) {
        MultiplyDirectly(arrays, weights, x_rows[i], h_rows[i], gate_rows[i]);
      }
      for (size_t s = 0; s < weights.packed.size(); ++s) {
        const Section& section = weights.sections[s];
        const Packed& packed = weights.packed[s];
        const int first_column = section.begin * padded;
        for (int p = 0; p < packed.num_panels(); ++p) {
          const int column = p * kPanelColumns;
          MultiplyPanel(gate_rows.data(), count, first_column + column, packed.columns() - column,
                        weights.bias.get() + first_column + column,
                        {x_rows.data(), section.reads_inputs ? int(sizes.input) : 0},
                        {h_rows.data(), section.reads_hidden ? int(hidden) : 0}, packed.panel(p), packed.vectors(p));
        }
      }
      for (int i = 0; i < count; ++i) Eq::Activate(gate_rows[i], padded);
      for (int i = 0; i < count; ++i) {
        for (int unit = 0; unit < hidden; unit += kLanes) Eq::Forward(active[i], unit, hidden - unit, padded);
      }
    }
    for (int i = 0; i < num_rows; ++i) {
      std::copy_n(h[i], hidden, last.h + rows[i] * hidden);
      if (Eq::kHasCellState) std::copy_n(c[i], hidden, last.c + rows[i] * hidden);
    }
  }

  // What the backward steps multiply by: the weights as they are, cut into panels.
  struct BackwardWeights {
    Packed inputs, hidden;
  };

  BackwardWeights PackBackward(const Arrays& arrays, bool want_inputs) const {
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
                Cotangents cotangents, Gradients gradients, Sums& sums) const {
    const std::vector<int>& rows = share.rows;
    const bool is_simple = !share.lengths.empty();
    const int num_rows = rows.size();
    const int64_t batch = sizes.batch, hidden = sizes.hidden, input = sizes.input;
    const Section of_inputs = OfInputs(), of_hidden = OfHidden();
    const int input_columns = ColumnsOf(of_inputs), hidden_columns = ColumnsOf(of_hidden);
    const int capacity = std::max(kChunkRows, num_rows);
    if (HasJointSums()) {
      sums.joint = OuterSum(capacity, input, hidden, gate_columns);
    } else {
      sums.inputs = OuterSum(capacity, input, 0, input_columns);
      sums.hidden = OuterSum(capacity, hidden, 0, hidden_columns);
    }

    // Of every step of every row, the step before it that counts: -1 where that is the initial state.
    std::vector<int32_t> before(is_simple ? 0 : size_t(sizes.steps) * num_rows);
    for (int i = 0; i < num_rows && !is_simple; ++i) {
      int32_t previous = -1;
      for (int64_t turn = 0; turn < sizes.steps; ++turn) {
        const int64_t step = StepAt(turn), pair = step * batch + rows[i];
        if (arrays.valid && !arrays.valid[pair]) continue;
        before[turn * num_rows + i] = arrays.reset && arrays.reset[pair] ? -1 : previous;
        previous = step;
      }
    }

    Floats d_h(size_t(num_rows) * padded), d_c(size_t(num_rows) * padded), first_c(size_t(num_rows) * padded);
    Floats d_gates(size_t(capacity) * gate_columns);
    std::vector<const float*> x_rows(capacity), h_rows(capacity), gate_pointers(capacity), part(capacity);
    std::vector<float*> dx_rows(capacity), d_h_rows(num_rows);
    const Vec zeros[kPanelVectors] = {};
    CopyPadded(d_h.get(), cotangents.h, rows);
    if (Eq::kHasCellState) {
      CopyPadded(d_c.get(), cotangents.c, rows);
      CopyPadded(first_c.get(), arrays.c_first, rows);
    }

    int gathered = 0;
    auto flush = [&] {
      const float* right = d_gates.get();
      if (HasJointSums()) {
        sums.joint.Add(x_rows.data(), h_rows.data(), right, gate_columns, gathered);
      } else {
        sums.inputs.Add(x_rows.data(), nullptr, right + of_inputs.begin * padded, gate_columns, gathered);
        sums.hidden.Add(h_rows.data(), nullptr, right + of_hidden.begin * padded, gate_columns, gathered);
      }
      if (gradients.inputs) {
        for (int i = 0; i < gathered; ++i) part[i] = gate_pointers[i] + of_inputs.begin * padded;
        const Packed& packed = weights.inputs;
        for (int p = 0; p < packed.num_panels(); ++p) {
          const int column = p * kPanelColumns;
          MultiplyPanel(dx_rows.data(), gathered, column, packed.columns() - column,
                        reinterpret_cast<const float*>(zeros), {part.data(), input_columns},
                        {part.data(), 0}, packed.panel(p), packed.vectors(p));
        }
      }
      gathered = 0;
    };

    // Plain pointers in local variables: a vector's would be read again after each of the stores below.
    const float **const x_at = x_rows.data(), **const h_at = h_rows.data(), **const gates_at = gate_pointers.data(),
                **const part_at = part.data();
    float **const dx_at = dx_rows.data(), **const d_h_at = d_h_rows.data();
    float *const d_gates_begin = d_gates.get(), *const d_h_begin = d_h.get(), *const d_c_begin = d_c.get();
    const float* const first_c_begin = first_c.get();
    const int hidden_offset = of_hidden.begin * padded;
    // Computes the gradients of one row's gates; `place` is among those gathered, `number` among those of its step.
    auto take = [=](int place, int number, int i, int64_t row_number, int64_t step, int64_t previous) {
      const int64_t pair = step * batch + row_number, pair_before = previous * batch + row_number;
      const float* h_before = previous < 0 ? arrays.h_first + row_number * hidden : kept.outputs + pair_before * hidden;
      const float* c_before = !Eq::kHasCellState ? nullptr
                              : previous < 0     ? first_c_begin + size_t(i) * padded
                                                 : kept.cells + pair_before * padded;
      float* row_gates = d_gates_begin + size_t(place) * gate_columns;
      const BackwardRow row = {At(kept.gates, pair, gate_columns),
                               h_before,
                               kept.outputs + pair * hidden,
                               c_before,
                               At(kept.cells, pair, padded),
                               row_gates,
                               d_h_begin + size_t(i) * padded,
                               d_c_begin + size_t(i) * padded};
      const float* d_output = At(cotangents.outputs, pair, hidden);
      for (int unit = 0; unit < hidden; unit += kLanes) {
        Vec d_after = Load(row.d_h + unit);
        if (d_output) d_after += LoadSome(d_output + unit, hidden - unit);
        Eq::Backward(row, unit, hidden - unit, padded, d_after);
      }
      x_at[place] = arrays.inputs + pair * input;
      h_at[place] = h_before;
      gates_at[place] = row_gates;
      if (gradients.inputs) dx_at[place] = gradients.inputs + pair * input;
      part_at[place] = row_gates + hidden_offset;
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
        take(begin + i, i, i, rows[i], step, is_first ? -1 : reverse ? step + 1 : step - 1);
      }
      gathered += count;
      for (int i = 0; i < num_rows && !is_simple; ++i) {
        const int64_t pair = step * batch + rows[i];
        if (!arrays.valid || arrays.valid[pair]) {
          take(gathered, gathered - begin, i, rows[i], step, before[turn * num_rows + i]);
          ++gathered;
        } else if (gradients.inputs) {
          Zero(gradients.inputs + pair * input, input);
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
          const int64_t pair = step * batch + rows[i];
          if (!arrays.reset[pair] || (arrays.valid && !arrays.valid[pair])) continue;
          MoveToFirst(gradients.h_first + rows[i] * hidden, d_h.get() + size_t(i) * padded);
          if (Eq::kHasCellState) MoveToFirst(gradients.c_first + rows[i] * hidden, d_c.get() + size_t(i) * padded);
        }
      }
    }
    if (gathered) flush();
    for (int i = 0; i < num_rows; ++i) {
      MoveToFirst(gradients.h_first + rows[i] * hidden, d_h.get() + size_t(i) * padded);
      if (Eq::kHasCellState) MoveToFirst(gradients.c_first + rows[i] * hidden, d_c.get() + size_t(i) * padded);
    }
  }

  // Adds a running gradient to that of the initial state, and leaves 0.
  void MoveToFirst(float* first, float* running) const {
    for (int unit = 0; unit < sizes.hidden; ++unit) first[unit] += running[unit];
    std::fill_n(running, padded, 0.0f);
  }

  // Adds up the tasks' sums, in PyTorch's layouts.
  void Reduce(const std::vector<Sums>& tasks, Gradients gradients) const {
    const int hidden = sizes.hidden;
    // One matrix: the sums of `part` with values `first` to `first + depth` of the operands, and with 1.
    auto reduce = [&](const Section& section, const int (&gates)[kMaxGroups], OuterSum Sums::*part, int first,
                      int depth, float* matrix, float* bias) {
      for (int g = section.begin; g < section.end; ++g) {
        float* rows = matrix + size_t(gates[g]) * hidden * depth;
        const int column = (g - section.begin) * padded;
        for (size_t task = 0; task < tasks.size(); ++task) {
          const OuterSum& sums = tasks[task].*part;
          for (int k = 0; k < depth; ++k) {
            const float* from = sums.row(first + k) + column;
            for (int unit = 0; unit < hidden; ++unit) {
              float& to = rows[size_t(unit) * depth + k];
              to = task ? to + from[unit] : from[unit];
            }
          }
          const float* from = sums.row(sums.depth() - 1) + column;
          for (int unit = 0; unit < hidden && bias; ++unit) {
            float& to = bias[gates[g] * hidden + unit];
            to = task ? to + from[unit] : from[unit];
          }
        }
      }
    };
    const bool joint = HasJointSums();
    reduce(OfInputs(), kGroups.input_gate, joint ? &Sums::joint : &Sums::inputs, 0, sizes.input, gradients.weight_ih,
           gradients.bias_ih);
    reduce(OfHidden(), kGroups.hidden_gate, joint ? &Sums::joint : &Sums::hidden, joint ? sizes.input : 0, hidden,
           gradients.weight_hh, gradients.bias_hh);
  }
};

// Deals the rows of a batch out to tasks: the longest ones first, back and forth, so that all get about as many steps.
std::vector<Share> DealRows(const Sizes& sizes, const bool* valid, const bool* reset, int num_tasks) {
  const int64_t batch = sizes.batch;
  std::vector<int> lengths(batch, valid ? 0 : int(sizes.steps));
  bool is_simple = !reset;
  for (int64_t t = 0; t < sizes.steps && valid; ++t) {
    const bool *now = valid + t * batch, *before = t ? now - batch : now;
    int gaps = 0;
    for (int64_t b = 0; b < batch; ++b) {
      lengths[b] += now[b];
      gaps += now[b] > before[b];
    }
    is_simple &= !gaps;
  }
  std::vector<int> order(batch), place(sizes.steps + 2);  // sorted by counting, which keeps the order of equals
  for (int64_t b = 0; b < batch; ++b) ++place[sizes.steps - lengths[b] + 1];
  for (int64_t t = 0; t <= sizes.steps; ++t) place[t + 1] += place[t];
  for (int64_t b = 0; b < batch; ++b) order[place[sizes.steps - lengths[b]]++] = b;
  std::vector<Share> shares(num_tasks);
  for (Share& share : shares) {
    share.rows.reserve(batch / num_tasks + 1);
    share.lengths.reserve(is_simple ? batch / num_tasks + 1 : 0);
  }
  for (int64_t i = 0; i < batch; ++i) {
    const int64_t round = i / num_tasks, task = i % num_tasks;
    Share& share = shares[round % 2 ? num_tasks - 1 - task : task];
    share.rows.push_back(order[i]);
    if (is_simple) share.lengths.push_back(lengths[order[i]]);
  }
  return shares;
}

// How the work is dealt out to threads: whole models, or the rows of each model.
struct Deal {
  int tasks_per_model = 1;
  bool models_apart = false;
};

Deal ChooseDeal(const Sizes& sizes, int gates, int64_t threads) {
  const int64_t work = sizes.models * sizes.steps * sizes.batch * gates * sizes.hidden * (sizes.input + sizes.hidden);
  if (threads < 2 || work < 2 * kWorkOfAThread) return {};
  if (sizes.models >= threads) return {1, true};
  return {int(std::max<int64_t>(1, std::min({threads, work / sizes.models / kWorkOfAThread, sizes.batch}))), false};
}

// Calls run(model, spread) for every model; `spread` calls what it is given for every task of the model.
template <typename Run>
void RunModels(ffi::ThreadPool& pool, int64_t models, const Deal& deal, const Run& run) {
  using Task = std::function<void(int)>;
  if (deal.models_apart) {
    RunTasks(pool, int(models), [&](int model) { run(model, [](const Task& task) { task(0); }); });
    return;
  }
  for (int64_t model = 0; model < models; ++model) {
    run(model, [&](const Task& task) { RunTasks(pool, deal.tasks_per_model, task); });
  }
}

template <typename Buffer>
Sizes SizesOf(const Buffer& inputs, const Buffer& h_first) {
  const auto dimensions = inputs.dimensions();
  const size_t rank = dimensions.size();
  Sizes sizes{1, dimensions[rank - 3], dimensions[rank - 2], dimensions[rank - 1], h_first.dimensions().back()};
  for (size_t i = 0; i + 3 < rank; ++i) sizes.models *= dimensions[i];
  return sizes;
}

Arrays ModelArrays(const Arrays& all, const Sizes& sizes, int gates, int64_t model) {
  const int64_t pairs = sizes.steps * sizes.batch, rows = sizes.batch * sizes.hidden, width = gates * sizes.hidden;
  return {At(all.inputs, model, pairs * sizes.input),
          all.valid ? all.valid + model * pairs : nullptr,
          all.reset ? all.reset + model * pairs : nullptr,
          At(all.weight_ih, model, width * sizes.input),
          At(all.weight_hh, model, width * sizes.hidden),
          At(all.bias_ih, model, width),
          At(all.bias_hh, model, width),
          At(all.h_first, model, rows),
          At(all.c_first, model, rows)};
}

constexpr int NumGates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }

template <Cell cell>
void RunForward(ffi::ThreadPool& pool, const Sizes& sizes, bool reverse, const Arrays& all, Kept kept, Last last) {
  const Recurrence<cell> recurrence(sizes, reverse);
  const int64_t pairs = sizes.steps * sizes.batch, rows = sizes.batch * sizes.hidden;
  const Deal deal = ChooseDeal(sizes, NumGates(cell), pool.num_threads());
  auto run = [&](int64_t model, const auto& spread) {
    const Arrays arrays = ModelArrays(all, sizes, NumGates(cell), model);
    const auto weights = recurrence.PackForward(arrays);
    const auto dealt = DealRows(sizes, arrays.valid, arrays.reset, deal.tasks_per_model);
    const Kept own = {At(kept.outputs, model, pairs * sizes.hidden), At(kept.cells, model, pairs * recurrence.padded),
                      At(kept.gates, model, pairs * recurrence.gate_columns)};
    const Last own_last = {At(last.h, model, rows), At(last.c, model, rows)};
    spread([&](int task) { recurrence.Forward(arrays, weights, dealt[task], own, own_last); });
  };
  RunModels(pool, sizes.models, deal, run);
}

template <Cell cell>
void RunBackward(ffi::ThreadPool& pool, const Sizes& sizes, bool reverse, const Arrays& all, Kept kept,
                 Cotangents cotangents, Gradients gradients) {
  const Recurrence<cell> recurrence(sizes, reverse);
  const int64_t pairs = sizes.steps * sizes.batch, rows = sizes.batch * sizes.hidden;
  const int64_t width = NumGates(cell) * sizes.hidden;
  const Deal deal = ChooseDeal(sizes, NumGates(cell), pool.num_threads());
  auto run = [&](int64_t model, const auto& spread) {
    const Arrays arrays = ModelArrays(all, sizes, NumGates(cell), model);
    const auto weights = recurrence.PackBackward(arrays, gradients.inputs);
    const auto dealt = DealRows(sizes, arrays.valid, arrays.reset, deal.tasks_per_model);
    const Kept own = {At(kept.outputs, model, pairs * sizes.hidden), At(kept.cells, model, pairs * recurrence.padded),
                      At(kept.gates, model, pairs * recurrence.gate_columns)};
    const Cotangents own_cotangents = {At(cotangents.outputs, model, pairs * sizes.hidden),
                                       At(cotangents.h, model, rows), At(cotangents.c, model, rows)};
    const Gradients own_gradients = {At(gradients.inputs, model, pairs * sizes.input),
                                     At(gradients.weight_ih, model, width * sizes.input),
                                     At(gradients.weight_hh, model, width * sizes.hidden),
                                     At(gradients.bias_ih, model, width),
                                     At(gradients.bias_hh, model, width),
                                     At(gradients.h_first, model, rows),
                                     At(gradients.c_first, model, rows)};
    std::fill_n(own_gradients.h_first, rows, 0.0f);
    if (own_gradients.c_first) std::fill_n(own_gradients.c_first, rows, 0.0f);
    std::vector<typename Recurrence<cell>::Sums> sums(deal.tasks_per_model);
    spread([&](int task) {
      recurrence.Backward(arrays, weights, dealt[task], own, own_cotangents, own_gradients, sums[task]);
    });
    recurrence.Reduce(sums, own_gradients);
  };
  RunModels(pool, sizes.models, deal, run);
}

// Calls use(integral_constant of the cell) for the cell of a number.
template <typename Use>
ffi::Error WithCell(int64_t cell, const Use& use) {
  switch (Cell(cell)) {
    case Cell::kTanh: use(std::integral_constant<Cell, Cell::kTanh>()); break;
    case Cell::kRelu: use(std::integral_constant<Cell, Cell::kRelu>()); break;
    case Cell::kLstm: use(std::integral_constant<Cell, Cell::kLstm>()); break;
    case Cell::kGru: use(std::integral_constant<Cell, Cell::kGru>()); break;
    default: return ffi::Error::InvalidArgument("jaxrnn: no such cell");
  }
  return ffi::Error::Success();
}

ffi::Error ForwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, MaskBuffer reset,
                       FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                       FloatBuffer h_first, FloatBuffer c_first, FloatResult outputs, FloatResult h_last,
                       FloatResult c_last, FloatResult cells, FloatResult gates, int64_t cell, bool reverse) {
  const Arrays arrays = {inputs.typed_data(),    DataOrNull(valid),   DataOrNull(reset),
                         weight_ih.typed_data(), weight_hh.typed_data(), DataOrNull(bias_ih),
                         DataOrNull(bias_hh),    h_first.typed_data(), DataOrNull(c_first)};
  const Sizes sizes = SizesOf(inputs, h_first);
  return WithCell(cell, [&](auto which) {
    RunForward<which.value>(pool, sizes, reverse, arrays, {DataOrNull(outputs), DataOrNull(cells), DataOrNull(gates)},
                            {DataOrNull(h_last), DataOrNull(c_last)});
  });
}

ffi::Error BackwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, MaskBuffer reset,
                        FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                        FloatBuffer h_first, FloatBuffer c_first, FloatBuffer outputs, FloatBuffer cells,
                        FloatBuffer gates, FloatBuffer d_outputs, FloatBuffer d_h_last, FloatBuffer d_c_last,
                        FloatResult d_inputs, FloatResult d_weight_ih, FloatResult d_weight_hh, FloatResult d_bias_ih,
                        FloatResult d_bias_hh, FloatResult d_h_first, FloatResult d_c_first, int64_t cell,
                        bool reverse) {
  const Arrays arrays = {inputs.typed_data(),    DataOrNull(valid),   DataOrNull(reset),
                         weight_ih.typed_data(), weight_hh.typed_data(), DataOrNull(bias_ih),
                         DataOrNull(bias_hh),    h_first.typed_data(), DataOrNull(c_first)};
  const Gradients gradients = {DataOrNull(d_inputs),  DataOrNull(d_weight_ih), DataOrNull(d_weight_hh),
                               DataOrNull(d_bias_ih), DataOrNull(d_bias_hh),   DataOrNull(d_h_first),
                               DataOrNull(d_c_first)};
  const Sizes sizes = SizesOf(inputs, h_first);
  return WithCell(cell, [&](auto which) {
    RunBackward<which.value>(pool, sizes, reverse, arrays,
                             {outputs.typed_data(), DataOrNull(cells), DataOrNull(gates)},
                             {DataOrNull(d_outputs), d_h_last.typed_data(), DataOrNull(d_c_last)}, gradients);
  });
}

}  // namespace
}  // namespace jaxrnn

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxrnnForward, jaxrnn::ForwardCall,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Attr<int64_t>("cell")
                                  .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxrnnBackward, jaxrnn::BackwardCall,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Attr<int64_t>("cell")
                                  .Attr<bool>("reverse"));
