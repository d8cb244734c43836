#ifndef JAXRNN_CHECK_H_
#define JAXRNN_CHECK_H_

#include "variants.h"

namespace jaxrnn {

// Whether a variant computes a small case of each cell rightly.
bool check(const Variant& variant);

// What check() compares: the sum of the case of one cell, in float64.
double checksum_of(const Variant& variant, Size cell);

}  // namespace jaxrnn

#endif  // JAXRNN_CHECK_H_
