// How a block's threads bring the operands of a convolution into shared memory, a slice of k at a time.
//
// Every piece that a thread copies is at the same column of its lines, slice after slice; what changes from slice to slice is kept
// as counters that carry (tap row, tap column, channel; or picture, row, column of a pixel), so that no slice divides. What lies
// outside a picture, past the last row or past the end of k is copied as zero; so is a slice that the block has not got (`more`), for
// a copy that is always there can be spread among the products.
//
// In shared memory an operand lies as in global memory: lines along k or across it, but pieces of 16 bytes change places within
// a line (xor by some bits of the line's number), so that the eight lines of which a matrix of ldmatrix is made lie in different
// banks, and so do the pieces that eight threads write. TF32 with lines across k is read element by element, four lines by eight
// columns at a time. For multiply-adds of f32 both operands lie across k, lines padded by 16 bytes.
#include "codegen/cuda/template_conv.h"

static const char part_text[] =
    // Which pixels and taps belong together: all, or of a strided data gradient those of one remainder.
    "typedef struct { int h0, w0, p0, q0, kh, kw, nh, nw; } $name_part;\n";

static const char forward_part_text[] =
    "LV_D $name_part $name_part_of(int part) {\n"
    "  $name_part s;\n"
    "  s.h0 = s.w0 = s.p0 = s.q0 = part, s.kh = $kh, s.kw = $kw, s.nh = $oh, s.nw = $ow;\n"
    "  return s;\n"
    "}\n";

// Pixels of rows h0 + i sh; with p = p0 + t sh, p0 = (h0 + top) % sh, they read rows i + (h0 + top) / sh - t of dy. A part may have
// no tap at all; it has a column of none then, for the counters.
static const char gradient_part_text[] =
    "LV_D $name_part $name_part_of(int part) {\n"
    "  $name_part s;\n"
    "  s.h0 = part / $sw, s.w0 = part % $sw;\n"
    "  s.p0 = (s.h0 + $top) % $sh, s.q0 = (s.w0 + $left) % $sw;\n"
    "  s.kh = ($kh - s.p0 + $sh - 1) / $sh, s.kw = ($kw - s.q0 + $sw - 1) / $sw;\n"
    "  if (s.kw < 1) s.kh = 0, s.kw = 1;\n"
    "  s.nh = ($h - s.h0 + $sh - 1) / $sh, s.nw = ($w - s.w0 + $sw - 1) / $sw;\n"
    "  return s;\n"
    "}\n";

// ---- a of forward and data gradient: a line of k for each pixel of the result, gathered from a picture

// Of a row: the pixel that its first tap reads, in row y and column z; x is the number of its channel 0, or of the pixel where that
// would not fit into 32 bits.
static const char gather_text[] =
    "LV_D int4 $name_row($name_part part, int m) {\n"
    "  if (m >= $b * part.nh * part.nw) return make_int4(0, -(1 << 30), 0, 0);\n"
    "  const int j = m % part.nw, i = m / part.nw % part.nh, picture = m / part.nw / part.nh;\n"
    "  const int y = $ystart, z = $zstart;\n"
    "  return make_int4(((picture * $gh + y) * $gw + z)$scale, y, z, 0);\n"
    "}\n"
    "typedef struct {\n"
    "  const $type *from;\n"
    "  $rows;\n"
    "  int at, row, column, p, q, c;\n"
    "} $name_a;\n"
    "LV_D void $name_begin_a($name_a *s, $name_part part, const $type *from, int m0, int slice, int tid, int4 *table) {\n"
    "  const int k = slice * $bk + tid % $acols * $awidth;\n"
    "  s->from = from;\n"
    "  s->row = tid / $acols, s->column = tid % $acols * $awidth, s->at = $name_at_a($afirst);\n"
    "  s->c = k % $gc, s->q = k / $gc % part.kw, s->p = k / $gc / part.kw;\n"
    "$fillrows"
    "}\n"
    "LV_D void $name_copy_a($name_a *s, $name_part part, $type *tile, bool more) {\n"
    "$aidle"
    "  const int tap = s->p * $gw + s->q;\n"
    "$aopen"
    "    const int4 row = s->rows[$rowindex];\n"
    "    const int y = row.y $sign s->p, z = row.z $sign s->q;\n"
    "    const bool in = more && s->p < part.kh && (unsigned)y < (unsigned)$gh && (unsigned)z < (unsigned)$gw;\n"
    "    const $index at = $piece;\n"
    "$aland"
    "$aclose"
    "  s->c += $bk % $gc, s->q += $bk / $gc;\n"
    "  if (s->c >= $gc) s->c -= $gc, s->q++;\n"
    "  $acarry (s->q >= part.kw) s->q -= part.kw, s->p++;\n"
    "}\n";

static const char registers_text[] =
    "  #pragma unroll\n"
    "  for (int i = 0; i < $apieces; i++) s->rows[i] = $name_row(part, m0 + s->row + i * $astep);\n";
static const char table_text[] =
    "  for (int i = tid; i < $bm; i += $threads) table[i] = $name_row(part, m0 + i);\n"
    "  s->rows = table;\n"
    "  __syncthreads();\n";

// ---- b of forward: lines of the weight

static const char weight_text[] =
    "typedef struct {\n"
    "  const $type *from;\n"
    "  int at, row, column, n, k;\n"
    "} $name_b;\n"
    "LV_D void $name_begin_b($name_b *s, $name_part part, const $type *from, int n0, int slice, int tid) {\n"
    "  s->from = from;\n"
    "  s->row = tid / $bcols, s->column = tid % $bcols * $bwidth, s->at = $name_at_b($bfirst);\n"
    "  s->n = n0 + s->row, s->k = slice * $bk + s->column;\n"
    "}\n"
    "LV_D void $name_copy_b($name_b *s, $name_part part, $type *tile, bool more) {\n"
    "$bidle$bopen"
    "    const bool in = more && ($k % $bk == 0 || s->k < $k) && ($n % $bn == 0 || s->n + i * $bstep < $n);\n"
    "    const $index at = ($index)(s->n + i * $bstep) * $k + s->k;\n"
    "$bland"
    "$bclose"
    "  s->k += $bk;\n"
    "}\n";

// ---- b of the data gradient: lines of n, the weight's channels, for each tap and output

static const char turned_text[] =
    "typedef struct {\n"
    "  const $type *from;\n"
    "  int at, row, column, n, p, q, o;\n"
    "} $name_b;\n"
    "LV_D void $name_begin_b($name_b *s, $name_part part, const $type *from, int n0, int slice, int tid) {\n"
    "  s->from = from;\n"
    "  s->row = tid / $bcols, s->column = tid % $bcols * $bwidth, s->at = $name_at_b($bfirst);\n"
    "  const int k = slice * $bk + s->row;\n"
    "  s->n = n0 + s->column;\n"
    "  s->o = k % $o, s->q = k / $o % part.kw, s->p = k / $o / part.kw;\n"
    "}\n"
    "LV_D void $name_copy_b($name_b *s, $name_part part, $type *tile, bool more) {\n"
    "$bidle$bopen"
    "    const bool in = more && s->p < part.kh && ($n % $bn == 0 || s->n < $n);\n"
    "    const $index at = (($index)($next * $kh + part.p0 + s->p * $sh) * $kw + part.q0 + s->q * $sw) * $c + s->n;\n"
    "$bland"
    "$advance"
    "$bclose"
    "$skip"
    "}\n";

// Where a slice is of one tap, once a slice; else piece by piece.
static const char turned_advance_text[] =
    "    s->o += $advanced % $o, s->q += $advanced / $o;\n"
    "    if (s->o >= $o) s->o -= $o, s->q++;\n"
    "    $bcarry (s->q >= part.kw) s->q -= part.kw, s->p++;\n";

// ---- the weight gradient: a line for each pixel of dy; of a its channels, of b those of the pixel of x that the tap reads

static const char pixels_text[] =
    "typedef struct {\n"
    "  const $type *from;\n"
    "  int at, row, column, m, k;\n"
    "} $name_a;\n"
    "LV_D void $name_begin_a($name_a *s, $name_part part, const $type *from, int m0, int slice, int tid, int4 *table) {\n"
    "  s->from = from;\n"
    "  s->row = tid / $acols, s->column = tid % $acols * $awidth, s->at = $name_at_a($afirst);\n"
    "  s->m = m0 + s->column, s->k = slice * $bk + s->row;\n"
    "}\n"
    "LV_D void $name_copy_a($name_a *s, $name_part part, $type *tile, bool more) {\n"
    "$aidle$aopen"
    "    const bool in = more && ($k % $bk == 0 || s->k + i * $astep < $k) && ($m % $bm == 0 || s->m < $m);\n"
    "    const $index at = ($index)(s->k + i * $astep) * $m + s->m;\n"
    "$aland"
    "$aclose"
    "  s->k += $bk;\n"
    "}\n"
    "typedef struct {\n"
    "  const $type *from;\n"
    "  int at, row, column, p, q, c, picture, i, j;\n"
    "} $name_b;\n"
    "LV_D void $name_begin_b($name_b *s, $name_part part, const $type *from, int n0, int slice, int tid) {\n"
    "  s->from = from;\n"
    "  s->row = tid / $bcols, s->column = tid % $bcols * $bwidth, s->at = $name_at_b($bfirst);\n"
    "  const int n = n0 + s->column, k = slice * $bk + s->row;\n"
    "  s->c = n % $c, s->q = n / $c % $kw - $left, s->p = n < $n ? n / $c / $kw - $top : $h;\n"
    "  s->j = k % $ow, s->i = k / $ow % $oh, s->picture = k / $ow / $oh;\n"
    "}\n"
    "LV_D void $name_copy_b($name_b *s, $name_part part, $type *tile, bool more) {\n"
    "$bidle$bopen"
    "    const int y = s->i * $sh + s->p, z = $next * $sw + s->q;\n"
    "    const bool in = more && s->picture < $b && (unsigned)y < (unsigned)$h && (unsigned)z < (unsigned)$w;\n"
    "    const $index at = ($index)((s->picture * $h + y) * $w + z) * $c + s->c;\n"
    "$bland"
    "$advance"
    "$bclose"
    "$skip"
    "}\n";

// Where a slice is of one row of pixels, once a slice.
static const char pixels_advance_text[] =
    "    s->j += $advanced % $ow, s->i += $advanced / $ow % $oh, s->picture += $advanced / $ow / $oh;\n"
    "    if (s->j >= $ow) s->j -= $ow, s->i++;\n"
    "    if (s->i >= $oh) s->i -= $oh, s->picture++;\n";

// ---- words

static const char *word_of(ConvWords *words, ConvOperand operand, const char *what) {
    return lv_arena_printf(words->arena, "%c%s", operand == CONV_A ? 'a' : 'b', what);
}

// Where element (row, k) of the tile lies.
static void print_place(const Conv *conv, const ConvTile *tile, ConvOperand operand, ConvWords *words, LvText *out) {
    int width = operand == CONV_A ? tile->m : tile->n, size = conv_size(conv), piece = 16 / size;
    char letter = operand == CONV_A ? 'a' : 'b';
    LvText place = {0};
    if (conv->unit == CONV_F32) {
        lv_text_printf(&place, "k * %d + row", width + 4);
    } else if (tile->grouped && !conv_along_k(conv, operand)) {
        lv_text_printf(&place, "row / %d * %d + k * %d + (row / 8 %% 8 ^ (k & 7)) * 8 + row %% 8", CONV_SEGMENT, CONV_SEGMENT * tile->k,
                       CONV_SEGMENT);
    } else {
        bool along = conv_along_k(conv, operand);
        const char *line = along ? "row" : "k", *element = along ? "k" : "row";
        int length = along ? tile->k : width, pieces = length / piece;
        int lines = 128 / (length * size) > 1 ? 128 / (length * size) : 1;  // that together fill the banks once
        int mask = pieces < 8 ? pieces - 1 : 7;
        const char *twice = "";
        if (!along && conv->unit == CONV_TF32) mask = (pieces < 8 ? pieces : 8) / 2 - 1, twice = " << 1";
        lv_text_printf(&place, "%s * %d + (%s / %d ^ ((%s / %d & %d)%s)) * %d + %s %% %d", line, length, element, piece, line, lines,
                       mask, twice, piece, element, piece);
    }
    conv_text(words, word_of(words, operand, "place"), "%s", lv_text_get(&place));
    lv_text_printf(out, "LV_D int ");
    conv_fill(words, "$name", out);
    lv_text_printf(out, "_at_%c(unsigned row, unsigned k) { return (int)(%s); }\n", letter, lv_text_get(&place));
    lv_text_free(&place);
}

// Elements from a line of k to the next.
static int line_across(const Conv *conv, const ConvTile *tile, ConvOperand operand) {
    int width = operand == CONV_A ? tile->m : tile->n;
    return tile->grouped ? CONV_SEGMENT : conv->unit == CONV_F32 ? width + 4 : width;
}

// Lines after which pieces are at the same places again.
static int period(const Conv *conv, const ConvTile *tile, ConvOperand operand) {
    if (conv->unit == CONV_F32) return 1;
    int length = conv_along_k(conv, operand) ? tile->k : line_across(conv, tile, operand), bytes = length * conv_size(conv);
    return bytes < 128 ? 8 : bytes / 16 < 8 ? bytes / 16 : 8;
}

// Of piece i of a thread, whose first is at s->at.
static const char *place_of_piece(const Conv *conv, const ConvTile *tile, ConvOperand operand, ConvWords *words) {
    ConvCopy copy = conv_copy(conv, tile, operand);
    int line = !copy.along_k ? line_across(conv, tile, operand) : conv->unit == CONV_F32 ? 1 : tile->k;
    if (copy.step % period(conv, tile, operand) == 0) return lv_arena_printf(words->arena, "s->at + i * %d", copy.step * line);
    return lv_arena_printf(words->arena, copy.along_k ? "%s_at_%c(s->row + i * %d, s->column)" : "%s_at_%c(s->column, s->row + i * %d)",
                           words->at[CONV_WORD_NAME].text, operand == CONV_A ? 'a' : 'b', copy.step);
}

// Loads of two bytes have no asynchronous form: a few at a time go through registers.
enum { HELD = 8 };

static void words_of_copy(const Conv *conv, const ConvTile *tile, ConvOperand operand, ConvWords *words) {
    ConvCopy copy = conv_copy(conv, tile, operand);
    const char *place = place_of_piece(conv, tile, operand, words);
    conv_text(words, word_of(words, operand, "first"), copy.along_k ? "s->row, s->column" : "s->column, s->row");
    conv_number(words, word_of(words, operand, "cols"), copy.columns);
    conv_number(words, word_of(words, operand, "width"), copy.width);
    conv_number(words, word_of(words, operand, "pieces"), copy.pieces);
    conv_number(words, word_of(words, operand, "step"), copy.step);
    conv_text(words, word_of(words, operand, "idle"), copy.some_idle ? "  if (s->row >= %d) return;\n" : "", copy.step);
    int bytes = copy.width * conv_size(conv), held = copy.pieces < HELD ? copy.pieces : HELD;
    if (bytes >= 4) {
        conv_text(words, word_of(words, operand, "open"), "  #pragma unroll\n  for (int i = 0; i < %d; i++) {\n", copy.pieces);
        conv_text(words, word_of(words, operand, "land"), "    lv_copy_async%d(tile + %s, s->from + at, in ? %d : 0);\n", bytes, place,
                  bytes);
        conv_text(words, word_of(words, operand, "close"), "  }\n");
        return;
    }
    conv_text(words, word_of(words, operand, "open"),
              "  #pragma unroll 1\n  for (int g = 0; g < %d; g += %d) {\n    unsigned short held[%d];\n    #pragma unroll\n"
              "    for (int e = 0; e < %d; e++) {\n      const int i = g + e;\n", copy.pieces, held, held, held);
    conv_text(words, word_of(words, operand, "land"), "    held[e] = in ? s->from[at] : (unsigned short)0;\n");
    conv_text(words, word_of(words, operand, "close"),
              "    }\n    #pragma unroll\n    for (int e = 0; e < %d; e++) {\n      const int i = g + e;\n      tile[%s] = held[e];\n    }\n  }\n",
              held, place);
}

// The counters of b's lines: within a slice they run by `step`, or, where `extent` of the fastest says that none other changes within
// a slice, the lines are counted from the slice's first.
static void words_of_advance(const ConvTile *tile, const ConvCopy *copy, int64_t extent, const char *fastest, const char *text,
                             ConvWords *words) {
    bool whole = extent % tile->k == 0;
    conv_text(words, "next", whole ? "(%s + i * %d)" : "%s", fastest, copy->step);
    conv_number(words, "advanced", whole ? tile->k : copy->step);
    conv_text(words, "bcarry", copy->step / extent > 0 ? "while" : "if");
    conv_words(words, "advance", whole ? "" : text);
    conv_words(words, "skip", whole ? text : "");
}

static void words_of_gather(const Conv *conv, const ConvTile *tile, ConvWords *words) {
    bool forward = conv->direction == LV_CONV_FORWARD, table = conv_has_table(conv, tile);
    ConvCopy a = conv_copy(conv, tile, CONV_A), b = conv_copy(conv, tile, CONV_B);
    bool narrow = !strcmp(words->at[CONV_WORD_INDEX].text, "int");
    int64_t channels = forward ? conv->c : conv->o;
    conv_text(words, "sign", forward ? "+" : "-");
    conv_number(words, "gh", forward ? conv->h : conv->oh);
    conv_number(words, "gw", forward ? conv->w : conv->ow);
    conv_number(words, "gc", channels);
    conv_words(words, "ystart", forward ? "i * $sh - $top" : "i + (part.h0 + $top) / $sh");
    conv_words(words, "zstart", forward ? "j * $sw - $left" : "j + (part.w0 + $left) / $sw");
    conv_text(words, "acarry", tile->k / channels > 0 ? "while" : "if");
    conv_text(words, "rowindex", table ? "s->row + i * %d" : "i", a.step);
    conv_text(words, "rows", table ? "const int4 *rows" : "int4 rows[%d]", a.pieces);
    conv_text(words, "scale", narrow ? " * %lld" : "", (long long)channels);
    conv_words(words, "piece", narrow ? "row.x + ($sign tap * $gc + s->c)" : "($index)(row.x $sign tap) * $gc + s->c");
    if (!forward) words_of_advance(tile, &b, conv->o, "s->o", turned_advance_text, words);
    conv_words(words, "fillrows", table ? table_text : registers_text);
}

void conv_print_copies(const Conv *conv, const ConvTile *tile, ConvWords *words, LvText *out) {
    print_place(conv, tile, CONV_A, words, out);
    print_place(conv, tile, CONV_B, words, out);
    words_of_copy(conv, tile, CONV_A, words);
    words_of_copy(conv, tile, CONV_B, words);
    conv_fill(words, part_text, out);
    if (conv->direction == LV_CONV_WEIGHT_GRADIENT) {
        ConvCopy b = conv_copy(conv, tile, CONV_B);
        words_of_advance(tile, &b, conv->ow, "s->j", pixels_advance_text, words);
        conv_fill(words, forward_part_text, out);
        conv_fill(words, pixels_text, out);
        return;
    }
    words_of_gather(conv, tile, words);
    conv_fill(words, conv->direction == LV_CONV_FORWARD ? forward_part_text : gradient_part_text, out);
    conv_fill(words, gather_text, out);
    conv_fill(words, conv->direction == LV_CONV_FORWARD ? weight_text : turned_text, out);
}
