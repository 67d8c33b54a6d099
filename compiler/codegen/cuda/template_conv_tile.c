// Which tiles a convolution is cut into, by its shape alone.
//
// A tile of 128 x 128 does 64 products for each element that it reads, one of 64 x 64 half as many; but where there are fewer
// tiles than multiprocessors, or little more, most of the machine waits. So each tile has a price: products, and elements read at
// so many products' time; times the waves in which MULTIPROCESSORS of them go; times k. Where the tiles are few and k is long, ranges
// of k go to blocks of their own, at the price of writing their sums and adding them up (a second launch). For a convolution
// 256 -> 256, 3x3, of 8 pictures of 64 x 64 in bf16: 38.7 GFLOP, 34.7 MB read and written once, m 32768, n 256, k 2304; 512 tiles of
// 128 x 128, 3.9 waves on 132 multiprocessors; a block's 4 stages of 16 KB and 128 threads of up to 255 registers leave two blocks
// on one (of 164 KB or more).
//
// A warp of 64 x 64 reads 4 KB of shared memory for 64 x 64 x 16 products. A multiprocessor of sm_80 does those of four warps in
// 256 cycles, in which it can read 32 KB: half of what it could. Of warps of 32 x 64 it would be three quarters; so fewer, larger
// warps.
#include "codegen/cuda/template_conv.h"

// The most at present (H100); with fewer the tiles go in more waves, which are fuller.
enum { MULTIPROCESSORS = 132, MAX_SPLITS = 64, SPLIT_SLICES = 4 };

static const ConvTile tensor_tiles[] = {
    // m, n, bytes of k, warps, stages
    {128, 128, 64, 2, 2, 4, 1}, {128, 64, 64, 2, 2, 4, 1}, {64, 128, 64, 2, 2, 4, 1}, {64, 64, 128, 2, 2, 3, 1},
    {128, 32, 64, 4, 1, 4, 1},  {32, 128, 64, 1, 4, 4, 1}, {128, 16, 64, 4, 1, 4, 1}, {16, 128, 64, 1, 4, 4, 1},
};

static const ConvTile float_tiles[] = {
    {128, 128, 64, 4, 2, 3, 1}, {128, 64, 64, 4, 2, 3, 1}, {64, 128, 64, 2, 4, 3, 1},
    {64, 64, 64, 4, 2, 3, 1},   {128, 32, 64, 8, 1, 3, 1}, {32, 128, 64, 2, 4, 3, 1},
};

// Products that a multiprocessor does while it reads an element of a tile from the L2 cache; per cycle, for what is not products.
enum { PRODUCTS_PER_ELEMENT = 32 };
static double products_per_cycle(const Conv *conv) { return conv->unit == CONV_HALF ? 1024 : conv->unit == CONV_TF32 ? 512 : 64; }

static double price(const Conv *conv, const ConvTile *tile, int splits) {
    double blocks = (double)conv_up(conv->m, tile->m) * (double)conv_up(conv->n, tile->n) * (double)conv->parts * splits;
    double waves = blocks > MULTIPROCESSORS ? (double)conv_up((int64_t)blocks, MULTIPROCESSORS) : 1;
    double each = tile->m * tile->n + PRODUCTS_PER_ELEMENT * (tile->m + tile->n);
    double sum = waves * each * (double)conv_up(conv_slices(conv, tile), splits) * tile->k;
    if (splits == 1) return sum;
    // 13 bytes a cycle and multiprocessor, each sum written and read; a launch is 4000 cycles
    double bytes = 8.0 * splits * (double)conv->m * (double)conv->n * (double)conv->parts;
    return sum + (bytes / MULTIPROCESSORS / 13 + 4000) * products_per_cycle(conv);
}

ConvTile conv_choose_tile(const Conv *conv) {
    bool tensor = conv->unit != CONV_F32;
    const ConvTile *tiles = tensor ? tensor_tiles : float_tiles;
    size_t count = tensor ? sizeof tensor_tiles / sizeof *tensor_tiles : sizeof float_tiles / sizeof *float_tiles;
    ConvTile best = {0};
    double least = 0;
    for (size_t i = 0; i < count; i++) {
        ConvTile tile = tiles[i];
        tile.k /= conv_size(conv);
        for (int splits = 1; splits <= MAX_SPLITS; splits++) {
            if (splits > 1 && conv_slices(conv, &tile) < (int64_t)splits * SPLIT_SLICES) break;
            double cost = price(conv, &tile, splits);
            if (best.m && cost >= least) continue;
            best = tile, best.splits = splits, least = cost;
        }
    }
    return best;
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
