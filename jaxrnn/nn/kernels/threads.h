// Who computes what: rows and models dealt out to the threads of XLA's pool.
#ifndef JAXRNN_THREADS_H_
#define JAXRNN_THREADS_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "arrays.h"
#include "memory.h"
#include "xla/ffi/api/ffi.h"

namespace jaxrnn {

namespace ffi = xla::ffi;

// Multiply-adds below which a call stays on one thread: waking another takes some microseconds.
constexpr int64_t kWorkOfAThread = 1 << 16;
// Rows that a thread gets at least: a step reads all weights, and takes for four rows hardly longer than for two.
constexpr int64_t kRowsOfAThread = 4;

// Runs task(0) .. task(count - 1), here and on the pool's threads; returns when all have ended. Waits only for tasks
// that a thread has begun, so it cannot wait for a thread that waits for it. Throws what the first task threw that did,
// when no thread is at work any more; those not begun by then are left out.
inline void RunTasks(ffi::ThreadPool& pool, int count, const std::function<void(int)>& task) {
  if (count == 1) return task(0);
  struct Shared {
    std::atomic<int> next{0}, done{0};
    std::atomic<bool> failed{false};
    std::exception_ptr error;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, count, &task]() noexcept {
    for (int number; (number = shared->next.fetch_add(1)) < count;) {
      try {
        if (!shared->failed.load()) task(number);
      } catch (...) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        if (!shared->failed.exchange(true)) shared->error = std::current_exception();
      }
      if (shared->done.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->all_done.notify_one();
      }
    }
  };
  const int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  try {
    for (int64_t i = 0; i < helpers; ++i) pool.Schedule(decltype(work)(work));
  } catch (...) {  // no memory: threads that were not asked are not needed, and those that were may be at work
  }
  work();
  for (int spin = 0; spin < 20000 && shared->done.load() < count; ++spin) __asm__ volatile("" ::: "memory");
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done.load() == count; });
  if (shared->error) std::rethrow_exception(std::move(shared->error));
}

// Counts the steps of every row that count, of masks of 0 and 1; returns whether they are its first ones.
inline bool CountSteps(const Sizes& sizes, const uint8_t* valid, int* lengths) {
  constexpr int64_t kMostInAByte = 255;
  const int64_t batch = sizes.batch;
  Vector<uint8_t> few(batch), gaps(batch);  // a byte a row: vectors of them
  uint8_t *__restrict__ few_at = few.data(), *__restrict__ gaps_at = gaps.data();
  for (int64_t t = 0; t < sizes.steps; ++t) {
    const uint8_t *now = valid + t * batch, *before = t ? now - batch : now;
    for (int64_t b = 0; b < batch; ++b) {
      few_at[b] += now[b];
      gaps_at[b] |= now[b] & ~before[b];
    }
    if ((t + 1) % kMostInAByte && t + 1 < sizes.steps) continue;
    for (int64_t b = 0; b < batch; ++b) {
      lengths[b] += few_at[b];
      few_at[b] = 0;
    }
  }
  return std::all_of(gaps_at, gaps_at + batch, [](uint8_t gap) { return !gap; });
}

// Deals the rows of a batch out to tasks: the longest ones first, back and forth, so that all get about as many steps.
inline Vector<Share> DealRows(const Sizes& sizes, const bool* valid, bool resets, int num_tasks) {
  const int64_t batch = sizes.batch;
  Vector<int> lengths(batch, valid ? 0 : int(sizes.steps));
  const bool is_simple =
      (!valid || CountSteps(sizes, reinterpret_cast<const uint8_t*>(valid), lengths.data())) && !resets;
  Vector<int> order(batch), place(sizes.steps + 2);  // sorted by counting, which keeps the order of equals
  for (int64_t b = 0; b < batch; ++b) ++place[sizes.steps - lengths[b] + 1];
  for (int64_t t = 0; t <= sizes.steps; ++t) place[t + 1] += place[t];
  for (int64_t b = 0; b < batch; ++b) order[place[sizes.steps - lengths[b]]++] = b;
  Vector<Share> shares(num_tasks);
  if (num_tasks == 1) {
    if (is_simple) {
      shares[0].lengths.resize(batch);
      for (int64_t i = 0; i < batch; ++i) shares[0].lengths[i] = lengths[order[i]];
    }
    shares[0].rows = std::move(order);
    return shares;
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

inline Deal ChooseDeal(const Sizes& sizes, int gates, int64_t threads) {
  // Not an integer: it may be more than any holds.
  const double work_of_a_model = double(sizes.steps * sizes.batch) * (gates * sizes.hidden) *
                                 (sizes.input + sizes.hidden);
  if (threads < 2 || work_of_a_model * sizes.models < 2 * kWorkOfAThread) return {};
  const int64_t most = std::min(threads, sizes.batch / kRowsOfAThread);
  const int tasks = int(std::max(1.0, std::min(double(most), work_of_a_model / kWorkOfAThread)));
  if (sizes.models >= threads || sizes.models > tasks) return {1, true};  // more threads at work than by a model's rows
  return {tasks, false};
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

}  // namespace jaxrnn

#endif  // JAXRNN_THREADS_H_
