// A decoder step of the Llama kind in one call, written in sixteen numbers at a time (lanes.h, which has a form for AVX512-BF16 and a portable one).
//
// In: packed weights, packed adapters, a batch of tokens with where their keys and values lie. Out: hidden states, logits, label scores.
// One call computes all layers of a step, so that neither Python nor its lock is touched in between. Must not know: requests, text.
//
// Axes: N tokens of the step, E hidden, I inputs and O outputs of a product, D head size, G query heads a key head. A packed matrix holds
// blocks of 16 outputs; in a block, pairs of inputs are interleaved: [O/16][I/2][16][2], what one dot-product instruction reads. Keys lie
// the same way, [block][head][D/2][16 tokens][2], so that one instruction scores 16 tokens; values lie [block][head][16 tokens][D].
// Sums are kept in fp32 everywhere; what is multiplied is bf16, or `Input` by weights in bf16. Or weights are int8, as those of adapters
// are, with a scale for each output and run of 64 inputs (16 of an adapter's second matrix).
// With AVX512-VNNI they are multiplied with 16 bits that have a scale for each row and run, and what has one scale is summed exactly; in the
// portable form with fp32, in one order; either way a row's sums
// are the same beside any others. A block then lies [I/64]{[64/2][16][2] weights, 16 scales (fp32; of short runs bf16)}.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "lanes.h"

namespace {

// Layouts shared with Python (ctypes); see native/library.py.
// `eight`: what is packed is int8.
struct Matrix {
    const bf16* packed;
    const float* bias;
    int64_t inputs, outputs, eight;
    int64_t block() const { return eight ? inputs / LONG * run_bytes(LONG) / 2 : inputs * LANES; }  // numbers of 16 bits
};
// Norms behind attention and MLP, and of heads: null where there is none. `window`: how many tokens one sees, itself included; 0: all.
struct Layer {
    const float *norm_attention, *after_attention, *norm_mlp, *after_mlp, *norm_query, *norm_key, *cos, *sin;
    int64_t window;
    Matrix qkv, out, gate_up, down;
};
struct Model {
    int64_t layers, hidden, query_heads, key_heads, head_size, inner, vocabulary, threads, gelu;
    float epsilon, scale, embedding_scale;
    const bf16* embedding;
    const float* norm;
    const Layer* layer;
    Matrix head;
};
// A low-rank change of a joint product, in int8: `parts` outputs side by side, each with its own run of `rank` columns of the middle.
// `up` lies behind `down`. Null: none.
struct Delta { const char *down, *up; int64_t inputs, rank, parts, outputs[3]; };
// A matrix of an adapter as its file has it: `kind` 0 is bf16, 1 fp16, 2 fp32; rows x columns, none where `from` is null. It is multiplied by `factor`
// and laid out in int8, `to_rows` x `to_columns`, in runs of `length` inputs: zeros beyond its own.
struct Piece { const void* from; int64_t kind, rows, columns; char* packed; int64_t to_rows, to_columns, length; float factor; };
struct Group { int64_t start, stop; const Delta* deltas; };  // rows of one adapter; deltas[layer * 4 + product], null: the bare base
struct Batch {
    int64_t rows, groups, wanted;
    const int32_t *tokens, *positions, *slots, *contexts, *tables, *table_at, *branches, *branch_at, *branch_count, *wants;
    const Group* group;
};

// As many runs as hold `inputs`.
inline int64_t runs_in(int64_t inputs) { return (inputs + LONG - 1) / LONG; }

inline float read_float(const char* from) { float x; std::memcpy(&x, from, 4); return x; }
inline uint16_t read_half(const char* from) { uint16_t x; std::memcpy(&x, from, 2); return x; }

// A row of a piece, which lies at any address.
inline void read_row(const Piece& piece, int64_t row, float* to) {
    const int64_t columns = piece.columns;
    const char* from = (const char*)piece.from + row * columns * (piece.kind == 2 ? 4 : 2);
    const float factor = piece.factor;
    if (piece.kind == 2) for (int64_t i = 0; i < columns; i++) to[i] = read_float(from + i * 4) * factor;
    else if (piece.kind == 1) for (int64_t i = 0; i < columns; i++) to[i] = wide_half(read_half(from + i * 2)) * factor;
    else for (int64_t i = 0; i < columns; i++) to[i] = wide(read_half(from + i * 2)) * factor;
}

// ---- products ------------------------------------------------------------------------------------------------------------------------

// Weights that a thread reads as they lie, up to `end`, and where it reads next. What is read soon is asked for: nothing else does so early enough
// (without it a step takes 1.7 times as long). Each line once for a tile of rows: what is asked for faster than it comes is dropped. `again`: for
// rows before these the same weights were read.
struct Stream {
    const char *end, *next;
    bool again = false;
    void ask_behind(const void* place) const {
        const char* there = (const char*)place + AHEAD;
        ask(there < end ? there : next + (there - end));
    }
};

// ROWS rows of x, pairs of one row beside those of the next (`interleave`), times one block of 16 outputs, into y (stride `sy`).
template <int ROWS>
inline void tile(const Input* x, int64_t, const bf16* block, int64_t inputs, const float* bias, float* y, int64_t sy, Put put, Stream stream) {
    Floats sum[ROWS];
    const Floats first = bias ? load(bias) : zeros();
    for (int r = 0; r < ROWS; r++) sum[r] = put == Put::add ? load(y + r * sy) : first;
    for (int64_t i = 0; i < inputs; i += 2) {
        stream.ask_behind(block + i * LANES);
        const Pairs w = pairs(block + i * LANES);
        for (int r = 0; r < ROWS; r++) sum[r] = dot(sum[r], w, pair(x + i * ROWS + 2 * r));
    }
    for (int r = 0; r < ROWS; r++) store(y + r * sy, sum[r]);
}

// Few rows: the sums of one row wait for each other, so inputs are taken in RUNS runs.
template <int ROWS, int RUNS>
inline void few(const Input* x, int64_t sx, const bf16* block, int64_t inputs, const float* bias, float* y, int64_t sy, Put put, Stream stream) {
    Floats sum[ROWS][RUNS];
    for (int r = 0; r < ROWS; r++) {
        for (int k = 1; k < RUNS; k++) sum[r][k] = zeros();
        sum[r][0] = put == Put::add ? load(y + r * sy) : bias ? load(bias) : zeros();
    }
    int64_t i = 0;
    for (; i + 2 * RUNS <= inputs; i += 2 * RUNS) {
        for (int k = 0; k < RUNS; k++) stream.ask_behind(block + (i + 2 * k) * LANES);
        for (int k = 0; k < RUNS; k++) {
            const Pairs w = pairs(block + (i + 2 * k) * LANES);
            for (int r = 0; r < ROWS; r++) sum[r][k] = dot(sum[r][k], w, pair(x + r * sx + i + 2 * k));
        }
    }
    for (; i < inputs; i += 2)
        for (int r = 0; r < ROWS; r++) sum[r][0] = dot(sum[r][0], pairs(block + i * LANES), pair(x + r * sx + i));
    for (int r = 0; r < ROWS; r++) {
        for (int half = RUNS / 2; half; half /= 2)
            for (int k = 0; k < half; k++) sum[r][k] = plus(sum[r][k], sum[r][k + half]);
        store(y + r * sy, sum[r][0]);
    }
}

using Tile = void (*)(const Input*, int64_t, const bf16*, int64_t, const float*, float*, int64_t, Put, Stream);
// One for each number of rows up to MOST.
template <int ROWS>
constexpr Tile tile_of() {
    if constexpr (runs_of(ROWS) > 1) return few<ROWS, runs_of(ROWS)>;
    else return tile<ROWS>;
}
template <int... ROWS>
constexpr std::array<Tile, sizeof...(ROWS) + 1> tiles(std::integer_sequence<int, ROWS...>) { return {nullptr, tile_of<ROWS + 1>()...}; }
constexpr auto TILES = tiles(std::make_integer_sequence<int, MOST>{});

// So many of `left` rows at once: 17 are 9 and 8, not 16 and a slow 1.
inline int64_t taken(int64_t left, int64_t most) { return left <= most ? left : left < 2 * most ? (left + 1) / 2 : most; }

// All rows of x times one block of outputs; `tiled`: x as `tile` reads it. The block stays in the nearest cache while rows pass by.
inline void column(const Input* x, const Input* tiled, int64_t rows, const bf16* block, int64_t inputs, const float* bias, float* y, int64_t sy, Put put, Stream stream) {
    for (int64_t r = 0; r < rows;) {
        const int64_t take = taken(rows - r, MOST);
        TILES[take]((runs_of(take) > 1 ? x : tiled) + r * inputs, inputs, block, inputs, bias, y + r * sy, sy, put, stream);
        r += take;
    }
}

// Up to so many rows weights in runs are asked for evenly, between products; for more rows before each run: between so many sums, which fill the
// registers, it made products of int8 twice as slow.
constexpr int EVENLY = 4;

// Product of ROWS rows (stride `sx`) with a run of a block, as `add_run`; its weights are asked for.
template <int ROWS, int LENGTH>
inline void read_run(const Run<LENGTH>* x, int64_t sx, const char* block, Floats* sum, Stream stream) {
    if constexpr (ROWS <= EVENLY) {
        add_run<ROWS, LENGTH>(x, sx, block, sum, [&](int64_t place) { stream.ask_behind(block + place); });
        stream.ask_behind(block + weight_bytes(LENGTH));
    } else {
        for (int place = 0; !stream.again && place < run_bytes(LENGTH); place += 64) stream.ask_behind(block + place);
        add_run<ROWS, LENGTH>(x, sx, block, sum, [](int64_t) {});
    }
}

// The same of `runs` runs of rows times a block in int8.
template <int ROWS>
inline void tile_of_runs(const Run<LONG>* x, int64_t runs, const char* block, const float* bias, float* y, int64_t sy, Put put, Stream stream) {
    Floats sum[ROWS];
    const Floats first = bias ? load(bias) : zeros();
    for (int r = 0; r < ROWS; r++) sum[r] = put == Put::add ? load(y + r * sy) : first;
    for (int64_t g = 0; g < runs; g++, block += run_bytes(LONG)) read_run<ROWS, LONG>(x + g, runs, block, sum, stream);
    for (int r = 0; r < ROWS; r++) store(y + r * sy, sum[r]);
}

// `runs` short runs of rows (stride `sx`) times `count` blocks, added to y.
template <int ROWS>
inline void raise(const Run<SHORT>* x, int64_t sx, int64_t runs, const char* block, int64_t count, float* y, int64_t sy, Stream stream) {
    if constexpr (ROWS <= HELD)
        if (runs == 1) {
            const auto asks = [&](int64_t place) { stream.ask_behind(block + place); };
            const Held<ROWS> held(x, sx);
            for (int64_t b = 0; b < count; b++, y += LANES, block += run_bytes(SHORT)) {
                Floats sum[ROWS];
                for (int r = 0; r < ROWS; r++) sum[r] = load(y + r * sy);
                add_held<ROWS>(held, block, sum, asks);
                asks(weight_bytes(SHORT));
                for (int r = 0; r < ROWS; r++) store(y + r * sy, sum[r]);
            }
            return;
        }
    for (int64_t b = 0; b < count; b++, y += LANES) {
        Floats sum[ROWS];
        for (int r = 0; r < ROWS; r++) sum[r] = load(y + r * sy);
        for (int64_t g = 0; g < runs; g++, block += run_bytes(SHORT)) read_run<ROWS, SHORT>(x + g, sx, block, sum, stream);
        for (int r = 0; r < ROWS; r++) store(y + r * sy, sum[r]);
    }
}

using TileOfRuns = void (*)(const Run<LONG>*, int64_t, const char*, const float*, float*, int64_t, Put, Stream);
using Raise = void (*)(const Run<SHORT>*, int64_t, int64_t, const char*, int64_t, float*, int64_t, Stream);
template <int... ROWS>
constexpr std::array<TileOfRuns, sizeof...(ROWS) + 1> tiles_of_runs(std::integer_sequence<int, ROWS...>) { return {nullptr, tile_of_runs<ROWS + 1>...}; }
template <int... ROWS>
constexpr std::array<Raise, sizeof...(ROWS) + 1> raises(std::integer_sequence<int, ROWS...>) { return {nullptr, raise<ROWS + 1>...}; }
constexpr auto TILES8 = tiles_of_runs(std::make_integer_sequence<int, MOST8>{});
constexpr auto RAISES8 = raises(std::make_integer_sequence<int, MOST8>{});

// As `column`, of runs of rows times a block in int8.
inline void column_of_runs(
    const Run<LONG>* x, int64_t runs, int64_t rows, const char* block, const float* bias, float* y, int64_t sy, Put put, Stream stream
) {
    for (int64_t r = 0; r < rows;) {
        const int64_t take = taken(rows - r, MOST8);
        TILES8[take](x + r * runs, runs, block, bias, y + r * sy, sy, put, stream);
        r += take;
        stream.again = true;
    }
}

// ---- threads -------------------------------------------------------------------------------------------------------------------------

// Threads that work on one call together and meet between its parts. Whoever waits looks around for a moment, then offers its core to
// others again and again, and sleeps only when that has lasted. Spinning alone would hold the very core that the late one needs; sleeping at
// once makes whoever is woken late for the next meeting, where the other one sleeps already, and so on for good (either was measured to be
// ten times slower beside a gateway).
// How many members of a team compute. How long they were without a core, as a share of the time of a run, tells of other processes: beside
// one busy process on two cores one thread alone takes half of the time, since each meeting waits for the one without. Where three of four
// runs of a while lacked so much, one member less computes, and after a pause one more again, to see. Beside a busy process nine of ten did;
// beside a gateway that answers sixteen requests one of four, in bursts, and there all should compute.
class Crew {
public:
    explicit Crew(int64_t size) : size(size), active(size) {}

    // How many compute the next run.
    int64_t next() {
        if (active < size && !trying && pause-- <= 0) { trying = true; active++; runs = late = 0; }
        return active;
    }

    // What all of them `lacked` of a core in a run, as a share of the time that it took them all. A run as long as so many `usual` ones is
    // that many of a pause: prompts of seconds would else be read by one thread for minutes.
    void judge(double lacked, int64_t usual = 1) {
        pause -= usual - 1;
        late += lacked > LATE;
        if (active == 1 || ++runs < (trying ? TRIAL : WHILE)) return;
        const bool crowded = 4 * late > 3 * runs;
        runs = late = 0;
        if (!crowded && !trying) return;
        active -= crowded;
        hold = crowded && trying ? std::min(2 * hold, LONGEST) : SHORTEST;
        pause = hold;
        trying = false;
    }

private:
    static constexpr double LATE = 0.2;
    static constexpr int64_t WHILE = 24, TRIAL = 8, SHORTEST = 64, LONGEST = 1024;  // runs

    const int64_t size;
    int64_t active, runs = 0, late = 0, pause = 0, hold = SHORTEST;
    bool trying = false;
};

class Team {
public:
    // The team of this size; there is one of each, for as long as the process lives.
    static Team& of(int64_t size) {
        static std::mutex making;
        static std::map<int64_t, Team*> teams;
        const std::lock_guard<std::mutex> one_at_a_time(making);
        Team*& team = teams[size];
        if (!team) team = new Team(size);
        return *team;
    }

    // As many members as have cores do `work`, the caller as the first of them. What is short is not `judged`: it says little.
    void run(const std::function<void()>& work, bool judged = true) {
        const std::lock_guard<std::mutex> one_call_at_a_time(calls);
        const auto started = Clock::now();
        if (judged) active = crew.next();
        lacked.store(0);
        current = &work;
        for (int64_t place = 1; place < active; place++) {
            begin[place].fetch_add(1);
            begin[place].notify_one();
        }
        me = 0;
        take_part();
        if (judged) crew.judge(double(lacked.load()) / double(active * since(started)), 1 + since(started) / USUAL);
    }

    void meet() {
        // Read before arriving: whoever arrived and has not looked yet would else see how many compute the next run.
        const int64_t all = active;
        if (all == 1) {
            for (auto& pile : dealt) pile.store(0);
            return;
        }
        const uint32_t before = rounds.load();
        if (arrived.fetch_add(1) + 1 == all) {
            arrived.store(0);
            for (auto& pile : dealt) pile.store(0);
            rounds.fetch_add(1);
            rounds.notify_all();
        } else {
            sleep_until_moved(rounds, before);
        }
    }

    struct Share { int64_t start, stop; };
    Share share(int64_t count) const { return {count * me / active, count * (me + 1) / active}; }

    // Deals out 0 to `count` in small runs, to whoever comes for one: a thread that others took the core from takes fewer. The first run of
    // each thread is its own. Work that asks for what it reads next takes its next run when it begins another, and is told where that starts, or
    // that there is none: `count` or more. Each pile is dealt once between two meetings.
    template <class Do>
    void deal(int pile, int64_t count, Do work) {
        const int64_t run = run_of(count);
        const auto take = [&] { return active * run + dealt[pile].fetch_add(run); };
        for (int64_t start = me * run, next; start < count; start = next) {
            const int64_t stop = std::min(count, start + run);
            if constexpr (std::is_invocable_v<Do, int64_t, int64_t, int64_t>) {
                next = take();
                work(start, stop, next);
            } else {
                work(start, stop);
                next = take();
            }
        }
    }

    // Where this thread's first run of `count` starts: at `count` or behind it, if there are fewer runs.
    int64_t first_of(int64_t count) const { return me * run_of(count); }

    int64_t place() const { return me; }
    int64_t members() const { return active; }
    int64_t size() const { return int64_t(begin.size()); }

private:
    int64_t run_of(int64_t count) const { return std::max<int64_t>(1, count / (active * 8)); }

    static void sleep_until_moved(std::atomic<uint32_t>& clock, uint32_t from) {
        for (int look = 0; look < 2000; look++) {
            if (clock.load(std::memory_order_acquire) != from) return;
            rest();
        }
        const auto patience = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
        while (std::chrono::steady_clock::now() < patience) {
            if (clock.load(std::memory_order_acquire) != from) return;
            std::this_thread::yield();
        }
        const auto here = Clock::now();
        while (clock.load() == from) clock.wait(from);
        slept += since(here);
    }

    using Clock = std::chrono::steady_clock;
    static constexpr int64_t USUAL = 20'000'000;  // nanoseconds: a step of sixteen answers of a small model

    // The run's work, and how long this thread was ready for it and had no core: what it did not compute of the time, less what it slept.
    void take_part() {
        const auto started = Clock::now();
        const int64_t computed = own_time();
        slept = 0;
        (*current)();
        end_matrices();
        lacked.fetch_add(std::max<int64_t>(0, since(started) - (own_time() - computed) - slept));
        meet();
    }

    // Nanoseconds for which this thread had a core.
    static int64_t own_time() {
        timespec told;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &told);
        return int64_t(told.tv_sec) * 1'000'000'000 + told.tv_nsec;
    }

    static int64_t since(Clock::time_point then) { return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - then).count(); }

    explicit Team(int64_t size) : crew(size), begin(size) {
        for (int64_t place = 1; place < size; place++) std::thread([this, place] { serve(place); }).detach();
    }

    void serve(int64_t place) {
        me = place;
        for (uint32_t seen = 0;; seen++) {
            sleep_until_moved(begin[place], seen);
            take_part();
        }
    }

    std::mutex calls;
    const std::function<void()>* current = nullptr;
    Crew crew;
    std::vector<std::atomic<uint32_t>> begin;  // the runs of each member
    std::atomic<uint32_t> rounds{0};
    std::atomic<int64_t> arrived{0}, lacked{0};  // nanoseconds, of all members of a run
    std::atomic<int64_t> dealt[2] = {0, 0};
    int64_t active = 1;  // changed between runs alone
    static thread_local int64_t me, slept;
};
thread_local int64_t Team::me = 0, Team::slept = 0;

// Whether each of so many threads lays out rows for itself, and nobody waits; more of them would do what one does too often.
bool laid_out_by_each(int64_t rows, int64_t threads) { return rows <= MOST && threads <= 8; }

// Rows of x as `tile` reads them, in `room`.
const Input* tiled_rows(Team& team, const Input* x, int64_t rows, int64_t width, Input* room) {
    if (MATRICES || (rows <= MOST && runs_of(int(rows)) > 1)) return x;
    if (laid_out_by_each(rows, team.size())) {
        Input* own = room + team.place() * rows * width;
        interleave(x, width, rows, width, own);
        return own;
    }
    std::vector<std::pair<int64_t, int64_t>> tiles;
    for (int64_t r = 0, take; r < rows; r += take) tiles.emplace_back(r, take = taken(rows - r, MOST));
    const auto mine = team.share(tiles.size());
    for (int64_t t = mine.start; t < mine.stop; t++)
        if (const auto [r, take] = tiles[t]; runs_of(take) == 1) interleave(x + r * width, width, take, width, room + r * width);
    team.meet();
    return room;
}

// As many numbers as `tiled_rows` needs room for.
int64_t tiled_room(int64_t rows, int64_t width, int64_t threads) {
    return MATRICES ? 0 : (laid_out_by_each(rows, threads) ? threads : 1) * rows * width;
}

// TILES times 16 rows from row `r` on (`all` of x) times BLOCKS blocks from `b` on, by matrix registers. Tiles hold as many rows as the registers
// were shaped for: the last one begins earlier rather than end behind the last row. Weights are asked for as the streams say, `first` alone.
template <int TILES, int BLOCKS>
inline void matrix_tiles(const Matrix& m, const Input* x, int64_t all, int64_t r, int64_t b, float* y, Put put, bool first, const Stream* streams) {
    Sums sums[TILES * BLOCKS];
    const Input* from[TILES];
    int64_t start[TILES];
    const bf16* block[BLOCKS];
    for (int t = 0; t < TILES; t++) {
        start[t] = std::min(r + t * LANES, all - std::min<int64_t>(all, LANES));
        from[t] = x + start[t] * m.inputs;
    }
    for (int c = 0; c < BLOCKS; c++) block[c] = m.packed + (b + c) * m.block();
    if (first) multiply<TILES, BLOCKS>(from, m.inputs, block, m.inputs, sums, [&](int c, int64_t place) { streams[c].ask_behind((const char*)block[c] + place); });
    else multiply<TILES, BLOCKS>(from, m.inputs, block, m.inputs, sums, [](int, int64_t) {});
    for (int t = 0; t < TILES; t++)
        for (int64_t row = r + t * LANES; row < std::min(all, r + (t + 1) * LANES); row++)
            for (int c = 0; c < BLOCKS; c++) {
                Floats sum = load(sums[t * BLOCKS + c].of[row - start[t]]);
                for (int64_t i = m.inputs / DEEP * DEEP; i < m.inputs; i += 2) sum = dot(sum, pairs(block[c] + i * LANES), pair(x + row * m.inputs + i));
                float* to = y + row * m.outputs + (b + c) * LANES;
                store(to, put == Put::add ? plus(load(to), sum) : m.bias ? plus(load(m.bias + (b + c) * LANES), sum) : sum);
            }
}

// Rows of x times the blocks from `start` to `stop`, by matrix registers: two blocks at once where there are two tiles of rows. A row's sums are
// the same beside any others.
void matrix_blocks(const Matrix& m, const Input* x, int64_t rows, int64_t start, int64_t stop, float* y, Put put, Stream stream) {
    shape_matrices(int(std::min<int64_t>(rows, LANES)));
    const int64_t bytes = m.block() * int64_t(sizeof(bf16));
    const auto ends = [&](int64_t b, int64_t next) {
        return Stream{(const char*)m.packed + (b + 1) * bytes, next < stop ? (const char*)m.packed + next * bytes : stream.next + (next - stop) * bytes};
    };
    for (int64_t b = start; b < stop;) {
        const bool pair = rows > LANES && b + 1 < stop;
        const Stream streams[2] = {ends(b, b + 1 + pair), ends(b + 1, b + 3)};
        for (int64_t r = 0; r < rows; r += 2 * LANES) {
            const auto tiles = rows - r > LANES ? (pair ? matrix_tiles<2, 2> : matrix_tiles<2, 1>) : pair ? matrix_tiles<1, 2> : matrix_tiles<1, 1>;
            tiles(m, x, rows, r, b, y, put, r == 0, streams);
        }
        b += 1 + pair;
    }
}

// `eight`: the rows of x in runs, where the matrix is int8; `room`: for `tiled_rows`, where it is not; `after`: what this thread reads next.
void product(Team& team, const Matrix& m, const Input* x, const Run<LONG>* eight, Input* room, int64_t rows, float* y, Put put, const char* after) {
    const int64_t blocks = m.outputs / LANES;
    const Input* tiled = m.eight ? nullptr : tiled_rows(team, x, rows, m.inputs, room);
    const auto at = [&](int64_t b) { return m.packed + b * m.block(); };
    team.deal(0, blocks, [&](int64_t start, int64_t stop, int64_t next) {
        const Stream stream{(const char*)at(stop), next < blocks ? (const char*)at(next) : after};
        if (MATRICES && !m.eight) return matrix_blocks(m, x, rows, start, stop, y, put, stream);
        for (int64_t b = start; b < stop; b++) {
            const float* bias = m.bias ? m.bias + b * LANES : nullptr;
            if (m.eight) column_of_runs(eight, m.inputs / LONG, rows, (const char*)at(b), bias, y + b * LANES, m.outputs, put, stream);
            else column(x, tiled, rows, at(b), m.inputs, bias, y + b * LANES, m.outputs, put, stream);
        }
    });
}

// A row of `width` numbers in runs, the last one filled up with zeros.
void round_row(const Input* x, int64_t width, Run<LONG>* to) {
    const int64_t whole = width / LONG;
    for (int64_t g = 0; g < whole; g++) round_run(x + g * LONG, to[g]);
    if (whole * LONG == width) return;
    Input last[LONG] = {};
    std::copy(x + whole * LONG, x + width, last);
    round_run(last, to[whole]);
}

// Whole lines of the cache: sixteen numbers that lie in two of them are read and written as two.
template <class Number>
struct Lines {
    using value_type = Number;
    static constexpr std::align_val_t LINE{64};
    Lines() = default;
    template <class Other> Lines(const Lines<Other>&) {}
    Number* allocate(size_t count) { return static_cast<Number*>(::operator new(count * sizeof(Number), LINE)); }
    void deallocate(Number* place, size_t) { ::operator delete(place, LINE); }
    template <class Other> bool operator==(const Lines<Other>&) const { return true; }
};
template <class Number> using Numbers = std::vector<Number, Lines<Number>>;

// ---- a step --------------------------------------------------------------------------------------------------------------------------

struct Step {
    const Model& model;
    const Batch& batch;
    Team& team;
    bf16 *keys, *values;  // of all layers
    int64_t layer_stride; // numbers in one layer's keys (and values)
    Numbers<float> stream, wide_qkv, wide_out, wide_inner, middle;
    Numbers<Input> narrow_x, queries, attended, inner, tiled;
    std::vector<Numbers<float>> scores;
    std::vector<Run<LONG>> rounded; // rows of what is multiplied next, where weights are int8 or there are adapters
    std::vector<Run<SHORT>> narrow_middle;
    int64_t widest_middle = 0, most_rows = 0;  // most_rows: of a group

    Step(const Model& m, const Batch& b, bf16* k, bf16* v, int64_t stride) : model(m), batch(b), team(Team::of(m.threads)), keys(k), values(v), layer_stride(stride) {
        const int64_t n = b.rows, q = m.query_heads * m.head_size;
        for (int64_t g = 0; g < b.groups; g++) most_rows = std::max(most_rows, b.group[g].stop - b.group[g].start);
        for (int64_t g = 0; g < b.groups; g++)
            for (int64_t d = 0; b.group[g].deltas && d < m.layers * 4; d++)
                widest_middle = std::max(widest_middle, b.group[g].deltas[d].rank * b.group[g].deltas[d].parts);
        if (m.layer[0].after_attention) wide_out.resize(n * m.hidden);
        stream.resize(n * m.hidden); wide_qkv.resize(n * m.layer[0].qkv.outputs); wide_inner.resize(n * m.layer[0].gate_up.outputs);
        narrow_x.resize(n * m.hidden); queries.resize(n * q); attended.resize(n * q); inner.resize(n * m.inner);
        const int64_t widest = std::max({m.hidden, q, m.inner});
        if (!m.layer[0].qkv.eight) tiled.resize(tiled_room(n, widest, m.threads));
        if (m.layer[0].qkv.eight || widest_middle) rounded.resize(n * runs_in(widest));
        middle.resize(n * widest_middle); narrow_middle.resize(n * widest_middle / SHORT);
        int64_t longest = 0;
        for (int64_t r = 0; r < n; r++) longest = std::max<int64_t>(longest, b.contexts[r] + b.branch_count[r]);
        scores.assign(m.threads, Numbers<float>((longest + 2 * LANES) * (m.query_heads / m.key_heads)));
    }

    static int64_t change_bytes(const Delta& d) {
        return d.rank * d.parts / LANES * block_down(d) + blocks_up(d) * block_up(d);
    }

    // Blocks of outputs, of all parts.
    static int64_t blocks_up(const Delta& d) {
        int64_t blocks = 0;
        for (int64_t p = 0; p < d.parts; p++) blocks += d.outputs[p] / LANES;
        return blocks;
    }

    // Bytes of 16 outputs of the first matrix of a change, and of the second.
    static int64_t block_down(const Delta& d) { return runs_in(d.inputs) * run_bytes(LONG); }
    static int64_t block_up(const Delta& d) { return d.rank / SHORT * run_bytes(SHORT); }

    void embed() {
        const Floats by = splat(model.embedding_scale);
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++)
            for (int64_t e = 0; e < model.hidden; e += LANES)
                store(&stream[r * model.hidden + e], times(wide16(model.embedding + int64_t(batch.tokens[r]) * model.hidden + e), by));
    }

    // What brings `count` numbers to a mean square of one.
    Floats to_one(const float* x, int64_t count) const {
        Floats squares = zeros();
        for (int64_t e = 0; e < count; e += LANES) { const Floats v = load(x + e); squares = times_plus(v, v, squares); }
        return splat(1.0f / std::sqrt(sum_of(squares) / float(count) + model.epsilon));
    }

    template <class Number>
    void norm_row(const float* x, const float* weight, Number* y) const {
        const Floats by = to_one(x, model.hidden);
        for (int64_t e = 0; e < model.hidden; e += LANES)
            put16(y + e, times(times(load(x + e), by), load(weight + e)));
    }

    // Adds to the stream what attention or MLP gave, normed.
    void add_normed(const float* weight) {
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++) {
            const float* x = &wide_out[r * model.hidden];
            float* y = &stream[r * model.hidden];
            const Floats by = to_one(x, model.hidden);
            for (int64_t e = 0; e < model.hidden; e += LANES)
                store(y + e, times_plus(times(load(x + e), by), load(weight + e), load(y + e)));
        }
        team.meet();
    }

    void norm(const float* weight) {
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++) {
            norm_row(&stream[r * model.hidden], weight, &narrow_x[r * model.hidden]);
            round_one(narrow_x, r, model.hidden);
        }
    }

    // Row `r` in runs, where weights are int8 or there are adapters.
    void round_one(const Numbers<Input>& x, int64_t r, int64_t width) {
        if (!rounded.empty()) round_row(&x[r * width], width, &rounded[r * runs_in(width)]);
    }

    void round_all(const Numbers<Input>& x, int64_t width) {
        if (rounded.empty()) return;
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++) round_one(x, r, width);
        team.meet();
    }

    // The adapters' changes to a product. Of many adapters each thread takes some, whose matrices it reads as they lie; few are shared by all.
    void change(int64_t delta, float* y, int64_t sy, const char* after) {
        if (by_group()) {
            team.meet();
            team.deal(0, batch.groups, [&](int64_t start, int64_t stop, int64_t next) {
                for (int64_t at = start; at < stop; at++) {
                    const Group& g = batch.group[at];
                    const Delta* d = of(at, delta);
                    if (!d) continue;
                    ask(d + 1);  // what the next product reads first
                    const Stream stream{d->down + change_bytes(*d), lies(at + 1 < stop ? at + 1 : next, delta, after)};
                    lower(g, *d, 0, d->rank * d->parts / LANES, stream);
                    raise_blocks(g, *d, 0, blocks_up(*d), y, sy, stream);
                }
            });
        } else {
            each_block(1, [&](const Delta& d) { return d.rank * d.parts / LANES; }, delta, [&](const Group& g, const Delta& d, int64_t b, int64_t stop) {
                lower(g, d, b, stop, {d.down + stop * block_down(d), d.up});
            });
            team.meet();
            each_block(0, blocks_up, delta, [&](const Group& g, const Delta& d, int64_t b, int64_t stop) {
                raise_blocks(g, d, b, stop, y, sy, {d.up + stop * block_up(d), d.down});
            });
        }
    }

    // Many groups, none of which has more rows than a thread's share: nobody waits long for the last one.
    bool by_group() const { return batch.groups >= 4 * team.members() && most_rows * team.members() <= batch.rows; }

    // Where the change of a group lies; `otherwise`, where there is none.
    const char* lies(int64_t group, int64_t delta, const char* otherwise) const {
        const Delta* d = group < batch.groups ? of(group, delta) : nullptr;
        return d ? d->down : otherwise;
    }

    // Blocks `b` to `stop` of the middle.
    void lower(const Group& g, const Delta& d, int64_t b, int64_t stop, Stream stream) {
        const int64_t runs = runs_in(d.inputs);
        for (; b < stop; b++) {
            float* y = &middle[g.start * widest_middle + b * LANES];
            column_of_runs(&rounded[g.start * runs], runs, g.stop - g.start, d.down + b * block_down(d), nullptr, y, widest_middle, Put::replace, stream);
            for (int64_t r = g.start; r < g.stop; r++) round_run(&middle[r * widest_middle + b * LANES], narrow_middle[r * (widest_middle / SHORT) + b]);
        }
    }

    // Blocks `b` to `stop` of outputs.
    void raise_blocks(const Group& g, const Delta& d, int64_t b, int64_t stop, float* y, int64_t sy, Stream stream) {
        for (int64_t part = 0, end = 0; part < d.parts && b < stop; part++) {
            end += d.outputs[part] / LANES;
            if (b < end) raise_part(g, d, part, b, std::min(stop, end), y, sy, stream);
            b = std::max(b, std::min(stop, end));
        }
    }

    // The same, all of one part.
    void raise_part(const Group& g, const Delta& d, int64_t part, int64_t b, int64_t stop, float* y, int64_t sy, Stream stream) {
        const int64_t wide = widest_middle / SHORT;
        for (int64_t r = g.start; r < g.stop;) {
            const int64_t take = taken(g.stop - r, MOST8);
            RAISES8[take](&narrow_middle[r * wide + part * d.rank / SHORT], wide, d.rank / SHORT, d.up + b * block_up(d), stop - b, y + r * sy + b * LANES, sy, stream);
            r += take;
            stream.again = true;
        }
    }

    template <class Count, class Do>
    void each_block(int pile, Count count, int64_t delta, Do work) {
        int64_t all = 0;
        for (int64_t g = 0; g < batch.groups; g++) if (const Delta* d = of(g, delta)) all += count(*d);
        team.deal(pile, all, [&](int64_t start, int64_t stop) {
            int64_t before = 0;
            for (int64_t g = 0; g < batch.groups && before < stop; g++)
                if (const Delta* d = of(g, delta)) {
                    const int64_t blocks = count(*d);
                    const int64_t from = std::max<int64_t>(0, start - before), to = std::min(blocks, stop - before);
                    if (from < to) work(batch.group[g], *d, from, to);
                    before += blocks;
                }
        });
    }

    const Delta* of(int64_t group, int64_t delta) const {
        const Delta* deltas = batch.group[group].deltas;
        return deltas && deltas[delta].rank ? deltas + delta : nullptr;
    }

    // Rotates queries and keys (the two halves of a head are the parts of a plane), normed before where the model does so, and lays keys and
    // values into memory.
    void turn_and_keep(int64_t layer) {
        const int64_t d = model.head_size, half = d / 2, wide_row = model.layer[layer].qkv.outputs;
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++) {
            float* row = &wide_qkv[r * wide_row];
            const float *cos = model.layer[layer].cos + int64_t(batch.positions[r]) * d, *sin = model.layer[layer].sin + int64_t(batch.positions[r]) * d;
            for (int64_t h = 0; h < model.query_heads + model.key_heads; h++)
                if (const float* weight = h < model.query_heads ? model.layer[layer].norm_query : model.layer[layer].norm_key) norm_head(row + h * d, weight);
            for (int64_t h = 0; h < model.query_heads; h++) turn(row + h * d, cos, sin, half, &queries[(r * model.query_heads + h) * d]);
            const int64_t block = batch.slots[r] / LANES, at = batch.slots[r] % LANES;
            for (int64_t h = 0; h < model.key_heads; h++) {
                bf16 key[512];
                turn(row + (model.query_heads + h) * d, cos, sin, half, key);
                bf16* to = keys + layer * layer_stride + (block * model.key_heads + h) * d * LANES;
                for (int64_t i = 0; i < half; i++) std::memcpy(to + (i * LANES + at) * 2, key + 2 * i, 4);
                const float* value = row + (model.query_heads + model.key_heads + h) * d;
                bf16* lie = values + layer * layer_stride + ((block * model.key_heads + h) * LANES + at) * d;
                for (int64_t i = 0; i < d; i += LANES) put16(lie + i, load(value + i));
            }
        }
    }

    void norm_head(float* x, const float* weight) const {
        const Floats by = to_one(x, model.head_size);
        for (int64_t i = 0; i < model.head_size; i += LANES)
            store(x + i, times(times(load(x + i), by), load(weight + i)));
    }

    template <class Number>
    static void turn(const float* x, const float* cos, const float* sin, int64_t half, Number* y) {
        for (int64_t i = 0; i < half; i += LANES) {
            const Floats left = load(x + i), right = load(x + half + i);
            put16(y + i, times_minus(left, load(cos + i), times(right, load(sin + i))));
            put16(y + half + i, times_plus(right, load(cos + half + i), times(left, load(sin + half + i))));
        }
    }

    void attend(int64_t layer) {
        const int64_t tasks = batch.rows * model.key_heads, group = model.query_heads / model.key_heads, width = group * model.head_size;
        const bool whole = width % LONG == 0;  // what a task writes is whole runs
        float* mine = scores[team.place()].data();
        team.deal(0, tasks, [&](int64_t start, int64_t stop) {
            for (int64_t task = start; task < stop; task++) {
                const Sight sight = looking(layer, task / model.key_heads, task % model.key_heads);
                for (int64_t g = 0; g < group; g += 3) {
                    if (group - g >= 3) heads<3>(sight, g, mine);
                    else if (group - g == 2) heads<2>(sight, g, mine);
                    else heads<1>(sight, g, mine);
                }
                if (!rounded.empty() && whole) round_row(sight.out, width, &rounded[task * (width / LONG)]);
            }
        });
        team.meet();
        if (!whole) round_all(attended, model.query_heads * model.head_size);
    }

    // What one token sees of one key head: `context` tokens through its table of blocks, the first `unseen` of them not, then `branch` single
    // slots (its ancestors in a tree). A table begins where a window does. Scores of the two stand behind one another, each filled up to whole registers.
    struct Sight {
        const bf16 *keys, *values;
        const Input* query;
        Input* out;
        const int32_t *table, *own;
        int64_t context, branch, padded, stride, unseen;
    };

    Sight looking(int64_t layer, int64_t row, int64_t head) {
        const int64_t d = model.head_size, window = model.layer[layer].window, nodes = batch.branch_count[row];
        const int64_t branch = window ? std::min(nodes, window) : nodes;
        const int64_t first_seen = window ? std::min<int64_t>(std::max<int64_t>(batch.positions[row] - window + 1, 0), batch.contexts[row]) : 0;
        const int64_t skipped = first_seen / LANES, context = batch.contexts[row] - skipped * LANES;
        const int64_t padded = (context + LANES - 1) / LANES * LANES, first = (row * model.query_heads + head * (model.query_heads / model.key_heads)) * d;
        const int64_t start = layer * layer_stride + head * d * LANES;
        return {keys + start, values + start, &queries[first], &attended[first], batch.tables + batch.table_at[row] + skipped,
                batch.branches + batch.branch_at[row] + nodes - branch, context, branch, padded, padded + (branch + LANES - 1) / LANES * LANES, first_seen % LANES};
    }

    const bf16* block_of(const bf16* of, int64_t block) const { return of + block * model.key_heads * model.head_size * LANES; }

    // Asks for the keys, or values, of a block and head.
    void ask_block(const bf16* place) const {
        for (int64_t i = 0; i < model.head_size * LANES; i += 32) ask(place + i);
    }

    // G query heads that share a key head.
    template <int G>
    void heads(const Sight& s, int64_t first, float* score) const {
        const Input* q = s.query + first * model.head_size;
        const int64_t blocks = s.padded / LANES;
        for (int64_t b = 0; b < blocks; b++) {
            ask_block(b + 1 < blocks ? block_of(s.keys, s.table[b + 1]) : block_of(s.values, s.table[0]));
            score_block<G>(block_of(s.keys, s.table[b]), q, s.context - b * LANES, b ? 0 : s.unseen, score + b * LANES, s.stride);
        }
        for (int64_t b = 0; b < s.stride - s.padded; b++)
            for (int g = 0; g < G; g++) score[g * s.stride + s.padded + b] = b < s.branch ? score_one(s.keys, s.own[b], q + g * model.head_size) : -INFINITY;
        for (int g = 0; g < G; g++) soften(score + g * s.stride, s.stride);
        gather<G>(s, score, s.out + first * model.head_size);
    }

    template <int G>
    void score_block(const bf16* block, const Input* q, int64_t left, int64_t unseen, float* score, int64_t stride) const {
        const int64_t d = model.head_size;
        Floats even[G], odd[G];
        for (int g = 0; g < G; g++) even[g] = odd[g] = zeros();
        for (int64_t i = 0; i < d; i += 4)
            for (int g = 0; g < G; g++) {
                even[g] = dot(even[g], pairs(block + i * LANES), pair(q + g * d + i));
                odd[g] = dot(odd[g], pairs(block + (i + 2) * LANES), pair(q + g * d + i + 2));
            }
        for (int g = 0; g < G; g++) {
            const Floats sum = times(plus(even[g], odd[g]), splat(model.scale));
            store(score + g * stride, only(sum, unseen, left));
        }
    }

    float score_one(const bf16* k, int32_t slot, const Input* q) const {
        const bf16* at = block_of(k, slot / LANES) + slot % LANES * 2;
        return scattered_dot(at, q, model.head_size) * model.scale;
    }

    static void soften(float* x, int64_t count) {
        const Floats never = splat(-INFINITY);
        Floats top = never, sum = zeros();
        for (int64_t i = 0; i < count; i += LANES) top = larger(top, load(x + i));
        const Floats most = splat(largest_of(top));
        for (int64_t i = 0; i < count; i += LANES) {
            const Floats raw = load(x + i);
            const Floats e = where_finite(raw, exp16(minus(raw, most)));
            store(x + i, e);
            sum = plus(sum, e);
        }
        const Floats by = splat(1.0f / sum_of(sum));
        for (int64_t i = 0; i < count; i += LANES) store(x + i, times(load(x + i), by));
    }

    // The sum of values, weighted by scores; 32 numbers of the head at a time.
    template <int G>
    void gather(const Sight& s, const float* score, Input* y) const {
        const int64_t d = model.head_size;
        for (int64_t c = 0; c < d; c += 2 * LANES) {
            Floats low[G], high[G];
            for (int g = 0; g < G; g++) low[g] = high[g] = zeros();
            const auto add = [&](const bf16* value, int64_t at) {
                const Floats a = wide16(value + c), b = wide16(value + c + LANES);
                for (int g = 0; g < G; g++) {
                    const Floats p = splat(score[g * s.stride + at]);
                    low[g] = times_plus(p, a, low[g]);
                    high[g] = times_plus(p, b, high[g]);
                }
            };
            for (int64_t t = 0; t < s.context; t += LANES) {
                const bf16* block = block_of(s.values, s.table[t / LANES]);
                if (!c && t + LANES < s.context) ask_block(block_of(s.values, s.table[t / LANES + 1]));
                for (int64_t at = 0; at < std::min<int64_t>(LANES, s.context - t); at++) add(block + at * d, t + at);
            }
            for (int64_t b = 0; b < s.branch; b++) add(block_of(s.values, s.own[b] / LANES) + s.own[b] % LANES * d, s.padded + b);
            for (int g = 0; g < G; g++) { put16(y + g * d + c, low[g]); put16(y + g * d + c + LANES, high[g]); }
        }
    }

    // silu(gate) * up, or gelu(gate) * up by its approximation with tanh, which is the same of another argument.
    void gate() {
        const Floats minus = splat(-1.0f), bend = splat(-2 * 0.7978845608f * 0.044715f), slope = splat(-2 * 0.7978845608f);
        const int64_t wide_row = 2 * model.inner;
        const auto mine = team.share(batch.rows);
        for (int64_t r = mine.start; r < mine.stop; r++) {
            for (int64_t i = 0; i < model.inner; i += LANES) {
                const Floats g = load(&wide_inner[r * wide_row + i]), u = load(&wide_inner[r * wide_row + model.inner + i]);
                const Floats less = times(g, model.gelu ? times_plus(times(g, g), bend, slope) : minus);
                const Floats opened = over(g, plus(splat(1.0f), exp16(less)));
                put16(&inner[r * model.inner + i], times(opened, u));
            }
            round_one(inner, r, model.inner);
        }
    }

    // A product and the adapters' change to it. What has a bias and is added gets the bias by `product` only when replaced.
    void changed(const Matrix& m, int64_t delta, const Input* x, float* y, Put put) {
        const char* own = (const char*)m.packed;
        product(team, m, x, rounded.data(), tiled.data(), batch.rows, y, put, by_group() ? lies(team.first_of(batch.groups), delta, own) : own);
        if (widest_middle) change(delta, y, m.outputs, own);
        team.meet();
    }

    // A product that is added to the stream, normed before where there is a norm.
    void added(const Matrix& m, int64_t delta, const Input* x, const float* after) {
        if (!after) return changed(m, delta, x, stream.data(), Put::add);
        changed(m, delta, x, wide_out.data(), Put::replace);
        add_normed(after);
    }

    void run(bf16* hidden) {
        team.run([&] {
            embed();
            team.meet();
            for (int64_t l = 0; l < model.layers; l++) {
                const Layer& layer = model.layer[l];
                norm(layer.norm_attention);
                team.meet();
                changed(layer.qkv, l * 4, narrow_x.data(), wide_qkv.data(), Put::replace);
                turn_and_keep(l);
                team.meet();
                attend(l);
                added(layer.out, l * 4 + 1, attended.data(), layer.after_attention);
                norm(layer.norm_mlp);
                team.meet();
                changed(layer.gate_up, l * 4 + 2, narrow_x.data(), wide_inner.data(), Put::replace);
                gate();
                team.meet();
                added(layer.down, l * 4 + 3, inner.data(), layer.after_mlp);
            }
            const auto mine = team.share(batch.wanted);
            for (int64_t w = mine.start; w < mine.stop; w++) norm_row(&stream[batch.wants[w] * model.hidden], model.norm, hidden + w * model.hidden);
        });
    }
};

// A number as bf16, away from zero. What is none stays none.
inline bf16 narrow_up(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return std::isfinite(x) ? bf16((bits + 0xffff) >> 16) : bf16(0x7fc0);
}

// Lays the scale of output `o` where scales lie, and gives it as it is read there: that of a short run takes 16 bits and is rounded up.
float put_scale(char* scales, int64_t o, float scale, int64_t length) {
    if (length == LONG) { std::memcpy(scales + o * 4, &scale, 4); return scale; }
    const bf16 up = narrow_up(scale);
    std::memcpy(scales + o * 2, &up, 2);
    return wide(up);
}

// The largest of `count` numbers without their signs; none where one is none.
inline float largest(const float* x, int64_t count) {
    uint32_t most = 0;  // without a sign numbers are in the order of their bits, and what is none is behind all
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        std::memcpy(&bits, x + i, 4);
        most = std::max(most, bits & 0x7fffffff);
    }
    float found;
    std::memcpy(&found, &most, 4);
    return found;
}

// Sixteen rows of weights as a block in int8, in runs of `length` inputs.
void pack_block8(const float* rows, int64_t inputs, int64_t length, char* run) {
    constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to an integer
    int8_t levels[LANES][LONG];
    for (int64_t g = 0; g < inputs / length; g++, run += run_bytes(int(length))) {
        for (int64_t o = 0; o < LANES; o++) {
            const float* from = rows + o * inputs + g * length;
            const float scale = put_scale(run + length * LANES, o, largest(from, length) / 127, length);
            const float by = scale > 0 ? scale : 1;
            for (int64_t i = 0; i < length; i++) levels[o][i] = int8_t(int32_t((from[i] / by + SHIFT) - SHIFT));
        }
        for (int64_t i = 0; i < length; i += 2)
            for (int64_t o = 0; o < LANES; o++) std::memcpy(run + (i * LANES + o * 2), &levels[o][i], 2);
    }
}

}  // namespace

extern "C" {

// The form of lanes.h that this was compiled in.
const char* form() { return FORM; }

// Whether this process may use what the form needs; to be asked before anything is computed.
int usable() { return have_matrices(); }

// Weights (outputs x inputs, row by row) into blocks of 16 outputs. Both counts are multiples of 16.
void pack(const uint16_t* weights, int64_t outputs, int64_t inputs, uint16_t* packed) {
    for (int64_t b = 0; b < outputs / LANES; b++)
        for (int64_t i = 0; i < inputs; i += 2)
            for (int64_t o = 0; o < LANES; o++) std::memcpy(packed + (b * inputs + i) * LANES + o * 2, weights + (b * LANES + o) * inputs + i, 4);
}

// The same in int8: to the nearest of 255 levels of the largest weight of each output and 64 inputs, of which the count is a multiple.
void pack8(const uint16_t* weights, int64_t outputs, int64_t inputs, char* packed) {
    std::vector<float> rows(LANES * inputs);
    for (int64_t b = 0; b < outputs / LANES; b++) {
        for (int64_t i = 0; i < LANES * inputs; i++) rows[i] = wide(weights[b * LANES * inputs + i]);
        pack_block8(rows.data(), inputs, LONG, packed + b * (inputs / LONG) * run_bytes(LONG));
    }
}

// Matrices of an adapter, in one call: whoever holds Python's lock computes meanwhile.
void lay(const Piece* pieces, int64_t count) {
    std::vector<float> rows;
    for (const Piece* piece = pieces; piece < pieces + count; piece++) {
        const int64_t width = piece->to_columns, bytes = width / piece->length * run_bytes(int(piece->length));
        for (int64_t b = 0; b < piece->to_rows / LANES; b++) {
            rows.assign(LANES * width, 0);
            for (int64_t o = 0; o < LANES && piece->from && b * LANES + o < piece->rows; o++) read_row(*piece, b * LANES + o, &rows[o * width]);
            pack_block8(rows.data(), width, piece->length, piece->packed + b * bytes);
        }
    }
}

// Hidden states (wanted x hidden, bf16) after the last norm; keys and values of the batch's tokens are laid into memory.
void hidden(const Model* model, const Batch* batch, uint16_t* keys, uint16_t* values, int64_t layer_stride, uint16_t* out) {
    Step(*model, *batch, keys, values, layer_stride).run(out);
}

// Logits (rows x vocabulary, fp32).
void logits(const Model* model, const uint16_t* x, int64_t rows, float* out) {
    Team& team = Team::of(model->threads);
    const int64_t runs = model->head.eight ? model->hidden / LONG : 0;
    std::vector<Run<LONG>> rounded(rows * runs);
    std::vector<Input> room;
    Numbers<Input> tiled(runs ? 0 : tiled_room(rows, model->hidden, model->threads));
    const Input* inputs = as_inputs(x, rows * model->hidden, room);
    team.run([&] {
        const auto mine = team.share(rows);
        for (int64_t r = mine.start; r < mine.stop && runs; r++) round_row(inputs + r * model->hidden, model->hidden, &rounded[r * runs]);
        team.meet();
        product(team, model->head, inputs, rounded.data(), tiled.data(), rows, out, Put::replace, (const char*)model->head.packed);
    }, false);
}

}
