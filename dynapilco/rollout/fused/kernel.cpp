// Fused rollout of particles through a policy and a frozen network model, with its exact adjoint.
//
// One segment of L steps. For candidate policy r and particle n (of the S*P particles), with state x:
//
//     xo = x + obs_noise                     zp = [xo, sin xo[angles], cos xo[angles]]
//     th = tanh(policy_r(zp) + action_noise) u  = centre + half * th      (choices: see choose below)
//     zm = [x, sin x[angles], cos x[angles], u]
//     y  = model_g(zm) + process_noise       x' = clamp([x, y, u] @ [transition; effect; carry], low, high)
//
// (the carry, for states that remember actions, may be missing, and so may the bounds).
//
// Both networks are dense stacks with tanh hidden units (the model's may be SiLU where no adjoint is asked for), a
// hidden unit of the model optionally times a mask. The adjoint runs the steps backwards with the saved tanh values
// (d tanh = 1 - h^2) and sines and cosines:
//
//     gx' = (gx' + grad_states) where x' lies inside of its bounds, else 0
//     [gx, gy, gu] = gx' @ [transition; effect; carry]^T                  gzm = model^T gy
//     ga = (gzm[u] + gu + grad_actions) * half * (1 - th^2)               gzp = policy^T ga
//     gx += the features' adjoint of gzm and gzp                     dW  = sum over rows and steps of input^T g
//
// Layout. Rows are particles, vector lanes are the units of a layer: every product is (rows, K) @ (K, N) with a
// tile of rows x vectors held in registers, so no particle count wastes lanes. Row-major buffers have their rows
// padded to whole vectors (pad). Weights are packed as [vector of N][k][lane]. The padding of a weight is zero,
// the padding of an activation is undefined and never read as a number (a NaN there must not spread).
//
// The work is cut in chunks: at most kMaxRows rows that share the model's weights. A chunk runs through all the
// steps before the next one starts, so its model weights stay in the cache. One thread; fixed summation order.

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int kLanes = 16, kAccumulators = 24;
#elif defined(__AVX__)
constexpr int kLanes = 8, kAccumulators = 12;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kAccumulators = 24;
#else
constexpr int kLanes = 4, kAccumulators = 12;
#endif
constexpr int kMaxVectors = 4;   // vectors of a register tile
constexpr int kMaxTileRows = 12; // rows of a register tile
constexpr int kMaxRows = 64;     // rows of a chunk
constexpr int kMaxLayers = 16;   // engine.py knows it too
constexpr int kTargetGradRows = 128; // rows gathered before a product for the weight gradients

typedef float vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t ivec __attribute__((vector_size(kLanes * 4)));
typedef float vec_u __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *p) { return *(const vec_u *)p; }
INLINE void store(float *p, vec v) { *(vec_u *)p = v; }
INLINE vec splat(float x) { return x - (vec){}; }
INLINE long pad(long n) { return (n + kLanes - 1) / kLanes * kLanes; }
INLINE long vectors(long n) { return (n + kLanes - 1) / kLanes; }
INLINE long min_of(long a, long b) { return a < b ? a : b; }

// ---------------------------------------------------------------------------------------------------------------
// Elementary functions
// ---------------------------------------------------------------------------------------------------------------

// tanh |x| = -m / (m + 2) with m = expm1(-2 |x|), which is accurate near 0, saturates at 1 and keeps NaN.
// expm1(y) = 2^n (e^r - 1) + (2^n - 1), y = n ln 2 + r, |r| <= ln 2 / 2.
INLINE vec vtanh(vec x) {
  const ivec sign = (ivec)x & (int32_t)0x80000000;
  vec y = (vec)((ivec)x & 0x7fffffff) * -2.0f;
  y = y < -40.0f ? splat(-40.0f) : y; // false for NaN
  const float magic = 12582912.0f;    // 1.5 * 2^23: adding it rounds to an integer, left in the low bits
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
  const vec m = scale * p + (scale - 1.0f);
  return (vec)((ivec)(m / (-2.0f - m)) ^ sign);
}

// Plain loops that the compiler vectorises: range reduction and Taylor series in double, |x| < 1e5; libm beyond.
static void sincos_all(long n, const float *x, float *sine, float *cosine) {
  for (long i = 0; i < n; ++i) {
    const double v = x[i];
    const double shifted = v * 0.63661977236758134308 + 6755399441055744.0;
    const double q = shifted - 6755399441055744.0; // the nearest multiple of pi / 2
    const double r = (v - q * 1.57079632679489655800) - q * 6.12323399573676603587e-17;
    const double r2 = r * r;
    double s = -1.0 / 39916800, c = 1.0 / 479001600;
    s = s * r2 + 1.0 / 362880;
    s = s * r2 - 1.0 / 5040;
    s = s * r2 + 1.0 / 120;
    s = s * r2 - 1.0 / 6;
    s = s * r2 * r + r;
    c = c * r2 - 1.0 / 3628800;
    c = c * r2 + 1.0 / 40320;
    c = c * r2 - 1.0 / 720;
    c = c * r2 + 1.0 / 24;
    c = c * r2 - 0.5;
    c = c * r2 + 1.0;
    int64_t bits;
    std::memcpy(&bits, &shifted, 8); // the low bits hold q
    const bool odd = bits & 1, minus_s = bits & 2, minus_c = (bits + 1) & 2;
    const double a = odd ? c : s, b = odd ? s : c;
    sine[i] = (float)(minus_s ? -a : a);
    cosine[i] = (float)(minus_c ? -b : b);
  }
  for (long i = 0; i < n; ++i)
    if (!(std::fabs(x[i]) < 1e5f)) {
      sine[i] = (float)std::sin((double)x[i]);
      cosine[i] = (float)std::cos((double)x[i]);
    }
}

// ---------------------------------------------------------------------------------------------------------------
// Matrix products
// ---------------------------------------------------------------------------------------------------------------

// acc[r, v] += x[r, 0] b[0, v] for a tile of MR rows and NV vectors in registers.
template <int MR, int NV>
INLINE void tile_step(vec (&acc)[MR][NV], const float *x, long x_row, const float *b, long b_vec) {
  vec w[NV];
#pragma GCC unroll 4
  for (int v = 0; v < NV; ++v) w[v] = load(b + v * b_vec);
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
    const vec xr = splat(x[r * x_row]);
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) acc[r][v] += xr * w[v];
  }
}

// out[r, v] = init[r, v] + sum_k x[r, k] b[k, v]. A small tile takes several partial sums over k: a product must
// wait about 4 cycles for the one before it in the same sum, and two are issued a cycle.
template <int MR, int NV>
INLINE void tile(long K, const float *x, long x_row, long x_k, const float *b, long b_k, long b_vec,
                 const float *init, long init_row, float *out, long out_row) {
  constexpr int parts = MR * NV >= 8 ? 1 : MR * NV >= 4 ? 2 : 4;
  vec acc[parts][MR][NV];
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      acc[0][r][v] = init ? load(init + r * init_row + v * kLanes) : (vec){};
#pragma GCC unroll 4
      for (int i = 1; i < parts; ++i) acc[i][r][v] = (vec){};
    }
  for (; parts > 1 && K >= parts; K -= parts, x += parts * x_k, b += parts * b_k) {
#pragma GCC unroll 4
    for (int i = 0; i < parts; ++i) tile_step<MR, NV>(acc[i], x + i * x_k, x_row, b + i * b_k, b_vec);
  }
  for (; K > 0; --K, x += x_k, b += b_k) tile_step<MR, NV>(acc[0], x, x_row, b, b_vec);
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 4
      for (int i = 1; i < parts; ++i) acc[0][r][v] += acc[i][r][v];
      store(out + r * out_row + v * kLanes, acc[0][r][v]);
    }
}

typedef void (*TileFn)(long K, const float *x, long ldx, const float *b, long ldb, const float *init,
                       long init_row, float *out, long out_row);

// Rows of activations times packed weights (ldb: the distance between two packed vectors).
template <int MR, int NV>
static void tile_dense(long K, const float *x, long ldx, const float *b, long ldb, const float *init,
                       long init_row, float *out, long out_row) {
  tile<MR, NV>(K, x, ldx, 1, b, kLanes, ldb, init, init_row, out, out_row);
}

// A transposed product x^T b of two row-major matrices of K rows (weight gradients).
template <int MR, int NV>
static void tile_outer(long K, const float *x, long ldx, const float *b, long ldb, const float *init,
                       long init_row, float *out, long out_row) {
  tile<MR, NV>(K, x, 1, ldx, b, ldb, kLanes, init, init_row, out, out_row);
}

// A tile that would not fit the registers is never called: its table entry repeats the largest one that fits.
constexpr int fitting(int rows, int nv) {
  const int most = kAccumulators / nv < kMaxTileRows ? kAccumulators / nv : kMaxTileRows;
  return rows < most ? rows : most;
}
#define TILE_ROW(F, NV)                                                                                       \
  {                                                                                                           \
    F<fitting(1, NV), NV>, F<fitting(2, NV), NV>, F<fitting(3, NV), NV>, F<fitting(4, NV), NV>,               \
        F<fitting(5, NV), NV>, F<fitting(6, NV), NV>, F<fitting(7, NV), NV>, F<fitting(8, NV), NV>,           \
        F<fitting(9, NV), NV>, F<fitting(10, NV), NV>, F<fitting(11, NV), NV>, F<fitting(12, NV), NV>         \
  }
#define TILE_TABLE(F) {TILE_ROW(F, 1), TILE_ROW(F, 2), TILE_ROW(F, 3), TILE_ROW(F, 4)}
static const TileFn kDense[kMaxVectors][kMaxTileRows] = TILE_TABLE(tile_dense);
static const TileFn kOuter[kMaxVectors][kMaxTileRows] = TILE_TABLE(tile_outer);

INLINE long tile_rows(long nv) { return min_of(kAccumulators / nv, kMaxTileRows); }

// Half cycles that one k takes over tiles of nv vectors and all the rows: two products or two loads a cycle.
static long tiling_cost(long rows, long nv) {
  const long blocks = (rows + tile_rows(nv) - 1) / tile_rows(nv), low = rows / blocks, many = rows % blocks;
  auto one = [nv](long r) {
    long c = r * nv;
    if (c < r + nv) c = r + nv;
    return c < 4 ? 4 : c;
  };
  return one(low) * (blocks - many) + (many ? one(low + 1) * many : 0);
}

// How many vectors each tile takes, for a product of `rows` rows and `total` vectors.
static long tile_vectors(long rows, long total) {
  long best = 1, best_cost = -1;
  for (long nv = kMaxVectors; nv >= 1; --nv) {
    if (nv > total || kAccumulators / nv < 2) continue;
    const long rest = total % nv;
    const long cost = tiling_cost(rows, nv) * (total / nv) + (rest ? tiling_cost(rows, rest) : 0);
    if (best_cost < 0 || cost < best_cost) best = nv, best_cost = cost;
  }
  return best;
}

// The loop over tiles: `dense` steps x by rows, the outer product by columns.
template <bool dense>
static void product(long rows, long K, long total, const float *x, long ldx, const float *b, long ldb,
                    const float *init, long init_row, float *out, long out_row) {
  const long step = tile_vectors(rows, total);
  for (long v = 0; v < total; v += step) {
    const long nv = min_of(step, total - v);
    const long most = tile_rows(nv), blocks = (rows + most - 1) / most, low = rows / blocks;
    long many = rows % blocks; // the first `many` blocks take a row more
    const float *bv = b + v * (dense ? ldb : kLanes);
    for (long r = 0; r < rows;) {
      const long mr = low + (many-- > 0);
      const TileFn f = (dense ? kDense : kOuter)[nv - 1][mr - 1];
      f(K, x + r * (dense ? ldx : 1), ldx, bv, ldb, init ? init + r * init_row + v * kLanes : nullptr, init_row,
        out + r * out_row + v * kLanes, out_row);
      r += mr;
    }
  }
}

INLINE float sum_lanes(vec v) {
  float part[kLanes];
  store(part, v);
#pragma GCC unroll 8
  for (int half = kLanes / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (int i = 0; i < half; ++i) part[i] += part[i + half];
  return part[0];
}

// Narrow outputs: out[r, j] = bias[j] + x[r] . w[j], lanes along K; w is (N, pad(K)) with zero padding.
template <int MR>
INLINE void dot_rows(long K, long N, const float *x, long ldx, const float *w, const float *bias, float *out,
                     long ldo) {
  const long whole = K / kLanes * kLanes, ldw = pad(K);
  ivec lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  const ivec inside = lane < (int32_t)(K - whole);
  for (long j = 0; j < N; ++j) {
    const float *wj = w + j * ldw;
    vec acc[MR] = {};
    for (long k = 0; k < whole; k += kLanes) {
      const vec wk = load(wj + k);
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) acc[r] += wk * load(x + r * ldx + k);
    }
    if (whole < K) {
      const vec wk = load(wj + whole);
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) { // the padding of x may hold a NaN
        const vec xk = load(x + r * ldx + whole);
        acc[r] += wk * (vec)((ivec)xk & inside);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) out[r * ldo + j] = sum_lanes(acc[r]) + (bias ? bias[j] : 0.0f);
  }
}

static void dot_product(long rows, long K, long N, const float *x, long ldx, const float *w, const float *bias,
                        float *out, long ldo) {
  long r = 0;
  for (; r + 4 <= rows; r += 4) dot_rows<4>(K, N, x + r * ldx, ldx, w, bias, out + r * ldo, ldo);
  for (; r < rows; ++r) dot_rows<1>(K, N, x + r * ldx, ldx, w, bias, out + r * ldo, ldo);
}

// Whether lanes along K beat lanes along N (a sum over lanes costs about 8 instructions).
INLINE bool narrow(long K, long N) { return N * (vectors(K) + 8) < K * vectors(N); }

// Floats of a packed (K, N) matrix, in whichever of the two layouts it takes.
static long packed_size(long K, long N) { return narrow(K, N) ? N * pad(K) : K * pad(N); }

// dst = the packed matrix w(k, n) = src[k * k_stride + n * n_stride].
static void pack(long K, long N, const float *src, long k_stride, long n_stride, float *dst) {
  if (narrow(K, N)) {
    for (long n = 0; n < N; ++n)
      for (long k = 0; k < pad(K); ++k) *dst++ = k < K ? src[k * k_stride + n * n_stride] : 0.0f;
    return;
  }
  for (long v = 0; v < pad(N); v += kLanes) {
    const long real = min_of(kLanes, N - v);
    for (long k = 0; k < K; ++k, dst += kLanes) {
      const float *from = src + k * k_stride + v * n_stride;
      for (long i = 0; i < real; ++i) dst[i] = from[i * n_stride];
      for (long i = real; i < kLanes; ++i) dst[i] = 0.0f;
    }
  }
}

// out (rows, pad(N)) = bias + x (rows, K) @ packed.
static void multiply(long rows, long K, long N, const float *x, long ldx, const float *packed, const float *bias,
                     float *out) {
  if (narrow(K, N))
    dot_product(rows, K, N, x, ldx, packed, bias, out, pad(N));
  else
    product<true>(rows, K, vectors(N), x, ldx, packed, K * kLanes, bias, 0, out, pad(N));
}

// grad += x^T g over `rows` rows, for grad (K, pad(N)), or its transpose (N, pad(K)) where N is narrow.
INLINE bool grad_transposed(long K, long N) { return N * vectors(K) < K * vectors(N); }
static long grad_size(long K, long N) { return grad_transposed(K, N) ? N * pad(K) : K * pad(N); }
static void accumulate(long rows, long K, long N, const float *x, long ldx, const float *g, float *grad) {
  if (grad_transposed(K, N))
    product<false>(N, rows, vectors(K), g, pad(N), x, ldx, grad, pad(K), grad, pad(K));
  else
    product<false>(K, rows, vectors(N), x, ldx, g, pad(N), grad, pad(N), grad, pad(N));
}

static void sum_rows(long rows, long N, const float *g, float *total) {
  for (long v = 0; v < pad(N); v += kLanes) {
    vec a = {}, b = {};
    long r = 0;
    for (; r + 2 <= rows; r += 2) {
      a += load(g + r * pad(N) + v);
      b += load(g + (r + 1) * pad(N) + v);
    }
    if (r < rows) a += load(g + r * pad(N) + v);
    store(total + v, load(total + v) + (a + b));
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Networks
// ---------------------------------------------------------------------------------------------------------------

struct Net {
  long layers;
  const int64_t *width; // layers + 1
  long in(long l) const { return width[l]; }
  long out(long l) const { return width[l + 1]; }
  // One set of weights, packed: every layer's forward matrix, then bias, then transposed matrix.
  long packed_floats() const {
    long total = 0;
    for (long l = 0; l < layers; ++l)
      total += pad(packed_size(in(l), out(l))) + pad(out(l)) + pad(packed_size(out(l), in(l)));
    return total;
  }
};

struct Layer {
  const float *forward, *bias, *backward;
};

static void find_layers(const Net &net, const float *packed, Layer *layer) {
  for (long l = 0; l < net.layers; ++l) {
    layer[l].forward = packed;
    packed += pad(packed_size(net.in(l), net.out(l)));
    layer[l].bias = packed;
    packed += pad(net.out(l));
    layer[l].backward = packed;
    packed += pad(packed_size(net.out(l), net.in(l)));
  }
}

enum Want { kForward = 1, kBackward = 2 };

// Pack group g of the weights (groups, in, out) and biases (groups, out): the matrices of the passes wanted.
static void pack_net(const Net &net, const float *const *weights, const float *const *biases, long g, float *dst,
                     int want) {
  for (long l = 0; l < net.layers; ++l) {
    const long K = net.in(l), N = net.out(l);
    const float *w = weights[l] + g * K * N, *b = biases[l] + g * N;
    if (want & kForward) pack(K, N, w, N, 1, dst);
    dst += pad(packed_size(K, N));
    for (long n = 0; n < pad(N); ++n) *dst++ = n < N ? b[n] : 0.0f;
    if (want & kBackward) pack(N, K, w, 1, N, dst);
    dst += pad(packed_size(N, K));
  }
}

INLINE void tanh_in_place(long n, float *h) {
  for (long i = 0; i < n; i += kLanes) store(h + i, vtanh(load(h + i)));
}

// h / (1 + e^-h) = h (1 + tanh(h / 2)) / 2
INLINE void silu_in_place(long n, float *h) {
  for (long i = 0; i < n; i += kLanes) {
    const vec half = load(h + i) * 0.5f;
    store(h + i, half + half * vtanh(half));
  }
}

// g *= 1 - h^2
INLINE void tanh_adjoint(long n, const float *h, float *g) {
  for (long i = 0; i < n; i += kLanes) {
    const vec v = load(h + i);
    store(g + i, load(g + i) * (1.0f - v * v));
  }
}

// ---------------------------------------------------------------------------------------------------------------
// The segment
// ---------------------------------------------------------------------------------------------------------------

extern "C" struct Problem {
  int64_t candidates, particles, groups, length; // R, N = S*P, G, L
  int64_t state, angle_count, action, output;    // D, A, M, O
  int64_t policy_layers, model_layers;
  const int64_t *policy_width, *model_width; // layers + 1 numbers each
  const int64_t *angles;
  const float *model;                    // packed by dynapilco_pack
  const float *const *masks;             // a pointer (N, width) or null for every hidden layer of the model
  const float *motion;                   // [transition; effect; carry], (D + O + C, D), packed as a net of one layer
  const float *centre, *half;            // (M,)
  const float *damping;                  // null, or rows of decay, limit and the scale of every state component (D,)
  int64_t damping_stride;                // from one candidate's row to the next; 0: they share one
  int64_t choice_count;                  // groups of one-hot actions; 0: actions are squashed by tanh
  const int64_t *choices;                // their sizes, M in all
  int64_t carried;                       // C, actions that move the state themselves: M, or 0 without a carry
  int64_t model_silu;                    // 1: the model's hidden units are SiLU instead of tanh; forward only
  const float *bounds;                   // null, or (2, D): the lowest and the highest values of a state
};

extern "C" struct Call {
  const float *const *weights, *const *biases; // of the policies: (R, in, out), (R, out)
  const float *start, *action_noise, *obs_noise, *process_noise;
  float *states, *actions; // the backward pass reads the states where there are bounds
  float *saved; // null: nothing is kept for a backward pass
  float *scratch;
  const float *grad_states, *grad_actions; // null: zero
  float *const *grad_weights, *const *grad_biases;
  float *grad_start;
};

namespace {

// A bump allocator over scratch; with a null base it only measures.
struct Arena {
  float *base;
  long used = 0;
  float *take(long floats) {
    float *p = base + used;
    used += pad(floats);
    return p;
  }
};

// The activations kept for the backward pass. A field of width w is (rows, w) a chunk and step; the steps of a
// chunk are contiguous, so a product over several steps is one product over more rows.
struct Saved {
  float *base;
  long rows, steps; // all the rows held, and the steps (1: every step overwrites the last)
  float *at(long offset, long width, long row0, long chunk_rows, long t) const {
    return base + steps * (offset * rows + row0 * width) + (steps > 1 ? t * chunk_rows * width : 0);
  }
};

struct Chunk {
  long group, r0, rc, n0, nc, row0; // candidates r0.., particles n0.., the first row in Saved
  long rows() const { return rc * nc; }
};

struct Segment {
  const Problem &p;
  const Call &c;
  Net policy, model, motion;
  int64_t motion_width[2];
  long D, A, M, O, R, N, moving; // moving: D + O + C, inputs of the motion
  long features, z_width, z_in; // D + 2A; padded and true width of the model's input
  // offsets of the saved fields, in floats a row
  long z_at, zp_at, th_at, hp_at[kMaxLayers], hm_at[kMaxLayers], saved_width;
  // packed networks
  Layer motion_layer[1], policy_layer[kMaxLayers], model_layer[kMaxLayers];
  float *policies; // R packed sets
  // chunk scratch
  float *x, *xy, *angle, *sine, *cosine, *wide[2], *gx, *gz, *gzp, *gu;
  // weight gradients: `gather` steps of every layer's g, and the running sums of R candidates
  long gather;
  float *delta[kMaxLayers], *sum_w[kMaxLayers], *sum_b[kMaxLayers];

  Segment(const Problem &problem, const Call &call) : p(problem), c(call) {
    policy = {p.policy_layers, p.policy_width};
    model = {p.model_layers, p.model_width};
    D = p.state, A = p.angle_count, M = p.action, O = p.output, R = p.candidates, N = p.particles;
    moving = D + O + p.carried;
    motion_width[0] = moving, motion_width[1] = D;
    motion = {1, motion_width};
    features = D + 2 * A, z_in = features + M, z_width = pad(z_in);
    long at = 0;
    auto field = [&at](long width) { return at += width, at - width; };
    z_at = field(z_width);
    zp_at = field(pad(features));
    th_at = field(pad(M));
    for (long l = 0; l + 1 < policy.layers; ++l) hp_at[l] = field(pad(policy.out(l)));
    for (long l = 0; l + 1 < model.layers; ++l) hm_at[l] = field(pad(model.out(l)));
    saved_width = at;
  }

  long chunk_rows() const { return min_of(kMaxRows, R * (N / p.groups)); }

  // Lay out scratch (or measure it); the same order always.
  long allocate(float *base, bool backward) {
    Arena arena{base};
    const long rows = kMaxRows;
    long widest = z_width > pad(moving) ? z_width : pad(moving);
    for (long l = 0; l < policy.layers; ++l) widest = widest > pad(policy.out(l)) ? widest : pad(policy.out(l));
    for (long l = 0; l < model.layers; ++l) widest = widest > pad(model.out(l)) ? widest : pad(model.out(l));
    policies = arena.take(R * policy.packed_floats());
    x = arena.take(rows * pad(D));
    xy = arena.take(rows * pad(moving));
    angle = arena.take(rows * A), sine = arena.take(rows * A), cosine = arena.take(rows * A);
    wide[0] = arena.take(rows * widest), wide[1] = arena.take(rows * widest);
    if (!backward) return arena.used;
    gx = arena.take(rows * pad(D));
    gz = arena.take(rows * z_width), gzp = arena.take(rows * pad(features));
    gu = arena.take(rows * M);
    gather = kTargetGradRows / chunk_rows();
    gather = gather < 1 ? 1 : min_of(gather, p.length);
    for (long l = 0; l < policy.layers; ++l) {
      delta[l] = arena.take(gather * rows * pad(policy.out(l)));
      sum_w[l] = arena.take(R * grad_size(policy.in(l), policy.out(l)));
      sum_b[l] = arena.take(R * pad(policy.out(l)));
    }
    return arena.used;
  }

  void prepare(int want) {
    const long size = policy.packed_floats();
    for (long r = 0; r < R; ++r) pack_net(policy, c.weights, c.biases, r, policies + r * size, want);
    find_layers(motion, p.motion, motion_layer);
  }

  Saved saved() const {
    if (c.saved) return {c.saved, R * N, p.length};
    return {c.scratch + forward_scratch, kMaxRows, 1};
  }
  long forward_scratch = 0;

  // Calls f(chunk) for all the work, model group by model group.
  template <class F> void each_chunk(F f) {
    const long own = N / p.groups; // particles that share model weights
    const long pieces = (own + kMaxRows - 1) / kMaxRows;
    const long rc = own * 2 <= kMaxRows ? min_of(R, kMaxRows / own) : 1;
    Chunk k{};
    for (k.group = 0; k.group < p.groups; ++k.group) {
      find_layers(model, p.model + k.group * model.packed_floats(), model_layer);
      for (long piece = 0; piece < pieces; ++piece) {
        k.n0 = k.group * own + piece * own / pieces;
        k.nc = k.group * own + (piece + 1) * own / pieces - k.n0;
        for (k.r0 = 0; k.r0 < R; k.r0 += k.rc) {
          k.rc = min_of(rc, R - k.r0);
          f(k);
          k.row0 += k.rows();
        }
      }
    }
  }

  // The rows of candidate r0 + i of this chunk in an (L, R, N, width) tensor.
  template <class T> T *rows_of(T *tensor, const Chunk &k, long t, long i, long width) const {
    return tensor + ((t * R + k.r0 + i) * N + k.n0) * width;
  }

  // Write [v, sin v[angles], cos v[angles]] into the first columns of z.
  void write_features(long rows, const float *v, float *z, long ldz) {
    for (long j = 0; j < A; ++j)
      for (long n = 0; n < rows; ++n) angle[j * rows + n] = v[n * pad(D) + p.angles[j]];
    sincos_all(rows * A, angle, sine, cosine);
    for (long n = 0; n < rows; ++n) {
      float *row = z + n * ldz;
      for (long d = 0; d < D; ++d) row[d] = v[n * pad(D) + d];
      for (long j = 0; j < A; ++j) {
        row[D + j] = sine[j * rows + n];
        row[D + A + j] = cosine[j * rows + n];
      }
    }
  }

  // gx += the adjoint of write_features, from gradients g (rows, ldg) with the saved values z (rows, ldz).
  void features_adjoint(long rows, const float *g, long ldg, const float *z, long ldz) {
    for (long n = 0; n < rows; ++n) {
      const float *gn = g + n * ldg, *zn = z + n * ldz;
      float *row = gx + n * pad(D);
      for (long d = 0; d < D; ++d) row[d] += gn[d];
      for (long j = 0; j < A; ++j)
        row[p.angles[j]] += gn[D + j] * zn[D + A + j] - gn[D + A + j] * zn[D + j];
    }
  }

  void forward_chunk(const Chunk &k, const Saved &kept) {
    const long rows = k.rows(), row0 = c.saved ? k.row0 : 0;
    for (long i = 0; i < k.rc; ++i)
      for (long n = 0; n < k.nc; ++n)
        for (long d = 0; d < D; ++d)
          x[(i * k.nc + n) * pad(D) + d] = rows_of(c.start, k, 0, i, D)[n * D + d];
    for (long t = 0; t < p.length; ++t) {
      float *z = kept.at(z_at, z_width, row0, rows, t);
      write_features(rows, x, z, z_width);
      forward_policy(k, kept, row0, t, z);
      const float *y = forward_model(k, kept, row0, t, z);
      forward_motion(k, t, y, z);
    }
  }

  // Actions of the chunk: into the action columns of z, the output and the saved th.
  void forward_policy(const Chunk &k, const Saved &kept, long row0, long t, float *z) {
    const long rows = k.rows();
    const float *input = z;
    long ld_input = z_width;
    if (c.obs_noise) {
      float *zp = kept.at(zp_at, pad(features), row0, rows, t);
      for (long i = 0; i < k.rc; ++i) {
        const float *noise = rows_of(c.obs_noise, k, t, i, D);
        for (long n = 0; n < k.nc; ++n)
          for (long d = 0; d < D; ++d) {
            const long at = (i * k.nc + n) * pad(D) + d;
            wide[0][at] = x[at] + noise[n * D + d];
          }
      }
      write_features(rows, wide[0], zp, pad(features));
      input = zp, ld_input = pad(features);
    }
    for (long l = 0; l < policy.layers; ++l) {
      const bool last = l + 1 == policy.layers;
      const long width = pad(policy.out(l));
      float *out = last ? wide[0] : kept.at(hp_at[l], width, row0, rows, t);
      for (long i = 0; i < k.rc; ++i) {
        find_layers(policy, policies + (k.r0 + i) * policy.packed_floats(), policy_layer);
        multiply(k.nc, policy.in(l), policy.out(l), input + i * k.nc * ld_input, ld_input,
                 policy_layer[l].forward, policy_layer[l].bias, out + i * k.nc * width);
      }
      if (!last) tanh_in_place(rows * width, out);
      input = out, ld_input = width;
    }
    float *th = kept.at(th_at, pad(M), row0, rows, t);
    for (long i = 0; i < k.rc; ++i) {
      const float *noise = c.action_noise ? rows_of(c.action_noise, k, t, i, M) : nullptr;
      for (long n = 0; n < k.nc; ++n)
        for (long m = 0; m < M; ++m)
          th[(i * k.nc + n) * M + m] = wide[0][(i * k.nc + n) * pad(M) + m] + (noise ? noise[n * M + m] : 0.0f);
    }
    if (p.choice_count)
      choose(rows, th, wide[1]);
    else
      tanh_in_place(rows * M, th); // compact (rows, M); the field is padded beyond
    for (long i = 0; i < k.rc; ++i) {
      float *actions = rows_of(c.actions, k, t, i, M);
      for (long n = 0; n < k.nc; ++n)
        for (long m = 0; m < M; ++m) {
          const long at = (i * k.nc + n) * M + m;
          const float u = p.choice_count ? wide[1][at] : p.centre[m] + p.half[m] * th[at];
          actions[n * M + m] = u;
          z[(i * k.nc + n) * z_width + features + m] = u;
        }
    }
  }

  // Logits th (rows, M) become their softmax, group by group; hard gets 1 at each group's largest, 0 elsewhere, and
  // NaN where the softmax is NaN.
  void choose(long rows, float *th, float *hard) const {
    for (long n = 0; n < rows; ++n, th += M, hard += M)
      for (long c = 0, at = 0; c < p.choice_count; at += p.choices[c++]) {
        const long size = p.choices[c];
        float *v = th + at, total = 0.0f;
        long best = 0;
        for (long j = 1; j < size; ++j) best = v[j] > v[best] ? j : best;
        const float largest = v[best];
        for (long j = 0; j < size; ++j) total += v[j] = std::exp(v[j] - largest);
        for (long j = 0; j < size; ++j) {
          v[j] /= total;
          hard[at + j] = (j == best ? 1.0f : 0.0f) + (v[j] - v[j]);
        }
      }
  }

  // The adjoint of the softmax that stands for the choice: g_j = p_j (gu_j - sum_i p_i gu_i), in place.
  void choose_adjoint(const float *prob, float *g) const {
    for (long c = 0, at = 0; c < p.choice_count; at += p.choices[c++]) {
      float mean = 0.0f;
      for (long j = at; j < at + p.choices[c]; ++j) mean += prob[j] * g[j];
      for (long j = at; j < at + p.choices[c]; ++j) g[j] = prob[j] * (g[j] - mean);
    }
  }

  // The model's outputs (rows, pad(O)), without their noise.
  const float *forward_model(const Chunk &k, const Saved &kept, long row0, long t, const float *z) {
    const long rows = k.rows();
    const float *input = z;
    long ld_input = z_width;
    for (long l = 0; l < model.layers; ++l) {
      const bool last = l + 1 == model.layers;
      const long units = model.out(l), width = pad(units);
      float *out = last ? wide[0] : kept.at(hm_at[l], width, row0, rows, t);
      if (last && input == wide[0]) out = wide[1];
      multiply(rows, model.in(l), units, input, ld_input, model_layer[l].forward, model_layer[l].bias, out);
      if (last) return out;
      if (p.model_silu)
        silu_in_place(rows * width, out);
      else
        tanh_in_place(rows * width, out);
      input = out, ld_input = width;
      if (const float *mask = p.masks[l]) {
        float *masked = input == wide[0] ? wide[1] : wide[l & 1];
        for (long i = 0; i < k.rc; ++i)
          for (long n = 0; n < k.nc; ++n) {
            const float *from = out + (i * k.nc + n) * width, *m = mask + (k.n0 + n) * units;
            float *to = masked + (i * k.nc + n) * width;
            for (long j = 0; j < units; ++j) to[j] = from[j] * m[j];
          }
        input = masked;
      }
    }
    return nullptr; // not reached
  }

  // x <- [x, y + noise, u] @ [transition; effect; carry], with u from the action columns of z
  void forward_motion(const Chunk &k, long t, const float *y, const float *z) {
    const long rows = k.rows();
    for (long i = 0; i < k.rc; ++i) {
      const float *noise = c.process_noise ? rows_of(c.process_noise, k, t, i, O) : nullptr;
      for (long n = 0; n < k.nc; ++n) {
        const long row = i * k.nc + n;
        float *to = xy + row * pad(moving);
        for (long d = 0; d < D; ++d) to[d] = x[row * pad(D) + d];
        for (long o = 0; o < O; ++o) to[D + o] = y[row * pad(O) + o] + (noise ? noise[n * O + o] : 0.0f);
        for (long m = 0; m < p.carried; ++m) to[D + O + m] = z[row * z_width + features + m];
      }
    }
    multiply(rows, moving, D, xy, pad(moving), motion_layer[0].forward, motion_layer[0].bias, x);
    if (p.bounds) keep_inside(rows);
    for (long i = 0; i < k.rc; ++i) {
      float *states = rows_of(c.states, k, t, i, D);
      for (long n = 0; n < k.nc; ++n)
        for (long d = 0; d < D; ++d) states[n * D + d] = x[(i * k.nc + n) * pad(D) + d];
    }
  }

  // x <- clamp(x, low, high); NaN stays NaN.
  void keep_inside(long rows) {
    const float *low = p.bounds, *high = p.bounds + D;
    for (long n = 0; n < rows; ++n)
      for (long d = 0; d < D; ++d) {
        float &v = x[n * pad(D) + d];
        v = v < low[d] ? low[d] : v > high[d] ? high[d] : v;
      }
  }

  // gx <- 0 where the state of step t lies on a bound.
  void keep_inside_adjoint(const Chunk &k, long t) {
    const float *low = p.bounds, *high = p.bounds + D;
    for (long i = 0; i < k.rc; ++i) {
      const float *after = rows_of(c.states, k, t, i, D);
      for (long n = 0; n < k.nc; ++n)
        for (long d = 0; d < D; ++d)
          if (after[n * D + d] <= low[d] || after[n * D + d] >= high[d]) gx[(i * k.nc + n) * pad(D) + d] = 0.0f;
    }
  }

  void backward_chunk(const Chunk &k, const Saved &kept) {
    const long rows = k.rows();
    for (long i = 0; i < rows * pad(D); ++i) gx[i] = 0.0f;
    long held = 0; // steps whose g wait in delta
    for (long t = p.length - 1; t >= 0; --t) {
      const float *z = kept.at(z_at, z_width, k.row0, rows, t);
      const float *gy = backward_motion(k, t);
      backward_model(k, kept, t, gy);
      backward_policy(k, kept, t, z, gather - 1 - held);
      if (p.damping) damp(k);
      if (++held == gather || t == 0) {
        gather_gradients(k, kept, t, held);
        held = 0;
      }
    }
    for (long i = 0; i < k.rc; ++i) {
      float *out = rows_of(c.grad_start, k, 0, i, D);
      for (long n = 0; n < k.nc; ++n)
        for (long d = 0; d < D; ++d) out[n * D + d] = gx[(i * k.nc + n) * pad(D) + d];
    }
  }

  // gx <- decay * gx, then bound the norm of (scale * gx) of every particle; NaN stays NaN.
  void damp(const Chunk &k) {
    for (long i = 0; i < k.rc; ++i) {
      const float *row = p.damping + (k.r0 + i) * p.damping_stride;
      const float decay = row[0], limit = row[1], *scale = row + 2;
      for (long n = 0; n < k.nc; ++n) {
        float *g = gx + (i * k.nc + n) * pad(D), square = 0.0f;
        for (long d = 0; d < D; ++d) {
          g[d] *= decay;
          square += g[d] * scale[d] * (g[d] * scale[d]);
        }
        const float norm = std::sqrt(square);
        if (limit > 0.0f && norm > limit)
          for (long d = 0; d < D; ++d) g[d] *= limit / norm;
      }
    }
  }

  // gx <- the part of the state that moves on; gu (rows, M) <- that of the carried actions; returns gy (rows, pad(O)).
  const float *backward_motion(const Chunk &k, long t) {
    const long rows = k.rows();
    if (c.grad_states)
      for (long i = 0; i < k.rc; ++i) {
        const float *g = rows_of(c.grad_states, k, t, i, D);
        for (long n = 0; n < k.nc; ++n)
          for (long d = 0; d < D; ++d) gx[(i * k.nc + n) * pad(D) + d] += g[n * D + d];
      }
    if (p.bounds) keep_inside_adjoint(k, t);
    multiply(rows, D, moving, gx, pad(D), motion_layer[0].backward, nullptr, xy);
    float *gy = wide[0];
    for (long n = 0; n < rows; ++n) {
      const float *from = xy + n * pad(moving);
      for (long d = 0; d < D; ++d) gx[n * pad(D) + d] = from[d];
      for (long o = 0; o < O; ++o) gy[n * pad(O) + o] = from[D + o];
      for (long m = 0; m < p.carried; ++m) gu[n * M + m] = from[D + O + m];
    }
    return gy;
  }

  // gz (rows, z_width) <- the gradient of the model's input.
  void backward_model(const Chunk &k, const Saved &kept, long t, const float *g) {
    const long rows = k.rows();
    for (long l = model.layers - 1; l >= 0; --l) {
      float *to = l == 0 ? gz : g == wide[0] ? wide[1] : wide[0];
      multiply(rows, model.out(l), model.in(l), g, pad(model.out(l)), model_layer[l].backward, nullptr, to);
      g = to;
      if (l == 0) break;
      const long units = model.in(l), width = pad(units);
      tanh_adjoint(rows * width, kept.at(hm_at[l - 1], width, k.row0, rows, t), to);
      if (const float *mask = p.masks[l - 1])
        for (long i = 0; i < k.rc; ++i)
          for (long n = 0; n < k.nc; ++n) {
            const float *m = mask + (k.n0 + n) * units;
            float *row = to + (i * k.nc + n) * width;
            for (long j = 0; j < units; ++j) row[j] *= m[j];
          }
    }
  }

  // The policy's g of every layer into slot `slot` of delta; gx gains all that comes through the features.
  void backward_policy(const Chunk &k, const Saved &kept, long t, const float *z, long slot) {
    const long rows = k.rows();
    const float *th = kept.at(th_at, pad(M), k.row0, rows, t);
    const long last = policy.layers - 1;
    float *g = delta[last] + slot * rows * pad(M);
    for (long i = 0; i < k.rc; ++i) {
      const float *from = c.grad_actions ? rows_of(c.grad_actions, k, t, i, M) : nullptr;
      for (long n = 0; n < k.nc; ++n) {
        const long row = i * k.nc + n;
        float *to = g + row * pad(M);
        for (long m = 0; m < M; ++m) {
          const float h = th[row * M + m];
          const float carried = p.carried ? gu[row * M + m] : 0.0f;
          const float g_u = gz[row * z_width + features + m] + (from ? from[n * M + m] : 0.0f) + carried;
          to[m] = p.choice_count ? g_u : g_u * p.half[m] * (1.0f - h * h);
        }
        if (p.choice_count) choose_adjoint(th + row * M, to);
      }
    }
    for (long l = last; l >= 0; --l) {
      const long width = pad(policy.in(l)), ldg = pad(policy.out(l));
      float *to = l == 0 ? gzp : delta[l - 1] + slot * rows * width;
      for (long i = 0; i < k.rc; ++i) {
        find_layers(policy, policies + (k.r0 + i) * policy.packed_floats(), policy_layer);
        multiply(k.nc, policy.out(l), policy.in(l), g + i * k.nc * ldg, ldg, policy_layer[l].backward, nullptr,
                 to + i * k.nc * width);
      }
      if (l > 0) tanh_adjoint(rows * width, kept.at(hp_at[l - 1], width, k.row0, rows, t), to);
      g = to;
    }
    features_adjoint(rows, gz, z_width, z, z_width);
    if (c.obs_noise)
      features_adjoint(rows, gzp, pad(features), kept.at(zp_at, pad(features), k.row0, rows, t), pad(features));
    else
      features_adjoint(rows, gzp, pad(features), z, z_width);
  }

  // Add the products of the steps t .. t + steps - 1 to the running sums.
  void gather_gradients(const Chunk &k, const Saved &kept, long t, long steps) {
    const long rows = k.rows();
    for (long l = 0; l < policy.layers; ++l) {
      const long K = policy.in(l), U = policy.out(l);
      const float *input;
      long ld = pad(K);
      if (l > 0)
        input = kept.at(hp_at[l - 1], ld, k.row0, rows, t);
      else if (c.obs_noise)
        input = kept.at(zp_at, ld, k.row0, rows, t);
      else
        ld = z_width, input = kept.at(z_at, ld, k.row0, rows, t);
      const float *g = delta[l] + (gather - steps) * rows * pad(U);
      const bool whole = k.rc == 1; // the rows of a candidate are contiguous over the steps
      for (long s = 0; s < (whole ? 1 : steps); ++s)
        for (long i = 0; i < k.rc; ++i) {
          const long first = s * rows + i * k.nc, many = whole ? steps * rows : k.nc, r = k.r0 + i;
          accumulate(many, K, U, input + first * ld, ld, g + first * pad(U), sum_w[l] + r * grad_size(K, U));
          sum_rows(many, U, g + first * pad(U), sum_b[l] + r * pad(U));
        }
    }
  }

  void clear_sums() {
    for (long l = 0; l < policy.layers; ++l) {
      std::memset(sum_w[l], 0, sizeof(float) * R * grad_size(policy.in(l), policy.out(l)));
      std::memset(sum_b[l], 0, sizeof(float) * R * pad(policy.out(l)));
    }
  }

  void write_sums() {
    for (long l = 0; l < policy.layers; ++l) {
      const long K = policy.in(l), U = policy.out(l);
      const bool transposed = grad_transposed(K, U);
      for (long r = 0; r < R; ++r) {
        const float *w = sum_w[l] + r * grad_size(K, U);
        for (long i = 0; i < K; ++i)
          for (long j = 0; j < U; ++j)
            c.grad_weights[l][(r * K + i) * U + j] = transposed ? w[j * pad(K) + i] : w[i * pad(U) + j];
        for (long j = 0; j < U; ++j) c.grad_biases[l][r * U + j] = sum_b[l][r * pad(U) + j];
      }
    }
  }
};

} // namespace

// ---------------------------------------------------------------------------------------------------------------
// The C face
// ---------------------------------------------------------------------------------------------------------------

extern "C" {

// Floats of one packed weight set.
int64_t dynapilco_packed_floats(int64_t layers, const int64_t *width) {
  return Net{(long)layers, width}.packed_floats();
}

void dynapilco_pack(int64_t layers, const int64_t *width, int64_t groups, const float *const *weights,
                    const float *const *biases, float *dst) {
  const Net net{(long)layers, width};
  const long size = net.packed_floats();
  for (long g = 0; g < groups; ++g) pack_net(net, weights, biases, g, dst + g * size, kForward | kBackward);
}

// sizes[0]: floats to keep for the backward pass; [1], [2]: scratch of the forward and the backward pass.
void dynapilco_sizes(const Problem *p, int64_t *sizes) {
  const Call none{};
  Segment s(*p, none);
  sizes[0] = s.saved_width * s.R * s.N * p->length + kLanes;
  sizes[1] = s.allocate(nullptr, false) + s.saved_width * kMaxRows + kLanes;
  sizes[2] = s.allocate(nullptr, true) + kLanes;
}

void dynapilco_forward(const Problem *p, const Call *c) {
  Segment s(*p, *c);
  s.forward_scratch = s.allocate(c->scratch, false);
  s.prepare(kForward);
  const Saved kept = s.saved();
  s.each_chunk([&](const Chunk &k) { s.forward_chunk(k, kept); });
}

void dynapilco_backward(const Problem *p, const Call *c) {
  Segment s(*p, *c);
  s.allocate(c->scratch, true);
  s.prepare(kBackward);
  s.clear_sums();
  const Saved kept = s.saved();
  s.each_chunk([&](const Chunk &k) { s.backward_chunk(k, kept); });
  s.write_sums();
}

} // extern "C"
