// Which op has which template, and text with $words in it.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "codegen/c/template_text.h"
#include "ops/op.h"

// Each prints its kernel, or returns false and prints nothing where it does not take the node. `out` NULL: only asks.
typedef bool (*PrintTemplate)(const Node *node, const char *name, LvText *out);

static PrintTemplate find_template(const Node *node) {
    switch (node->op) {
    case OP_gather: return print_gather;
    case OP_scatter_add: return print_scatter_add;
    case OP_dynamic_slice: return print_dynamic_slice;
    case OP_dynamic_update: return print_dynamic_update;
    case OP_nearest_code: return print_nearest_code;
    case OP_linear_cross_entropy:
    case OP_linear_cross_entropy_grad: return print_linear_loss;
    case OP_attention: return print_attention_few(node, NULL, NULL) ? print_attention_few : print_attention;
    case OP_matmul: return print_matvec;
    case OP_attention_grad: return print_attention_grad;
    default: return NULL;
    }
}

bool template_takes(const Node *node) {
    PrintTemplate print = find_template(node);
    return print && print(node, NULL, NULL);
}

bool template_print(const Node *node, const char *kernel_name, LvText *out) {
    PrintTemplate print = find_template(node);
    return print && print(node, kernel_name, out);
}

static const TemplateWord *find_word(const char *at, int count, const TemplateWord *words, size_t *length) {
    *length = 0;
    while (isalnum((unsigned char)at[*length])) ++*length;
    for (int i = 0; i < count; i++)
        if (strlen(words[i].word) == *length && !memcmp(words[i].word, at, *length)) return &words[i];
    lv_internal_error("template: no word $%.*s", (int)*length, at);
}

void template_fill(LvText *out, const char *text, int count, const TemplateWord *words) {
    for (const char *at = text; *at;) {
        size_t plain = strcspn(at, "$"), length;
        lv_text_append(out, at, plain);
        at += plain;
        if (!*at) return;
        const TemplateWord *word = find_word(++at, count, words, &length);
        if (word->text) lv_text_puts(out, word->text);
        else lv_text_printf(out, "%lld%s", (long long)word->number, word->word[length - 1] == 'L' ? "L" : "");
        at += length;
    }
}

const char *template_parallel(int64_t work) { return work >= TEMPLATE_PARALLEL ? "#pragma omp parallel for\n" : ""; }

const char *template_activation(LvActivation activation) {
    switch (activation) {
    case LV_ACTIVATION_RELU: return "x > 0 ? x : 0";
    case LV_ACTIVATION_SWISH: return "x / (1 + lv_exp(-x))";
    case LV_ACTIVATION_GELU: return "0.5f * x * (1 + lv_erf(x * 0.70710678118654752f))";
    default: return "x";
    }
}

void template_put_epilogue(const Node *node, void (*add)(const Node *node, int operand, const char *index, LvText *out), LvText *out) {
    int at = 2;
    double alpha = node_float(node, ATTR_scale, 1);
    LvActivation activation = (LvActivation)node_int(node, ATTR_activation, LV_ACTIVATION_NONE);
    if (alpha != 1) lv_text_printf(out, "  x *= (float)%.17g;\n", alpha);
    if (node_bool(node, ATTR_bias, false)) add(node, at++, "n", out);
    if (activation != LV_ACTIVATION_NONE) lv_text_printf(out, "  x = %s;\n", template_activation(activation));
    char place[48];
    snprintf(place, sizeof place, "m * %lldLL + n", (long long)node->results[0].shape.dim[1]);
    if (node_bool(node, ATTR_residual, false)) add(node, at, place, out);
}
