// Matrix products, by small tiles of sums that stay in registers.
//
// A matrix B (K, N) is packed once into panels of a few vectors of columns. A panel is
// stored row by row, so the innermost loop reads it from start to end. A tile multiplies
// up to kMaxRows rows of A by one panel: for each k it loads the panel's row, a few
// vectors, and adds to its sums the product with one number from each row of A.
#ifndef JAXRNN_PRODUCT_H_
#define JAXRNN_PRODUCT_H_

#include <type_traits>

#include "vectors.h"

namespace jaxrnn {
namespace VARIANT {

// Vectors in the widest panel, and rows in the tallest tile. Tile and panel row have to
// fit into the registers: 16, or 32 with AVX-512 and NEON.
#if REGISTERS == 32
constexpr Size kMaxVectors = 4, kMaxRows = 6;
#else
constexpr Size kMaxVectors = 4, kMaxRows = 3;
#endif

// How many rows of a panel are asked for ahead of their use. The processor does that by
// itself, but stops at the end of each page.
constexpr Size kAhead = 16;

// Consecutive columns of A in one place: row i begins at `first + i * length`.
template <class T>
struct Block {
  const T* first;
  Size length;
};

template <class T, Size Rows, Size Vectors>
ALWAYS_INLINE void multiply(Vec<T> (&sums)[Rows][Vectors], const T* const (&a)[Rows],
                            Size count, const T* panel) {
  for (Size k = 0; k < count; k++, panel += Vectors * kLanes<T>) {
    Vec<T> b[Vectors];
#pragma GCC unroll 8
    for (Size j = 0; j < Vectors; j++) {
      b[j] = load(panel + j * kLanes<T>);
      __builtin_prefetch(panel + (j + kAhead * Vectors) * kLanes<T>);
    }
#pragma GCC unroll 8
    for (Size i = 0; i < Rows; i++) {
      const Vec<T> number = broadcast(a[i][k]);
#pragma GCC unroll 8
      for (Size j = 0; j < Vectors; j++) sums[i][j] += number * b[j];
    }
  }
}

template <class T, Size Rows, Size Vectors>
ALWAYS_INLINE void copy_tile(const Vec<T> (&from)[Rows][Vectors], Vec<T>* to) {
#pragma GCC unroll 8
  for (Size i = 0; i < Rows; i++) {
#pragma GCC unroll 8
    for (Size j = 0; j < Vectors; j++) to[i * Vectors + j] = from[i][j];
  }
}

// sums (Rows, Vectors) = A panel, where rows[i] points to row i of A.
template <class T, Size Rows, Size Vectors>
void tile_of_rows(const T* const* rows, Size count, const T* panel, Vec<T>* sums) {
  const T* a[Rows];
  Vec<T> acc[Rows][Vectors] = {};
  for (Size i = 0; i < Rows; i++) a[i] = rows[i];
  multiply<T>(acc, a, count, panel);
  copy_tile<T>(acc, sums);
}

// sums (Rows, Vectors) = A panel, where A is cut into blocks of columns; its first row is
// row `row` of the blocks.
template <class T, Size Rows, Size Vectors>
void tile_of_blocks(const Block<T>* blocks, Size num_blocks, Size row, const T* panel,
                    Vec<T>* sums) {
  Vec<T> acc[Rows][Vectors] = {};
  for (Size n = 0; n < num_blocks; n++) {
    const Size length = blocks[n].length;
    const T* a[Rows];
    for (Size i = 0; i < Rows; i++) a[i] = blocks[n].first + (row + i) * length;
    multiply<T>(acc, a, length, panel);
    panel += length * Vectors * kLanes<T>;
  }
  copy_tile<T>(acc, sums);
}

// sums (Rows, Vectors) += A^T panel, where `strip` holds Rows neighbouring columns of A,
// row by row.
template <class T, Size Rows, Size Vectors>
void tile_transposed(const T* strip, Size count, const T* panel, T* sums) {
  Vec<T> acc[Rows][Vectors];
#pragma GCC unroll 8
  for (Size i = 0; i < Rows; i++) {
#pragma GCC unroll 8
    for (Size j = 0; j < Vectors; j++) {
      acc[i][j] = load(sums + (i * Vectors + j) * kLanes<T>);
    }
  }
  for (Size k = 0; k < count; k++, panel += Vectors * kLanes<T>, strip += Rows) {
    Vec<T> b[Vectors];
#pragma GCC unroll 8
    for (Size j = 0; j < Vectors; j++) b[j] = load(panel + j * kLanes<T>);
#pragma GCC unroll 8
    for (Size i = 0; i < Rows; i++) {
      const Vec<T> number = broadcast(strip[i]);
#pragma GCC unroll 8
      for (Size j = 0; j < Vectors; j++) acc[i][j] += number * b[j];
    }
  }
#pragma GCC unroll 8
  for (Size i = 0; i < Rows; i++) {
#pragma GCC unroll 8
    for (Size j = 0; j < Vectors; j++) {
      store(sums + (i * Vectors + j) * kLanes<T>, acc[i][j]);
    }
  }
}

// Call f(rows, vectors) with constants for its template arguments.
template <class F>
ALWAYS_INLINE void with_sizes(Size rows, Size vectors, F f) {
  auto with_vectors = [&](auto constant_rows) {
    switch (vectors) {
      case 1: return f(constant_rows, std::integral_constant<Size, 1>());
      case 2: return f(constant_rows, std::integral_constant<Size, 2>());
      case 3: return f(constant_rows, std::integral_constant<Size, 3>());
      default: return f(constant_rows, std::integral_constant<Size, 4>());
    }
  };
  switch (rows) {
    case 1: return with_vectors(std::integral_constant<Size, 1>());
    case 2: return with_vectors(std::integral_constant<Size, 2>());
    case 3: return with_vectors(std::integral_constant<Size, 3>());
#if REGISTERS == 32
    case 4: return with_vectors(std::integral_constant<Size, 4>());
    case 5: return with_vectors(std::integral_constant<Size, 5>());
    case 6: return with_vectors(std::integral_constant<Size, 6>());
#endif
  }
}

// The three products by a panel, for any number of rows and vectors.
template <class T>
__attribute__((noinline)) void multiply_rows(Size num_rows, Size vectors,
                                             const T* const* rows, Size count,
                                             const T* panel, Vec<T>* sums) {
  with_sizes(num_rows, vectors,
             [&](auto r, auto v) { tile_of_rows<T, r, v>(rows, count, panel, sums); });
}

template <class T>
__attribute__((noinline)) void multiply_blocks(Size num_rows, Size vectors,
                                               const Block<T>* blocks, Size num_blocks,
                                               Size row, const T* panel, Vec<T>* sums) {
  with_sizes(num_rows, vectors, [&](auto r, auto v) {
    tile_of_blocks<T, r, v>(blocks, num_blocks, row, panel, sums);
  });
}

template <class T>
__attribute__((noinline)) void add_transposed(Size num_columns, Size vectors,
                                              const T* strip, Size count, const T* panel,
                                              T* sums) {
  with_sizes(num_columns, vectors,
             [&](auto r, auto v) { tile_transposed<T, r, v>(strip, count, panel, sums); });
}

// Call f(first, rows) for tiles of nearly equal height that cover `count` rows.
template <class F>
ALWAYS_INLINE void for_tiles(Size count, F f) {
  const Size tiles = (count + kMaxRows - 1) / kMaxRows;
  Size first = 0;
  for (Size n = 0; n < tiles; n++) {
    const Size rows = (count - first + tiles - n - 1) / (tiles - n);
    f(first, rows);
    first += rows;
  }
}

}  // namespace VARIANT
}  // namespace jaxrnn

#endif  // JAXRNN_PRODUCT_H_
