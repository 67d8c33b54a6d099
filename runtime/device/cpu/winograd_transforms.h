// The transforms of F(4x4, 3x3) and what they read and write: pictures and weights in memory, V, U, M and Z in blocks. What these are
// says winograd_lanes.h, the only place that includes this.
#include <math.h>
#include <omp.h>
#include <string.h>

typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Half __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

enum {
    POINTS = 36,
    PAIR = 2 * LANES,
    TAPS = 16,  // channels whose filters are read at a time
};

#define INLINE static inline __attribute__((always_inline))

static const float A1 = 0.625f, A2 = 0.390625f, A3 = 0.244140625f, B1 = 1.5f, B2 = 2.25f, B3 = 3.375f;
static const float SUM = 2.640625f, PRODUCT = 0.87890625f;                  // a^2 + b^2, a^2 b^2
static const float PER_PRODUCT = (float)(1 / 0.87890625);
static const float PER_A = (float)(1 / (2 * 0.390625 * (0.390625 - 2.25)));  // 1 / (2 a^2 (a^2 - b^2))
static const float PER_B = (float)(1 / (2 * 2.25 * (2.25 - 0.390625)));

// ---- elements in memory

INLINE Vec read_vector(const void *from, int64_t at, bool bf16) {
    if (!bf16) return *(const Vec *)((const float *)from + at);
    return (Vec)(__builtin_convertvector(*(const Half *)((const uint16_t *)from + at), Bits) << 16);
}

// In bf16 as lv_bf16_from_f32: to the nearest, of two the even one; NaN stays NaN.
INLINE void write_vector(void *to, int64_t at, bool bf16, Vec x) {
    if (!bf16) {
        *(Vec *)((float *)to + at) = x;
        return;
    }
    const Bits bits = (Bits)x, high = bits >> 16, rounded = (bits + 0x7FFF + (high & 1)) >> 16, nan = (Bits)(x != x);
    *(Half *)((uint16_t *)to + at) = __builtin_convertvector((nan & (high | 0x40)) | (~nan & rounded), Half);
}

INLINE float read_one(const void *from, int64_t at, bool bf16) {
    return bf16 ? lv_f32_from_bf16(((const uint16_t *)from)[at]) : ((const float *)from)[at];
}

INLINE void write_one(void *to, int64_t at, bool bf16, float x) {
    if (bf16) ((uint16_t *)to)[at] = lv_bf16_from_f32(x);
    else ((float *)to)[at] = x;
}

// Where the elements of row i and row i + s go, s = 2^k, as lanes of both: squares of s x s beside the diagonal change places.
#define KEPT(l, s) (l & s ? LANES + l - s : l)
#define MOVED(l, s) (l & s ? LANES + l : l + s)
#define EIGHT(of, l, s) of((l), s), of((l + 1), s), of((l + 2), s), of((l + 3), s), of((l + 4), s), of((l + 5), s), of((l + 6), s), of((l + 7), s)
#if LANES == 16
#define ROW(of, s) {EIGHT(of, 0, s), EIGHT(of, 8, s)}
static const Bits kept[] = {ROW(KEPT, 1), ROW(KEPT, 2), ROW(KEPT, 4), ROW(KEPT, 8)}, moved[] = {ROW(MOVED, 1), ROW(MOVED, 2), ROW(MOVED, 4), ROW(MOVED, 8)};
#else
#define ROW(of, s) {EIGHT(of, 0, s)}
static const Bits kept[] = {ROW(KEPT, 1), ROW(KEPT, 2), ROW(KEPT, 4)}, moved[] = {ROW(MOVED, 1), ROW(MOVED, 2), ROW(MOVED, 4)};
#endif

#ifdef __clang__  // which takes no vector of places
INLINE Vec shuffled(Vec a, Vec b, Bits from) {
    Vec to = a;
    for (int i = 0; i < LANES; i++) to[i] = from[i] < LANES ? a[from[i]] : b[from[i] - LANES];
    return to;
}
#else
#define shuffled __builtin_shuffle
#endif

INLINE void exchange(Vec *v, int k) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        const Vec a = v[i], b = v[i | 1 << k];
        if (!(i >> k & 1)) v[i] = shuffled(a, b, kept[k]), v[i | 1 << k] = shuffled(a, b, moved[k]);
    }
}

// Rows become columns.
INLINE void transpose(Vec *v) {
    exchange(v, 0), exchange(v, 1), exchange(v, 2);
#if LANES == 16
    exchange(v, 3);
#endif
}

// ---- the transforms in one dimension; `s` and `t`: strides

// B^T: 6 inputs -> 6
INLINE void spread_input(const Vec *d, int s, Vec *v, int t) {
    const Vec e = d[4 * s] - B2 * d[2 * s], f = A1 * (d[3 * s] - B2 * d[s]);
    const Vec g = d[4 * s] - A2 * d[2 * s], h = B1 * (d[3 * s] - A2 * d[s]);
    v[0] = PRODUCT * d[0] - SUM * d[2 * s] + d[4 * s];
    v[t] = e + f, v[2 * t] = e - f, v[3 * t] = g + h, v[4 * t] = g - h;
    v[5 * t] = PRODUCT * d[s] - SUM * d[3 * s] + d[5 * s];
}

// A^T: 6 -> 4 results
INLINE void gather_output(const Vec *m, int s, Vec *y, int t) {
    const Vec e = m[s] + m[2 * s], f = m[s] - m[2 * s], g = m[3 * s] + m[4 * s], h = m[3 * s] - m[4 * s];
    y[0] = m[0] + e + g;
    y[t] = A1 * f + B1 * h;
    y[2 * t] = A2 * e + B2 * g;
    y[3 * t] = A3 * f + B3 * h + m[5 * s];
}

// A: 4 -> 6
INLINE void spread_output(const Vec *y, int s, Vec *z, int t) {
    const Vec e = y[0] + A2 * y[2 * s], f = A1 * y[s] + A3 * y[3 * s], g = y[0] + B2 * y[2 * s], h = B1 * y[s] + B3 * y[3 * s];
    z[0] = y[0], z[t] = e + f, z[2 * t] = e - f, z[3 * t] = g + h, z[4 * t] = g - h, z[5 * t] = y[3 * s];
}

// G: 3 taps -> 6
INLINE void spread_weight(const Vec *g, int s, Vec *u, int t) {
    const Vec e = PER_A * (g[0] + A2 * g[2 * s]), f = PER_A * A1 * g[s], h = PER_B * (g[0] + B2 * g[2 * s]), i = PER_B * B1 * g[s];
    u[0] = PER_PRODUCT * g[0], u[t] = e + f, u[2 * t] = e - f, u[3 * t] = h + i, u[4 * t] = h - i, u[5 * t] = g[2 * s];
}

// G^T: 6 -> 3 taps
INLINE void gather_weight(const Vec *u, int64_t s, Vec *g, int t) {
    const Vec e = PER_A * (u[s] + u[2 * s]), f = PER_A * (u[s] - u[2 * s]);
    const Vec h = PER_B * (u[3 * s] + u[4 * s]), i = PER_B * (u[3 * s] - u[4 * s]);
    g[0] = PER_PRODUCT * u[0] + e + h;
    g[t] = A1 * f + B1 * i;
    g[2 * t] = A2 * e + B2 * h + u[5 * s];
}

// ---- pictures

typedef struct {
    int64_t image, row, column;  // of the tile's first result
} Corner;

static int64_t tiles_down(const WinogradShape *s) { return (s->out_height + 3) / 4; }
static int64_t tiles_across(const WinogradShape *s) { return (s->out_width + 3) / 4; }
static int64_t tile_count(const WinogradShape *s) { return s->images * tiles_down(s) * tiles_across(s); }
static int64_t pair_count(const WinogradShape *s) { return (s->out + PAIR - 1) / PAIR; }

static Corner corner_of(const WinogradShape *s, int64_t tile) {
    const int64_t across = tiles_across(s), down = tiles_down(s);
    return (Corner){tile / (across * down), tile / across % down * 4, tile % across * 4};
}

INLINE int64_t vector_at(const WinogradPlace *p, int64_t image, int64_t channel) {
    return image * p->image + channel / p->block * p->block_stride + channel % p->block;
}

// n x n vectors from (row, column) on; zero outside of the picture. `at`: the picture's vector at (0, 0)
INLINE void read_square_of(const void *from, int64_t at, bool bf16, const WinogradPlace *p, int64_t row, int64_t column,
                           int64_t height, int64_t width, int n, Vec *d) {
    if (row >= 0 && column >= 0 && row + n <= height && column + n <= width) {
        at += row * p->row + column * p->column;
#pragma GCC unroll 6
        for (int i = 0; i < n; i++)
#pragma GCC unroll 6
            for (int j = 0; j < n; j++) d[i * n + j] = read_vector(from, at + i * p->row + j * p->column, bf16);
        return;
    }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            const int64_t y = row + i, x = column + j;
            const bool inside = y >= 0 && y < height && x >= 0 && x < width;
            d[i * n + j] = inside ? read_vector(from, at + y * p->row + x * p->column, bf16) : (Vec){0};
        }
}

INLINE void read_square(const void *from, int64_t at, const WinogradPlace *p, int64_t row, int64_t column, int64_t height,
                        int64_t width, int n, Vec *d) {
    if (p->bf16) read_square_of(from, at, true, p, row, column, height, width, n, d);
    else read_square_of(from, at, false, p, row, column, height, width, n, d);
}

// The square that is read next: no prefetcher foresees its lines.
INLINE void fetch_square(const void *from, int64_t at, const WinogradPlace *p, int64_t row, int64_t column, int64_t height,
                         int64_t width, int n) {
    const char *first = (const char *)from + (at + row * p->row + column * p->column) * (p->bf16 ? 2 : 4);
    if (row < 0 || column < 0 || row + n > height || column + n > width) return;
#pragma GCC unroll 6
    for (int i = 0; i < n; i++)
#pragma GCC unroll 6
        for (int j = 0; j < n; j++) __builtin_prefetch(first + (i * p->row + j * p->column) * (p->bf16 ? 2 : 4));
}

// Where V and its points lie
typedef struct {
    int64_t chunk, chunk_stride, stride;  // channels of a chunk; floats from chunk to chunk, from point to point
} Inputs;

// A tile of x into V, where it is number t: chunk q of its channels
static void transform_inputs(const WinogradShape *s, const void *x, int64_t tile, const Inputs *in, int64_t q, float *v, int64_t t) {
    const Corner at = corner_of(s, tile);
    const int64_t row = at.row - s->above, column = at.column - s->left;
    const int64_t begin = q * in->chunk, end = begin + in->chunk < s->in ? begin + in->chunk : s->in;
    for (int64_t c = begin; c < end; c += LANES) {
        Vec d[36], e[36], f[6];
        float *to = v + q * in->chunk_stride + t * in->chunk + c - begin;
        const bool last = c + LANES >= end;
        fetch_square(x, vector_at(&s->x, at.image, last ? begin : c + LANES), &s->x, row, column + (last ? 4 : 0), s->height, s->width, 6);
        read_square(x, vector_at(&s->x, at.image, c), &s->x, row, column, s->height, s->width, 6, d);
#pragma GCC unroll 6
        for (int j = 0; j < 6; j++) spread_input(d + j, 6, e + j, 6);
        for (int i = 0; i < 6; i++) {
            spread_input(e + 6 * i, 1, f, 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) *(Vec *)(to + (6 * i + j) * in->stride) = f[j];
        }
    }
}

// A tile of dy into Z: pair q of its channels
static void transform_gradients(const WinogradShape *s, const void *y, int64_t tile, int64_t q, Vec *z, int64_t stride) {
    const Corner at = corner_of(s, tile);
    for (int64_t o = q * PAIR; o < (q + 1) * PAIR; o += LANES) {
        Vec d[16] = {0}, e[24], f[6];
        Vec *to = z + q * POINTS * stride + o % PAIR / LANES;
        const bool last = o % PAIR > 0 || o + LANES >= s->out;
        if (o < s->out) {
            fetch_square(y, vector_at(&s->y, at.image, last ? q * PAIR : o + LANES), &s->y, at.row, at.column + (last ? 4 : 0), s->out_height, s->out_width, 4);
            read_square(y, vector_at(&s->y, at.image, o), &s->y, at.row, at.column, s->out_height, s->out_width, 4, d);
        }
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) spread_output(d + j, 4, e + j, 4);
        for (int i = 0; i < 6; i++) {
            spread_output(e + 4 * i, 1, f, 1);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) to[(6 * i + j) * stride] = f[j];
        }
    }
}

static Vec activate(LvActivation activation, Vec x) {
    for (int l = 0; activation != LV_ACTIVATION_NONE && l < LANES; l++) {
        if (activation == LV_ACTIVATION_RELU) x[l] = x[l] > 0 ? x[l] : 0;
        else if (activation == LV_ACTIVATION_SWISH) x[l] = x[l] / (1 + expf(-x[l]));
        else x[l] = 0.5f * x[l] * (1 + erff(x[l] * 0.70710678f));
    }
    return x;
}

// A tile's results of the channels o ... o + LANES - 1
static void transform_outputs(const WinogradShape *s, const WinogradData *data, int64_t tile, int64_t o, const Vec *m, int64_t stride) {
    const Corner at = corner_of(s, tile);
    const int64_t rows = s->out_height - at.row < 4 ? s->out_height - at.row : 4;
    const int64_t columns = s->out_width - at.column < 4 ? s->out_width - at.column : 4;
    const Vec bias = data->bias ? read_vector(data->bias, o, s->bias_bf16) : (Vec){0};
    const int64_t place = vector_at(&s->y, at.image, o) + at.row * s->y.row + at.column * s->y.column;
    Vec d[36], e[24], f[4];
#pragma GCC unroll 36
    for (int p = 0; p < POINTS; p++) d[p] = m[p * stride];
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) gather_output(d + j, 6, e + j, 6);
    for (int64_t i = 0; i < rows; i++) {
        gather_output(e + 6 * i, 1, f, 1);
        for (int64_t j = 0; j < columns; j++) {
            const int64_t k = place + i * s->y.row + j * s->y.column;
            Vec y = f[j] + bias;
            if (s->activation != LV_ACTIVATION_NONE) y = activate(s->activation, y);
            if (data->residual) y += read_vector(data->residual, k, s->y.bf16);
            write_vector(data->y, k, s->y.bf16, y);
        }
    }
}

// ---- weights

// U is a vector further from point to point than there are values: powers of two would all fall on one set of the cache.
static int64_t weight_stride(int64_t channels) { return 2 * (channels + 1); }

// Taps of the filters of LANES results and `count` input channels, which are whole vectors: [channel][9][LANES]. A result's
// filters lie one behind the other.
INLINE void read_taps_of(const WinogradShape *s, const void *w, int64_t o, int64_t c, int64_t count, float *taps, bool bf16) {
    for (int64_t k = 0; k < 9 * count; k += LANES) {
        Vec rows[LANES];
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) rows[l] = read_vector(w, (o + l) * s->lane_stride + 9 * c + k, bf16);
        transpose(rows);
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) *(Vec *)(taps + (k + l) * LANES) = rows[l];
    }
}

// The same of a data gradient, whose results are the filters' inputs, last tap first
INLINE void read_flipped_of(const WinogradShape *s, const void *w, int64_t o, int64_t c, int64_t count, float *taps, bool bf16) {
    for (int l = 0; l < LANES; l++)
        for (int64_t i = 0; i < count; i++) {
            const int64_t from = (o + l) * s->lane_stride + (c + i) * s->depth_stride;
#pragma GCC unroll 9
            for (int k = 0; k < 9; k++) taps[(9 * i + k) * LANES + l] = read_one(w, from + 8 - k, bf16);
        }
}

static void read_taps(const WinogradShape *s, const void *w, int64_t o, int64_t c, int64_t count, float *taps) {
    if (s->flipped && s->weight_bf16) read_flipped_of(s, w, o, c, count, taps, true);
    else if (s->flipped) read_flipped_of(s, w, o, c, count, taps, false);
    else if (s->weight_bf16) read_taps_of(s, w, o, c, count, taps, true);
    else read_taps_of(s, w, o, c, count, taps, false);
}

// U of the results o ... o + PAIR - 1 and the input channels c ... c + count - 1
static void transform_weights(const WinogradShape *s, const void *w, int64_t o, int64_t c, int64_t count, Vec *u, int64_t stride) {
    for (int v = 0; v < 2; v++, o += LANES)
        for (int64_t first = 0; first < count; first += TAPS) {
            float taps[TAPS * 9 * LANES];
            const int64_t some = count - first < TAPS ? count - first : TAPS;
            if (o < s->out) read_taps(s, w, o, c + first, some, taps);
            else memset(taps, 0, sizeof taps);
            for (int64_t i = 0; i < some; i++) {
                const Vec *g = (const Vec *)taps + 9 * i;
                Vec e[18], f[6], *to = u + 2 * (first + i) + v;
#pragma GCC unroll 3
                for (int j = 0; j < 3; j++) spread_weight(g + j, 3, e + j, 3);
#pragma GCC unroll 6
                for (int p = 0; p < 6; p++) {
                    spread_weight(e + 3 * p, 1, f, 1);
#pragma GCC unroll 6
                    for (int q = 0; q < 6; q++) to[(6 * p + q) * stride] = f[q];
                }
            }
        }
}

// The same weights' gradient of dU, written or added
static void gather_weights(const WinogradShape *s, const Vec *du, int64_t stride, int64_t o, int64_t c, int64_t count, float *dw, bool add) {
    for (int v = 0; v < 2 && o < s->out; v++, o += LANES)
        for (int64_t first = 0; first < count; first += LANES) {
            Vec taps[9 * LANES];
            for (int i = 0; i < LANES; i++) {
                Vec e[18];
                const Vec *d = du + 2 * (first + i) + v;
#pragma GCC unroll 6
                for (int j = 0; j < 6; j++) gather_weight(d + j * stride, 6 * stride, e + j, 6);
#pragma GCC unroll 3
                for (int p = 0; p < 3; p++) gather_weight(e + 6 * p, 1, taps + 9 * i + 3 * p, 1);
            }
            for (int k = 0; k < 9; k++) {
                transpose(taps + LANES * k);
                for (int l = 0; l < LANES; l++) {
                    Vec *to = (Vec *)(dw + (o + l) * s->lane_stride + 9 * (c + first) + LANES * k);
                    if (add) *to += taps[LANES * k + l];
                    else *to = taps[LANES * k + l];
                }
            }
        }
}
