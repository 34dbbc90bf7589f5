// A masked recurrence over time, forward and backward, as two calls that XLA makes on a CPU.
//
// What `jaxrnn.recurrence` computes with `lax.scan`, for its own cells in float32. Rows of a batch have nothing to tell
// each other, so each thread runs its own through all steps, with weights that were packed once; steps that do not
// count are not computed at all. The gradients of the weights are matmuls over some hundred (step, row) pairs at a time,
// while these are in the cache. Sums are made in an order that depends on the sizes and the number of threads alone.

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "backward.h"
#include "forward.h"
#include "threads.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {
namespace {

using FloatBuffer = ffi::Buffer<ffi::F32>;
using MaskBuffer = ffi::Buffer<ffi::PRED>;
using CodeBuffer = ffi::Buffer<ffi::U8>;
using FloatResult = ffi::Result<FloatBuffer>;

template <typename B>
auto DataOrNull(B& buffer) -> decltype(buffer.typed_data()) {
  return buffer.element_count() ? buffer.typed_data() : nullptr;
}
float* DataOrNull(FloatResult& buffer) { return buffer->element_count() ? buffer->typed_data() : nullptr; }

template <typename Buffer>
Sizes SizesOf(const Buffer& inputs, const Buffer& h_first, const Buffer& h_targets) {
  const auto dimensions = inputs.dimensions();
  const size_t rank = dimensions.size();
  const int64_t targets = h_targets.element_count() ? h_targets.dimensions()[rank - 3] : 0;
  Sizes sizes{1, dimensions[rank - 3], dimensions[rank - 2], dimensions[rank - 1], h_first.dimensions().back(),
              targets};
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
          At(all.c_first, model, rows),
          At(all.h_targets, model, sizes.targets * rows),
          At(all.c_targets, model, sizes.targets * rows)};
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

ffi::Error ForwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, CodeBuffer reset,
                       FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                       FloatBuffer h_first, FloatBuffer c_first, FloatBuffer h_targets, FloatBuffer c_targets,
                       FloatResult outputs, FloatResult h_last, FloatResult c_last,
                       FloatResult cells, FloatResult gates, int64_t cell, bool reverse) {
  const Arrays arrays = {inputs.typed_data(),    DataOrNull(valid),   DataOrNull(reset),
                         weight_ih.typed_data(), weight_hh.typed_data(), DataOrNull(bias_ih),
                         DataOrNull(bias_hh),    h_first.typed_data(), DataOrNull(c_first),
                         DataOrNull(h_targets),  DataOrNull(c_targets)};
  const Sizes sizes = SizesOf(inputs, h_first, h_targets);
  return WithCell(cell, [&](auto which) {
    RunForward<which.value>(pool, sizes, reverse, arrays, {DataOrNull(outputs), DataOrNull(cells), DataOrNull(gates)},
                            {DataOrNull(h_last), DataOrNull(c_last)});
  });
}

ffi::Error BackwardCall(ffi::ThreadPool pool, FloatBuffer inputs, MaskBuffer valid, CodeBuffer reset,
                        FloatBuffer weight_ih, FloatBuffer weight_hh, FloatBuffer bias_ih, FloatBuffer bias_hh,
                        FloatBuffer h_first, FloatBuffer c_first, FloatBuffer h_targets, FloatBuffer c_targets,
                        FloatBuffer outputs, FloatBuffer cells,
                        FloatBuffer gates, FloatBuffer d_outputs, FloatBuffer d_h_last, FloatBuffer d_c_last,
                        FloatResult d_inputs, FloatResult d_weight_ih, FloatResult d_weight_hh, FloatResult d_bias_ih,
                        FloatResult d_bias_hh, FloatResult d_h_first, FloatResult d_c_first, FloatResult d_h_targets,
                        FloatResult d_c_targets, int64_t cell,
                        bool reverse) {
  const Arrays arrays = {inputs.typed_data(),    DataOrNull(valid),   DataOrNull(reset),
                         weight_ih.typed_data(), weight_hh.typed_data(), DataOrNull(bias_ih),
                         DataOrNull(bias_hh),    h_first.typed_data(), DataOrNull(c_first),
                         DataOrNull(h_targets),  DataOrNull(c_targets)};
  const Gradients gradients = {DataOrNull(d_inputs),  DataOrNull(d_weight_ih), DataOrNull(d_weight_hh),
                               DataOrNull(d_bias_ih), DataOrNull(d_bias_hh),   DataOrNull(d_h_first),
                               DataOrNull(d_c_first),  DataOrNull(d_h_targets), DataOrNull(d_c_targets)};
  const Sizes sizes = SizesOf(inputs, h_first, h_targets);
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(JaxrnnBackward, jaxrnn::BackwardCall,
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
