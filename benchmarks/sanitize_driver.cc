// Calls of the compiled recurrence as XLA makes them, without XLA: what `benchmarks.sanitize` builds and runs.
//
//     sanitize_driver CASES SEED
//
// Every buffer is a piece of memory of its own, of exactly its size, and results begin as NaN. Cases are drawn at random:
// sizes from 0 on, beside and at those of vectors, tiles and chunks; masks, resets, targets, models, threads. Each is
// called as it is, from several threads at once, with one buffer of another shape, and now and then with memory that
// runs out at its first allocation, its second, and so on. Prints what it did; exits with 1 where a call did something
// else than it must. What is read or written out of bounds the sanitizers find.

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "recurrence.cc"

// Memory that runs out: the allocation after that many fails, where it is not negative. Only the handlers' own count.
std::atomic<long> allocations_left{-1};
thread_local bool is_counted = false;
struct Counting {
  explicit Counting(bool now) : before(is_counted) { is_counted = now; }
  ~Counting() { is_counted = before; }
  bool before;
};

void* Allocate(size_t size, size_t alignment) {
  if (is_counted && allocations_left.load() >= 0 && allocations_left.fetch_sub(1) == 0) {
    throw std::bad_alloc();
  }
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, size ? size : 1)) throw std::bad_alloc();
  return memory;
}
void* operator new(size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new[](size_t size) { return Allocate(size, alignof(std::max_align_t)); }
void* operator new(size_t size, std::align_val_t alignment) { return Allocate(size, size_t(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

// XLA's side of the interface: errors, and a pool whose threads run one task each.
struct XLA_FFI_Error {
  XLA_FFI_Error_Code code;
  std::string message;
};
struct Pool {
  int64_t num_threads;
  std::mutex mutex;
  std::vector<std::thread> threads;
  ~Pool() {
    for (std::thread& thread : threads) thread.join();
  }
};

XLA_FFI_Error* CreateError(XLA_FFI_Error_Create_Args* args) {
  const Counting counting(false);
  return new XLA_FFI_Error{args->errc, args->message};
}
void DestroyError(XLA_FFI_Error_Destroy_Args* args) { delete args->error; }
XLA_FFI_Error* Schedule(XLA_FFI_ThreadPool_Schedule_Args* args) {
  const Counting counting(false);
  Pool* pool = reinterpret_cast<Pool*>(args->ctx);
  std::lock_guard<std::mutex> lock(pool->mutex);
  pool->threads.emplace_back([task = args->task, data = args->data] {
    const Counting counting(true);
    task(data);
  });
  return nullptr;
}
XLA_FFI_Error* NumThreads(XLA_FFI_ThreadPool_NumThreads_Args* args) {
  *args->num_threads = reinterpret_cast<Pool*>(args->ctx)->num_threads;
  return nullptr;
}

using Dims = std::vector<int64_t>;

int64_t Count(const Dims& dims) {
  int64_t count = 1;
  for (const int64_t size : dims) count *= size;
  return count;
}

struct Buffer {
  std::string name;
  Dims dims;
  XLA_FFI_DataType type = XLA_FFI_DataType_F32;
  std::shared_ptr<void> data;

  void Make() { data.reset(std::malloc(Count(dims) * Width()), std::free); }
  size_t Width() const { return type == XLA_FFI_DataType_F32 ? sizeof(float) : 1; }
  float* floats() const { return static_cast<float*>(data.get()); }
  uint8_t* bytes() const { return static_cast<uint8_t*>(data.get()); }
};
using Buffers = std::vector<Buffer>;

// Calls a handler; the error it returns is the caller's.
std::unique_ptr<XLA_FFI_Error> Call(XLA_FFI_Handler* handler, Pool& pool, Buffers& args, Buffers& rets, int64_t cell,
                                    bool reverse) {
  XLA_FFI_Api api{};
  api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
  api.XLA_FFI_Error_Create = CreateError;
  api.XLA_FFI_Error_Destroy = DestroyError;
  api.XLA_FFI_ThreadPool_Schedule = Schedule;
  api.XLA_FFI_ThreadPool_NumThreads = NumThreads;
  std::vector<XLA_FFI_Buffer> buffers(args.size() + rets.size());
  std::vector<void*> pointers;
  for (size_t i = 0; i < buffers.size(); ++i) {
    Buffer& from = i < args.size() ? args[i] : rets[i - args.size()];
    buffers[i].struct_size = XLA_FFI_Buffer_STRUCT_SIZE;
    buffers[i].dtype = from.type;
    buffers[i].data = from.data.get();
    buffers[i].rank = from.dims.size();
    buffers[i].dims = from.dims.data();
    pointers.push_back(&buffers[i]);
  }
  std::vector<XLA_FFI_ArgType> arg_types(args.size(), XLA_FFI_ArgType_BUFFER);
  std::vector<XLA_FFI_RetType> ret_types(rets.size(), XLA_FFI_RetType_BUFFER);
  XLA_FFI_Scalar cell_scalar{XLA_FFI_DataType_S64, &cell}, reverse_scalar{XLA_FFI_DataType_PRED, &reverse};
  XLA_FFI_AttrType attr_types[] = {XLA_FFI_AttrType_SCALAR, XLA_FFI_AttrType_SCALAR};
  XLA_FFI_ByteSpan names[] = {{"cell", 4}, {"reverse", 7}}, *name_pointers[] = {&names[0], &names[1]};
  void* attrs[] = {&cell_scalar, &reverse_scalar};
  XLA_FFI_CallFrame frame{};
  frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
  frame.api = &api;
  frame.ctx = reinterpret_cast<XLA_FFI_ExecutionContext*>(&pool);
  frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
  frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, int64_t(args.size()), arg_types.data(), pointers.data()};
  frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, int64_t(rets.size()), ret_types.data(),
                pointers.data() + args.size()};
  frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE, nullptr, 2, attr_types, name_pointers, attrs};
  const Counting counting(true);
  return std::unique_ptr<XLA_FFI_Error>(handler(&frame));
}

std::mt19937_64 generator;
int64_t Below(int64_t end) { return std::uniform_int_distribution<int64_t>(0, end - 1)(generator); }
int64_t OneOf(const std::vector<int64_t>& values) { return values[Below(values.size())]; }
bool Chance(int percent) { return Below(100) < percent; }

struct Case {
  int64_t cell, steps, batch, input, hidden, targets, threads;
  Dims models;
  bool reverse, masked, tails, reset, bias, keep, with_outputs, with_inputs;
  Buffers args, forward, cotangents, backward;

  Case()
      : cell(Below(4)),
        steps(OneOf({0, 1, 2, 3, 5, 9, 12})),
        batch(OneOf({0, 1, 1, 2, 3, 5, 6, 7, 12, 13, 13, 25, 70})),
        input(OneOf({0, 1, 1, 2, 3, 7, 8, 9, 17})),
        hidden(OneOf({1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 23, 31, 33, 48})),
        targets(OneOf({0, 0, 1, 2, 3})),
        threads(OneOf({0, 1, 2, 3, 5})),
        models(std::vector<Dims>{{}, {}, {}, {1}, {2}, {3}, {2, 2}, {0}, {7}}[Below(9)]),
        reverse(Chance(50)),
        masked(Chance(60)),
        tails(Chance(50)),
        reset(Chance(50)),
        bias(Chance(70)),
        keep(Chance(80)),
        with_outputs(Chance(80)),
        with_inputs(Chance(80)) {
    if (Chance(5)) batch = 200;  // more rows than a chunk of gradients has
    const bool has_cells = cell == 2;
    const int64_t width = (cell == 2 ? 4 : cell == 3 ? 3 : 1) * hidden, padded = jaxrnn::RoundUp(int(hidden), jaxrnn::kLanes);
    // Some milliseconds at most.
    while (steps > 1 && Count(models) * steps * batch * width * (input + hidden) > 2000000) --steps;
    const int64_t kept = cell < 2 ? 0 : 4 * padded;
    auto add = [&](Buffers& to, const char* name, Dims dims, bool is_there,
                   XLA_FFI_DataType type = XLA_FFI_DataType_F32) {
      Buffer buffer{name, models, type, nullptr};
      if (!is_there) dims = {0};
      buffer.dims.insert(buffer.dims.end(), dims.begin(), dims.end());
      buffer.Make();
      to.push_back(buffer);
    };
    add(args, "inputs", {batch, steps, input}, true);
    add(args, "valid", {steps, batch}, masked, XLA_FFI_DataType_PRED);
    add(args, "reset", {steps, batch}, reset, XLA_FFI_DataType_U8);
    add(args, "weight_ih", {width, input}, true);
    add(args, "weight_hh", {width, hidden}, true);
    add(args, "bias_ih", {width}, bias);
    add(args, "bias_hh", {width}, bias);
    add(args, "h_first", {batch, hidden}, true);
    add(args, "c_first", {batch, hidden}, has_cells);
    add(args, "h_targets", {targets, batch, hidden}, targets);
    add(args, "c_targets", {targets, batch, hidden}, targets && has_cells);
    add(forward, "outputs", {batch, steps, hidden}, keep || with_outputs);
    add(forward, "h_last", {batch, hidden}, true);
    add(forward, "c_last", {batch, hidden}, has_cells);
    add(forward, "cells", {steps, batch, padded}, has_cells && keep);
    add(forward, "gates", {steps, batch, kept}, kept && keep);
    add(cotangents, "d_outputs", {batch, steps, hidden}, with_outputs);
    add(cotangents, "d_h_last", {batch, hidden}, true);
    add(cotangents, "d_c_last", {batch, hidden}, has_cells);
    add(backward, "d_inputs", {batch, steps, input}, with_inputs);
    for (size_t i = 3; i < args.size(); ++i) {
      backward.push_back(args[i]);
      backward.back().name = "d_" + args[i].name;
      backward.back().Make();
    }
    for (Buffers* drawn : {&args, &cotangents}) {
      for (Buffer& buffer : *drawn) Draw(buffer);
    }
    for (Buffers* results : {&forward, &backward}) Spoil(*results);
  }

  void Draw(Buffer& buffer) {
    const int64_t count = Count(buffer.dims);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < count; ++i) {
      if (buffer.type == XLA_FFI_DataType_F32) buffer.floats()[i] = uniform(generator);
      if (buffer.type == XLA_FFI_DataType_PRED) buffer.bytes()[i] = Chance(70);
      if (buffer.type == XLA_FFI_DataType_U8) buffer.bytes()[i] = Chance(30) ? 1 + Below(Chance(80) ? 4 : 255) : 0;
    }
    if (buffer.type != XLA_FFI_DataType_PRED || !tails || !count) return;
    for (int64_t column = 0; column < count / steps; ++column) {  // valid steps come first; a row in four has none
      const int64_t length = Chance(25) ? 0 : Chance(30) ? steps : Below(steps + 1);
      const int64_t base = column / batch * steps * batch + column % batch;
      for (int64_t step = 0; step < steps; ++step) buffer.bytes()[base + step * batch] = step < length;
    }
  }

  static void Spoil(Buffers& results) {
    for (Buffer& buffer : results) std::fill_n(buffer.floats(), Count(buffer.dims), NAN);
  }

  Buffers BackwardArgs(const Buffers& results) const {
    Buffers all = args;
    for (int i : {0, 3, 4}) all.push_back(results[i]);
    all.insert(all.end(), cotangents.begin(), cotangents.end());
    return all;
  }

  std::string Text() const {
    std::string text = "cell " + std::to_string(cell);
    for (const Buffer& buffer : args) {
      text += ", " + buffer.name + " (";
      for (const int64_t size : buffer.dims) text += std::to_string(size) + ",";
      text += ")";
    }
    return text + (reverse ? ", reverse" : "") + (tails ? ", tails" : "") + ", threads " + std::to_string(threads);
  }
};

std::map<std::string, int> tally;
std::atomic<int> num_failures{0};

void Expect(bool holds, const Case& one, const std::string& what) {
  if (holds || num_failures.fetch_add(1) >= 20) return;
  std::printf("FAILED: %s: %s\n", what.c_str(), one.Text().c_str());
}

// What a call must have written, it has: no NaN is left. Of kept gates and cells, steps that do not count are never read.
void ExpectWritten(const Case& one, const Buffers& results) {
  for (const Buffer& buffer : results) {
    if (buffer.name == "cells" || buffer.name == "gates") continue;
    for (int64_t i = 0; i < Count(buffer.dims); ++i) {
      if (std::isfinite(buffer.floats()[i])) continue;
      Expect(false, one, buffer.name + " is not written at " + std::to_string(i));
      break;
    }
  }
}

void CallBoth(Case& one, Buffers forward, Buffers backward) {
  Pool pool{one.threads, {}, {}};
  auto error = Call(JaxrnnForward2, pool, one.args, forward, one.cell, one.reverse);
  Expect(!error, one, error ? error->message : "");
  if (error) return;
  ExpectWritten(one, forward);
  if (!one.keep) return;
  Buffers args = one.BackwardArgs(forward);
  error = Call(JaxrnnBackward2, pool, args, backward, one.cell, one.reverse);
  Expect(!error, one, error ? error->message : "");
  if (!error) ExpectWritten(one, backward);
}

Buffers Copies(Buffers buffers) {
  for (Buffer& buffer : buffers) buffer.Make();
  Case::Spoil(buffers);
  return buffers;
}

// Gives one buffer another shape: an axis that is longer, shorter, missing or one too many.
bool ChangeShape(Buffer& buffer) {
  const Dims before = buffer.dims;
  const int kind = Below(5);
  const size_t axis = Below(std::max<size_t>(before.size(), 1));
  if (kind == 0) buffer.dims[axis] += 1;
  if (kind == 1) buffer.dims[axis] = std::max<int64_t>(0, before[axis] - 1);
  if (kind == 2) buffer.dims.erase(buffer.dims.begin() + axis);
  if (kind == 3) buffer.dims.insert(buffer.dims.begin() + axis, 1 + Below(2));
  if (kind == 4) std::swap(buffer.dims[axis], buffer.dims[Below(before.size())]);
  if (buffer.dims == before) return false;
  buffer.Make();
  if (buffer.type != XLA_FFI_DataType_F32) {
    std::fill_n(buffer.bytes(), Count(buffer.dims), 1);
  } else {
    std::fill_n(buffer.floats(), Count(buffer.dims), 0.5f);
  }
  return true;
}

void CallWithAWrongShape(Case& one) {
  Pool pool{one.threads, {}, {}};
  const bool is_backward = one.keep && Chance(50);
  Buffers args = is_backward ? one.BackwardArgs(one.forward) : one.args;
  Buffers results = Copies(is_backward ? one.backward : one.forward);
  const size_t which = Below(args.size() + results.size());
  Buffer& wrong = which < args.size() ? args[which] : results[which - args.size()];
  if (!ChangeShape(wrong)) return;
  // No fault: what is optional is now absent; or the buffer alone had that size, and nothing contradicts.
  const bool may_be_right =
      !Count(wrong.dims) || (!is_backward && (wrong.name == "h_targets" || wrong.name == "inputs"));
  auto error = Call(is_backward ? JaxrnnBackward2 : JaxrnnForward2, pool, args, results, one.cell, one.reverse);
  ++tally[error ? "refused" : "accepted: also a right call"];
  Expect(error ? error->code == XLA_FFI_Error_Code_INVALID_ARGUMENT : may_be_right, one,
         wrong.name + (error ? " gives " + error->message : " is not refused"));
}

// Fails the first allocation of a call, then the second, and so on until none is left to fail.
void CallWithoutMemory(Case& one) {
  for (XLA_FFI_Handler* handler : {JaxrnnForward2, JaxrnnBackward2}) {
    if (handler == JaxrnnBackward2 && !one.keep) return;
    for (long number = 0;; ++number) {
      bool has_failed;
      std::unique_ptr<XLA_FFI_Error> error;
      {
        Pool pool{one.threads, {}, {}};
        Buffers args = handler == JaxrnnForward2 ? one.args : one.BackwardArgs(one.forward);
        Buffers& results = handler == JaxrnnForward2 ? one.forward : one.backward;
        allocations_left = number;
        error = Call(handler, pool, args, results, one.cell, one.reverse);
        has_failed = allocations_left.exchange(-1) < 0;
      }
      if (error) {
        Expect(error->code == XLA_FFI_Error_Code_RESOURCE_EXHAUSTED, one, error->message);
        ++tally["out of memory"];
      }
      if (!has_failed) break;
    }
  }
}

int main(int argc, char** argv) {
  const int num_cases = argc > 1 ? std::atoi(argv[1]) : 100;
  generator.seed(argc > 2 ? std::atoi(argv[2]) : 0);
  for (int number = 0; number < num_cases; ++number) {
    Case one;
    CallBoth(one, one.forward, one.backward);
    ++tally["computed"];
    if (number % 8 == 0) {
      std::vector<std::thread> callers;
      for (int i = 0; i < 3; ++i) {
        callers.emplace_back([&one] { CallBoth(one, Copies(one.forward), Copies(one.backward)); });
      }
      for (std::thread& caller : callers) caller.join();
      ++tally["computed by three threads at once"];
    }
    if (number % 8 == 1) CallWithoutMemory(one);
    for (int i = 0; i < 4; ++i) CallWithAWrongShape(one);
  }
  for (const auto& [what, count] : tally) std::printf("%s: %d\n", what.c_str(), count);
  std::printf("%d failed\n", num_failures.load());
  return num_failures.load() ? 1 : 0;
}
