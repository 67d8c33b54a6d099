// Sums over the pixels of a data gradient's result (conv2d_data_grad_sums), of expressions of it and
// of other maps, made of what is stored while it is at hand: of each channel of a tile's rows, which
// are a strip of one picture.
//
// A thread adds up what it stores, column by column, and has at hand what its columns' numbers for a
// picture and channel are. Threads of the same columns join by shuffles, warps through shared memory,
// always in the same order. Strips are left to the reader to join: [sums, pictures, strips, channels], a
// tile writes a part of a line. Maps are asked for before the products, so that they wait in the L2
// cache when the tile is stored.
#include <stdio.h>

#include "codegen/cuda/template_conv.h"
#include "codegen/expression.h"
#include "ops/each.h"
#include "ops/op.h"

// $begin, $count, $leave, $moments: see template_conv.h. `c`: the first of a thread's columns that lie side by side.
static const char run_text[] =
    "typedef struct { float sum[$sumcount][$columns]$vectors; } $name_run;\n"
    "LV_D void $name_begin_run($parameters, $name_run *run, int m0, int n0, int lane) {\n"
    "  #pragma unroll\n"
    "  for (int c = 0; c < $columns; c += $width) {\n"
    "    const int n = n0 + $column;\n"
    "    #pragma unroll\n"
    "    for (int k = 0; k < $sumcount; k++) {\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $width; i++) run->sum[k][c + i] = 0;\n"
    "    }\n"
    "    if (n >= $n) continue;\n"
    "$readvectors"
    "  }\n"
    "}\n"
    // v: results as they are stored, at row m and the column n.
    "LV_D void $name_count($parameters, $name_run *run, int m, int n, int c, const float *v) {\n"
    "  if (n >= $n) return;\n"
    "$readmaps"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $width; i++) {\n"
    "    const float x0 = v[i];\n"
    "$arithmetic"
    "  }\n"
    "}\n"
    "LV_D void $name_leave(const $name_run *run, float *shared, int lane) {\n"
    "  #pragma unroll\n"
    "  for (int k = 0; k < $sumcount; k++) {\n"
    "    #pragma unroll\n"
    "    for (int c = 0; c < $columns; c += $width) {\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $width; i++) {\n"
    "        float sum = run->sum[k][c + i];\n"
    "        #pragma unroll\n"
    "        for (int d = $lanesacross; d < 32; d *= 2) sum += __shfl_xor_sync(~0u, sum, d);\n"
    "        if (lane < $lanesacross) shared[k * $wn + $column + i] = sum;\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n"
    "LV_D void $name_join_warps(float *sums, const float *shared, int strip, int n0, int tid) {\n"
    "  for (int c = tid; c < $bn && n0 + c < $n; c += $threads) {\n"
    "    const float *at = shared + c / $wn * $endpitch + c % $wn;\n"
    "    #pragma unroll\n"
    "    for (int k = 0; k < $sumcount; k++) {\n"
    "      float sum = 0;\n"
    "      #pragma unroll\n"
    "      for (int w = 0; w < $warpsm; w++) sum += at[w * $warpsn * $endpitch + k * $wn];\n"
    "      sums[($index)(k * $allstrips + strip) * $n + n0 + c] = sum;\n"
    "    }\n"
    "  }\n"
    "}\n";

static const char begin_text[] = "  $name_run run;\n  $name_begin_run($arguments, &run, m0, n0, lane);\n";
static const char leave_text[] = "  $name_leave(&run, shared, lane);\n";
static const char join_text[] =
    "  __syncthreads();\n"
    "  $name_join_warps(sums, (const float *)shared, m0 / $bm, n0, tid);\n";

// Lines of 128 bytes; of blocks that share a tile the first.
static const char ask_text[] =
    "  for (int i = tid; i < $bm * $lines$ifasks; i += $threads) {\n"
    "    const int n = n0 + i % $lines * $lineelements;\n"
    "    if (n < $n) lv_prefetch(with$operand + ($index)(m0 + i / $lines) * $n + n);\n"
    "  }\n";

// ---- what is asked for

static int operand_count(const Conv *conv) { return conv->summed->input_count - 1; }  // x0 is the result
static const Value *operand_of(const Conv *conv, int operand) { return conv->summed->inputs[1 + operand]; }
static bool is_map(const Value *operand) { return operand->shape.rank == 4; }

static void read_each(const Conv *conv, Each *each) {
    if (!each_parse(node_attr(conv->summed, ATTR_each)->s, operand_count(conv), each)) lv_internal_error("convolution: no sums");
}

void conv_sums_parameters(const Conv *conv, LvText *parameters, LvText *arguments) {
    for (int i = 1; i < operand_count(conv); i++) {
        lv_text_printf(parameters, ", const %s *__restrict__ with%d", cuda_type(operand_of(conv, i)->dtype), i);
        lv_text_printf(arguments, ", with%d", i);
    }
}

// ---- words

static void words_of_operands(const Conv *conv, const Each *each, ConvWords *words) {
    LvText vectors = {0}, read_vectors = {0}, read_maps = {0};
    for (int i = 1; i < operand_count(conv); i++) {
        const Value *operand = operand_of(conv, i);
        if (is_map(operand)) {
            lv_text_printf(&read_maps, "  float map%d[$width];\n  $name_read_with%d(with%d + ($index)m * $n + n, map%d);\n", i, i, i, i);
        } else {
            lv_text_printf(&vectors, ", with%d[$columns]", i);
            lv_text_printf(&read_vectors, "    $name_read_with%d(with%d + %sn, run->with%d + c);\n", i, i,
                           operand->shape.rank == 2 ? "m0 / $pixels * $n + " : "", i);
        }
    }
    for (int s = 0; s < each->step_count; s++) {
        const EachStep *step = &each->step[s];
        if (step->op != OP_slice) continue;
        lv_text_printf(&vectors, ", pixel%d[$columns]", s);
        lv_text_printf(&read_vectors, "    $name_read_with%d(with%d + ($index)(m0 / $pixels * $pixels + %lld) * $n + n, run->pixel%d + c);\n", step->arg[0],
                       step->arg[0], (long long)step->pixel, s);
    }
    conv_words(words, "vectors", lv_text_get(&vectors));
    conv_words(words, "readvectors", lv_text_get(&read_vectors));
    conv_words(words, "readmaps", lv_text_get(&read_maps));
    lv_text_free(&vectors), lv_text_free(&read_vectors), lv_text_free(&read_maps);
}

static void put_steps(const Each *each, LvText *out) {
    for (int s = 0; s < each->step_count; s++) {
        const EachStep *step = &each->step[s];
        char args[3][16];
        for (int k = 0; k < 3; k++) {
            bool made = step->arg[k] >= EACH_OPERANDS;
            snprintf(args[k], sizeof args[k], made ? "t%d" : "x%d", made ? step->arg[k] - EACH_OPERANDS : step->arg[k]);
        }
        lv_text_printf(out, "    const float t%d = ", s);
        if (step->op == OP_constant) c_put_constant(LV_F32, step->number, out);
        else if (step->op == OP_slice) lv_text_printf(out, "run->pixel%d[c + i]", s);
        else c_put_op(step->op, LV_F32, LV_F32, args, out);
        lv_text_puts(out, ";\n");
    }
}

static void words_of_arithmetic(const Conv *conv, const Each *each, ConvWords *words) {
    LvText text = {0};
    for (int i = 1; i < operand_count(conv); i++)
        lv_text_printf(&text, is_map(operand_of(conv, i)) ? "    const float x%d = map%d[i];\n" : "    const float x%d = run->with%d[c + i];\n", i, i);
    put_steps(each, &text);
    for (int k = 0; k < each->sum_count; k++) {
        bool made = each->sum[k] >= EACH_OPERANDS;
        lv_text_printf(&text, "    run->sum[%d][c + i] += %c%d;\n", k, made ? 't' : 'x', made ? each->sum[k] - EACH_OPERANDS : each->sum[k]);
    }
    conv_text(words, "arithmetic", "%s", lv_text_get(&text));
    lv_text_free(&text);
}

// Columns of a thread: side by side where it stores by way of shared memory, else four in every 32.
static void words_of_columns(const Conv *conv, const ConvTile *tile, ConvWords *words) {
    bool tensor = conv->unit != CONV_F32;
    int width = conv_store_width(conv), wide = tile->n / tile->warps_n;
    conv_number(words, "columns", tensor ? width : wide / 8);
    conv_number(words, "lanesacross", tensor ? wide / width : 8);
    conv_words(words, "column", tensor ? "lane % $lanesacross * $width" : "(c / 4 * 32 + lane % 8 * 4 + c % 4)");
    conv_words(words, "begin", begin_text);
    conv_words(words, "count", tensor ? "      $name_count($arguments, &run, m0 + i * 16 + r, n0 + c, 0, v);\n"
                                      : "      $name_count($arguments, &run, m, n, j, &sum[i][j]);\n");
    conv_words(words, "leave", leave_text);
    conv_words(words, "moments", join_text);
}

static void words_of_prefetch(const Conv *conv, const ConvTile *tile, ConvWords *words) {
    LvText text = {0};
    conv_text(words, "ifasks", tile->splits > 1 ? " && blockIdx.y == 0" : "");
    for (int i = 1; i < operand_count(conv); i++) {
        if (!is_map(operand_of(conv, i))) continue;
        int elements = 128 / (int)lv_dtype_size(operand_of(conv, i)->dtype);
        conv_number(words, "operand", i);
        conv_number(words, "lines", conv_up(tile->n, elements));
        conv_number(words, "lineelements", elements);
        conv_fill(words, ask_text, &text);
    }
    conv_text(words, "ask", "%s", lv_text_get(&text));
    lv_text_free(&text);
}

void conv_print_sums(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    Each each;
    read_each(conv, &each);
    for (int i = 1; i < operand_count(conv); i++) {
        char what[16];
        snprintf(what, sizeof what, "with%d", i);
        conv_print_read(words, what, operand_of(conv, i)->dtype, conv_store_width(conv), out);
    }
    conv_number(words, "sumcount", each.sum_count);
    conv_number(words, "pixels", conv->h * conv->w);
    conv_number(words, "allstrips", conv->b * conv->strips);
    words_of_columns(conv, tile, words);
    words_of_operands(conv, &each, words);
    words_of_arithmetic(conv, &each, words);
    words_of_prefetch(conv, tile, words);
    conv_fill(words, run_text, out);
}
