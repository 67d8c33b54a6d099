// The end of a convolution: sums become results, y = activation(sum + bias) + residual, rounded once, and are stored up to 16 bytes
// at a time.
#include "codegen/cuda/template_conv.h"

static const char finish_text[] =
    // `at`: of the result, n: its channel there. v is changed.
    "LV_D void $name_finish($parameters, $index at, int n, float *v) {\n"
    "$addbias"
    "  #pragma unroll\n"
    "  for (int i = 0; i < $width; i++) {\n"
    "    const float x = v[i];\n"
    "    v[i] = $activated;\n"
    "  }\n"
    "$addresidual"
    "$round"
    "  $name_write(to + at, v);\n"
    "}\n";

static const char bias_text[] =
    "  {\n"
    "    float added[$width];\n"
    "    $name_read_bias(bias + n, added);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $width; i++) v[i] += added[i];\n"
    "  }\n";

static const char residual_text[] =
    "  {\n"
    "    float added[$width];\n"
    "    $name_read_residual(residual + at, added);\n"
    "    #pragma unroll\n"
    "    for (int i = 0; i < $width; i++) v[i] += added[i];\n"
    "  }\n";

// Moments and sums are of what is stored.
static const char round_text[] =
    "  #pragma unroll\n"
    "  for (int i = 0; i < $width; i++) v[i] = $from($to(v[i]));\n";

static const char put_text[] =
    "LV_D void $name_put($parameters, $name_part part, int m, int n, float *v) {\n"
    "  if (m >= $rowcount || n >= $n) return;\n"
    "  $name_finish($arguments, $place, n, v);\n"
    "}\n";

// ---- up to 16 bytes of some type from and to floats

static const char *const vector_types[] = {"", "", "2", "", "4"};
static const char fields[] = "xyzw";

static void print_read_floats(int width, LvText *out) {
    int step = width < 4 ? width : 4;
    if (step == 1) lv_text_puts(out, "  v[0] = p[0];\n");
    for (int i = 0; step > 1 && i < width; i += step) {
        lv_text_printf(out, "  { const float%s t = *(const float%s *)(p + %d);", vector_types[step], vector_types[step], i);
        for (int k = 0; k < step; k++) lv_text_printf(out, " v[%d] = t.%c%s", i + k, fields[k], k + 1 < step ? "," : "; }\n");
    }
}

static void print_write_floats(int width, LvText *out) {
    int step = width < 4 ? width : 4;
    if (step == 1) lv_text_puts(out, "  p[0] = v[0];\n");
    for (int i = 0; step > 1 && i < width; i += step) {
        lv_text_printf(out, "  *(float%s *)(p + %d) = make_float%s(", vector_types[step], i, vector_types[step]);
        for (int k = 0; k < step; k++) lv_text_printf(out, "v[%d]%s", i + k, k + 1 < step ? ", " : ");\n");
    }
}

static void print_read_halves(LvDType dtype, int width, LvText *out) {
    const char *from = cuda_from(dtype);
    if (width == 1) {
        lv_text_printf(out, "  v[0] = %s(p[0]);\n", from);
        return;
    }
    const char *vector = vector_types[width / 2];
    lv_text_printf(out, width == 2 ? "  const unsigned t = *(const unsigned *)p;\n" : "  const uint%s t = *(const uint%s *)p;\n", vector,
                   vector);
    for (int i = 0; i < width; i++) {
        char field[4] = {width > 2 ? '.' : 0, fields[i / 2]};
        lv_text_printf(out, i % 2 ? "  v[%d] = %s((unsigned short)(t%s >> 16));\n" : "  v[%d] = %s((unsigned short)t%s);\n", i, from, field);
    }
}

static void print_write_halves(LvDType dtype, int width, LvText *out) {
    const char *pack = dtype == LV_BF16 ? "lv_pack_bf16" : "lv_pack_f16";
    if (width == 1) {
        lv_text_printf(out, "  p[0] = %s(v[0]);\n", cuda_to(dtype));
        return;
    }
    if (width == 2) lv_text_puts(out, "  *(unsigned *)p = ");
    else lv_text_printf(out, "  *(uint%s *)p = make_uint%s(", vector_types[width / 2], vector_types[width / 2]);
    for (int i = 0; i < width; i += 2) lv_text_printf(out, "%s%s(v[%d], v[%d])", i ? ", " : "", pack, i, i + 1);
    lv_text_puts(out, width == 2 ? ";\n" : ");\n");
}

void conv_print_read(const ConvWords *words, const char *what, LvDType dtype, int width, LvText *out) {
    lv_text_printf(out, "LV_D void %s_read_%s(const %s *p, float *v) {\n", words->at[CONV_WORD_NAME].text, what, cuda_type(dtype));
    if (dtype == LV_F32) print_read_floats(width, out);
    else print_read_halves(dtype, width, out);
    lv_text_puts(out, "}\n");
}

static void print_write(const ConvWords *words, const char *what, LvDType dtype, int width, LvText *out) {
    lv_text_printf(out, "LV_D void %s_%s(%s *p, const float *v) {\n", words->at[CONV_WORD_NAME].text, what, cuda_type(dtype));
    if (dtype == LV_F32) print_write_floats(width, out);
    else print_write_halves(dtype, width, out);
    lv_text_puts(out, "}\n");
}

// ---- words

// Results of one thread that are stored together: as many as an access holds, at least of the type that is stored. In the parameter's
// order neighbouring channels lie a window apart: then a warp's threads are the closest to each other one by one.
int conv_store_width(const Conv *conv) {
    if (conv->parameter_order) return 1;
    return conv_width(conv->n, conv->unit == CONV_F32 ? 4 : (int)lv_dtype_size(conv->result));
}

static void print_finish(const Conv *conv, int width, ConvWords *words, LvText *out) {
    if (conv->has_bias) conv_print_read(words, "bias", conv->bias, width, out);
    if (conv->has_residual) conv_print_read(words, "residual", conv->residual, width, out);
    print_write(words, "write", conv->result, width, out);
    conv_number(words, "width", width);
    conv_text(words, "activated", "%s", template_activation(conv->activation));
    conv_words(words, "addbias", conv->has_bias ? bias_text : "");
    conv_words(words, "addresidual", conv->has_residual ? residual_text : "");
    conv_text(words, "from", "%s", cuda_from(conv->result));
    conv_text(words, "to", "%s", cuda_to(conv->result));
    conv_words(words, "round", conv->strips && conv->result != LV_F32 ? round_text : "");
    conv_fill(words, finish_text, out);
}

void conv_print_store(const Conv *conv, ConvWords *words, LvText *out) {
    bool gradient = conv->direction == LV_CONV_DATA_GRADIENT;
    const char *pixel = conv->parts == 1 ? "m"
                                         : "((m / (part.nw * part.nh) * $h + part.h0 + m / part.nw % part.nh * $sh) * $w + part.w0 + "
                                           "m % part.nw * $sw)";
    conv_words(words, "pixel", pixel);
    if (gradient) conv_text(words, "rowcount", "%lld * part.nh * part.nw", (long long)conv->b);
    else conv_number(words, "rowcount", conv->m);
    print_finish(conv, conv_store_width(conv), words, out);
    conv_words(words, "place", conv->parameter_order ? "($index)m * $n + n % $c * ($kh * $kw) + n / $c" : "($index)$pixel * $n + n");
    conv_fill(words, put_text, out);
}

void conv_print_read_row(const Conv *conv, ConvWords *words, LvText *out) { conv_print_read(words, "row", LV_F32, conv_store_width(conv), out); }
