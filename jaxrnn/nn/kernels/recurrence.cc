// A masked recurrence over time, forward and backward, as two calls that XLA makes on a CPU.
//
// What `jaxrnn.recurrence` computes with `lax.scan`, for its own cells in float32. Rows of a batch have nothing to tell
// each other, so each thread runs its own through all steps, with weights that were packed once; steps that do not
// count are not computed at all. The gradients of the weights are matmuls over some hundred (step, row) pairs at a time,
// while these are in the cache. Sums are made in an order that depends on sizes, lengths and the number of threads alone.

#include <algorithm>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "backward.h"
#include "forward.h"
#include "shapes.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {
namespace {

using FloatBuffer = ffi::Buffer<ffi::F32>;
using MaskBuffer = ffi::Buffer<ffi::PRED>;
using CodeBuffer = ffi::Buffer<ffi::U8>;
using FloatResult = ffi::Result<FloatBuffer>;

// What both calls begin with.
struct Given {
  FloatBuffer inputs;
  MaskBuffer valid;
  CodeBuffer reset;
  FloatBuffer weight_ih, weight_hh, bias_ih, bias_hh, h_first, c_first, h_targets, c_targets;
};

template <typename Buffer>
auto DataOrNull(const Buffer& buffer) -> decltype(buffer.typed_data()) {
  for (const int64_t size : buffer.dimensions()) {
    if (!size) return nullptr;
  }
  return buffer.typed_data();
}

// Asks for large pages. XLA's large results are new to the process at each call, and the system hands them over page by
// page as they are first written: 28,000 of 4 KiB for a training step of 256 units, a fifth of its processor time.
void AskForLargePages(void* data, size_t size) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kLargePage = 2 << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + size;
  const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage, last = end / kLargePage * kLargePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // refused, it is as before
#endif
}

float* RoomOrNull(FloatResult& result) {
  float* data = DataOrNull(*result);
  if (data) AskForLargePages(data, result->size_bytes());
  return data;
}

Arrays ArraysOf(const Given& given) {
  return {DataOrNull(given.inputs),    DataOrNull(given.valid),     DataOrNull(given.reset),
          DataOrNull(given.weight_ih), DataOrNull(given.weight_hh), DataOrNull(given.bias_ih),
          DataOrNull(given.bias_hh),   DataOrNull(given.h_first),   DataOrNull(given.c_first),
          DataOrNull(given.h_targets), DataOrNull(given.c_targets)};
}

constexpr int NumGates(Cell cell) { return cell == Cell::kLstm ? 4 : cell == Cell::kGru ? 3 : 1; }
constexpr bool HasCellState(Cell cell) { return cell == Cell::kLstm; }
// Groups of gates that are kept for the backward call; a plain RNN's gradient needs its outputs only.
constexpr int NumKept(Cell cell) { return NumGates(cell) > 1 ? kMaxGroups : 0; }

ShapeCheck CheckGiven(const char* call, Cell cell, const Given& given) {
  ShapeCheck check(call, NumGates(cell), given.inputs.dimensions(), given.weight_hh.dimensions(),
                   given.h_targets.dimensions());
  if (!check.ok()) return check;
  const auto [models, steps, batch, input, hidden, targets] = check.sizes();
  const int64_t width = NumGates(cell) * hidden;
  const Presence cell_state = NeededIf(HasCellState(cell));
  check.Check("valid", given.valid.dimensions(), {steps, batch}, Presence::kOptional);
  check.Check("reset", given.reset.dimensions(), {steps, batch}, Presence::kOptional);
  check.Check("weight_ih", given.weight_ih.dimensions(), {width, input});
  check.Check("weight_hh", given.weight_hh.dimensions(), {width, hidden});
  check.Check("bias_ih", given.bias_ih.dimensions(), {width}, Presence::kOptional);
  check.Check("bias_hh", given.bias_hh.dimensions(), {width}, NeededIf(!check.IsAbsent(given.bias_ih.dimensions())));
  check.Check("h_first", given.h_first.dimensions(), {batch, hidden});
  check.Check("c_first", given.c_first.dimensions(), {batch, hidden}, cell_state);
  check.Check("h_targets", given.h_targets.dimensions(), {targets, batch, hidden}, Presence::kOptional);
  check.Check("c_targets", given.c_targets.dimensions(), {targets, batch, hidden},
              targets ? cell_state : Presence::kOptional);
  return check;
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
          At(all.c_first, model, rows),
          At(all.h_targets, model, sizes.targets * rows),
          At(all.c_targets, model, sizes.targets * rows)};
}

template <Cell cell>
void RunForward(ffi::ThreadPool& pool, const Sizes& sizes, bool reverse, const Arrays& all, Kept kept, Last last) {
  const Recurrence<cell> recurrence(sizes, reverse);
  const int64_t pairs = sizes.steps * sizes.batch, rows = sizes.batch * sizes.hidden;
  const Deal deal = ChooseDeal(sizes, NumGates(cell), pool.num_threads());
  auto run = [&](int64_t model, const auto& spread) {
    const Arrays arrays = ModelArrays(all, sizes, NumGates(cell), model);
    const auto weights = recurrence.PackForward(arrays);
    const auto dealt = DealRows(sizes, arrays.valid, arrays.reset != nullptr, deal.tasks_per_model);
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
    const auto dealt = DealRows(sizes, arrays.valid, arrays.reset != nullptr, deal.tasks_per_model);
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
                                     At(gradients.c_first, model, rows),
                                     At(gradients.h_targets, model, sizes.targets * rows),
                                     At(gradients.c_targets, model, sizes.targets * rows)};
    std::fill_n(own_gradients.h_first, rows, 0.0f);
    if (own_gradients.c_first) std::fill_n(own_gradients.c_first, rows, 0.0f);
    if (own_gradients.h_targets) std::fill_n(own_gradients.h_targets, sizes.targets * rows, 0.0f);
    if (own_gradients.c_targets) std::fill_n(own_gradients.c_targets, sizes.targets * rows, 0.0f);
    Vector<typename Recurrence<cell>::Sums> sums(deal.tasks_per_model);
    spread([&](int task) {
      recurrence.Backward(arrays, weights, dealt[task], own, own_cotangents, own_gradients, sums[task]);
    });
    const int64_t hidden = sizes.hidden;
    if ((sizes.input + hidden) * recurrence.gate_columns < kWorkOfAThread) {
      recurrence.Reduce(sums, own_gradients, 0, int(hidden));
    } else {  // as many tasks again, each for some of the units
      const int64_t units = RoundUp(int((hidden + deal.tasks_per_model - 1) / deal.tasks_per_model), kLanes);
      spread([&](int task) {
        recurrence.Reduce(sums, own_gradients, int(std::min(task * units, hidden)),
                          int(std::min((task + 1) * units, hidden)));
      });
    }
  };
  RunModels(pool, sizes.models, deal, run);
}

// Runs a call for the cell of a number: call(integral_constant of the cell). What is thrown becomes an error of XLA's:
// there are no exceptions behind its interface.
template <typename Call>
ffi::Error WithCell(const char* name, int64_t cell, const Call& call) {
  try {
    switch (cell) {
      case int64_t(Cell::kTanh): return call(std::integral_constant<Cell, Cell::kTanh>());
      case int64_t(Cell::kRelu): return call(std::integral_constant<Cell, Cell::kRelu>());
      case int64_t(Cell::kLstm): return call(std::integral_constant<Cell, Cell::kLstm>());
      case int64_t(Cell::kGru): return call(std::integral_constant<Cell, Cell::kGru>());
    }
    return ffi::Error::InvalidArgument(std::string(name) + ": cell is " + std::to_string(cell) + ", expected 0 to 3");
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {  // of a vector that no memory could hold
  } catch (...) {
    return ffi::Error(ffi::ErrorCode::kInternal, "jaxrnn failed");
  }
  return ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory left");  // short enough to need none itself
}

ffi::Error ForwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, CodeBuffer reset,
                       FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                       FloatBuffer h_first, FloatBuffer c_first, FloatBuffer h_targets, FloatBuffer c_targets,
                       FloatResult outputs, FloatResult h_last, FloatResult c_last, FloatResult cells,
                       FloatResult gates, int64_t cell, bool reverse) {
  return WithCell("jaxrnn_forward2", cell, [&](auto which) {
    const Given given = {inputs,  valid,   reset,   weight_ih, weight_hh, bias_ih,
                         bias_hh, h_first, c_first, h_targets, c_targets};
    ShapeCheck check = CheckGiven("jaxrnn_forward2", which, given);
    const auto [models, steps, batch, input, hidden, targets] = check.sizes();
    const int64_t padded = check.sizes().padded();
    const Presence cell_state = NeededIf(HasCellState(which));
    check.Check("outputs", outputs->dimensions(), {batch, steps, hidden}, Presence::kOptional);
    check.Check("h_last", h_last->dimensions(), {batch, hidden});
    check.Check("c_last", c_last->dimensions(), {batch, hidden}, cell_state);
    check.Check("cells", cells->dimensions(), {steps, batch, padded}, OptionalIf(HasCellState(which)));
    check.Check("gates", gates->dimensions(), {steps, batch, NumKept(which) * padded}, OptionalIf(NumKept(which)));
    if (check.ok()) {
      RunForward<which>(pool, check.sizes(), reverse, ArraysOf(given),
                        {RoomOrNull(outputs), RoomOrNull(cells), RoomOrNull(gates)},
                        {RoomOrNull(h_last), RoomOrNull(c_last)});
    }
    return check.error();
  });
}

ffi::Error BackwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, CodeBuffer reset,
                        FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                        FloatBuffer h_first, FloatBuffer c_first, FloatBuffer h_targets, FloatBuffer c_targets,
                        FloatBuffer outputs, FloatBuffer cells, FloatBuffer gates, FloatBuffer d_outputs,
                        FloatBuffer d_h_last, FloatBuffer d_c_last, FloatResult d_inputs, FloatResult d_weight_ih,
                        FloatResult d_weight_hh, FloatResult d_bias_ih, FloatResult d_bias_hh, FloatResult d_h_first,
                        FloatResult d_c_first, FloatResult d_h_targets, FloatResult d_c_targets, int64_t cell,
                        bool reverse) {
  return WithCell("jaxrnn_backward2", cell, [&](auto which) {
    const Given given = {inputs,  valid,   reset,   weight_ih, weight_hh, bias_ih,
                         bias_hh, h_first, c_first, h_targets, c_targets};
    ShapeCheck check = CheckGiven("jaxrnn_backward2", which, given);
    const auto [models, steps, batch, input, hidden, targets] = check.sizes();
    const int64_t padded = check.sizes().padded(), width = NumGates(which) * hidden;
    const Presence cell_state = NeededIf(HasCellState(which));
    const Presence biases = NeededIf(!check.IsAbsent(bias_ih.dimensions()));
    check.Check("outputs", outputs.dimensions(), {batch, steps, hidden});
    check.Check("cells", cells.dimensions(), {steps, batch, padded}, cell_state);
    check.Check("gates", gates.dimensions(), {steps, batch, NumKept(which) * padded}, NeededIf(NumKept(which)));
    check.Check("d_outputs", d_outputs.dimensions(), {batch, steps, hidden}, Presence::kOptional);
    check.Check("d_h_last", d_h_last.dimensions(), {batch, hidden});
    check.Check("d_c_last", d_c_last.dimensions(), {batch, hidden}, cell_state);
    check.Check("d_inputs", d_inputs->dimensions(), {batch, steps, input}, Presence::kOptional);
    check.Check("d_weight_ih", d_weight_ih->dimensions(), {width, input});
    check.Check("d_weight_hh", d_weight_hh->dimensions(), {width, hidden});
    check.Check("d_bias_ih", d_bias_ih->dimensions(), {width}, biases);
    check.Check("d_bias_hh", d_bias_hh->dimensions(), {width}, biases);
    check.Check("d_h_first", d_h_first->dimensions(), {batch, hidden});
    check.Check("d_c_first", d_c_first->dimensions(), {batch, hidden}, cell_state);
    check.Check("d_h_targets", d_h_targets->dimensions(), {targets, batch, hidden}, Presence::kOptional);
    check.Check("d_c_targets", d_c_targets->dimensions(), {targets, batch, hidden},
                OptionalIf(HasCellState(which) || !targets));
    if (check.ok()) {
      RunBackward<which>(pool, check.sizes(), reverse, ArraysOf(given),
                         {DataOrNull(outputs), DataOrNull(cells), DataOrNull(gates)},
                         {DataOrNull(d_outputs), DataOrNull(d_h_last), DataOrNull(d_c_last)},
                         {RoomOrNull(d_inputs), RoomOrNull(d_weight_ih), RoomOrNull(d_weight_hh),
                          RoomOrNull(d_bias_ih), RoomOrNull(d_bias_hh), RoomOrNull(d_h_first), RoomOrNull(d_c_first),
                          RoomOrNull(d_h_targets), RoomOrNull(d_c_targets)});
    }
    return check.error();
  });
}

}  // namespace
}  // namespace jaxrnn

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxrnnForwardHere, jaxrnn::ForwardCall,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::CodeBuffer>()
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
                                  .Attr<int64_t>("cell")
                                  .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxrnnBackwardHere, jaxrnn::BackwardCall,
                              xla::ffi::Ffi::Bind()
                                  .Ctx<xla::ffi::ThreadPool>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::MaskBuffer>()
                                  .Arg<jaxrnn::CodeBuffer>()
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
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Arg<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Ret<jaxrnn::FloatBuffer>()
                                  .Attr<int64_t>("cell")
                                  .Attr<bool>("reverse"));

// What XLA and the package call; all else of this project stays hidden, since two libraries name it alike.
#define JAXRNN_SEEN extern "C" __attribute__((visibility("default")))

// How many floats a vector of this library holds.
JAXRNN_SEEN int64_t JaxrnnLanes() { return jaxrnn::kLanes; }

// The handlers of a library with shorter vectors, which fewer units fill; null where this one serves all calls.
static XLA_FFI_Handler *narrow_forward = nullptr, *narrow_backward = nullptr;
static int64_t narrow_lanes = 0;

// Lets another library take the calls whose units fit into one of its vectors. Once, before the first call.
JAXRNN_SEEN void JaxrnnUseNarrow(XLA_FFI_Handler* forward, XLA_FFI_Handler* backward, int64_t lanes) {
  narrow_forward = forward;
  narrow_backward = backward;
  narrow_lanes = lanes;
}

// Whether that library takes a call. XLA also asks handlers about themselves, without arguments.
static bool IsNarrow(const XLA_FFI_CallFrame* frame) {
  constexpr int kWeightHh = 4;
  if (!narrow_lanes || frame->args.size <= kWeightHh) return false;
  if (frame->args.types[kWeightHh] != XLA_FFI_ArgType_BUFFER) return false;
  const auto* weights = static_cast<const XLA_FFI_Buffer*>(frame->args.args[kWeightHh]);
  return weights->rank > 0 && weights->dims[weights->rank - 1] <= narrow_lanes;
}

JAXRNN_SEEN XLA_FFI_Error* JaxrnnForward2(XLA_FFI_CallFrame* frame) {
  return IsNarrow(frame) ? narrow_forward(frame) : JaxrnnForwardHere(frame);
}

JAXRNN_SEEN XLA_FFI_Error* JaxrnnBackward2(XLA_FFI_CallFrame* frame) {
  return IsNarrow(frame) ? narrow_backward(frame) : JaxrnnBackwardHere(frame);
}
