// Private to the convolutions (template_conv*.c): what is computed, by which tiles, and the words of their texts.
#ifndef LV_CODEGEN_CUDA_TEMPLATE_CONV_H
#define LV_CODEGEN_CUDA_TEMPLATE_CONV_H

#include "base/plan.h"
#include "codegen/cuda/templates.h"

typedef enum {
    CONV_HALF,  // tensor cores, bf16 or f16
    CONV_TF32,  // tensor cores, f32 rounded to TF32
    CONV_F32,   // multiply-adds of f32
} ConvUnit;

// A convolution as a product, result [m, n] = a [m, k] b [k, n] (template_conv.c says of what).
typedef struct {
    LvConvDirection direction;
    ConvUnit unit;
    int64_t b, c, h, w, o, kh, kw, oh, ow, stride[2], left, top;
    LvDType type, result, bias, residual;
    bool has_bias, has_residual;
    bool groups;           // the GPU multiplies by warp groups too (wgmma)
    int64_t strips;        // of a picture, whose moments (conv2d_moments) or sums are results too; 0: none are
    const Node *summed;    // conv2d_data_grad_sums; NULL: another
    int maps;              // that its sums read beside the result,
    double work;           // and operations on each element
    bool parameter_order;  // the weight gradient lies O,C,KH,KW
    LvActivation activation;
    int64_t parts;    // products of their own: a strided data gradient has one for each remainder of row and column
    int64_t m, n, k;  // of a part at most
} Conv;

typedef struct {
    int m, n, k;           // of a block; k: of a slice, of which `stages` are under way
    int warps_m, warps_n;  // each computes (m / warps_m) x (n / warps_n)
    int stages;
    int splits;            // ranges of k that blocks of their own sum
    bool grouped;          // four warps multiply together (template_conv_group.c): 16 rows each, all columns
} ConvTile;

typedef enum { CONV_A, CONV_B } ConvOperand;

// How the threads of a block copy an operand's part of a slice: in pieces of `width` elements, `columns` of them side by side;
// each thread has `pieces` of them, `step` lines apart. A line of the operand lies along k, or across it.
typedef struct {
    bool along_k;
    int width, columns, step, pieces;
    bool some_idle;
} ConvCopy;

enum { CONV_WORD_NAME, CONV_WORD_INDEX };  // the first words: the kernel's name, the type of an element's number

typedef struct {
    LvArena *arena;
    int count;
    TemplateWord at[160];
} ConvWords;

void conv_number(ConvWords *words, const char *word, int64_t number);
void conv_text(ConvWords *words, const char *word, const char *format, ...) __attribute__((format(printf, 3, 4)));
void conv_words(ConvWords *words, const char *word, const char *text);  // text with $words in it
void conv_fill(const ConvWords *words, const char *text, LvText *out);

static inline int conv_threads(const ConvTile *tile) { return 32 * tile->warps_m * tile->warps_n; }
// Slices that are on their way while one is multiplied. A warp group is through with a slice only when the next is under way: one fewer.
static inline int conv_ahead(const ConvTile *tile) { return tile->stages - (tile->grouped ? 2 : 1); }
static inline int64_t conv_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t conv_slices(const Conv *conv, const ConvTile *tile) { return conv_up(conv->k, tile->k); }
static inline int conv_size(const Conv *conv) { return conv->unit == CONV_HALF ? 2 : 4; }
int conv_width(int64_t extent, int size);  // elements that one access may take where lines have `extent` of them

// template_conv.c
bool conv_read(const Node *node, const Target *target, Conv *conv);  // false: not a convolution that these can do
void conv_print(const Conv *conv, const ConvTile *tile, const char *name, LvText *out, CudaKernel *made);

// template_conv_tile.c
int conv_tile_count(const Conv *conv);
ConvTile conv_tile(const Conv *conv, int number, int splits);  // any of them computes the same,
bool conv_can_tile(const Conv *conv, const ConvTile *tile);    // that may be taken
bool conv_choose_tile(const Conv *conv, ConvTile *tile);  // false: none makes the strips that are asked for
int64_t conv_strips(const Conv *conv);                    // by which moments or sums cost less than reading the result does; 0: by none
bool conv_along_k(const Conv *conv, ConvOperand operand);
int64_t conv_elements(const Conv *conv, const ConvTile *tile, ConvOperand operand);  // of its part of a stage
ConvCopy conv_copy(const Conv *conv, const ConvTile *tile, ConvOperand operand);
int conv_blocks(const Conv *conv, const ConvTile *tile);      // that share a multiprocessor, by registers
int conv_least_blocks(const Conv *conv, const ConvTile *tile);  // what the compiler is told: no more than the launch has for each
bool conv_has_table(const Conv *conv, const ConvTile *tile);  // rows of the result are looked up in shared memory
int64_t conv_shared_bytes(const Conv *conv, const ConvTile *tile);

// template_conv_copy.c: NAME_at_a, NAME_at_b, where an element lies in shared memory; structs and functions NAME_begin_a,
// NAME_copy_a and likewise of b, which bring slices there.
void conv_print_copies(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);

// template_conv_product.c: NAME_multiply, which adds products to a thread's sums, NAME_end, which stores these, and $loop, the loop over
// slices.
void conv_print_product(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);
// Sums of a warp leave by 16 rows, which lie so far apart in shared memory that it has no conflicts.
static inline int conv_end_pitch(const ConvTile *tile) { return tile->n / tile->warps_n + 8; }

// template_conv_group.c: the same by warp groups; NAME_keep, after which sums may be looked at.
bool conv_can_group(const Conv *conv, const ConvTile *tile);
void conv_print_group(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);
enum { CONV_ALIGNMENT = 1024 };  // of such a block's shared memory
enum { CONV_SEGMENT = 64 };  // elements of an operand across k that lie together, one line of k after the other

// template_conv_join.c: NAME_join, by which the sums of ranges of k become one, and $join, which leaves a block that has no more to do.
bool conv_can_join(const Conv *conv, const ConvTile *tile, int splits);  // there are counters for so many ranges
int64_t conv_join_bytes(const Conv *conv, const ConvTile *tile);         // of scratch memory
void conv_print_join(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);

// template_conv_store.c: NAME_finish, which makes results of sums and stores them; NAME_put, which does so where the tile belongs.
void conv_print_store(const Conv *conv, ConvWords *words, LvText *out);
void conv_print_read_row(const Conv *conv, ConvWords *words, LvText *out);  // NAME_read_row
void conv_print_read(const ConvWords *words, const char *what, LvDType dtype, int width, LvText *out);  // NAME_read_WHAT, of one thread
int conv_store_width(const Conv *conv);  // results of one thread that are stored together

// template_conv_moments.c: $count and $leave, by which NAME_end sums up what it stores, and $moments, by which the block then does.
void conv_print_moments(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);
// template_conv_sums.c: the same words for conv2d_data_grad_sums, and $ask, which has its maps come into the L2 cache.
void conv_print_sums(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out);
void conv_sums_parameters(const Conv *conv, LvText *parameters, LvText *arguments);  // of its operands
bool conv_can_sum_up(const Conv *conv, const ConvTile *tile);  // every row that a thread stores is of the same columns

#endif
