// The variants of the kernels, and which of them runs.
#ifndef JAXRNN_VARIANTS_H_
#define JAXRNN_VARIANTS_H_

#include <vector>

#include "problem.h"

#define JAXRNN_DECLARE_VARIANT(name)                \
  namespace jaxrnn {                                \
  namespace name {                                  \
  const std::vector<Loops<float>>& cells_float();   \
  const std::vector<Loops<double>>& cells_double(); \
  }                                                 \
  }

JAXRNN_DECLARE_VARIANT(baseline)
#if defined(__x86_64__)
JAXRNN_DECLARE_VARIANT(avx2)
JAXRNN_DECLARE_VARIANT(avx512)
#endif

namespace jaxrnn {

struct Variant {
  const char* name;
  bool (*runs_here)();  // whether this processor has the instructions
  const std::vector<Loops<float>>& (*cells_float)();
  const std::vector<Loops<double>>& (*cells_double)();
};

// All variants in this library, the fastest first.
const std::vector<Variant>& variants();

// The variant that runs; null before select().
const Variant* selected();
bool select(const char* name);

// The loops of a cell in a variant, or null.
template <class T>
const Loops<T>* find(const Variant& variant, const char* cell, Size length);

}  // namespace jaxrnn

#endif  // JAXRNN_VARIANTS_H_
