// Sixteen numbers in as many registers as the processor needs for them, by the vectors of GCC and Clang: AVX2 with FMA, AVX-512 without BF16,
// NEON. What is multiplied with weights stays in fp32; weights, keys and values are bf16, widened by a shift when they are read, or int8.

#pragma once

#include <cmath>
#include <utility>
#include <vector>

namespace {

constexpr const char* LANES_FORM = "portable";
#if defined(__AVX512F__)
constexpr int WIDTH = 64;  // bytes of a register
#elif defined(__AVX2__)
constexpr int WIDTH = 32;
#else
constexpr int WIDTH = 16;
#endif
constexpr int PARTS = 4 * LANES / WIDTH, EACH = LANES / PARTS;  // registers of sixteen numbers, numbers in one

using Part = float __attribute__((vector_size(WIDTH)));
using Bits = int32_t __attribute__((vector_size(WIDTH)));
using Halves = uint16_t __attribute__((vector_size(WIDTH / 2)));
using Unsigned = uint32_t __attribute__((vector_size(WIDTH)));

using Input = float;
struct Floats { Part part[PARTS]; };

// What `make` gives for each part: written out, since a loop would keep parts in memory.
template <class Make>
inline __attribute__((always_inline)) Floats parts(Make make) {
    return [&]<int... P>(std::integer_sequence<int, P...>) __attribute__((always_inline)) { return Floats{{make(P)...}}; }(std::make_integer_sequence<int, PARTS>{});
}
template <class Do>
inline __attribute__((always_inline)) void each_part(Do work) {
    [&]<int... P>(std::integer_sequence<int, P...>) __attribute__((always_inline)) { (work(P), ...); }(std::make_integer_sequence<int, PARTS>{});
}

template <class To, class From>
inline To read(const From* place) { To x; std::memcpy(&x, place, sizeof x); return x; }
inline Part all(float x) { return x - Part{}; }

inline Floats load(const float* x) { return parts([&](int p) { return read<Part>(x + p * EACH); }); }
inline void store(float* to, Floats x) { each_part([&](int p) { std::memcpy(to + p * EACH, &x.part[p], WIDTH); }); }
inline Floats splat(float x) { return parts([&](int) { return all(x); }); }
inline Floats zeros() { return parts([&](int) { return Part{}; }); }
inline Floats plus(Floats a, Floats b) { return parts([&](int p) { return a.part[p] + b.part[p]; }); }
inline Floats minus(Floats a, Floats b) { return parts([&](int p) { return a.part[p] - b.part[p]; }); }
inline Floats times(Floats a, Floats b) { return parts([&](int p) { return a.part[p] * b.part[p]; }); }
inline Floats over(Floats a, Floats b) { return parts([&](int p) { return a.part[p] / b.part[p]; }); }
inline Floats times_plus(Floats a, Floats b, Floats c) { return parts([&](int p) { return a.part[p] * b.part[p] + c.part[p]; }); }
inline Floats times_minus(Floats a, Floats b, Floats c) { return parts([&](int p) { return a.part[p] * b.part[p] - c.part[p]; }); }
inline Floats larger(Floats a, Floats b) { return parts([&](int p) { return a.part[p] > b.part[p] ? a.part[p] : b.part[p]; }); }

// `with` of all lanes, halves with halves.
template <class With>
inline float reduced(Floats x, With with) {
    float lane[LANES];
    store(lane, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lane[i] = with(lane[i], lane[i + half]);
    return lane[0];
}
inline float sum_of(Floats x) { return reduced(x, [](float a, float b) { return a + b; }); }
inline float largest_of(Floats x) { return reduced(x, [](float a, float b) { return a > b ? a : b; }); }

// `x` from the lane `first` to before `last`; minus infinity elsewhere.
inline Floats only(Floats x, int64_t first, int64_t last) {
    if (first <= 0 && last >= LANES) return x;
    float lane[LANES];
    store(lane, x);
    for (int i = 0; i < LANES; i++) lane[i] = i >= first && i < last ? lane[i] : -INFINITY;
    return load(lane);
}

// `x` where `of` is more than minus infinity, else 0.
inline Floats where_finite(Floats of, Floats x) { return parts([&](int p) { return of.part[p] > all(-INFINITY) ? x.part[p] : Part{}; }); }

// A number of IEEE's 16 bits.
inline float wide_half(uint16_t x) {
    const uint32_t sign = uint32_t(x & 0x8000) << 16, power = x >> 10 & 31, rest = x & 1023;
    if (!power) return (sign ? -1.0f : 1.0f) * float(rest) * 0x1p-24f;
    const uint32_t bits = sign | (power == 31 ? 255 : power + 112) << 23 | rest << 13;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}
inline Floats wide16(const bf16* x) {
    return parts([&](int p) { return (Part)(__builtin_convertvector(read<Halves>(x + p * EACH), Unsigned) << 16); });
}
// To the nearest, of two to the even one; what is no number stays none.
inline void put16(bf16* to, Floats x) {
    each_part([&](int p) {
        const Unsigned bits = (Unsigned)x.part[p];
        const Unsigned near = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        const Halves put = __builtin_convertvector(x.part[p] == x.part[p] ? near : (bits >> 16 | 0x40), Halves);
        std::memcpy(to + p * EACH, &put, WIDTH / 2);
    });
}
inline void put16(float* to, Floats x) { store(to, x); }

// `count` numbers as what is multiplied, in `room` where they are not that already.
inline const Input* as_inputs(const bf16* x, int64_t count, std::vector<Input>& room) {
    room.resize(count);
    for (int64_t i = 0; i < count; i += LANES) store(&room[i], wide16(x + i));
    return room.data();
}

// e^x by a polynomial of degree 5 on the remainder of x / ln 2; relative error below 2e-7. Above 88.3 it is as there.
inline Floats exp16(Floats x) {
    return parts([&](int p) {
        constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer, in its lowest bits
        const Part low = x.part[p] > all(-87.3f) ? x.part[p] : all(-87.3f), v = low < all(88.3f) ? low : all(88.3f);
        const Part shifted = v * all(1.44269504f) + all(SHIFT), n = shifted - all(SHIFT);
        const Part r = (v - n * all(0.693359375f)) - n * all(-2.12194440e-4f);
        Part s = all(1.9875691500e-4f);
        for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) s = s * r + all(c);
        const Part power = (Part)(((Bits)shifted - (Bits)all(SHIFT) + 127) << 23);
        return (s * (r * r) + r + all(1.0f)) * power;
    });
}

// ---- products of bf16 ----------------------------------------------------------------------------------------------------------------

// Rows of a tile: their sums, two inputs' weights and a number of a row fit the registers (16 of AVX2, 32 elsewhere).
constexpr int MOST = WIDTH == 64 ? 16 : WIDTH == 32 ? 5 : 4;

// In how many runs inputs are summed where there are few rows, whose sums would wait for one another, and as many registers.
constexpr int runs_of(int rows) { return WIDTH == 64 ? (rows <= 2 ? 4 : rows <= 4 ? 2 : 1) : rows == 1 ? 4 : rows == 2 ? 2 : 1; }

struct Pairs { Floats even, odd; };
struct Pair { float even, odd; };

// The first of a pair lies in the lower half of 32 bits.
inline Pairs pairs(const bf16* x) {
    const auto both = [&](int p) { return read<Unsigned>(x + p * 2 * EACH); };
    return {parts([&](int p) { return (Part)(both(p) << 16); }), parts([&](int p) { return (Part)(both(p) & 0xffff0000u); })};
}
inline Pair pair(const Input* x) { return {x[0], x[1]}; }
inline Floats dot(Floats sum, Pairs w, Pair x) {
    return parts([&](int p) { return w.odd.part[p] * all(x.odd) + (w.even.part[p] * all(x.even) + sum.part[p]); });
}

// The pairs of rows (stride `sx`) of `inputs` numbers, those of one row beside those of the next: [inputs/2][rows][2].
inline void interleave(const Input* x, int64_t sx, int64_t rows, int64_t inputs, Input* to) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < inputs; i += 2) std::memcpy(to + i * rows + 2 * r, x + r * sx + i, 2 * sizeof(Input));
}

// One token's key, whose pairs lie `LANES` pairs apart, times a query of `count` numbers.
inline float scattered_dot(const bf16* key, const Input* query, int64_t count) {
    float sum[4] = {0, 0, 0, 0};
    for (int64_t i = 0; i < count; i += 4)
        for (int j = 0; j < 4; j++) sum[j] += wide(key[(i + j) / 2 * 2 * LANES + j % 2]) * query[i + j];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// ---- products of int8 ----------------------------------------------------------------------------------------------------------------

constexpr int MOST8 = MOST;

// LENGTH numbers of a row.
template <int LENGTH>
struct Run { float x[LENGTH]; };

template <int LENGTH>
inline void round_run(const float* x, Run<LENGTH>& to) { std::memcpy(to.x, x, sizeof to.x); }

// The scales of 16 outputs behind the weights of a run.
template <int LENGTH>
inline Floats scales_of(const char* at) {
    if constexpr (LENGTH == LONG) return load((const float*)at);
    else return wide16((const bf16*)at);
}

// Weights of 16 outputs, 16 bits of each: those of one input, which are the eight bits above the lowest `at`.
inline Floats weights_at(const char* place, int at) {
    return parts([&](int p) {
        const Bits bits = __builtin_convertvector(read<Halves>(place + p * WIDTH / 2), Bits);
        return __builtin_convertvector(bits << (24 - at) >> 24, Part);
    });
}

// ROWS rows times LENGTH inputs of a block of 16 outputs, added to `sum`. What has one scale is summed for itself, in the order of
// its inputs. Before each 64 bytes of weights `asks` what is told how many lie before them.
template <int ROWS, int LENGTH, class Ask>
inline void add_run(const Run<LENGTH>* x, int64_t sx, const char* block, Floats* sum, Ask asks) {
    Floats of_run[ROWS];
    for (int r = 0; r < ROWS; r++) of_run[r] = zeros();
    for (int i = 0; i < LENGTH; i += 2) {
        const int place = weight_bytes(i);
        if (place % 64 == 0) asks(place);
        for (int k = 0; k < 2; k++) {
            const Floats w = weights_at(block + place, k * 8);
            for (int r = 0; r < ROWS; r++) of_run[r] = times_plus(w, splat(x[r * sx].x[i + k]), of_run[r]);
        }
    }
    const Floats scale = scales_of<LENGTH>(block + weight_bytes(LENGTH));
    for (int r = 0; r < ROWS; r++) sum[r] = times_plus(scale, of_run[r], sum[r]);
}

// ROWS short runs (stride `sx`) for many blocks: where they lie, for want of registers.
template <int ROWS>
struct Held {
    const Run<SHORT>* x;
    int64_t sx;
    Held(const Run<SHORT>* x, int64_t sx) : x(x), sx(sx) {}
};

template <int ROWS, class Ask>
inline void add_held(const Held<ROWS>& held, const char* block, Floats* sum, Ask asks) { add_run<ROWS, SHORT>(held.x, held.sx, block, sum, asks); }

}  // namespace
