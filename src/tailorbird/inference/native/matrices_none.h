// A form without matrix registers: the names of matrices_amx.h that the kernels use, of which none is called.

#pragma once

namespace {

constexpr const char* FORM = LANES_FORM;
constexpr bool MATRICES = false;

constexpr int DEEP = 32;
struct Sums { float of[LANES][LANES]; };

inline bool have_matrices() { return true; }
inline void shape_matrices(int) {}
inline void end_matrices() {}
template <int TILES, int BLOCKS, class Ask>
inline void multiply(const Input* const*, int64_t, const bf16* const*, int64_t, Sums*, Ask) {}

}  // namespace
