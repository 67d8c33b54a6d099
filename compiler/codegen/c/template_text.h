// Private to the templates: text with $words, and the vector tile that nearest_code and attention are made of.
#ifndef LV_CODEGEN_TEMPLATE_TEXT_H
#define LV_CODEGEN_TEMPLATE_TEXT_H

#include "codegen/c/templates.h"

typedef struct {
    const char *word;  // without the $
    const char *text;  // NULL: the number, as a long where the word ends in L
    int64_t number;
} TemplateWord;

// Appends `text` with every $word replaced; an unknown word is an internal error.
void template_fill(LvText *out, const char *text, int count, const TemplateWord *words);
#define TEMPLATE_FILL(out, text, ...) \
    template_fill(out, text, (int)(sizeof((TemplateWord[]){__VA_ARGS__}) / sizeof(TemplateWord)), (TemplateWord[]){__VA_ARGS__})

// Work worth a parallel region: bytes moved or a few operations each.
enum { TEMPLATE_PARALLEL = 1 << 17 };
const char *template_parallel(int64_t work);  // "#pragma omp parallel for" or ""

// An activation as an expression of x, in functions that both preludes have; "x" for none.
const char *template_activation(LvActivation activation);
// What a product does to its sum x before it is stored at row m, column n: scale, bias, activation, residual, a statement a line.
// `add` prints x += an element of an operand; bias and residual are operands 2 and on.
void template_put_epilogue(const Node *node, void (*add)(const Node *node, int operand, const char *index, LvText *out), LvText *out);

// Types and functions of the tile, all named NAME_...; see template_tile.c.
void template_tile(const char *name, LvText *out);
void template_tile_pairs(const char *name, LvText *out);  // of bf16

bool print_gather(const Node *node, const char *name, LvText *out);
bool print_scatter_add(const Node *node, const char *name, LvText *out);
bool print_dynamic_slice(const Node *node, const char *name, LvText *out);
bool print_dynamic_update(const Node *node, const char *name, LvText *out);
bool print_nearest_code(const Node *node, const char *name, LvText *out);
bool print_linear_loss(const Node *node, const char *name, LvText *out);
bool print_attention(const Node *node, const char *name, LvText *out);
bool print_attention_few(const Node *node, const char *name, LvText *out);
bool print_matvec(const Node *node, const char *name, LvText *out);
bool print_attention_grad(const Node *node, const char *name, LvText *out);

#endif
