// The body of winograd_avx2.c and winograd_avx512.c, which define LANES and TILE_ROWS. Included once in each; not a header.
//
// F(4x4, 3x3) (Winograd 1980; Lavin & Gray 2016): a tile of 4 x 4 results of a 3 x 3 filter from 6 x 6 inputs with 36
// multiplications a channel in place of 144: y = A^T [(G g G^T) * (B^T d B)] A. Interpolation points are 0, +-5/8, +-3/2 and infinity:
// with those f32 is twice as exact as with the usual 0, +-1, +-2 (7.6e-7 to 1.7e-6 of the norm over 64 channels; direct sums 4.2e-7).
//
// Channels lie across lanes. The 36 products over channels are small matmuls V U of TILE_ROWS x 2 vectors in registers:
//   V [36][tile][in]           transformed inputs, read a float at a time and broadcast
//   U [36][pair][in][2 LANES]  transformed weights, made anew by each call
//   M [pair][36][tile][2 LANES]
// Where weights are few, threads take blocks of tiles of their own, whose V and M stay in their caches, and U streams past. Where
// weights are many and tiles few, they share one large block and each takes other products of it, so that U is read but once.
// The weight's gradient is the transpose: from x the same V, from dy Z = A dy A^T laid out as M, dU [36][pair][in][2 LANES] = V^T Z
// summed over tiles, dw = G^T dU G, always shared. Bits do not depend on the number of threads.
//
// Operands of bf16 are widened as they are read, results are rounded as they are written; all between is f32.
#include <math.h>
#include <omp.h>

typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES)));
typedef uint16_t Half __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

enum {
    POINTS = 36,
    PAIR = 2 * LANES,
    BLOCK_BYTES = 1 << 20,        // V and M of a thread's block
    LEAST_SHARED_BYTES = 2 << 20, // of a block that all share: at least this, as much as U has
    MOST_SHARED_BYTES = 16 << 20,
    MAX_ROWS = 16,                // TILE_ROWS in a thread's block
};

#define INLINE static inline __attribute__((always_inline))

static const float A1 = 0.625f, A2 = 0.390625f, A3 = 0.244140625f, B1 = 1.5f, B2 = 2.25f, B3 = 3.375f;
static const float SUM = 2.640625f, PRODUCT = 0.87890625f;                  // a^2 + b^2, a^2 b^2
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
    u[0] = g[0] / PRODUCT, u[t] = e + f, u[2 * t] = e - f, u[3 * t] = h + i, u[4 * t] = h - i, u[5 * t] = g[2 * s];
}

// G^T: 6 -> 3 taps
INLINE void gather_weight(const Vec *u, int s, Vec *g, int t) {
    const Vec e = PER_A * (u[s] + u[2 * s]), f = PER_A * (u[s] - u[2 * s]);
    const Vec h = PER_B * (u[3 * s] + u[4 * s]), i = PER_B * (u[3 * s] - u[4 * s]);
    g[0] = u[0] / PRODUCT + e + h;
    g[t] = A1 * f + B1 * i;
    g[2 * t] = A2 * e + B2 * h + u[5 * s];
}

// ---- products

// c[row] (+)= sum over k of a(row, k) b[k], b and c 2 vectors an entry
INLINE void product_rows(const float *a, int64_t row, int64_t step, int64_t depth, const Vec *b, Vec *c, bool add, int rows) {
    Vec sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) sum[r][0] = add ? c[2 * r] : (Vec){0}, sum[r][1] = add ? c[2 * r + 1] : (Vec){0};
    for (int64_t k = 0; k < depth; k++, a += step, b += 2) {
        const Vec b0 = b[0], b1 = b[1];
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const float x = a[r * row];
            sum[r][0] += x * b0, sum[r][1] += x * b1;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) c[2 * r] = sum[r][0], c[2 * r + 1] = sum[r][1];
}

static void product(const float *a, int64_t row, int64_t step, int64_t depth, const Vec *b, Vec *c, bool add, int64_t rows) {
    int64_t r = 0;
    // 6 rows at a time leave 2 of 8: rather 4 and 4
    for (; r + TILE_ROWS <= rows && (rows - r != 8 || TILE_ROWS > 8); r += TILE_ROWS)
        product_rows(a + r * row, row, step, depth, b, c + 2 * r, add, TILE_ROWS);
    for (; r + 4 <= rows; r += 4) product_rows(a + r * row, row, step, depth, b, c + 2 * r, add, 4);
    for (; r < rows; r++) product_rows(a + r * row, row, step, depth, b, c + 2 * r, add, 1);
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

// Tiles first ... first + count - 1 of x into V; `stride`: from point to point
static void transform_inputs(const WinogradShape *s, const void *x, int64_t first, int64_t count, float *v, int64_t stride) {
    for (int64_t t = 0; t < count; t++) {
        const Corner at = corner_of(s, first + t);
        for (int64_t c = 0; c < s->in; c += LANES) {
            Vec d[36], e[36], f[6];
            float *to = v + t * s->in + c;
            read_square(x, vector_at(&s->x, at.image, c), &s->x, at.row - s->above, at.column - s->left, s->height, s->width, 6, d);
#pragma GCC unroll 6
            for (int j = 0; j < 6; j++) spread_input(d + j, 6, e + j, 6);
            for (int i = 0; i < 6; i++) {
                spread_input(e + 6 * i, 1, f, 1);
#pragma GCC unroll 6
                for (int j = 0; j < 6; j++) *(Vec *)(to + (6 * i + j) * stride) = f[j];
            }
        }
    }
}

// A tile of dy into Z.
static void transform_gradients(const WinogradShape *s, const void *y, int64_t tile, Vec *z, int64_t stride) {
    const Corner at = corner_of(s, tile);
    for (int64_t o = 0; o < pair_count(s) * PAIR; o += LANES) {
        Vec d[16] = {0}, e[24], f[6];
        Vec *to = z + o / PAIR * POINTS * stride + o % PAIR / LANES;
        if (o < s->out) read_square(y, vector_at(&s->y, at.image, o), &s->y, at.row, at.column, s->out_height, s->out_width, 4, d);
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

static void transform_outputs(const WinogradShape *s, const WinogradData *data, int64_t first, int64_t count, const Vec *m,
                              int64_t stride) {
    for (int64_t t = 0; t < count; t++) {
        const Corner at = corner_of(s, first + t);
        const int64_t rows = s->out_height - at.row < 4 ? s->out_height - at.row : 4;
        const int64_t columns = s->out_width - at.column < 4 ? s->out_width - at.column : 4;
        for (int64_t o = 0; o < s->out; o += LANES) {
            const Vec *from = m + o / PAIR * POINTS * stride + 2 * t + o % PAIR / LANES;
            const Vec bias = data->bias ? read_vector(data->bias, o, s->bias_bf16) : (Vec){0};
            const int64_t place = vector_at(&s->y, at.image, o) + at.row * s->y.row + at.column * s->y.column;
            Vec d[36], e[24], f[4];
#pragma GCC unroll 36
            for (int p = 0; p < POINTS; p++) d[p] = from[p * stride];
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
    }
}

// ---- weights

// A vector further from point to point than there are values: powers of two would all fall on one set of the cache.
static int64_t weight_stride(const WinogradShape *s) { return 2 * (pair_count(s) * s->in + 1); }

static void transform_weights(const WinogradShape *s, const void *w, Vec *u) {
    const int64_t pairs = pair_count(s), stride = weight_stride(s);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < pairs * s->in; i++) {
        const int64_t o = i / s->in * PAIR, c = i % s->in;
        for (int v = 0; v < 2; v++) {
            Vec g[9] = {0}, e[18], f[6];
            for (int l = 0; l < LANES && o + v * LANES < s->out; l++) {
                const int64_t from = (o + v * LANES + l) * s->lane_stride + c * s->depth_stride;
                for (int k = 0; k < 9; k++) g[k][l] = read_one(w, from + (s->flipped ? 8 - k : k), s->weight_bf16);
            }
            for (int j = 0; j < 3; j++) spread_weight(g + j, 3, e + j, 3);
            for (int p = 0; p < 6; p++) {
                spread_weight(e + 3 * p, 1, f, 1);
                for (int q = 0; q < 6; q++) u[(6 * p + q) * stride + 2 * i + v] = f[q];
            }
        }
    }
}

static void gather_weights(const WinogradShape *s, const Vec *du, void *dw) {
    const int64_t pairs = pair_count(s), stride = weight_stride(s);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < pairs * s->in; i++) {
        const int64_t o = i / s->in * PAIR, c = i % s->in;
        for (int v = 0; v < 2 && o + v * LANES < s->out; v++) {
            Vec d[36], e[18], g[9];
            for (int p = 0; p < POINTS; p++) d[p] = du[p * stride + 2 * i + v];
            for (int j = 0; j < 6; j++) gather_weight(d + j, 6, e + j, 6);
            for (int p = 0; p < 3; p++) gather_weight(e + 6 * p, 1, g + 3 * p, 1);
            for (int l = 0; l < LANES; l++) {
                const int64_t to = (o + v * LANES + l) * s->lane_stride + c * s->depth_stride;
                for (int k = 0; k < 9; k++) write_one(dw, to + k, s->weight_bf16, g[k][l]);
            }
        }
    }
}

static void sum_bias(const WinogradShape *s, const void *y, void *db) {
#pragma omp for schedule(static)
    for (int64_t o = 0; o < s->out; o += LANES) {
        double sum[LANES] = {0};
        for (int64_t i = 0; i < s->images * s->out_height; i++) {
            const int64_t from = vector_at(&s->y, i / s->out_height, o) + i % s->out_height * s->y.row;
            Vec part = {0};
            for (int64_t j = 0; j < s->out_width; j++) part += read_vector(y, from + j * s->y.column, s->y.bf16);
            for (int l = 0; l < LANES; l++) sum[l] += (double)part[l];
        }
        for (int l = 0; l < LANES; l++) write_one(db, o + l, s->bias_bf16, (float)sum[l]);
    }
}

// ---- the whole

typedef struct {
    bool shared;                 // all threads work on one block
    int64_t tiles;               // of a block
    int64_t v_stride, m_stride;  // from point to point, in floats and vectors
    size_t u, v, m;              // bytes of each; v and m of each thread where blocks are not shared
} Room;

static size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }
static int64_t between(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }

static Room room_of(const WinogradShape *s) {
    const int64_t all = tile_count(s), pairs = pair_count(s), most = (all + TILE_ROWS - 1) / TILE_ROWS;
    const int64_t tile_bytes = POINTS * 4 * (s->in + pairs * PAIR), u_bytes = POINTS * weight_stride(s) * (int64_t)sizeof(Vec);
    const int64_t share = ((all + s->threads - 1) / s->threads + TILE_ROWS - 1) / TILE_ROWS;  // none idle where tiles are few
    int64_t rows = between(BLOCK_BYTES / tile_bytes / TILE_ROWS, 1, between(share, 1, MAX_ROWS));
    int64_t together = between(between(u_bytes, LEAST_SHARED_BYTES, MOST_SHARED_BYTES) / tile_bytes / TILE_ROWS, 1, most > 1 ? most : 1);
    // bytes that cross the outer caches: U for each block, and a shared block's V and M, written and read
    Room room = {.shared = s->gradient || most / rows * u_bytes > 4 * all * tile_bytes + most / together * u_bytes};
    room.tiles = (room.shared ? together : rows) * TILE_ROWS;
    room.v_stride = room.tiles * s->in + 16;
    room.m_stride = 2 * room.tiles + 1;
    room.u = align64((size_t)u_bytes);
    room.v = align64((size_t)(POINTS * room.v_stride) * sizeof(float));
    room.m = align64((size_t)(pairs * POINTS * room.m_stride) * sizeof(Vec));
    return room;
}

static size_t scratch_bytes(const WinogradShape *s) {
    const Room room = room_of(s);
    return room.u + (room.v + room.m) * (size_t)(room.shared ? 1 : s->threads);
}

typedef struct {
    Room room;
    int64_t all, pairs, u_stride;
    Vec *u, *m;
    float *v;
} Work;

static Work work_of(const WinogradShape *s, const WinogradData *data, int thread) {
    Work w = {.room = room_of(s), .all = tile_count(s), .pairs = pair_count(s), .u_stride = weight_stride(s), .u = (Vec *)data->scratch};
    char *own = data->scratch + w.room.u + (w.room.v + w.room.m) * (size_t)(w.room.shared ? 0 : thread);
    w.v = (float *)own, w.m = (Vec *)(own + w.room.v);
    return w;
}

static int64_t tiles_from(const Work *w, int64_t first) { return w->all - first < w->room.tiles ? w->all - first : w->room.tiles; }

// Product i = (point, pair) of a block of tiles.
static void multiply(const WinogradShape *s, const Work *w, int64_t i, int64_t count) {
    const int64_t p = i / w->pairs, o = i % w->pairs;
    product(w->v + p * w->room.v_stride, s->in, 1, s->in, w->u + p * w->u_stride + 2 * o * s->in,
            w->m + (o * POINTS + p) * w->room.m_stride, false, count);
}

static void run_apart(const WinogradShape *s, const WinogradData *data, const Work *w) {
#pragma omp for schedule(static)
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first);
        transform_inputs(s, data->x, first, count, w->v, w->room.v_stride);
        for (int64_t i = 0; i < POINTS * w->pairs; i++) multiply(s, w, i, count);
        transform_outputs(s, data, first, count, w->m, w->room.m_stride);
    }
}

static void run_shared(const WinogradShape *s, const WinogradData *data, const Work *w) {
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < count; t++) transform_inputs(s, data->x, first + t, 1, w->v + t * s->in, w->room.v_stride);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < POINTS * w->pairs; i++) multiply(s, w, i, count);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < count; t++) transform_outputs(s, data, first + t, 1, w->m + 2 * t, w->room.m_stride);
    }
}

static void run_gradient(const WinogradShape *s, const WinogradData *data, const Work *w) {
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < count; t++) {
            transform_inputs(s, data->x, first + t, 1, w->v + t * s->in, w->room.v_stride);
            transform_gradients(s, data->y, first + t, w->m + 2 * t, w->room.m_stride);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < POINTS * w->pairs; i++) {
            const int64_t p = i / w->pairs, o = i % w->pairs;
            product(w->v + p * w->room.v_stride, 1, s->in, count, w->m + (o * POINTS + p) * w->room.m_stride,
                    w->u + p * w->u_stride + 2 * o * s->in, first > 0, s->in);
        }
    }
}

static void run(const WinogradShape *s, const WinogradData *data) {
#pragma omp parallel num_threads(s->threads)
    {
        const Work w = work_of(s, data, omp_get_thread_num());
        if (s->gradient) {
            run_gradient(s, data, &w);
            gather_weights(s, w.u, data->w);
            if (data->dbias) sum_bias(s, data->y, data->dbias);
        } else {
            transform_weights(s, data->w, w.u);
            if (w.room.shared) run_shared(s, data, &w);
            else run_apart(s, data, &w);
        }
    }
}
