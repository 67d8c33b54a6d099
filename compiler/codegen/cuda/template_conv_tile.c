// Which tiles a convolution is cut into, by its shape alone.
//
// A tile of 256 x 128 does 85 products for each element that it reads, one of 64 x 64 32; but where there are fewer tiles than
// multiprocessors, or little more, most of the machine waits. So each tile has a price: products, and elements read at so many
// products' time; times the waves in which MULTIPROCESSORS of them go; times k. Where the tiles are few and k is long, ranges of k go
// to blocks of their own, at the price of joining their sums (template_conv_join.c).
//
// A convolution 256 -> 256, 3 x 3, of 8 pictures of 64 x 64 in bf16: 38.7 GFLOP, 34.7 MB read and written once; m 32768, n 256,
// k 2304. In tiles of 256 x 128 it is 256 blocks, 1.9 waves on 132 multiprocessors, of 8 warps each, which do 72 slices of 24 KB: 453 MB
// out of the L2 cache, 43 products a byte. A multiprocessor of sm_80 does 1024 in a cycle and so wants 24 bytes of the 47 that are its
// share of the cache's; in tiles of 128 x 128 it would be 32. 4 stages are 96 KB of shared memory, and 256 threads of some 220 registers
// fill the file: one block at a time.
//
// A warp of 64 x 64 reads 4 KB of shared memory for 64 x 64 x 16 products. A multiprocessor of sm_80 does those of four warps in
// 256 cycles, in which it can read 32 KB: half of what it could. Of warps of 32 x 64 it would be three quarters; so fewer, larger
// warps.
#include "codegen/cuda/template_conv.h"

// The most at present (H100); with fewer the tiles go in more waves, which are fuller.
enum { MULTIPROCESSORS = 132, MAX_SPLITS = 2 * MULTIPROCESSORS, SPLIT_SLICES = 4 };
// Bytes of a block; of warp groups, whose architecture has more: of one of two, and of one that has a multiprocessor to itself.
enum { MOST_SHARED = 96 << 10, MOST_OF_TWO = 100 << 10, MOST_ALONE = 200 << 10 };

static const ConvTile tensor_tiles[] = {
    // m, n, bytes of k, warps, stages
    {256, 128, 64, 4, 2, 4, 1, false}, {128, 256, 64, 2, 4, 4, 1, false}, {128, 128, 64, 2, 2, 4, 1, false}, {128, 64, 64, 2, 2, 4, 1, false},
    {64, 128, 64, 2, 2, 4, 1, false},  {64, 64, 128, 2, 2, 3, 1, false},  {128, 32, 64, 4, 1, 4, 1, false},  {32, 128, 64, 1, 4, 4, 1, false},
    {128, 16, 64, 4, 1, 4, 1, false},  {16, 128, 64, 1, 4, 4, 1, false},
};

// After those, where the GPU has them.
static const ConvTile group_tiles[] = {
    {128, 256, 128, 8, 1, 4, 1, true}, {256, 128, 128, 16, 1, 4, 1, true}, {128, 128, 128, 8, 1, 3, 1, true}, {64, 256, 128, 4, 1, 3, 1, true},
    {128, 64, 128, 8, 1, 4, 1, true},  {64, 128, 128, 4, 1, 4, 1, true},   {64, 64, 128, 4, 1, 4, 1, true},   {128, 32, 128, 8, 1, 4, 1, true},
};

static const ConvTile float_tiles[] = {
    {128, 128, 64, 4, 2, 3, 1, false}, {128, 64, 64, 4, 2, 3, 1, false}, {64, 128, 64, 2, 4, 3, 1, false},
    {64, 64, 64, 4, 2, 3, 1, false},   {128, 32, 64, 8, 1, 3, 1, false}, {32, 128, 64, 2, 4, 3, 1, false},
};

// Products that a multiprocessor does while it reads an element of a tile from the L2 cache; by warp groups it is twice as fast.
static int products_per_element(const ConvTile *tile) { return tile->grouped ? 64 : 32; }
// Bytes in a cycle: of a multiprocessor's share of the memory, of its share of the L2 cache. Cycles to fill a block's stages; for two
// blocks to meet, by two atomic operations and a fence.
enum { MEMORY_BYTES = 13, CACHE_BYTES = 47, FILL_CYCLES = 1500, MEET_CYCLES = 2500 };
enum { LANES = 128 };  // operations of f32 in a cycle
// With fewer than two warps for each of its four schedulers a multiprocessor often waits.
enum { WARPS_WANTED = 8 };
static const double too_few = 1.5;

// Registers of a multiprocessor; what a thread of multiply-adds needs beside its sums and their factors, to address and count.
enum { REGISTERS = 65536, ADDRESSES = 48 };

// On tensor cores 255 for each of 256 threads: a warp's sums alone are half of that. Warp groups, which have no fragments, need half as
// many where there are 64 sums a thread.
int conv_blocks(const Conv *conv, const ConvTile *tile) {
    int threads = conv_threads(tile);
    if (tile->grouped) return tile->m * tile->n <= 128 * 128 ? 2 : 1;
    if (conv->unit != CONV_F32) return threads < 256 ? 2 : 1;
    int rows = tile->m / tile->warps_m / 4, columns = tile->n / tile->warps_n / 8;
    return REGISTERS / (threads * (rows * columns + rows + columns + ADDRESSES));
}

static double blocks_of(const Conv *conv, const ConvTile *tile, int splits) {
    return (double)conv_up(conv->m, tile->m) * (double)conv_up(conv->n, tile->n) * (double)conv->parts * splits;
}

// Of a small shape all loops are known and unrolled, which takes more registers than the budget of several blocks; and there are none
// to share with.
int conv_least_blocks(const Conv *conv, const ConvTile *tile) {
    return blocks_of(conv, tile, tile->splits) <= MULTIPROCESSORS ? 1 : conv_blocks(conv, tile);
}

static double products_per_cycle(const Conv *conv, const ConvTile *tile) {
    return tile->grouped ? 2048 : conv->unit == CONV_HALF ? 1024 : conv->unit == CONV_TF32 ? 512 : 64;
}

// Cycles of a block's begin and end. Where two blocks share a multiprocessor, one computes meanwhile.
static double price_of_ends(const Conv *conv, const ConvTile *tile, int splits) {
    double each = splits > 1 ? 4 : (double)lv_dtype_size(conv->result) * (1 + conv->has_residual);
    double cycles = FILL_CYCLES + tile->m * tile->n * each / MEMORY_BYTES;
    cycles += tile->m * tile->n * (conv->maps * (double)lv_dtype_size(conv->result) / CACHE_BYTES + conv->work / LANES);  // maps wait there
    return cycles / conv_blocks(conv, tile);
}

// The block that leaves last has read another's sums at each meeting; all of them together read what they wrote, as if from memory.
static double price_of_joining(const Conv *conv, const ConvTile *tile, int splits) {
    int meetings = 0;
    while (1 << meetings < splits) meetings++;
    double bytes = 4.0 * (splits - 1) * (double)conv->m * (double)conv->n * (double)conv->parts;
    return meetings * (MEET_CYCLES + 4.0 * tile->m * tile->n / CACHE_BYTES) + bytes / MULTIPROCESSORS / MEMORY_BYTES;
}

// In cycles.
static double price(const Conv *conv, const ConvTile *tile, int splits) {
    double blocks = blocks_of(conv, tile, splits);
    double waves = blocks > MULTIPROCESSORS ? (double)conv_up((int64_t)blocks, MULTIPROCESSORS) : 1;
    if (waves * tile->warps_m * tile->warps_n < WARPS_WANTED) waves *= too_few;
    double each = tile->m * tile->n + products_per_element(tile) * (tile->m + tile->n);
    double k = (double)conv_up(conv_slices(conv, tile), splits) * tile->k;
    return waves * (each * k / products_per_cycle(conv, tile) + price_of_ends(conv, tile, splits)) + price_of_joining(conv, tile, splits);
}

// Of a picture of the result.
static int64_t pixels_of(const Conv *conv) {
    return conv->direction == LV_CONV_FORWARD ? conv->oh * conv->ow : conv->h * conv->w;
}

// What a split must gain, for the memory that its sums take.
static const double worth = 0.97;

enum { TENSOR_TILES = sizeof tensor_tiles / sizeof *tensor_tiles, GROUP_TILES = sizeof group_tiles / sizeof *group_tiles };

int conv_tile_count(const Conv *conv) {
    return conv->unit == CONV_F32 ? sizeof float_tiles / sizeof *float_tiles : TENSOR_TILES + (conv->groups ? GROUP_TILES : 0);
}

ConvTile conv_tile(const Conv *conv, int number, int splits) {
    ConvTile tile = conv->unit == CONV_F32 ? float_tiles[number] : number < TENSOR_TILES ? tensor_tiles[number] : group_tiles[number - TENSOR_TILES];
    tile.k /= conv_size(conv);
    tile.splits = splits;
    int64_t most = !tile.grouped ? MOST_SHARED : conv_blocks(conv, &tile) > 1 ? MOST_OF_TWO : MOST_ALONE;
    int64_t slices = conv_up(conv_slices(conv, &tile), splits);
    while (conv_ahead(&tile) > 1 && (tile.stages > slices || conv_shared_bytes(conv, &tile) > most)) tile.stages--;
    return tile;
}


// Moments and sums are of a tile's rows, which are a strip of one picture.
static bool makes_strips(const Conv *conv, const ConvTile *tile, int64_t strips) {
    return conv_can_sum_up(conv, tile) && tile->m * strips == pixels_of(conv);
}

bool conv_can_tile(const Conv *conv, const ConvTile *tile) {
    return (!tile->grouped || conv_can_group(conv, tile)) && (!conv->strips || makes_strips(conv, tile, conv->strips));
}

// The tile of least price; `whole`: of those that are strips of some length. Returns the price, negative if there is none.
static double choose(const Conv *conv, bool whole, ConvTile *tile) {
    int best = 0, best_splits = 0;
    double least = -1;
    for (int i = 0; i < conv_tile_count(conv); i++) {
        ConvTile one = conv_tile(conv, i, 1);
        if (!conv_can_tile(conv, &one)) continue;
        if (whole && !makes_strips(conv, &one, pixels_of(conv) / one.m)) continue;
        for (int splits = 1; splits <= MAX_SPLITS; splits++) {
            if (splits > 1 && conv_slices(conv, &one) < (int64_t)splits * SPLIT_SLICES) break;
            if (!conv_can_join(conv, &one, splits)) break;
            double cost = price(conv, &one, splits);
            if (best_splits && cost >= (splits > 1 ? worth * least : least)) continue;
            best = i, best_splits = splits, least = cost;
        }
    }
    if (best_splits) *tile = conv_tile(conv, best, best_splits);
    return least;
}

bool conv_choose_tile(const Conv *conv, ConvTile *tile) { return choose(conv, false, tile) >= 0; }

// What it costs to read the result once more, for its moments or for sums, and with it the maps of these.
static double price_of_reading(const Conv *conv) {
    double bytes = (double)conv->m * (double)conv->n * (double)lv_dtype_size(conv->result) * (1 + conv->maps);
    return bytes / MULTIPROCESSORS / MEMORY_BYTES;
}

int64_t conv_strips(const Conv *conv) {
    ConvTile any, whole;
    Conv alone = *conv;
    alone.maps = 0, alone.work = 0;
    double least = choose(&alone, false, &any), with = choose(conv, true, &whole);
    return with < 0 || with >= least + price_of_reading(conv) ? 0 : pixels_of(conv) / whole.m;
}

// ---- how tiles are copied

int conv_width(int64_t extent, int size) {
    int width = 16 / size;
    while (extent % width) width /= 2;
    return width;
}

bool conv_along_k(const Conv *conv, ConvOperand operand) {
    if (conv->direction == LV_CONV_WEIGHT_GRADIENT) return false;
    return operand == CONV_A || conv->direction == LV_CONV_FORWARD;
}

// Extent that a piece must not straddle: of a picture its channels, of the weight's lines all of k.
static int64_t contiguous(const Conv *conv, ConvOperand operand) {
    bool forward = conv->direction == LV_CONV_FORWARD;
    if (operand == CONV_A) return forward ? conv->c : conv->o;
    return forward ? conv->k : conv->c;
}

ConvCopy conv_copy(const Conv *conv, const ConvTile *tile, ConvOperand operand) {
    int across = operand == CONV_A ? tile->m : tile->n, threads = conv_threads(tile);
    ConvCopy copy = {.along_k = conv_along_k(conv, operand)};
    int lines = copy.along_k ? across : tile->k, length = copy.along_k ? tile->k : across;
    // multiply-adds read along m and n: what lies along k is turned while it is copied, element by element
    copy.width = conv->unit == CONV_F32 && copy.along_k ? 1 : conv_width(contiguous(conv, operand), conv_size(conv));
    copy.columns = length / copy.width;
    copy.step = threads / copy.columns;
    copy.some_idle = copy.step > lines;
    if (copy.some_idle) copy.step = lines;
    copy.pieces = lines / copy.step;
    return copy;
}

int64_t conv_elements(const Conv *conv, const ConvTile *tile, ConvOperand operand) {
    int across = operand == CONV_A ? tile->m : tile->n;
    return (int64_t)tile->k * (conv->unit == CONV_F32 ? across + 4 : across);
}

// Four pixels fit into registers beside the sums; more are looked up.
bool conv_has_table(const Conv *conv, const ConvTile *tile) {
    return conv->direction != LV_CONV_WEIGHT_GRADIENT && conv_copy(conv, tile, CONV_A).pieces > 4;
}

int64_t conv_shared_bytes(const Conv *conv, const ConvTile *tile) {
    int64_t stage = conv_elements(conv, tile, CONV_A) + conv_elements(conv, tile, CONV_B);
    int64_t loop = tile->stages * stage * conv_size(conv) + (conv_has_table(conv, tile) ? 16 * tile->m : 0);
    int64_t aligned = tile->grouped ? CONV_ALIGNMENT : 0;
    int64_t end = conv->unit == CONV_F32 && !conv->strips ? 0 : 4LL * tile->warps_m * tile->warps_n * 16 * conv_end_pitch(tile);
    return aligned + (loop > end ? loop : end);
}
