// Private to the attention templates: sizes of a node, and the texts that its kernels share.
#ifndef LV_CODEGEN_CUDA_TEMPLATE_ATTENTION_H
#define LV_CODEGEN_CUDA_TEMPLATE_ATTENTION_H

#include "codegen/cuda/templates.h"

// How an operand [B, H, rows, channels] lies: elements from a batch, a head, a row to the next; channels lie side by side.
typedef struct {
    int64_t batch, head, row;
} AttentionRows;

typedef struct {
    const Node *node;
    LvDType dtype;
    AttentionRows q, k, v, y, dy, dq, dk, dv;
    bool dense;  // all operands are row-major: what the kernels in f32 arithmetic, and those of few queries, take
    bool beside; // channels lie side by side
    int64_t batch_heads;        // H
    int64_t heads, t, s, d, e;  // heads: B * H; queries, keys; channels of queries and keys, of values
    double scale, dropout;
    uint32_t stream;
    bool causal, has_length;
} AttentionShape;

AttentionShape attention_shape(const Node *node);
bool attention_takes(const AttentionShape *z);

// Fills `text` with the words of the shape and `more`: $name $type $from $to $heads $t $s $d $e (and $e1, $d1, at least 1) $scale $causal;
// $inputs, parameters after v (of the gradient: after dy), with a leading comma; $length, the number of keys; $seeds, statements that
// read the dropout's seed and step. Of the operands q, k, v, y, dy, dq, dk, dv: $Xat, where a head begins, $Xrow, from a row to the next.
void attention_fill(const AttentionShape *z, const char *name, const char *text, int count, const TemplateWord *more, LvText *out);
#define ATTENTION_FILL(z, name, text, out, ...)                                                                   \
    attention_fill(z, name, text, (int)(sizeof((TemplateWord[]){__VA_ARGS__}) / sizeof(TemplateWord)), \
                   (TemplateWord[]){__VA_ARGS__}, out)

// NAME_reach(length, t), keys that query t sees; NAME_kept4(seed, step, place, kept), what weights place ... place + 3 are
// multiplied with: 1 without dropout.
void attention_print_common(const AttentionShape *z, const char *name, LvText *out);

// The tile of f32 products: a block owns `rows` rows, a thread `tall` of them, and accumulates 64 `wides` columns of a slice.
typedef struct {
    int tall, rows, pitch;
    int64_t wides, slice, room;  // room: floats of shared memory beside the weights
} AttentionTile;

AttentionTile attention_tile(const AttentionShape *z, int64_t columns, int64_t slice);
// NAME_products, NAME_put, NAME_gather, NAME_store.
void attention_print_tile(const AttentionShape *z, const char *name, const AttentionTile *a, LvText *out);
// A kernel on the tile, whose blocks own `owned` rows of each head together.
void attention_fill_tile(const AttentionShape *z, const char *name, const AttentionTile *a, const char *text, int64_t owned, const char *drop,
                         const char *parameters, LvText *out);

// On tensor cores: a warp owns 16 `tall` rows (of queries, or of keys), a block `rows`, and goes over `columns` of the others at a
// time. Of d and of e: channels of a row in shared memory, and how many a block accumulates.
typedef struct {
    int tall, columns, warps, rows;
    int64_t padded[2], wide[2];
} AttentionMma;

AttentionMma attention_sizes(const AttentionShape *z, int tall, int columns, int warps);
bool attention_mma_takes(const AttentionShape *z, const Target *target);
// Whether all of the rows begin at a multiple of so many elements of their operand.
bool attention_rows_fit(const AttentionRows *rows, int64_t elements);
void attention_print_mma_forward(const AttentionShape *z, const char *name, LvText *out, CudaKernel *made);
// PREFIX_tile_d, _scores_d, _gather_d and the same with _e, PREFIX_pair, and with dropout PREFIX_kept_rows, _kept_columns.
void attention_print_mma(const AttentionShape *z, const char *prefix, const AttentionMma *a, LvText *out);

bool attention_mma_grad_takes(const AttentionShape *z, const Target *target);
// `parameters`: those of the gradient's functions.
void attention_print_mma_grad(const AttentionShape *z, const Target *target, const char *name, const char *parameters, LvText *out,
                              CudaKernel *made);

enum { ATTENTION_SLICE = 256, ATTENTION_BLOCK = 256 };

#endif
