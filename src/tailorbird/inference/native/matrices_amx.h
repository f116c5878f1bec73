// Matrix registers (AMX) beside those of AVX-512: 16 rows of 32 numbers in bf16 times 32 inputs' weights of 16 outputs in one instruction, which
// takes a block of weights as it lies. Built with SIMULATE_MATRICES the same lines run on a processor without them (tests).

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#if !defined(SIMULATE_MATRICES)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr const char* FORM = "amx";
constexpr bool MATRICES = true;
constexpr int DEEP = 32;  // numbers of a row in a register, inputs whose weights are in one

// What a register holds, as the processor is told. Of eight: four of sums, two of rows, two of weights.
struct Shapes {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
    explicit Shapes(int of_rows) {
        for (int at = 0; at < 8; at++) { row_bytes[at] = 64; rows[at] = uint8_t(at < 6 ? of_rows : LANES); }
    }
};
static_assert(sizeof(Shapes) == 64);

#if defined(SIMULATE_MATRICES)

struct Register { float sums[LANES][LANES]; bf16 numbers[LANES][DEEP]; };
thread_local Register registers[8];
thread_local int tile_rows[8];

inline bool have_matrices() { return true; }
inline void take_shapes(const Shapes& shapes) { for (int at = 0; at < 8; at++) tile_rows[at] = shapes.rows[at]; }
inline void drop_shapes() {}
#define MATRIX_ZERO(at) std::memset(registers[at].sums, 0, sizeof registers[at].sums)
#define MATRIX_LOAD(at, from, bytes) \
    for (int r = 0; r < tile_rows[at]; r++) std::memcpy(registers[at].numbers[r], (const char*)(from) + r * int64_t(bytes), 64)
#define MATRIX_STORE(at, to, bytes) \
    for (int r = 0; r < tile_rows[at]; r++) std::memcpy((char*)(to) + r * int64_t(bytes), registers[at].sums[r], 64)
#define MATRIX_MULTIPLY(sums, rows, weights) simulated_product(sums, rows, weights)

// Even and odd inputs are summed for themselves.
inline void simulated_product(int to, int rows, int weights) {
    for (int r = 0; r < tile_rows[to]; r++)
        for (int o = 0; o < LANES; o++) {
            float even = 0, odd = 0;
            for (int k = 0; k < LANES; k++) {
                even += wide(registers[rows].numbers[r][2 * k]) * wide(registers[weights].numbers[k][2 * o]);
                odd += wide(registers[rows].numbers[r][2 * k + 1]) * wide(registers[weights].numbers[k][2 * o + 1]);
            }
            registers[to].sums[r][o] += even + odd;
        }
}

#else

// Asks the system for the registers, once for a process: their contents are more to keep when threads take turns.
inline bool have_matrices() {
    constexpr long ASK = 0x1023, CONTENTS = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool given = syscall(SYS_arch_prctl, ASK, CONTENTS) == 0;
    return given;
}
// Written out, so that any compiler knows that all of them is read: older headers of GCC name eight bytes for `_tile_loadconfig` (its bug 114098).
inline void take_shapes(const Shapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
inline void drop_shapes() { _tile_release(); }
#define MATRIX_ZERO(at) _tile_zero(at)
#define MATRIX_LOAD(at, from, bytes) _tile_loadd(at, from, bytes)
#define MATRIX_STORE(at, to, bytes) _tile_stored(at, to, bytes)
#define MATRIX_MULTIPLY(sums, rows, weights) _tile_dpbf16ps(sums, rows, weights)

#endif

thread_local int shaped_rows = 0;

// Registers of rows and of sums hold so many rows. `end_matrices` before anything else than these kernels may use the registers.
inline void shape_matrices(int rows) {
    if (rows == shaped_rows) return;
    take_shapes(Shapes(rows));
    shaped_rows = rows;
}
inline void end_matrices() {
    if (shaped_rows) drop_shapes();
    shaped_rows = 0;
}

// What `multiply` makes: sums of 16 rows and 16 outputs.
struct Sums { alignas(64) float of[LANES][LANES]; };

// The rows at each of `x` (TILES addresses, stride `sx`; as many rows as `shape_matrices` was told) times each of BLOCKS blocks of 16 outputs, into
// sums[tile * BLOCKS + block]; whole registers of inputs alone. `asks` is told of each 64 bytes of weights: the block, and how many bytes lie before.
template <int TILES, int BLOCKS, class Ask>
inline void multiply(const Input* const* x, int64_t sx, const bf16* const* block, int64_t inputs, Sums* sums, Ask asks) {
    static_assert(TILES <= 2 && BLOCKS <= 2);
    MATRIX_ZERO(0);
    if constexpr (BLOCKS == 2) MATRIX_ZERO(1);
    if constexpr (TILES == 2) MATRIX_ZERO(2);
    if constexpr (TILES == 2 && BLOCKS == 2) MATRIX_ZERO(3);
    for (int64_t i = 0; i + DEEP <= inputs; i += DEEP) {
        for (int b = 0; b < BLOCKS; b++)
            for (int64_t k = i; k < i + DEEP; k += 2) asks(b, k * LANES * 2);
        MATRIX_LOAD(4, x[0] + i, sx * 2);
        MATRIX_LOAD(6, block[0] + i * LANES, 64);
        MATRIX_MULTIPLY(0, 4, 6);
        if constexpr (BLOCKS == 2) { MATRIX_LOAD(7, block[1] + i * LANES, 64); MATRIX_MULTIPLY(1, 4, 7); }
        if constexpr (TILES == 2) { MATRIX_LOAD(5, x[1] + i, sx * 2); MATRIX_MULTIPLY(2, 5, 6); }
        if constexpr (TILES == 2 && BLOCKS == 2) MATRIX_MULTIPLY(3, 5, 7);
    }
    MATRIX_STORE(0, sums[0].of, 64);
    if constexpr (BLOCKS == 2) MATRIX_STORE(1, sums[1].of, 64);
    if constexpr (TILES == 2) MATRIX_STORE(2, sums[BLOCKS].of, 64);
    if constexpr (TILES == 2 && BLOCKS == 2) MATRIX_STORE(3, sums[3].of, 64);
}

}  // namespace
