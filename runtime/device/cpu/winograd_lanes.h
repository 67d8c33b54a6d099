// The body of winograd_avx2.c and winograd_avx512.c, which define LANES, TILE_ROWS and TILE_COLUMNS. Included once in each; not a header.
//
// F(4x4, 3x3) (Winograd 1980; Lavin & Gray 2016): a tile of 4 x 4 results of a 3 x 3 filter from 6 x 6 inputs with 36
// multiplications a channel in place of 144: y = A^T [(G g G^T) * (B^T d B)] A. Interpolation points are 0, +-5/8, +-3/2 and infinity:
// with those f32 is twice as exact as with the usual 0, +-1, +-2 (7.6e-7 to 1.7e-6 of the norm over 64 channels; direct sums 4.2e-7).
//
// Channels lie across lanes. The 36 products over channels are small matmuls V U of TILE_ROWS x 2 vectors in registers:
//   V [36][chunk of in][tile][chunk]  transformed inputs, read a float at a time and broadcast
//   U [36][in][2 LANES]               transformed weights of a pair of vectors of results, made anew by each call
//   M [36][tile][2 LANES]             their products
// Where weights are few and tiles many, threads take blocks of tiles of their own, whose V and M stay in their caches, and U of all pairs
// streams past. Where weights are many, a thread takes a large block of tiles and, pair by pair, makes U a chunk at a time, so that U and
// M stay in its caches and are never whole in memory, and V streams past. Where tiles are so few that each thread would make all of U for
// hardly any, all threads transform one block, and each takes pairs of its own.
// The weight's gradient is the transpose: from x the same V, from dy Z = A dy A^T laid out as M; each thread takes pairs and chunks, and
// makes dU [36][chunk][2 LANES] = V^T Z, dw = G^T dU G, added up over the blocks of tiles. Bits do not depend on the number of threads.
//
// Operands of bf16 are widened as they are read, results are rounded as they are written; all between is f32.
#include "device/cpu/winograd_transforms.h"

enum {
    BLOCK_BYTES = 1 << 20,    // V and M of a thread's block
    MAX_ROWS = 16,            // TILE_ROWS in it
    CHUNK = 64,               // input channels at a time where blocks are shared: U of them is in the second cache, of a point in the first
    LEAST_TILES = 144,        // of a shared block, so that transforms of weights are few beside products,
    LEAST_BYTES = 4 << 20,    // or V (and Z) of it; the larger of both,
    MOST_BYTES = 16 << 20,    // but no more than this
    OWN_TILES = 16,           // of a thread, for which it makes all U rather than share V with others
    MAX_PARTS = 4,            // of a shared block's tiles, so that threads have about as much work each
};

// ---- products

// c[row] (+)= sum over k of a(row, k) b[k], b and c 2 vectors an entry. Meanwhile `ahead`, floats that are to be read soon, comes
// nearer from the outer caches: `pace` floats a step, where a product is transposed (rows side by side) no nearer than the second.
INLINE void product_rows(const float *a, int64_t row, int64_t step, int64_t depth, const Vec *b, Vec *c, bool add, int rows,
                         bool transposed, const float *ahead, int64_t pace) {
    Vec sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) sum[r][0] = add ? c[2 * r] : (Vec){0}, sum[r][1] = add ? c[2 * r + 1] : (Vec){0};
    for (int64_t k = 0; k < depth; k++, a += step, b += 2, ahead += pace) {
        const Vec b0 = b[0], b1 = b[1];
        if (transposed) __builtin_prefetch(ahead, 0, 2);
        else __builtin_prefetch(ahead, 0, 3);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            const float x = a[r * row];
            sum[r][0] += x * b0, sum[r][1] += x * b1;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) c[2 * r] = sum[r][0], c[2 * r + 1] = sum[r][1];
}

// a [rows][row], of it `depth` columns; ahead of each few rows are the next
static void product(const float *a, int64_t row, int64_t depth, const Vec *b, Vec *c, bool add, int64_t rows) {
    int64_t r = 0;
    // 6 rows at a time leave 2 of 8: rather 4 and 4
    for (; r + TILE_ROWS <= rows && (rows - r != 8 || TILE_ROWS > 8); r += TILE_ROWS, a += TILE_ROWS * row)
        product_rows(a, row, 1, depth, b, c + 2 * r, add, TILE_ROWS, false, a + TILE_ROWS * row, TILE_ROWS);
    for (; r + 4 <= rows; r += 4, a += 4 * row) product_rows(a, row, 1, depth, b, c + 2 * r, add, 4, false, a + 4 * row, 4);
    for (; r < rows; r++, a += row) product_rows(a, row, 1, depth, b, c + 2 * r, add, 1, false, a, 1);
}

// a [depth][step], of it `rows` columns; `ahead`: the next product's
static void product_transposed(const float *a, int64_t step, int64_t depth, const Vec *b, Vec *c, int64_t rows, const float *ahead) {
    for (int64_t r = 0; r < rows; r += TILE_COLUMNS, ahead += TILE_COLUMNS * depth)
        product_rows(a + r, 1, step, depth, b, c + 2 * r, false, TILE_COLUMNS, true, ahead, TILE_COLUMNS);
}

// ---- the whole

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

typedef struct {
    bool shared;                // all threads work on one block
    bool own;                   // each thread works on a block of its own, whose U it makes itself
    int64_t tiles, parts;       // of a block; parts of it that make units of work
    Inputs in;
    int64_t u_stride, m_stride; // from point to point, in vectors
    size_t v, u, m;             // bytes of each: of each thread u and m where blocks are shared (m is Z of all in a gradient), v and m else
} Room;

static size_t align64(size_t bytes) { return (bytes + 63) / 64 * 64; }
static int64_t between(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }
static int64_t divide_up(int64_t x, int64_t by) { return (x + by - 1) / by; }
static int64_t chunk_count(const WinogradShape *s, const Inputs *in) { return divide_up(s->in, in->chunk); }

static void lay_out(Room *room, const WinogradShape *s, int64_t chunk, int64_t m_tiles) {
    room->in.chunk = chunk;
    room->in.chunk_stride = room->tiles * chunk;
    room->in.stride = divide_up(s->in, chunk) * room->in.chunk_stride + 16;
    room->m_stride = 2 * m_tiles + 1;
    room->v = align64((size_t)(POINTS * room->in.stride) * sizeof(float));
    room->m = align64((size_t)(POINTS * room->m_stride) * sizeof(Vec));
}

// As few blocks as there can be, of as many tiles each; of a block so many parts that no thread waits long for another.
static Room shared_room(const WinogradShape *s) {
    const int64_t all = tile_count(s), pairs = pair_count(s), chunk = s->in < CHUNK ? s->in : CHUNK;
    const int64_t tile_bytes = POINTS * 4 * (divide_up(s->in, chunk) * chunk + (s->gradient ? pairs * PAIR : 0));
    const int64_t most = between(LEAST_TILES, between(LEAST_BYTES / tile_bytes, TILE_ROWS, INT64_MAX), between(MOST_BYTES / tile_bytes, TILE_ROWS, INT64_MAX));
    const int64_t blocks = divide_up(all, most);
    Room room = {.shared = true, .tiles = divide_up(divide_up(all, blocks), TILE_ROWS) * TILE_ROWS, .parts = 1};
    while (room.parts < MAX_PARTS && divide_up(pairs * room.parts, s->threads) * s->threads * 8 > pairs * room.parts * 9) room.parts++;
    lay_out(&room, s, chunk, s->gradient ? room.tiles : divide_up(room.tiles, room.parts));
    room.u_stride = weight_stride(chunk);
    room.u = align64((size_t)(POINTS * room.u_stride) * sizeof(Vec));
    if (s->gradient) room.m *= (size_t)pairs;
    return room;
}

// A thread's part of such a block, whose tiles no other reads.
static Room own_room(const WinogradShape *s) {
    Room room = shared_room(s);
    const int64_t share = divide_up(tile_count(s), s->threads), most = divide_up(room.tiles, s->threads);
    room.shared = false, room.own = true, room.parts = 1;
    room.tiles = divide_up(divide_up(share, divide_up(share, most)), TILE_ROWS) * TILE_ROWS;
    lay_out(&room, s, room.in.chunk, room.tiles);
    return room;
}

static Room apart_room(const WinogradShape *s) {
    const int64_t all = tile_count(s), pairs = pair_count(s);
    const int64_t share = divide_up(divide_up(all, s->threads), TILE_ROWS);  // none idle where tiles are few
    Room room = {.tiles = TILE_ROWS * between(BLOCK_BYTES / (POINTS * 4 * (s->in + pairs * PAIR)) / TILE_ROWS, 1, between(share, 1, MAX_ROWS))};
    lay_out(&room, s, s->in, room.tiles);
    room.u_stride = weight_stride(pairs * s->in);
    room.u = align64((size_t)(POINTS * room.u_stride) * sizeof(Vec));
    room.m *= (size_t)pairs;
    return room;
}

// By bytes that cross the outer caches: U written, and read for each block of a thread's own; V written, and read for each pair.
static Room room_of(const WinogradShape *s) {
    const Room apart = apart_room(s), shared = shared_room(s);
    const int64_t all = tile_count(s), pairs = pair_count(s);
    const int64_t streams_u = (1 + divide_up(all, apart.tiles)) * (int64_t)apart.u, streams_v = (1 + pairs) * all * POINTS * 4 * s->in;
    if (!s->gradient && 4 * streams_u <= 5 * streams_v) return apart;
    return s->gradient || all < OWN_TILES * s->threads ? shared : own_room(s);
}

static size_t scratch_bytes(const WinogradShape *s) {
    const Room room = room_of(s);
    if (room.own) return (room.v + room.u + room.m) * (size_t)s->threads;
    if (!room.shared) return room.u + (room.v + room.m) * (size_t)s->threads;
    return room.v + (s->gradient ? room.m + room.u * (size_t)s->threads : (room.u + room.m) * (size_t)s->threads);
}

typedef struct {
    Room room;
    int64_t all, pairs;
    float *v;
    Vec *u, *m;
} Work;

static Work work_of(const WinogradShape *s, const WinogradData *data, int thread) {
    Work w = {.room = room_of(s), .all = tile_count(s), .pairs = pair_count(s)};
    char *at = data->scratch;
    if (w.room.own) {
        at += (w.room.v + w.room.u + w.room.m) * (size_t)thread;
        w.v = (float *)at, w.u = (Vec *)(at + w.room.v), w.m = (Vec *)(at + w.room.v + w.room.u);
        return w;
    }
    if (!w.room.shared) {
        w.u = (Vec *)at;
        w.v = (float *)(at + w.room.u + (w.room.v + w.room.m) * (size_t)thread);
        w.m = (Vec *)((char *)w.v + w.room.v);
        return w;
    }
    w.v = (float *)at, at += w.room.v;
    if (s->gradient) w.m = (Vec *)at, at += w.room.m;
    at += (w.room.u + (s->gradient ? 0 : w.room.m)) * (size_t)thread;
    w.u = (Vec *)at;
    if (!s->gradient) w.m = (Vec *)(at + w.room.u);
    return w;
}

static int64_t tiles_from(const Work *w, int64_t first) { return w->all - first < w->room.tiles ? w->all - first : w->room.tiles; }

static void run_apart(const WinogradShape *s, const WinogradData *data, const Work *w) {
    const int64_t pieces = s->in / LANES, size = w->room.m_stride;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < w->pairs * pieces; i++) {
        const int64_t o = i / pieces, c = i % pieces * LANES;
        transform_weights(s, data->w, o * PAIR, c, LANES, w->u + 2 * (o * s->in + c), w->room.u_stride);
    }
#pragma omp for schedule(static)
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first);
        for (int64_t t = 0; t < count; t++) transform_inputs(s, data->x, first + t, &w->room.in, 0, w->v, t);
        for (int64_t p = 0; p < POINTS; p++)
            for (int64_t o = 0; o < w->pairs; o++)
                product(w->v + p * w->room.in.stride, s->in, s->in, w->u + p * w->room.u_stride + 2 * o * s->in,
                        w->m + (o * POINTS + p) * size, false, count);
        for (int64_t t = 0; t < count; t++)
            for (int64_t o = 0; o < s->out; o += LANES)
                transform_outputs(s, data, first + t, o, w->m + o / PAIR * POINTS * size + 2 * t + o % PAIR / LANES, size);
    }
}

// A pair's results of the tiles t ... t + count - 1 of the block that begins with tile `first`
static void run_pair(const WinogradShape *s, const WinogradData *data, const Work *w, int64_t o, int64_t first, int64_t t, int64_t count) {
    const Inputs *in = &w->room.in;
    for (int64_t q = 0; q < chunk_count(s, in); q++) {
        const int64_t c = q * in->chunk, depth = s->in - c < in->chunk ? s->in - c : in->chunk;
        transform_weights(s, data->w, o, c, depth, w->u, w->room.u_stride);
        for (int64_t p = 0; p < POINTS; p++)
            product(w->v + p * in->stride + q * in->chunk_stride + t * in->chunk, in->chunk, depth, w->u + p * w->room.u_stride,
                    w->m + p * w->room.m_stride, q > 0, count);
    }
    for (int64_t i = 0; i < count; i++)
        for (int v = 0; v < 2 && o + v * LANES < s->out; v++)
            transform_outputs(s, data, first + t + i, o + v * LANES, w->m + 2 * i + v, w->room.m_stride);
}

// V, and Z, of a shared block. Tile by tile within a chunk or pair: what a thread writes then lies in few pages at a time.
static void transform_block(const WinogradShape *s, const WinogradData *data, const Work *w, int64_t first, int64_t count) {
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < (s->gradient ? w->pairs * count : 0); i++)
        transform_gradients(s, data->y, first + i % count, i / count, w->m + 2 * (i % count), w->room.m_stride);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < chunk_count(s, &w->room.in) * count; i++)
        transform_inputs(s, data->x, first + i % count, &w->room.in, i / count, w->v, i % count);
}

static void run_shared(const WinogradShape *s, const WinogradData *data, const Work *w) {
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first), parts = w->room.parts, size = divide_up(w->room.tiles, parts);
        transform_block(s, data, w, first, count);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < w->pairs * parts; i++) {
            const int64_t t = i % parts * size, left = count - t < size ? count - t : size;
            if (left > 0) run_pair(s, data, w, i / parts * PAIR, first, t, left);
        }
    }
}

// Each thread for itself: what one core has written reaches the other slowly, most of all where they share no cache.
static void run_own(const WinogradShape *s, const WinogradData *data, const Work *w, int thread) {
    const int64_t begin = w->all * thread / s->threads, end = w->all * (thread + 1) / s->threads;
    for (int64_t first = begin; first < end; first += w->room.tiles) {
        const int64_t count = end - first < w->room.tiles ? end - first : w->room.tiles;
        for (int64_t i = 0; i < chunk_count(s, &w->room.in) * count; i++)
            transform_inputs(s, data->x, first + i % count, &w->room.in, i / count, w->v, i % count);
        for (int64_t o = 0; o < w->pairs; o++) run_pair(s, data, w, o * PAIR, first, 0, count);
    }
}

static void run_gradient(const WinogradShape *s, const WinogradData *data, const Work *w) {
    const Inputs *in = &w->room.in;
    const int64_t chunks = chunk_count(s, in);
    for (int64_t first = 0; first < w->all; first += w->room.tiles) {
        const int64_t count = tiles_from(w, first);
        transform_block(s, data, w, first, count);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < w->pairs * chunks; i++) {
            const int64_t o = i / chunks, q = i % chunks, c = q * in->chunk, width = s->in - c < in->chunk ? s->in - c : in->chunk;
            for (int64_t p = 0; p < POINTS; p++) {
                const float *v = w->v + p * in->stride + q * in->chunk_stride;
                product_transposed(v, in->chunk, count, w->m + (o * POINTS + p) * w->room.m_stride, w->u + p * w->room.u_stride, width,
                                   v + in->stride);
            }
            gather_weights(s, w->u, w->room.u_stride, o * PAIR, c, width, data->w, first > 0);
        }
    }
    if (data->dbias) sum_bias(s, data->y, data->dbias);
}

static void run(const WinogradShape *s, const WinogradData *data) {
#pragma omp parallel num_threads(s->threads)
    {
        const Work w = work_of(s, data, omp_get_thread_num());
        if (s->gradient) run_gradient(s, data, &w);
        else if (w.room.own) run_own(s, data, &w, omp_get_thread_num());
        else if (w.room.shared) run_shared(s, data, &w);
        else run_apart(s, data, &w);
    }
}
