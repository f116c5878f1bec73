// Sixteen numbers at a time: what the kernels are written in, in forms with the same names: AVX-512, the same with matrix registers (AMX), and a
// portable one.
//
// Each form has `Floats` (16 fp32) and what is done to them; `Input`, the type of what is multiplied with weights; `Pairs`, 16 outputs' weights
// of two inputs, and `Pair`, two inputs of a row, with `dot` of the two; the most rows of a tile, and `interleave`, which lays them out for it;
// and products of int8: `Run`, numbers of a row that share a scale, `round_run`, which makes it, and `add_run`, its product with
// weights; `Held`, short runs of a few rows for many blocks, and `add_held`. A form with matrix registers (`MATRICES`) has `multiply` in place of tiles of
// `dot`.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

using bf16 = uint16_t;
constexpr int LANES = 16;  // fp32 numbers in `Floats`, outputs in a block, tokens in a memory block
constexpr int LONG = 64, SHORT = 16;  // inputs of a run: of all but the second matrix of an adapter, and of that
// Bytes of a block's weights in a run, and with their scales: fp32 of long runs, else bf16.
constexpr int weight_bytes(int length) { return length * LANES; }
constexpr int run_bytes(int length) { return weight_bytes(length) + LANES * (length == SHORT ? 2 : 4); }
constexpr int HELD = 2;  // rows' short runs that registers hold for many blocks
constexpr int AHEAD = 8192;  // bytes of weights that are asked for ahead of their use

enum class Put { replace, add };

inline float wide(bf16 x) { uint32_t bits = uint32_t(x) << 16; float y; std::memcpy(&y, &bits, 4); return y; }

// Asks for the 64 bytes at `place`.
inline void ask(const void* place) { __builtin_prefetch(place, 0, 3); }

// A moment for whoever shares the core.
inline void rest() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include "lanes_avx512.h"
#if defined(USE_MATRICES)
#include "matrices_amx.h"
#else
#include "matrices_none.h"
#endif
#else
#include "lanes_portable.h"
#include "matrices_none.h"
#endif
