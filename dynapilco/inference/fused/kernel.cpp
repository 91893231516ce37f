// Stacked multilayer perceptrons: S weight sets of one architecture, forward and backward.
//
//     z_l = h_{l-1} W_l^T + b_l     h_l = act(z_l) [* mask_l]     h_0 = x     f = z_L
//     g_L = df     g_{l-1} = (g_l W_l) * slope_{l-1}     dW_l = g_l^T h_{l-1}     db_l = sum over rows of g_l
//
// slope = act'(z) [* mask]. Parameters are flat as torch.nn.Linear orders them: weight (out, in) row-major, then bias,
// layer after layer; the gradient comes back in the same layout.
//
// Layout. Vector lanes are rows of the batch: an activation is stored (units, rows), so a weight is only ever a
// broadcast number and is read where it lies, unpacked, by both passes, and only the batch is padded to whole
// vectors. dW is a dot product over the rows: a tile of it is held in registers, one vector a number, and the lanes
// are summed at its end. The padding of every field is zero, whatever the weights hold (a NaN must not spread there).
//
// The batch is cut in chunks whose activations stay in the second-level cache, a chunk in blocks of at most
// kMaxVectors vectors that pass through all the layers in the first. A weight set is computed by one thread in a fixed
// order, so the numbers do not depend on the number of threads.

#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

// kMaxVectors: vectors of a register tile, and of a block. With the factors, a tile fills 32 or 16 registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kAccumulators = 24, kMaxVectors = 4, kGradColumns = 4;
#elif defined(__AVX__)
constexpr int kLanes = 8, kAccumulators = 12, kMaxVectors = 3, kGradColumns = 2;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kAccumulators = 24, kMaxVectors = 4, kGradColumns = 4;
#else
constexpr int kLanes = 4, kAccumulators = 12, kMaxVectors = 3, kGradColumns = 2;
#endif
constexpr int kMaxTileRows = 12;             // rows of a register tile
constexpr int kGradRows = 4;                 // a tile of a weight gradient is kGradRows x kGradColumns
constexpr int kGradStrip = 16;               // columns of a weight gradient that share the first-level cache
constexpr long kChunkFloats = 96 * 1024;     // of the widest layer of a chunk
constexpr long kMaxChunkVectors = 512 / kLanes;
constexpr double kThreadWork = 4e6;          // multiplications that are worth starting a thread

typedef float vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t ivec __attribute__((vector_size(kLanes * 4)));
typedef float vec_u __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { return *(const vec_u *)p; }
INLINE void store(float *p, vec v) { *(vec_u *)p = v; }
INLINE vec splat(float x) { return x - (vec){}; }
INLINE long vectors(long n) { return (n + kLanes - 1) / kLanes; }
INLINE long min_of(long a, long b) { return a < b ? a : b; }
INLINE long max_of(long a, long b) { return a > b ? a : b; }

// ---------------------------------------------------------------------------------------------------------------
// Activations
// ---------------------------------------------------------------------------------------------------------------

// e^y - 1 = 2^n (e^r - 1) + (2^n - 1) for y <= 0, with y = n ln 2 + r, |r| <= ln 2 / 2. y must not be below -87.
INLINE vec vexpm1(vec y, vec *scale_out) {
  const float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
  const vec shifted = y * 1.44269504f + magic;
  const vec n = shifted - magic;
  const vec scale = (vec)(((ivec)shifted << 23) + 0x3f800000);
  vec r = y - n * 0.693359375f; // ln 2 in two parts
  r = r + n * 2.12194440e-4f;
  vec p = r * 1.98412698e-4f + 1.38888889e-3f; // Taylor coefficients to r^7 / 7!
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r;
  *scale_out = scale;
  return scale * p;
}

// tanh |x| = -m / (m + 2) with m = expm1(-2 |x|), which is accurate near 0, saturates at 1 and keeps NaN.
INLINE vec vtanh(vec x) {
  const ivec sign = (ivec)x & (int32_t)0x80000000;
  vec y = (vec)((ivec)x & 0x7fffffff) * -2.0f;
  y = y < -40.0f ? splat(-40.0f) : y; // false for NaN
  vec scale;
  const vec p = vexpm1(y, &scale);
  const vec m = p + (scale - 1.0f);
  return (vec)((ivec)(m / (-2.0f - m)) ^ sign);
}

// sigmoid(x) and sigmoid(-x), both to float accuracy: 1 / (1 + e) and e / (1 + e) with e = exp(-|x|).
INLINE vec vsigmoid(vec x, vec *complement) {
  const vec y = (vec)((ivec)x & 0x7fffffff) * -1.0f;
  const vec low = y < -87.0f ? splat(-87.0f) : y; // false for NaN
  vec scale;
  const vec p = vexpm1(low, &scale);
  const vec e = y < -87.0f ? splat(0.0f) : p + scale;
  const vec large = 1.0f / (1.0f + e), small = e * large;
  *complement = x < 0.0f ? large : small;
  return x < 0.0f ? small : large;
}

enum Activation { kIdentity, kTanh, kRelu, kSilu }; // engine.py knows the order

// The activation's value; its slope too.
template <int act> INLINE vec value_and_slope(vec z, vec *slope) {
  if (act == kTanh) {
    const vec h = vtanh(z);
    *slope = 1.0f - h * h;
    return h;
  }
  if (act == kRelu) { // a NaN passes, and its slope is 1, as in torch
    *slope = z <= 0.0f ? splat(0.0f) : splat(1.0f);
    return z <= 0.0f ? splat(0.0f) : z;
  }
  if (act == kSilu) {
    vec other;
    const vec s = vsigmoid(z, &other);
    *slope = s * (1.0f + z * other);
    return z * s;
  }
  *slope = splat(1.0f);
  return z;
}

// ---------------------------------------------------------------------------------------------------------------
// Shuffles
// ---------------------------------------------------------------------------------------------------------------

// Lane i of pick(a, b) for a shuffle distance H: in `low` a keeps its lanes without bit H and b gives the same ones
// in the places with it; in `high` it is the lanes with bit H.
template <int H, bool high> constexpr int source(int i) {
  return i & H ? kLanes + (high ? i : i - H) : (high ? i + H : i);
}
template <int H, bool high, size_t... I> INLINE vec pick_lanes(vec a, vec b, std::index_sequence<I...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, source<H, high>(I)...);
#else
  return __builtin_shuffle(a, b, (ivec){source<H, high>(I)...});
#endif
}
template <int H, bool high> INLINE vec pick(vec a, vec b) {
  return pick_lanes<H, high>(a, b, std::make_index_sequence<kLanes>());
}

// Lane i of the result is the sum of the lanes of v[i].
template <int H> INLINE vec sum_each(vec *v) {
#pragma GCC unroll 16
  for (int i = 0; i < H; ++i) v[i] = pick<H, false>(v[i], v[i + H]) + pick<H, true>(v[i], v[i + H]);
  if constexpr (H > 1)
    return sum_each<H / 2>(v);
  else
    return v[0];
}

// Transpose a square of kLanes vectors.
template <int H> INLINE void transpose(vec *v) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & H)) {
      const vec low = pick<H, false>(v[i], v[i + H]), high = pick<H, true>(v[i], v[i + H]);
      v[i] = low, v[i + H] = high;
    }
  if constexpr (H > 1) transpose<H / 2>(v);
}

// dst (cols, ld) <- the transpose of src (rows, cols), the padding of rows to whole vectors zero. `end`: what lies
// before it may be read.
static void to_columns(long rows, long cols, const float *src, const float *end, float *dst, long ld) {
  for (long r = 0; r < rows; r += kLanes) {
    const long many = min_of(kLanes, rows - r);
    for (long c = 0; c < cols; c += kLanes) {
      vec v[kLanes];
      const long real = min_of(kLanes, cols - c);
      for (long i = 0; i < kLanes; ++i) {
        const float *from = src + (r + i) * cols + c;
        v[i] = (vec){};
        if (i < many && end - from >= kLanes)
          v[i] = load(from); // what is not real lands in rows that are not stored
        else if (i < many)
          std::memcpy(&v[i], from, sizeof(float) * real);
      }
      transpose<kLanes / 2>(v);
      for (long i = 0; i < real; ++i) store(dst + (c + i) * ld + r, v[i]);
    }
  }
}

// dst (rows, cols) <- the transpose of src (cols, ld).
static void from_columns(long rows, long cols, const float *src, long ld, float *dst) {
  for (long r = 0; r < rows; r += kLanes) {
    const long many = min_of(kLanes, rows - r);
    if (cols == 1) {
      std::memcpy(dst + r, src + r, sizeof(float) * many);
      continue;
    }
    for (long c = 0; c < cols; c += kLanes) {
      vec v[kLanes];
      const long real = min_of(kLanes, cols - c);
      for (long i = 0; i < kLanes; ++i) v[i] = i < real ? load(src + (c + i) * ld + r) : (vec){};
      transpose<kLanes / 2>(v);
      for (long i = 0; i < many; ++i) std::memcpy(dst + (r + i) * cols + c, &v[i], sizeof(float) * real);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Matrix products
// ---------------------------------------------------------------------------------------------------------------

// out[r, v] = bias[r] + sum_k w(r, k) x[k, v] for a tile of MR rows and NV vectors in registers; w(r, k) is
// w[r, k], or w[k, r] if transposed. A small tile takes several partial sums over k: a product must wait about
// 4 cycles for the one before it in the same sum, and two are issued a cycle.
template <int MR, int NV, bool transposed>
static void tile(long K, const float *w, long ldw, const float *bias, const float *x, long ld, float *out) {
  constexpr int parts = MR * NV >= 8 ? 1 : MR * NV >= 4 ? 2 : 4;
  vec acc[parts][MR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      acc[0][r][v] = splat(bias ? bias[r] : 0.0f);
#pragma GCC unroll 4
      for (int i = 1; i < parts; ++i) acc[i][r][v] = (vec){};
    }
  const long w_row = transposed ? 1 : ldw, w_k = transposed ? ldw : 1;
  auto step = [&](vec(&sum)[MR][NV]) __attribute__((always_inline)) {
    vec xv[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) xv[v] = load(x + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const vec wr = splat(w[r * w_row]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) sum[r][v] += wr * xv[v];
    }
    x += ld, w += w_k;
  };
  for (; parts > 1 && K >= parts; K -= parts)
#pragma GCC unroll 4
    for (int i = 0; i < parts; ++i) step(acc[i]);
  for (; K > 0; --K) step(acc[0]);
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
      for (int i = 1; i < parts; ++i) acc[0][r][v] += acc[i][r][v];
      store(out + r * ld + v * kLanes, acc[0][r][v]);
    }
}

typedef void (*TileFn)(long K, const float *w, long ldw, const float *bias, const float *x, long ld, float *out);

// A tile that would not fit the registers is never called: its table entry repeats the largest one that fits.
constexpr int fitting(int rows, int nv) {
  const int most = kAccumulators / nv < kMaxTileRows ? kAccumulators / nv : kMaxTileRows;
  return rows < most ? rows : most;
}
#define TILE_ROW(T, NV)                                                                                       \
  {                                                                                                           \
    tile<fitting(1, NV), NV, T>, tile<fitting(2, NV), NV, T>, tile<fitting(3, NV), NV, T>,                    \
        tile<fitting(4, NV), NV, T>, tile<fitting(5, NV), NV, T>, tile<fitting(6, NV), NV, T>,                \
        tile<fitting(7, NV), NV, T>, tile<fitting(8, NV), NV, T>, tile<fitting(9, NV), NV, T>,                \
        tile<fitting(10, NV), NV, T>, tile<fitting(11, NV), NV, T>, tile<fitting(12, NV), NV, T>              \
  }
#define TILE_TABLE(T) {TILE_ROW(T, 1), TILE_ROW(T, 2), TILE_ROW(T, 3), TILE_ROW(T, 4)}
static const TileFn kTiles[2][4][kMaxTileRows] = {TILE_TABLE(false), TILE_TABLE(true)};

// out (rows, nv vectors) = bias + w x for w (rows, K) and x (K, nv vectors); transposed: w is (K, rows).
template <bool transposed>
static void product(long rows, long K, long nv, const float *w, const float *bias, const float *x, long ld,
                    float *out) {
  const long most = min_of(kAccumulators / nv, kMaxTileRows), blocks = (rows + most - 1) / most;
  const long low = rows / blocks, ldw = transposed ? rows : K;
  long many = rows % blocks; // the first `many` tiles take a row more
  for (long r = 0; r < rows;) {
    const long mr = low + (many-- > 0);
    kTiles[transposed][nv - 1][mr - 1](K, w + r * (transposed ? 1 : ldw), ldw, bias ? bias + r : nullptr, x, ld,
                                       out + r * ld);
    r += mr;
  }
}

// grad (MR, NR) of a matrix of row length ldw += g x^T over nv vectors, for g (MR, ld), x (NR, ld).
template <int MR, int NR>
static void grad_tile(long nv, const float *g, const float *x, long ld, float *grad, long ldw) {
  constexpr int parts = MR * NR >= 8 ? 1 : 2, all = kGradRows * kGradColumns;
  vec acc[parts][MR][NR] = {};
  auto step = [&](vec(&sum)[MR][NR]) __attribute__((always_inline)) {
    vec xv[NR];
#pragma GCC unroll 4
    for (int c = 0; c < NR; ++c) xv[c] = load(x + c * ld);
#pragma GCC unroll 4
    for (int r = 0; r < MR; ++r) {
      const vec gr = load(g + r * ld);
#pragma GCC unroll 4
      for (int c = 0; c < NR; ++c) sum[r][c] += gr * xv[c];
    }
    g += kLanes, x += kLanes;
  };
  for (; parts > 1 && nv >= parts; nv -= parts)
#pragma GCC unroll 2
    for (int i = 0; i < parts; ++i) step(acc[i]);
  for (; nv > 0; --nv) step(acc[0]);
  vec flat[all];
#pragma GCC unroll 16
  for (int i = 0; i < all; ++i) {
    const int r = i / kGradColumns, c = i % kGradColumns;
    flat[i] = (vec){};
    if (r < MR && c < NR) {
      flat[i] = acc[0][r < MR ? r : 0][c < NR ? c : 0];
      if (parts > 1) flat[i] += acc[parts - 1][r < MR ? r : 0][c < NR ? c : 0];
    }
  }
  float sums[all];
#pragma GCC unroll 4
  for (int i = 0; i < all; i += kLanes) store(sums + i, sum_each<kLanes / 2>(flat + i));
#pragma GCC unroll 4
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < NR; ++c) grad[r * ldw + c] += sums[r * kGradColumns + c];
}

typedef void (*GradFn)(long nv, const float *g, const float *x, long ld, float *grad, long ldw);
constexpr int column(int c) { return c < kGradColumns ? c : kGradColumns; }
#define GRAD_ROW(MR) {grad_tile<MR, 1>, grad_tile<MR, 2>, grad_tile<MR, column(3)>, grad_tile<MR, column(4)>}
static const GradFn kGradTiles[kGradRows][4] = {GRAD_ROW(1), GRAD_ROW(2), GRAD_ROW(3), GRAD_ROW(4)};

// grad (rows, cols) += g x^T over nv vectors, for g (rows, ld), x (cols, ld).
static void grad_product(long rows, long cols, long nv, const float *g, const float *x, long ld, float *grad) {
  for (long strip = 0; strip < cols; strip += kGradStrip) {
    const long end = min_of(cols, strip + kGradStrip);
    for (long r = 0; r < rows; r += kGradRows) {
      const long mr = min_of(kGradRows, rows - r);
      for (long c = strip; c < end; c += kGradColumns) {
        const long nr = min_of(kGradColumns, end - c);
        kGradTiles[mr - 1][nr - 1](nv, g + r * ld, x + c * ld, ld, grad + r * cols + c, cols);
      }
    }
  }
}

// total[r] += the sum of row r of g (rows, nv vectors).
static void sum_rows(long rows, long nv, const float *g, long ld, float *total) {
  for (long r = 0; r < rows; r += kLanes) {
    const long many = min_of(kLanes, rows - r);
    vec sum[kLanes];
    for (long i = 0; i < kLanes; ++i) {
      sum[i] = (vec){};
      for (long v = 0; i < many && v < nv; ++v) sum[i] += load(g + (r + i) * ld + v * kLanes);
    }
    float sums[kLanes];
    store(sums, sum_each<kLanes / 2>(sum));
    for (long i = 0; i < many; ++i) total[r + i] += sums[i];
  }
}

// ---------------------------------------------------------------------------------------------------------------
// The stack
// ---------------------------------------------------------------------------------------------------------------

extern "C" struct Problem {
  int64_t sets, rows, layers; // S, B, L
  const int64_t *width;       // L + 1
  int64_t activation;
  int64_t own_input;          // x is (S, B, in), not (B, in)
  const int64_t *mask;        // per hidden layer 0: none, 1: (B, width), 2: (S, B, width)
  int64_t threads;            // at most so many
};

extern "C" struct Call {
  const float *flat, *x;
  const float *const *masks; // per hidden layer
  float *f;                  // (S, B, out)
  float *saved;              // null: nothing is kept for a backward pass
  float *scratch;
  const float *df; // (S, B, out)
  float *dflat;    // null, or (S, n)
  float *dx;       // null, or (S, B, in); of a shared x the first (B, in) becomes the sum over S
};

namespace {

struct Stack {
  const Problem &p;
  long S, B, L, n = 0, in, out, widest = 0;
  std::vector<long> weight_at, bias_at;        // in a flat set
  std::vector<long> input_at, slope_at, g_at;  // rows of a chunk's saved fields, and of its scratch
  long saved_rows = 0, g_rows = 0;
  long total, chunks, ld; // vectors of the batch; floats from one row of a field to the next
  long threads;
  ivec inside; // the real lanes of the last vector
  bool ragged;

  explicit Stack(const Problem &problem) : p(problem), S(p.sets), B(p.rows), L(p.layers) {
    in = p.width[0], out = p.width[L];
    if (p.own_input) saved_rows = in;
    input_at.push_back(0), slope_at.push_back(-1);
    double work = 0;
    for (long l = 0; l < L; ++l) {
      const long K = p.width[l], N = p.width[l + 1];
      weight_at.push_back(n), bias_at.push_back(n + K * N), n += K * N + N;
      g_at.push_back(g_rows), g_rows += N;
      widest = max_of(widest, max_of(K, N));
      work += (double)K * N;
      if (l + 1 == L) break;
      input_at.push_back(saved_rows), saved_rows += N;
      slope_at.push_back(has_slope(l) ? saved_rows : -1);
      if (has_slope(l)) saved_rows += N;
    }
    total = vectors(B);
    const long most = min_of(kMaxChunkVectors, max_of(2 * kMaxVectors, kChunkFloats / kLanes / widest));
    chunks = (total + most - 1) / most;
    ld = ((total + chunks - 1) / chunks | 1) * kLanes; // an odd number of vectors: rows spread over the cache's sets
    ragged = B % kLanes;
    for (int i = 0; i < kLanes; ++i) inside[i] = !ragged || i < B % kLanes ? -1 : 0;
    threads = min_of(p.threads, min_of(S, (long)(work * S * B / kThreadWork)));
    threads = max_of(threads, 1);
  }

  bool has_slope(long hidden) const { return p.activation == kSilu || p.mask[hidden]; }
  long first(long chunk) const { return chunk * total / chunks; }

  // Floats of the transposed shared input, of all the saved fields, and of one thread's scratch.
  long shared_size() const { return p.own_input ? 0 : chunks * in * ld; }
  long saved_size() const { return shared_size() + S * chunks * saved_rows * ld; }
  long forward_size() const { return (saved_rows + out) * ld + widest * kMaxVectors * kLanes; }
  long backward_size(bool dx) const { return (g_rows + (dx ? in : 0)) * ld; }

  // Run f(first set, end, thread) over all the sets.
  template <class F> void each_set(F f) const {
    std::vector<std::thread> started;
    for (long t = 1; t < threads; ++t) {
      const long from = t * S / threads, end = (t + 1) * S / threads;
      try {
        started.emplace_back(f, from, end, t);
      } catch (const std::system_error &) { // no more threads to be had
        f(from, end, t);
      }
    }
    f(0, S / threads, 0);
    for (std::thread &thread : started) thread.join();
  }

  void zero_padding(long rows, float *field) const {
    for (long r = 0; r < rows; ++r) {
      float *last = field + r * ld;
      store(last, (vec)((ivec)load(last) & inside));
    }
  }
};

// One chunk of one set.
struct Chunk {
  const Stack &s;
  const Call &c;
  long set, first, nv, row0, rows; // vectors and rows of the batch
  const float *flat;
  const float *x;    // (in, ld), transposed
  float *saved;      // the fields
  bool keep;

  Chunk(const Stack &stack, const Call &call, long g, long chunk, const float *shared, float *fields, bool kept)
      : s(stack), c(call), set(g), first(s.first(chunk)), nv(s.first(chunk + 1) - first), row0(first * kLanes),
        rows(min_of(s.B - row0, nv * kLanes)), flat(c.flat + g * s.n), saved(fields), keep(kept) {
    x = s.p.own_input ? saved : shared + chunk * s.in * s.ld;
  }

  const float *input(long l) const { return l == 0 ? x : saved + s.input_at[l] * s.ld; }
  bool has_padding(long v, long many) const { return s.ragged && first + v + many == s.total; }

  // Calls f(v, many) for blocks of vectors of nearly the same size.
  template <class F> void each_block(F f) const {
    const long blocks = (nv + kMaxVectors - 1) / kMaxVectors;
    for (long i = 0; i < blocks; ++i) f(i * nv / blocks, (i + 1) * nv / blocks - i * nv / blocks);
  }

  void forward(float *scratch) const {
    float *result = scratch, *mask = scratch + s.out * s.ld;
    if (s.p.own_input)
      to_columns(rows, s.in, c.x + (set * s.B + row0) * s.in, c.x + s.S * s.B * s.in, saved, s.ld);
    each_block([&](long v, long many) {
      for (long l = 0; l < s.L; ++l) {
        const long N = s.p.width[l + 1];
        float *h = (l + 1 < s.L ? saved + s.input_at[l + 1] * s.ld : result) + v * kLanes;
        product<false>(N, s.p.width[l], many, flat + s.weight_at[l], flat + s.bias_at[l], input(l) + v * kLanes,
                       s.ld, h);
        if (l + 1 < s.L) activate_layer(l, v, many, h, mask);
      }
    });
    from_columns(rows, s.out, result, s.ld, c.f + (set * s.B + row0) * s.out);
  }

  void activate_layer(long l, long v, long many, float *h, float *mask) const {
    const long N = s.p.width[l + 1], start = row0 + v * kLanes, real = min_of(s.B - start, many * kLanes);
    const long kind = s.p.mask[l];
    if (kind) {
      const float *from = c.masks[l] + ((kind == 2 ? set * s.B : 0) + start) * N;
      to_columns(real, N, from, c.masks[l] + (kind == 2 ? s.S : 1) * s.B * N, mask, kMaxVectors * kLanes);
    }
    float *slope = keep && s.has_slope(l) ? saved + s.slope_at[l + 1] * s.ld + v * kLanes : nullptr;
    switch (s.p.activation) {
    case kTanh: activate<kTanh>(N, many, h, slope, kind ? mask : nullptr); break;
    case kRelu: activate<kRelu>(N, many, h, slope, kind ? mask : nullptr); break;
    case kSilu: activate<kSilu>(N, many, h, slope, kind ? mask : nullptr); break;
    default: activate<kIdentity>(N, many, h, slope, kind ? mask : nullptr);
    }
    if (has_padding(v, many)) s.zero_padding(N, h + (many - 1) * kLanes);
  }

  // In place; the slope too where it is wanted.
  template <int act> void activate(long N, long many, float *h, float *slope, const float *mask) const {
    vec ignored;
    if (act == kIdentity && !mask) return;
    for (long j = 0; j < N; ++j)
      for (long v = 0; v < many * kLanes; v += kLanes) {
        float *at = h + j * s.ld + v;
        if (!mask && !slope) {
          store(at, value_and_slope<act>(load(at), &ignored));
          continue;
        }
        vec d, value = value_and_slope<act>(load(at), &d);
        if (mask) {
          const vec m = load(mask + j * kMaxVectors * kLanes + v);
          value *= m, d *= m;
        }
        store(at, value);
        if (slope) store(slope + j * s.ld + v, d);
      }
  }

  void backward(float *scratch) const {
    float *dx = scratch + s.g_rows * s.ld;
    auto g = [&](long l) { return scratch + s.g_at[l] * s.ld; };
    to_columns(rows, s.out, c.df + (set * s.B + row0) * s.out, c.df + s.S * s.B * s.out, g(s.L - 1), s.ld);
    each_block([&](long v, long many) {
      for (long l = s.L - 1; l >= (c.dx ? 0 : 1); --l) {
        const long N = s.p.width[l];
        float *to = (l > 0 ? g(l - 1) : dx) + v * kLanes;
        product<true>(N, s.p.width[l + 1], many, flat + s.weight_at[l], nullptr, g(l) + v * kLanes, s.ld, to);
        if (l == 0) break;
        steepen(l, v, many, to);
        if (has_padding(v, many)) s.zero_padding(N, to + (many - 1) * kLanes);
      }
    });
    for (long l = 0; l < s.L && c.dflat; ++l) {
      float *grad = c.dflat + set * s.n;
      grad_product(s.p.width[l + 1], s.p.width[l], nv, g(l), input(l), s.ld, grad + s.weight_at[l]);
      sum_rows(s.p.width[l + 1], nv, g(l), s.ld, grad + s.bias_at[l]);
    }
    if (c.dx) from_columns(rows, s.in, dx, s.ld, c.dx + (set * s.B + row0) * s.in);
  }

  // g *= the slope of the activation whose value is the input of layer l.
  void steepen(long l, long v, long many, float *g) const {
    const float *h = input(l) + v * kLanes;
    const float *slope = s.slope_at[l] < 0 ? nullptr : saved + s.slope_at[l] * s.ld + v * kLanes;
    if (!slope && s.p.activation == kIdentity) return;
    for (long j = 0; j < s.p.width[l]; ++j, h += s.ld, g += s.ld) {
      if (slope)
        for (long i = 0; i < many * kLanes; i += kLanes) store(g + i, load(g + i) * load(slope + j * s.ld + i));
      else if (s.p.activation == kTanh)
        for (long i = 0; i < many * kLanes; i += kLanes) {
          const vec value = load(h + i);
          store(g + i, load(g + i) * (1.0f - value * value));
        }
      else
        for (long i = 0; i < many * kLanes; i += kLanes)
          store(g + i, load(h + i) <= 0.0f ? splat(0.0f) : load(g + i));
    }
  }
};

} // namespace

// ---------------------------------------------------------------------------------------------------------------
// The C face
// ---------------------------------------------------------------------------------------------------------------

extern "C" {

// sizes: floats to keep for the backward pass; scratch of a forward pass that keeps, of one that does not, of a
// backward pass, and of one with dx.
void dense_sizes(const Problem *p, int64_t *sizes) {
  const Stack s(*p);
  sizes[0] = s.saved_size();
  sizes[1] = s.threads * s.forward_size();
  sizes[2] = sizes[1] + s.shared_size();
  sizes[3] = s.threads * s.backward_size(false);
  sizes[4] = s.threads * s.backward_size(true);
}

void dense_forward(const Problem *p, const Call *call) {
  const Stack s(*p);
  const Call &c = *call;
  float *scratch = c.scratch + (c.saved ? 0 : s.shared_size()), *shared = c.saved ? c.saved : c.scratch;
  for (long k = 0; k < s.chunks && !p->own_input; ++k) {
    const long row0 = s.first(k) * kLanes, rows = min_of(s.B, s.first(k + 1) * kLanes) - row0;
    to_columns(rows, s.in, c.x + row0 * s.in, c.x + s.B * s.in, shared + k * s.in * s.ld, s.ld);
  }
  s.each_set([&](long set, long end, long thread) {
    float *own = scratch + thread * s.forward_size(), *fields = own + s.forward_size() - s.saved_rows * s.ld;
    for (; set < end; ++set)
      for (long k = 0; k < s.chunks; ++k) {
        float *kept = c.saved ? c.saved + s.shared_size() + (set * s.chunks + k) * s.saved_rows * s.ld : fields;
        Chunk(s, c, set, k, shared, kept, c.saved).forward(own);
      }
  });
}

void dense_backward(const Problem *p, const Call *call) {
  const Stack s(*p);
  const Call &c = *call;
  if (c.dflat) std::memset(c.dflat, 0, sizeof(float) * s.S * s.n);
  s.each_set([&](long set, long end, long thread) {
    float *own = c.scratch + thread * s.backward_size(c.dx);
    for (; set < end; ++set)
      for (long k = 0; k < s.chunks; ++k) {
        float *kept = c.saved + s.shared_size() + (set * s.chunks + k) * s.saved_rows * s.ld;
        Chunk(s, c, set, k, c.saved, kept, true).backward(own);
      }
  });
  const long size = s.B * s.in;
  for (long set = 1; c.dx && !p->own_input && set < s.S; ++set)
    for (long i = 0; i < size; ++i) c.dx[i] += c.dx[set * size + i];
}

} // extern "C"
