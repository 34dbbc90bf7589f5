// What one core makes of the compiled recurrence, and of its parts; benchmarks/kernel_rates.py builds and runs it.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "backward.h"
#include "forward.h"

namespace jaxrnn {
namespace {

constexpr int kRows = 32, kRounds = 12;

// Processor seconds of this thread: what others do on the core is not counted.
double Now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

// The least seconds of some calls.
template <typename Call>
double Best(int rounds, const Call& call) {
  double best = 1e9;
  for (int i = 0; i < rounds; ++i) {
    const double begin = Now();
    call();
    best = std::min(best, Now() - begin);
  }
  return best;
}

Floats Draw(size_t size) {
  static std::mt19937 generator(0);
  std::normal_distribution<float> normal(0.0f, 0.1f);
  Floats values(size + kPanelColumns);
  for (size_t i = 0; i < size; ++i) values.get()[i] = normal(generator);
  return values;
}

// Multiply-adds of registers alone.
double Peak() {
  constexpr int kSums = 12, kTurns = 400000;  // more than wait for one another, fewer than there are registers
  const double seconds = Best(4 * kRounds, [] {
    const Vec factor = Splat(0.999f);
    Vec sums[kSums];
    for (int i = 0; i < kSums; ++i) sums[i] = Splat(1e-9f * i);  // no two are the same
    for (int turn = 0; turn < kTurns; ++turn) {
      JAXRNN_UNROLL
      for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + factor;
    }
    for (const Vec& sum : sums) asm volatile("" : : "v"(sum));
  });
  return 2e-9 * kTurns * kSums * kLanes / seconds;
}

double SigmoidNanoseconds() {
  constexpr int kValues = 4096;
  const Floats from = Draw(kValues), to(kValues);
  const double seconds = Best(200, [&] {
    for (int i = 0; i < kValues; i += kLanes) Store(to.get() + i, Sigmoid(Load(from.get() + i)));
    asm volatile("" : : : "memory");
  });
  return 1e9 * seconds / (kValues / kLanes);
}

// The products of one step, all gates of all rows.
double ProductRate(int depth, int columns) {
  Packed packed(depth, columns);
  packed.Clear();
  const Floats left = Draw(size_t(kRows) * depth), right = Draw(size_t(kRows) * columns), start = Draw(columns);
  std::vector<const float*> from(kRows);
  std::vector<float*> to(kRows);
  for (int i = 0; i < kRows; ++i) {
    from[i] = left.get() + size_t(i) * depth;
    to[i] = right.get() + size_t(i) * columns;
  }
  const double seconds = Best(200, [&] {
    for (int p = 0; p < packed.num_panels(); ++p) {
      const int column = p * kPanelColumns;
      MultiplyPanel(to.data(), kRows, column, columns - column, start.get() + column, {from.data(), depth},
                    {from.data(), 0}, packed.panel(p), packed.vectors(p));
    }
  });
  return 2e-9 * kRows * depth * columns / seconds;
}

template <Cell cell>
void TimeCell(const char* name, int gates, int steps, int input, int hidden, double peak) {
  const Sizes sizes{1, steps, kRows, input, hidden, 0};
  const Recurrence<cell> recurrence(sizes, false);
  const size_t pairs = size_t(steps) * kRows, width = size_t(gates) * hidden, state = size_t(kRows) * hidden;
  const bool has_cells = Equation<cell>::kHasCellState, keeps_gates = cell == Cell::kLstm || cell == Cell::kGru;
  const Floats x = Draw(pairs * input), w_ih = Draw(width * input), w_hh = Draw(width * hidden), b_ih = Draw(width),
               b_hh = Draw(width), h = Draw(state), c = Draw(state), outputs = Draw(pairs * hidden),
               cells = Draw(pairs * recurrence.padded), kept_gates = Draw(pairs * recurrence.gate_columns),
               h_last = Draw(state), c_last = Draw(state), d_outputs = Draw(pairs * hidden), d_x = Draw(pairs * input),
               d_ih = Draw(width * input), d_hh = Draw(width * hidden), d_b_ih = Draw(width), d_b_hh = Draw(width),
               d_h = Draw(state), d_c = Draw(state);
  const Arrays arrays = {x.get(),    nullptr,    nullptr, w_ih.get(), w_hh.get(), b_ih.get(),
                         b_hh.get(), h.get(),    c.get(), nullptr,    nullptr};
  const Kept kept = {outputs.get(), has_cells ? cells.get() : nullptr, keeps_gates ? kept_gates.get() : nullptr};
  const Last last = {h_last.get(), has_cells ? c_last.get() : nullptr};
  const Gradients gradients = {d_x.get(),    d_ih.get(), d_hh.get(), d_b_ih.get(), d_b_hh.get(),
                               d_h.get(),    d_c.get(),  nullptr,    nullptr};
  Share share;
  for (int i = 0; i < kRows; ++i) {
    share.rows.push_back(i);
    share.lengths.push_back(steps);
  }
  auto forward = [&](const Kept& keep) {
    recurrence.Forward(arrays, recurrence.PackForward(arrays), share, keep, last);
  };
  const double inference = Best(kRounds, [&] { forward({outputs.get(), nullptr, nullptr}); });
  const double training = Best(kRounds, [&] { forward(kept); });
  const double backward = Best(kRounds, [&] {
    jaxrnn::Vector<typename Recurrence<cell>::Sums> sums(1);
    recurrence.Backward(arrays, recurrence.PackBackward(arrays, true), share, kept, {d_outputs.get(), nullptr, nullptr},
                        gradients, sums[0]);
    recurrence.Reduce(sums, gradients, 0, hidden);
  });
  const double bound = 2e-9 * pairs * (input + hidden) * width / peak;
  std::printf("%-4s T %d D %d H %d  %6.2f ms (%.2f)  %6.2f ms (%.2f)  %6.2f ms (%.2f)  %.2f\n", name, steps, input, hidden,
              1e3 * inference, bound / inference, 1e3 * training, bound / training, 1e3 * backward,
              2 * bound / backward, 3 * bound / (training + backward));
}

}  // namespace
}  // namespace jaxrnn

int main() {
  using namespace jaxrnn;
  const double peak = Peak();
  std::printf("multiply-adds of registers: %.0f GFLOP/s; products of a step: %.0f (D 32, H 128), %.0f (D 128, H 256)\n",
              peak, ProductRate(160, 512), ProductRate(384, 1024));
  std::printf("a sigmoid of %d values: %.1f ns\n", kLanes, SigmoidNanoseconds());
  std::printf("in brackets: of the peak   forward alone      forward, keeping   backward           both\n");
  const int sizes[][3] = {{100, 32, 128}, {200, 128, 256}};
  for (const auto& [steps, input, hidden] : sizes) {
    TimeCell<Cell::kLstm>("LSTM", 4, steps, input, hidden, peak);
    TimeCell<Cell::kGru>("GRU", 3, steps, input, hidden, peak);
    TimeCell<Cell::kTanh>("tanh", 1, steps, input, hidden, peak);
  }
}
