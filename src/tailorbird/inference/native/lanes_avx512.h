// Sixteen numbers in a register of AVX-512, for processors that multiply bf16 (AVX512-BF16) and bytes (AVX512-VNNI).

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace {

constexpr const char* LANES_FORM = "avx512";
using Input = bf16;
using Floats = __m512;
using Pairs = __m512bh;
using Pair = __m512bh;

inline Floats load(const float* x) { return _mm512_loadu_ps(x); }
inline void store(float* to, Floats x) { _mm512_storeu_ps(to, x); }
inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats minus(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats over(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats times_plus(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats times_minus(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }

// `x` from the lane `first` to before `last`; minus infinity elsewhere.
inline Floats only(Floats x, int64_t first, int64_t last) {
    const __mmask16 seen = (last >= LANES ? 0xffff : __mmask16((1u << last) - 1)) & __mmask16(0xffffu << first);
    return _mm512_mask_blend_ps(seen, _mm512_set1_ps(-INFINITY), x);
}

// `x` where `of` is more than minus infinity, else 0.
inline Floats where_finite(Floats of, Floats x) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(of, _mm512_set1_ps(-INFINITY), _CMP_NEQ_OQ), x);
}

inline float wide_half(uint16_t x) { return _cvtsh_ss(x); }
inline Floats wide16(const bf16* x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)x)), 16)); }
inline void put16(bf16* to, Floats x) { _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(x)); }

// `count` numbers as what is multiplied, in `room` where they are not that already.
inline const Input* as_inputs(const bf16* x, int64_t, std::vector<Input>&) { return x; }

// e^x by a polynomial of degree 5 on the remainder of x / ln 2; relative error below 2e-7.
inline Floats exp16(Floats x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-87.3f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

// ---- products of bf16 ----------------------------------------------------------------------------------------------------------------

constexpr int MOST = 16;  // rows of a tile

// In how many runs inputs are summed where there are few rows, whose sums would wait for one another.
constexpr int runs_of(int rows) { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }

inline Pairs pairs(const bf16* x) { return (__m512bh)_mm512_loadu_si512(x); }
inline Pair pair(const Input* x) { int32_t both; std::memcpy(&both, x, 4); return (__m512bh)_mm512_set1_epi32(both); }
inline Floats dot(Floats sum, Pairs w, Pair x) { return _mm512_dpbf16_ps(sum, w, x); }

// The pairs of up to 16 rows (stride `sx`) of `inputs` numbers, those of one row beside those of the next: [inputs/2][rows][2]. So many loads
// from one line follow one another; from as many rows they were in each other's way.
inline void interleave(const Input* x, int64_t sx, int64_t rows, int64_t inputs, Input* to) {
    const __mmask16 all = __mmask16((1u << rows) - 1);
    for (int64_t i = 0; i < inputs; i += 2 * LANES) {
        const int64_t count = std::min<int64_t>((inputs - i) / 2, LANES);
        const __mmask16 seen = __mmask16((1u << count) - 1);
        __m512i a[LANES], b[LANES];
        for (int r = 0; r < LANES; r++) a[r] = r < rows ? _mm512_maskz_loadu_epi32(seen, x + r * sx + i) : _mm512_setzero_si512();
        for (int k = 0; k < LANES; k += 2) { b[k] = _mm512_unpacklo_epi32(a[k], a[k + 1]); b[k + 1] = _mm512_unpackhi_epi32(a[k], a[k + 1]); }
        for (int k = 0; k < LANES; k += 4)
            for (int h = 0; h < 2; h++) { a[k + 2 * h] = _mm512_unpacklo_epi64(b[k + h], b[k + 2 + h]); a[k + 2 * h + 1] = _mm512_unpackhi_epi64(b[k + h], b[k + 2 + h]); }
        // a[4k + c] has, of each 4 pairs, pair c of rows 4k to 4k + 3.
        for (int c = 0; c < 4; c++) {
            const __m512i low = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), next = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
            const __m512i high = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88), last = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
            b[c] = _mm512_shuffle_i32x4(low, high, 0x88); b[8 + c] = _mm512_shuffle_i32x4(low, high, 0xdd);
            b[4 + c] = _mm512_shuffle_i32x4(next, last, 0x88); b[12 + c] = _mm512_shuffle_i32x4(next, last, 0xdd);
        }
        for (int64_t k = 0; k < count; k++) _mm512_mask_storeu_epi32(to + (i + 2 * k) * rows, all, b[k]);
    }
}

// One token's key, whose pairs lie `LANES` pairs apart, times a query of `count` numbers.
inline float scattered_dot(const bf16* key, const Input* query, int64_t count) {
    const __m512i steps = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(LANES));
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < count; i += 2 * LANES)
        sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_i32gather_epi32(steps, (const int*)(key + i * LANES), 4), pairs(query + i));
    return _mm512_reduce_add_ps(sum);
}

// ---- products of int8 ----------------------------------------------------------------------------------------------------------------

constexpr int MOST8 = 16;

// LENGTH numbers of a row as levels of 16 bits, and their scale.
template <int LENGTH>
struct Run { int16_t level[LENGTH]; float scale; };

inline Floats widened(const bf16* x) { return wide16(x); }
inline Floats widened(const float* x) { return load(x); }

template <int LENGTH, class Number>
inline void round_run(const Number* x, Run<LENGTH>& to) {
    constexpr float TOP = 127 * 256;  // the highest level: a run of 64 times weights of 127 fits 32 bits
    __m512 part[LENGTH / LANES];
    __m512 most = _mm512_setzero_ps();
    __mmask16 none = 0;  // what is no number: the maximum forgets it
    for (int i = 0; i < LENGTH / LANES; i++) {
        part[i] = widened(x + i * LANES);
        most = _mm512_max_ps(most, _mm512_abs_ps(part[i]));
        none |= _mm512_cmp_ps_mask(part[i], part[i], _CMP_UNORD_Q);
    }
    const float largest = none ? NAN : _mm512_reduce_max_ps(most);
    const __m512 by = _mm512_set1_ps(largest > 0 ? TOP / largest : 0.0f);
    for (int i = 0; i < LENGTH / LANES; i++)
        _mm256_storeu_si256((__m256i*)(to.level + i * LANES), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(part[i], by))));
    to.scale = largest / TOP;
}

// The scales of 16 outputs behind the weights of a run.
template <int LENGTH>
inline Floats scales_of(const char* at) {
    if constexpr (LENGTH == LONG) return load((const float*)at);
    else return wide16((const bf16*)at);
}

inline __m512i two(const int16_t* x) { int32_t both; std::memcpy(&both, x, 4); return _mm512_set1_epi32(both); }

// Two inputs' weights of 16 outputs.
inline __m512i widened_pairs(const char* at) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)at)); }

// Calls `add` with the weights of each two of COUNT inputs of a block, and where those inputs begin; `asks` before each 64 bytes of weights, with
// their place.
template <int COUNT, class Add, class Ask>
inline void each_pair(const char* weights, Add add, Ask asks) {
#pragma GCC unroll 32
    for (int i = 0; i < COUNT; i += 2) {
        if (i % 4 == 0) asks(i * LANES);
        add(widened_pairs(weights + i * LANES), i);
    }
}

// ROWS rows times LENGTH inputs of a block of 16 outputs, added to `sum`. The products with one scale are summed exactly, in any order.
// Before each 64 bytes of weights `asks` what is told how many lie before them.
template <int ROWS, int LENGTH, class Ask>
inline void add_run(const Run<LENGTH>* x, int64_t sx, const char* block, __m512* sum, Ask asks) {
    constexpr int CHAINS = runs_of(ROWS);  // few sums would wait for themselves
    __m512i level[ROWS][CHAINS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < CHAINS; c++) level[r][c] = _mm512_setzero_si512();
    each_pair<LENGTH>(block, [&](__m512i w, int i) {
        for (int r = 0; r < ROWS; r++) level[r][i / 2 % CHAINS] = _mm512_dpwssd_epi32(level[r][i / 2 % CHAINS], w, two(x[r * sx].level + i));
    }, asks);
    const __m512 scale = scales_of<LENGTH>(block + weight_bytes(LENGTH));
    for (int r = 0; r < ROWS; r++) {
        for (int half = CHAINS / 2; half; half /= 2)
            for (int c = 0; c < half; c++) level[r][c] = _mm512_add_epi32(level[r][c], level[r][c + half]);
        sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(level[r][0]), _mm512_mul_ps(scale, _mm512_set1_ps(x[r * sx].scale)), sum[r]);
    }
}

// ROWS short runs (stride `sx`), held in registers for many blocks.
template <int ROWS>
struct Held {
    __m512i level[ROWS][SHORT / 2];
    Floats scale[ROWS];
    Held(const Run<SHORT>* x, int64_t sx) {
        for (int r = 0; r < ROWS; r++) {
            for (int i = 0; i < SHORT; i += 2) level[r][i / 2] = two(x[r * sx].level + i);
            scale[r] = splat(x[r * sx].scale);
        }
    }
};

// As `add_run`. The blocks that follow do not wait for this one's sums.
template <int ROWS, class Ask>
inline void add_held(const Held<ROWS>& x, const char* block, __m512* sum, Ask asks) {
    __m512i level[ROWS];
    for (int r = 0; r < ROWS; r++) level[r] = _mm512_setzero_si512();
    each_pair<SHORT>(block, [&](__m512i w, int i) {
        for (int r = 0; r < ROWS; r++) level[r] = _mm512_dpwssd_epi32(level[r], w, x.level[r][i / 2]);
    }, asks);
    const __m512 scale = scales_of<SHORT>(block + weight_bytes(SHORT));
    for (int r = 0; r < ROWS; r++) sum[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(level[r]), _mm512_mul_ps(scale, x.scale[r]), sum[r]);
}

}  // namespace
