// Convolutions and their gradients as products of matrices that are never made (implicit GEMM), on tensor cores where the type or
// `tf32` allows, else by multiply-adds. Pictures are NHWC, weights O,KH,KW,C, their gradients so or as the parameters lie, O,C,KH,KW;
// the product result [m, n] = a [m, k] b [k, n]:
//
//                     m                 n             k                 a                       b
//   forward           pixels of y       O             taps x C          x under the tap         the weight, lines along k
//   data gradient     pixels of x       C             taps x O          dy above the tap        the weight, lines along n
//   weight gradient   O                 taps x C      pixels of y       dy, lines along m       x under the tap, lines along n
//
// The channels are the fastest part of n and k, so a piece of 16 bytes is of one tap wherever 16 bytes divide the channels; else
// pieces are smaller, down to an element (template_conv_copy.c). A strided data gradient is a product for each remainder of the
// pixel's row and column, with the taps of that remainder, dense again; all in one launch (blockIdx.z). Where tiles are few, ranges
// of k are blocks of their own (blockIdx.y), whose sums they join (template_conv_join.c): cut by shape alone (template_conv_tile.c), the
// same bits every time.
//
// A block: `stages` slices of k are on their way into shared memory (cp.async), one is multiplied (template_conv_product.c, and on
// sm_90 template_conv_group.c); a barrier a slice. At the end bias, activation, residual, and rounding (template_conv_store.c), and
// where they are asked for moments of what is stored (template_conv_moments.c) or sums of what is made of it
// (template_conv_sums.c). Blocks that share rows of a are neighbours, so that
// a is read from memory once and b, small, stays in the L2 cache.
//
// A convolution of repeated pixels comes as a data gradient (passes/upsample.c), padding as the convolution's own.
//
// Left out so far: bulk copies of sm_90.
// Left out for good: normalization and activation in the load, where the filter is 3 x 3, as it is behind every norm of these networks.
// A block would make each activation for nine taps, two special functions (swish) a time: on an H100, 16 of them a cycle and
// multiprocessor, 4.9 ps an element; its products with 128 columns take 2.3 ps. The kernel apart moves 4 bytes an element, 1.2 ps,
// and what it makes the weight gradient reads again.
#include "codegen/cuda/template_conv.h"

#include "ops/each.h"
#include "ops/op.h"

// ---- words

static TemplateWord *new_word(ConvWords *words, const char *word) {
    for (int i = 0; i < words->count; i++)
        if (!strcmp(words->at[i].word, word)) return &words->at[i];
    if (words->count == sizeof words->at / sizeof *words->at) lv_internal_error("convolution: too many words");
    return &words->at[words->count++];
}

void conv_number(ConvWords *words, const char *word, int64_t number) { *new_word(words, word) = (TemplateWord){word, NULL, number}; }

void conv_text(ConvWords *words, const char *word, const char *format, ...) {
    va_list args;
    va_start(args, format);
    *new_word(words, word) = (TemplateWord){word, lv_arena_vprintf(words->arena, format, args), 0};
    va_end(args);
}

void conv_fill(const ConvWords *words, const char *text, LvText *out) { template_fill(out, text, words->count, words->at); }

void conv_words(ConvWords *words, const char *word, const char *text) {
    LvText filled = {0};
    conv_fill(words, text, &filled);
    conv_text(words, word, "%s", lv_text_get(&filled));
    lv_text_free(&filled);
}

// ---- what a node asks for

// The order of dimensions of extent 1 does not matter.
static bool lies_as(const Value *value, LvLayout layout) {
    if (value->shape.rank != 4 || value->layout.block > 1) return false;
    int64_t have[LV_MAX_RANK], want[LV_MAX_RANK];
    lv_layout_strides(value->layout, value->shape, have);
    lv_layout_strides(layout, value->shape, want);
    for (int i = 0; i < 4; i++)
        if (value->shape.dim[i] > 1 && have[i] != want[i]) return false;
    return true;
}

// Pictures NHWC, weights O,KH,KW,C.
static bool lies_right(const Value *value) { return lies_as(value, lv_layout_nhwc()); }

static void read_epilogue(const Node *node, Conv *conv) {
    int next = 2;
    conv->has_bias = node_bool(node, ATTR_bias, false);
    if (conv->has_bias) conv->bias = node->inputs[next++]->dtype;
    conv->has_residual = node_bool(node, ATTR_residual, false);
    if (conv->has_residual) conv->residual = node->inputs[next]->dtype;
    conv->activation = (LvActivation)node_int(node, ATTR_activation, LV_ACTIVATION_NONE);
    conv->strips = node_int(node, ATTR_strips, 0);
}

static double work_of(const Each *each) {
    double work = each->sum_count;
    for (int i = 0; i < each->step_count; i++) work += op_cost(each->step[i].op);
    return work;
}

static bool read_summed(const Node *node, Conv *conv) {
    conv->summed = node;
    for (int i = 2; i < node->input_count; i++) {
        const Value *operand = node->inputs[i];
        if (!cuda_is_small_float(operand->dtype)) return false;
        if (operand->shape.rank < 4 ? !lv_layout_is_row_major(operand->layout, operand->shape.rank) : !lies_right(operand)) return false;
        conv->maps += operand->shape.rank == 4;
    }
    Each each;
    if (!each_parse(node_attr(node, ATTR_each)->s, node->input_count - 1, &each)) return false;
    conv->work = work_of(&each);
    return true;
}

static void read_product(Conv *conv) {
    int64_t taps = conv->kh * conv->kw;
    conv->parts = 1;
    if (conv->direction == LV_CONV_FORWARD) {
        conv->m = conv->b * conv->oh * conv->ow, conv->n = conv->o, conv->k = taps * conv->c;
    } else if (conv->direction == LV_CONV_WEIGHT_GRADIENT) {
        conv->m = conv->o, conv->n = taps * conv->c, conv->k = conv->b * conv->oh * conv->ow;
    } else {
        const int64_t *s = conv->stride;
        conv->parts = s[0] * s[1];
        conv->m = conv->b * conv_up(conv->h, s[0]) * conv_up(conv->w, s[1]);
        conv->n = conv->c;
        conv->k = conv_up(conv->kh, s[0]) * conv_up(conv->kw, s[1]) * conv->o;
    }
}

static bool read_node(const Node *node, const Target *target, Conv *conv) {
    bool forward = node->op == OP_conv2d || node->op == OP_conv2d_moments, weight = node->op == OP_conv2d_weight_grad;
    const Value *x = forward || weight ? node->inputs[0] : &node->results[0];
    const Value *w = weight ? &node->results[0] : node->inputs[1];
    const Value *y = forward ? &node->results[0] : weight ? node->inputs[1] : node->inputs[0];
    const Attr *stride = node_attr(node, ATTR_stride), *pad = node_attr(node, ATTR_pad);
    bool parameter_order = weight && !lies_right(w) && lies_as(w, lv_layout_row_major());
    if (!stride || !pad || !lies_right(x) || !lies_right(y) || !(lies_right(w) || parameter_order)) return false;
    *conv = (Conv){.direction = forward ? LV_CONV_FORWARD : weight ? LV_CONV_WEIGHT_GRADIENT : LV_CONV_DATA_GRADIENT,
                   .b = x->shape.dim[0], .c = x->shape.dim[1], .h = x->shape.dim[2], .w = x->shape.dim[3],
                   .o = w->shape.dim[0], .kh = w->shape.dim[2], .kw = w->shape.dim[3], .oh = y->shape.dim[2], .ow = y->shape.dim[3],
                   .stride = {stride->list.at[0], stride->list.at[1]}, .left = pad->list.at[0], .top = pad->list.at[2],
                   .parameter_order = parameter_order,
                   .type = node->inputs[0]->dtype, .result = node->results[0].dtype};
    if (!weight) read_epilogue(node, conv);
    if (conv->has_residual && !lies_right(node->inputs[node->input_count - 1])) return false;
    if (!cuda_is_small_float(conv->type) || !cuda_is_small_float(conv->result) || node->inputs[1]->dtype != conv->type) return false;
    if (!cuda_is_small_float(conv->bias) || !cuda_is_small_float(conv->residual)) return false;
    if (node->op == OP_conv2d_data_grad_sums && !read_summed(node, conv)) return false;
    conv->unit = conv->type != LV_F32 ? CONV_HALF : target->tf32 ? CONV_TF32 : CONV_F32;
    conv->groups = conv->unit == CONV_HALF && target->sm == 90;
    read_product(conv);
    return true;
}

// Rows, columns, pixels and their products with what a tile adds are numbered in 32 bits; elements where they have to be in 64.
static bool fits(const Conv *conv) {
    enum { MOST = INT32_MAX - 4096 };
    int64_t pixels = conv->h * conv->w > conv->oh * conv->ow ? conv->h * conv->w : conv->oh * conv->ow;
    if (conv->c < 1 || conv->o < 1 || conv->h < 1 || conv->w < 1 || conv->b < 0) return false;
    if (conv->top > 1 << 20 || conv->left > 1 << 20 || conv->kh > 1 << 20 || conv->kw > 1 << 20) return false;
    return (double)conv->b * (double)pixels < MOST && (double)conv->m * (double)conv->parts < MOST && conv->n < MOST && conv->k < MOST &&
           (double)conv->o * (double)conv->kh * (double)conv->kw < MOST;
}

bool conv_read(const Node *node, const Target *target, Conv *conv) { return read_node(node, target, conv) && fits(conv); }

static const char *index_type(const Conv *conv) {
    int64_t x = conv->b * conv->h * conv->w * conv->c, y = conv->b * conv->oh * conv->ow * conv->o;
    int64_t w = conv->o * conv->kh * conv->kw * conv->c;
    int64_t most = x > y ? x : y;
    if (w > most) most = w;
    return most < INT32_MAX - (1 << 24) ? "int" : "long long";
}

// ---- the kernel

static const char main_text[] =
    "extern \"C\" __global__ void __launch_bounds__($bounds) $name_0($parameters, char *scratch) {\n"
    "  LV_SHARED($type, shared);\n"
    "$align"
    "  const int tid = (int)threadIdx.x, lane = tid % 32, warp = tid / 32;\n"
    "  const int m0 = (int)blockIdx.x / $ntiles * $bm, n0 = (int)blockIdx.x % $ntiles * $bn;\n"
    "  const $name_part part = $name_part_of($part);\n"
    "  if (m0 >= $rowcount) return;\n"
    "  const int slices = ($kcount + $bk - 1) / $bk, per = (slices + $splits - 1) / $splits;\n"
    "  const int begin = $split * per, end = $splits == 1 || begin + per > slices ? slices : begin + per;\n"
    "  const int row = warp / $warpsn * $wm, column = warp % $warpsn * $wn;\n"
    "$from"
    "  float sum[$tm]$sums;\n"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $tm; i++) {\n"
    "    #pragma unroll\n"
    "    for (int j = 0; j < $tn; j++) $zero;\n"
    "  }\n"
    "  $name_a a;\n"
    "  $name_b b;\n"
    "  $name_begin_a(&a, part, $froma, m0, begin, tid, $table);\n"
    "  $name_begin_b(&b, part, $fromb, n0, begin, tid);\n"
    "  #pragma unroll\n"
    "  for (int s = 0; s < $ahead; s++) {\n"
    "    $name_copy_a(&a, part, shared + s * $stage, begin + s < end);\n"
    "    $name_copy_b(&b, part, shared + s * $stage + $offset, begin + s < end);\n"
    "    lv_copy_commit();\n"
    "  }\n"
    "$ask"
    "$loop"
    "  LV_COPY_WAIT(0);\n"
    "  __syncthreads();\n"
    "$join"
    "  $name_end($arguments, part, sum, (float *)shared + warp * $endpitch, m0 + row, n0 + column, lane);\n"
    "$moments"
    "}\n";

static void words_of_parameters(const Conv *conv, ConvWords *words) {
    LvText parameters = {0}, arguments = {0};
    const char *type = cuda_type(conv->type);
    if (!conv->summed) {
        lv_text_printf(&parameters, "%s *to, ", cuda_type(conv->result));
        lv_text_puts(&arguments, "to, ");
    }
    lv_text_printf(&parameters, "const %s *__restrict__ first, const %s *__restrict__ second", type, type);
    lv_text_puts(&arguments, "first, second");
    if (conv->has_bias) {
        lv_text_printf(&parameters, ", const %s *__restrict__ bias", cuda_type(conv->bias));
        lv_text_puts(&arguments, ", bias");
    }
    if (conv->has_residual) {  // may be the memory of `to`
        lv_text_printf(&parameters, ", const %s *residual", cuda_type(conv->residual));
        lv_text_puts(&arguments, ", residual");
    }
    if (conv->summed) {  // a template's results come last
        conv_sums_parameters(conv, &parameters, &arguments);
        lv_text_printf(&parameters, ", %s *to, float *sums", cuda_type(conv->result));
        lv_text_puts(&arguments, ", to, sums");
    } else if (conv->strips) {
        lv_text_puts(&parameters, ", float *means, float *squares");
        lv_text_puts(&arguments, ", means, squares");
    }
    conv_text(words, "parameters", "%s", lv_text_get(&parameters));
    conv_text(words, "arguments", "%s", lv_text_get(&arguments));
    bool weight = conv->direction == LV_CONV_WEIGHT_GRADIENT;
    conv_text(words, "froma", weight ? "second" : "first");
    conv_text(words, "fromb", weight ? "first" : "second");
    lv_text_free(&parameters);
    lv_text_free(&arguments);
}

static void words_of_shape(const Conv *conv, const ConvTile *tile, ConvWords *words) {
    const struct {
        const char *word;
        int64_t number;
    } numbers[] = {
        {"b", conv->b}, {"c", conv->c}, {"h", conv->h}, {"w", conv->w}, {"o", conv->o}, {"kh", conv->kh}, {"kw", conv->kw},
        {"oh", conv->oh}, {"ow", conv->ow}, {"sh", conv->stride[0]}, {"sw", conv->stride[1]}, {"top", conv->top}, {"left", conv->left},
        {"m", conv->m}, {"n", conv->n}, {"k", conv->k},
        {"bm", tile->m}, {"bn", tile->n}, {"bk", tile->k}, {"warpsn", tile->warps_n}, {"warpsm", tile->warps_m}, {"wm", tile->m / tile->warps_m},
        {"wn", tile->n / tile->warps_n}, {"threads", conv_threads(tile)}, {"stages", tile->stages}, {"ahead", conv_ahead(tile)}, {"wait", conv_ahead(tile) - 1},
        {"splits", tile->splits}, {"ntiles", conv_up(conv->n, tile->n)},
        {"offset", conv_elements(conv, tile, CONV_A)}, {"stage", conv_elements(conv, tile, CONV_A) + conv_elements(conv, tile, CONV_B)},
        {"endpitch", 16 * conv_end_pitch(tile)},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) conv_number(words, numbers[i].word, numbers[i].number);
}

static void words_of_main(const Conv *conv, const ConvTile *tile, ConvWords *words) {
    bool table = conv_has_table(conv, tile), tensor = conv->unit != CONV_F32;
    conv_words(words, "table", table ? "(int4 *)(shared + $stages * $stage)" : "(int4 *)0");
    // said how many blocks are wanted, ptxas does not spill to fit one more
    conv_text(words, "bounds", "%d, %d", conv_threads(tile), conv_least_blocks(conv, tile));
    conv_text(words, "part", conv->parts > 1 ? "(int)blockIdx.z" : "0");
    conv_text(words, "split", tile->splits > 1 ? "(int)blockIdx.y" : "0");
    if (conv->parts > 1) conv_text(words, "kcount", "part.kh * part.kw * %lld", (long long)conv->o);
    else conv_number(words, "kcount", conv->k);
    conv_text(words, "sums", tensor ? "[%lld][4]" : "[%lld]", (long long)tile->n / tile->warps_n / 8);
    conv_text(words, "zero", tensor ? "sum[i][j][0] = sum[i][j][1] = sum[i][j][2] = sum[i][j][3] = 0" : "sum[i][j] = 0");
}

static void print_kernel(const Conv *conv, const ConvTile *tile, const char *name, LvText *out) {
    ConvWords words = {.arena = lv_arena_create()};
    conv_text(&words, "name", "%s", name);  // in this order: CONV_WORD_
    conv_text(&words, "index", "%s", index_type(conv));
    conv_text(&words, "type", "%s", cuda_type(conv->type));
    words_of_shape(conv, tile, &words);
    words_of_parameters(conv, &words);
    conv_print_copies(conv, tile, &words, out);
    conv_print_store(conv, &words, out);
    conv_print_moments(conv, tile, &words, out);
    conv_print_product(conv, tile, &words, out);
    words_of_main(conv, tile, &words);
    conv_print_join(conv, tile, &words, out);
    conv_fill(&words, main_text, out);
    lv_arena_destroy(words.arena);
}

void conv_print(const Conv *conv, const ConvTile *tile, const char *name, LvText *out, CudaKernel *made) {
    int64_t tiles = conv_up(conv->m, tile->m) * conv_up(conv->n, tile->n);
    print_kernel(conv, tile, name, out);
    cuda_push_launch(made, tiles, tile->splits, conv->parts, conv_threads(tile), conv_shared_bytes(conv, tile));
    cuda_take_scratch(made, conv_join_bytes(conv, tile));
}

bool cuda_print_conv(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    Conv conv;
    ConvTile tile;
    if (!conv_read(node, target, &conv) || !conv_choose_tile(&conv, &tile)) return false;
    if (out) conv_print(&conv, &tile, name, out, made);
    return true;
}

int64_t cuda_conv_strips(const Node *node, const Each *each, int maps, const Target *target) {
    Conv conv;
    if ((node->op != OP_conv2d && node->op != OP_conv2d_data_grad) || !conv_read(node, target, &conv)) return 0;
    conv.maps = maps;
    if (each) conv.work = work_of(each);
    return conv_strips(&conv);
}
