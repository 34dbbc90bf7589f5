// Small matrix products that stay in the cache: the right-hand side is packed once, the left-hand side is given by
// pointers to its rows, so that rows which do not count are simply not among them.
#ifndef JAXRNN_MATMUL_H_
#define JAXRNN_MATMUL_H_

#include <algorithm>
#include <iterator>
#include <utility>

#include "memory.h"
#include "vector.h"

// Unrolls a loop over a tile's registers early, or they take a turn through memory between one loop and the next.
#define JAXRNN_UNROLL _Pragma("GCC unroll 16")

namespace jaxrnn {

// Columns are cut into panels of two vectors, the last perhaps of one; a panel holds its columns row by row.
constexpr int kPanelVectors = 2;
constexpr int kPanelColumns = kPanelVectors * kLanes;
// Rows of a tile: as many sums as the registers hold beside one row of a panel.
#if defined(__AVX512F__)  // 32 registers
constexpr int TileRows(int vectors) { return vectors == 1 ? 16 : 12; }
#elif defined(__aarch64__)  // as many, but the other factor of a product takes some of them too
constexpr int TileRows(int vectors) { return vectors == 1 ? 14 : 9; }
#else
constexpr int TileRows(int vectors) { return vectors == 1 ? 12 : 6; }
#endif

inline int RoundUp(int number, int multiple) { return (number + multiple - 1) / multiple * multiple; }

// sum[i][v] += rows[i][k] * panel[k][v], over `depth` values of k.
template <int R, int V>
inline __attribute__((always_inline)) void MultiplyAdd(Vec (&sum)[R][V], const float* const* rows, int depth,
                                                       const float* panel) {
  for (int k = 0; k < depth; ++k, panel += V * kLanes) {
    Vec right[V];
    JAXRNN_UNROLL
    for (int v = 0; v < V; ++v) {
      right[v] = Load(panel + v * kLanes);
      Hold(right[v]);
    }
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) {
      const Vec left = Splat(rows[i][k]);
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) sum[i][v] += left * right[v];
    }
  }
}

// One operand of a product: rows and how many of their values are read.
struct Rows {
  const float* const* pointers;
  int depth;
};

// to[i] = start + first[i] * panel + second[i] * (the panel's later rows), with `start` the same for all rows, or, where
// it is null, what `to` holds already. Of the panel's columns only `columns` are read and written.
template <int R, int V>
void Tile(float* const* to, int offset, int columns, const float* start, Rows first, Rows second,
          const float* panel) {
  Vec sum[R][V];
  if (start) {
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) {
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) sum[i][v] = Load(start + v * kLanes);
    }
  } else {
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) {
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) sum[i][v] = LoadSome(to[i] + offset + v * kLanes, columns - v * kLanes);
    }
  }
  MultiplyAdd<R, V>(sum, first.pointers, first.depth, panel);
  MultiplyAdd<R, V>(sum, second.pointers, second.depth, panel + size_t(first.depth) * V * kLanes);
  if (columns >= V * kLanes) {
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) {
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) Store(to[i] + offset + v * kLanes, sum[i][v]);
    }
  } else {
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) {
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) StoreSome(to[i] + offset + v * kLanes, sum[i][v], columns - v * kLanes);
    }
  }
}

using TileFunction = void (*)(float* const*, int, int, const float*, Rows, Rows, const float*);

// The tiles of 1, 2, .. rows.
template <int V, int... Rs>
TileFunction PickTile(int rows, std::integer_sequence<int, Rs...>) {
  static constexpr TileFunction kTiles[] = {&Tile<Rs + 1, V>...};
  return kTiles[rows - 1];
}
inline TileFunction TileOf(int rows, int vectors) {
  return vectors == 1 ? PickTile<1>(rows, std::make_integer_sequence<int, TileRows(1)>())
                      : PickTile<2>(rows, std::make_integer_sequence<int, TileRows(2)>());
}

// Calls take(first row, number of rows) for tiles of at most so many rows, of about the same size: one of a row or two
// would keep the sums waiting for each other.
template <typename Take>
inline void InTiles(int num_rows, int most, const Take& take) {
  for (int tiles = (num_rows + most - 1) / most, row = 0; tiles > 0; --tiles) {
    const int count = (num_rows - row + tiles - 1) / tiles;
    take(row, count);
    row += count;
  }
}

// Adds, for `num_rows` rows, to[i][offset ..] as `Tile` does, for one panel of `vectors`.
inline void MultiplyPanel(float* const* to, int num_rows, int offset, int columns, const float* start, Rows first,
                          Rows second, const float* panel, int vectors) {
  InTiles(num_rows, TileRows(vectors), [&](int row, int count) {
    TileOf(count, vectors)(to + row, offset, columns, start, {first.pointers + row, first.depth},
                           {second.pointers + row, second.depth}, panel);
  });
}

// Adds to[j] += the sum of matrix[j][k] * row[k], for rows of a matrix as it is: what packing it first would cost more
// than it saves.
template <int R>
inline void AddDotProducts(float* to, const float* matrix, const float* row, int depth) {
  Vec sum[R] = {};
  int k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    const Vec right = Load(row + k);
    JAXRNN_UNROLL
    for (int i = 0; i < R; ++i) sum[i] += Load(matrix + size_t(i) * depth + k) * right;
  }
  JAXRNN_UNROLL
  for (int i = 0; i < R; ++i) {
    float total = 0.0f;
    for (int lane = 0; lane < kLanes; ++lane) total += sum[i][lane];
    for (int rest = k; rest < depth; ++rest) total += matrix[size_t(i) * depth + rest] * row[rest];
    to[i] += total;
  }
}

inline void MultiplyRow(float* to, const float* matrix, int num_rows, const float* row, int depth) {
  constexpr int kRows = 8;
  int i = 0;
  for (; i + kRows <= num_rows; i += kRows) AddDotProducts<kRows>(to + i, matrix + size_t(i) * depth, row, depth);
  for (; i < num_rows; ++i) AddDotProducts<1>(to + i, matrix + size_t(i) * depth, row, depth);
}

// The panels of a (depth, columns) matrix. `columns` is what the caller reads; panels are filled up with zeros.
class Packed {
 public:
  Packed() = default;
  Packed(int depth, int columns)
      : depth_(depth), columns_(columns), data_(size_t(depth) * RoundUp(columns, kLanes)) {}

  int columns() const { return columns_; }
  int depth() const { return depth_; }
  int num_panels() const { return (columns_ + kPanelColumns - 1) / kPanelColumns; }
  int vectors(int panel) const {
    const int left = RoundUp(columns_, kLanes) - panel * kPanelColumns;
    return left >= kPanelColumns ? kPanelVectors : 1;
  }
  float* panel(int number) const { return data_.get() + size_t(number) * kPanelColumns * depth_; }

  // Copies one row of the matrix, from contiguous values.
  void SetRow(int row, const float* from) {
    for (int p = 0; p < num_panels(); ++p) {
      const int width = vectors(p) * kLanes;
      float* to = panel(p) + size_t(row) * width;
      const int left = columns_ - p * kPanelColumns;
      for (int v = 0; v < width; v += kLanes) {
        Store(to + v, left - v > 0 ? LoadSome(from + p * kPanelColumns + v, left - v) : Vec{});
      }
    }
  }

  // Copies rows of the matrix's transpose: column `column + j` gets from[j][0 .. depth), in rows `row` and on. `column` is
  // a multiple of kLanes.
  void SetColumns(int row, int depth, int column, int count, const float* from, size_t stride) {
    for (int begin = 0; begin < count; begin += kLanes) {
      const int p = (column + begin) / kPanelColumns, width = vectors(p) * kLanes, columns = std::min(kLanes, count - begin);
      float* to = panel(p) + size_t(row) * width + (column + begin) % kPanelColumns;
      for (int k = 0; k < depth; ++k, to += width) {
        for (int j = 0; j < columns; ++j) to[j] = from[(begin + j) * stride + k];
      }
    }
  }

  void Clear() { std::fill_n(data_.get(), size_t(depth_) * RoundUp(columns_, kLanes), 0.0f); }

 private:
  int depth_ = 0, columns_ = 0;
  Floats data_;
};

// to[i] = rows[i] * packed, all columns.
inline void MultiplyAll(float* const* to, int num_rows, Rows rows, const Packed& packed) {
  const Vec zeros[kPanelVectors] = {};
  for (int p = 0; p < packed.num_panels(); ++p) {
    const int column = p * kPanelColumns;
    MultiplyPanel(to, num_rows, column, packed.columns() - column, reinterpret_cast<const float*>(zeros), rows,
                  {rows.pointers, 0}, packed.panel(p), packed.vectors(p));
  }
}

// to[k][column ..] += the sum over rows of left[row][k] * right[row][column ..], for R values of k.
template <int R, int V>
void OuterTile(float* to, size_t stride, const float* left, int left_stride, const float* right, size_t right_stride,
               int num_rows) {
  Vec sum[R][V];
  JAXRNN_UNROLL
  for (int k = 0; k < R; ++k) {
    JAXRNN_UNROLL
    for (int v = 0; v < V; ++v) sum[k][v] = Load(to + k * stride + v * kLanes);
  }
  for (int row = 0; row < num_rows; ++row, left += left_stride, right += right_stride) {
    Vec r[V];
    JAXRNN_UNROLL
    for (int v = 0; v < V; ++v) r[v] = Load(right + v * kLanes);
    JAXRNN_UNROLL
    for (int k = 0; k < R; ++k) {
      const Vec l = Splat(left[k]);
      JAXRNN_UNROLL
      for (int v = 0; v < V; ++v) sum[k][v] += l * r[v];
    }
  }
  JAXRNN_UNROLL
  for (int k = 0; k < R; ++k) {
    JAXRNN_UNROLL
    for (int v = 0; v < V; ++v) Store(to + k * stride + v * kLanes, sum[k][v]);
  }
}

// Rows that begin `offset` values behind pointers.
struct RowsAt {
  const float* const* pointers;
  int64_t offset;
};

// to[k] += the sums with value k of rows as they lie, I values of the first operand, a vector of the second, and a 1; one
// vector each.
template <int I>
void OuterOfRows(float* to, RowsAt first, RowsAt second, const float* right, size_t right_stride, int num_rows) {
  constexpr int kDepth = I + kLanes + 1;
  Vec sum[kDepth];
  JAXRNN_UNROLL
  for (int k = 0; k < kDepth; ++k) sum[k] = Load(to + k * kLanes);
  for (int row = 0; row < num_rows; ++row) {
    const Vec r = Load(right + row * right_stride);
    const float *const x = first.pointers[row] + first.offset, *const h = second.pointers[row] + second.offset;
    JAXRNN_UNROLL
    for (int k = 0; k < I; ++k) sum[k] += Splat(x[k]) * r;
    JAXRNN_UNROLL
    for (int k = 0; k < kLanes; ++k) sum[I + k] += Splat(h[k]) * r;
    sum[kDepth - 1] += r;
  }
  JAXRNN_UNROLL
  for (int k = 0; k < kDepth; ++k) Store(to + k * kLanes, sum[k]);
}

using OuterOfRowsFunction = void (*)(float*, RowsAt, RowsAt, const float*, size_t, int);

// For so many values of the first operand; null if all sums together are not to be had in registers.
inline OuterOfRowsFunction PickOuterOfRows(int first, int second, int columns) {
  static constexpr OuterOfRowsFunction kOf[] = {nullptr, OuterOfRows<1>, OuterOfRows<2>, OuterOfRows<3>};
  return second == kLanes && columns == kLanes && first < int(std::size(kOf)) ? kOf[first] : nullptr;
}

using OuterTileFunction = void (*)(float*, size_t, const float*, int, const float*, size_t, int);

// The tiles of 1, 2, .. values of k.
template <int V, int... Rs>
OuterTileFunction PickOuterTile(int count, std::integer_sequence<int, Rs...>) {
  static constexpr OuterTileFunction kTiles[] = {&OuterTile<Rs + 1, V>...};
  return kTiles[count - 1];
}

// Sums of outer products over rows, the gradient of a weight transposed: of up to two operands' values and a 1, whose
// products add up the other side itself, with `columns` values, a multiple of kLanes.
class OuterSum {
 public:
  OuterSum() = default;
  OuterSum(int capacity, int first, int second, int columns)
      : first_(first),
        second_(second),
        columns_(columns),
        tile_(TileRows(columns < kPanelColumns ? 1 : kPanelVectors)),
        left_(size_t(capacity) * RoundUp(first + second + 1, tile_)),
        sums_(size_t(depth()) * columns) {
    std::fill_n(sums_.get(), size_t(depth()) * columns, 0.0f);
  }

  int depth() const { return first_ + second_ + 1; }
  // Adds rows as they lie, where that can be done.
  bool AddsRowsAsTheyLie() const { return PickOuterOfRows(first_, second_, columns_); }
  void AddAsTheyLie(RowsAt first, RowsAt second, const float* right, size_t right_stride, int num_rows) {
    PickOuterOfRows(first_, second_, columns_)(sums_.get(), first, second, right, right_stride, num_rows);
  }
  // The sums with value k of the operands, the first one's before the second's; the last are those with 1.
  const float* row(int k) const { return sums_.get() + size_t(k) * columns_; }

  void Add(const float* const* first, const float* const* second, const float* right, size_t right_stride,
           int num_rows) {
    if (AddsRowsAsTheyLie()) return AddAsTheyLie({first, 0}, {second, 0}, right, right_stride, num_rows);
    if (depth() <= tile_) {
      PackNarrowLeft(first, second, num_rows);
    } else {
      PackLeft(0, first_, first, num_rows);
      PackLeft(first_, second_, second, num_rows);
      for (int row = 0; row < num_rows; ++row) LeftAt(depth() - 1, num_rows)[size_t(row) * tile_] = 1.0f;
    }
    // All columns of a group of values, one after the other: the group stays in the nearest cache, and so do the sums,
    // which lie one behind the other.
    for (int k = 0; k < depth(); k += tile_) {
      const int count = std::min(depth() - k, tile_);
      for (int column = 0; column < columns_; column += kPanelColumns) {
        const OuterTileFunction tile = columns_ - column < kPanelColumns
                                           ? PickOuterTile<1>(count, std::make_integer_sequence<int, TileRows(1)>())
                                           : PickOuterTile<2>(count, std::make_integer_sequence<int, TileRows(2)>());
        tile(sums_.get() + size_t(k) * columns_ + column, columns_, LeftAt(k, num_rows), tile_, right + column,
             right_stride, num_rows);
      }
    }
  }

 private:
  // Values lie in groups of `tile_`, group after group, and in a group row after row.
  float* LeftAt(int k, int num_rows) const {
    return left_.get() + size_t(k / tile_) * tile_ * num_rows + k % tile_;
  }
  // Does the same where there is one group only, row by row.
  void PackNarrowLeft(const float* const* first, const float* const* second, int num_rows) {
    float* to = left_.get();
    for (int row = 0; row < num_rows; ++row, to += tile_) {
      if (first_ < kLanes / 2) {  // whole instructions for a few values cost more than the values
        for (int k = 0; k < first_; ++k) to[k] = first[row][k];
      } else {
        CopySome(to, first[row], first_);
      }
      if (second_) CopySome(to + first_, second[row], second_);
      to[first_ + second_] = 1.0f;
    }
  }
  void PackLeft(int start, int count, const float* const* rows, int num_rows) {
    for (int begin = 0; begin < count;) {
      const int width = std::min(tile_ - (start + begin) % tile_, count - begin);
      float* to = LeftAt(start + begin, num_rows);
      for (int row = 0; row < num_rows; ++row, to += tile_) {
        CopySome(to, rows[row] + begin, width);
      }
      begin += width;
    }
  }

  int first_ = 0, second_ = 0, columns_ = 0, tile_ = 1;
  Floats left_, sums_;
};

}  // namespace jaxrnn

#endif  // JAXRNN_MATMUL_H_
