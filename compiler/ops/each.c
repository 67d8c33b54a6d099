// See each.h.
#include "ops/each.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/rules.h"

bool each_takes(Op op) {
    return op_info(op)->kind == OP_KIND_ELEMENTWISE && op != OP_mod && op != OP_bits && op != OP_from_byte;
}

// ---- text

static void put_arg(int arg, LvText *out) {
    bool step = arg >= EACH_OPERANDS;
    lv_text_printf(out, " %c%d", step ? 't' : 'x', step ? arg - EACH_OPERANDS : arg);
}

void each_print(const Each *each, LvText *out) {
    for (int i = 0; i < each->step_count; i++) {
        const EachStep *step = &each->step[i];
        lv_text_puts(out, i ? "; " : "");
        if (step->op == OP_constant) {
            lv_text_printf(out, "number %.17g", step->number);
            continue;
        }
        if (step->op == OP_slice) {
            lv_text_printf(out, "pixel x%d %lld", step->arg[0], (long long)step->pixel);
            continue;
        }
        lv_text_puts(out, op_name(step->op));
        for (int k = 0; k < op_info(step->op)->inputs; k++) put_arg(step->arg[k], out);
    }
    for (int i = 0; i < each->sum_count; i++) {
        lv_text_puts(out, i || each->step_count ? "; sum" : "sum");
        put_arg(each->sum[i], out);
    }
}

static bool read_arg(const char **at, int operands, int steps, int *arg) {
    if ((*at)[0] != ' ' || ((*at)[1] != 'x' && (*at)[1] != 't') || !isdigit((unsigned char)(*at)[2])) return false;
    bool step = (*at)[1] == 't';
    char *end;
    long number = strtol(*at + 2, &end, 10);
    *at = end;
    if (number >= (step ? steps : operands)) return false;
    *arg = (int)number + (step ? EACH_OPERANDS : 0);
    return true;
}

static bool read_number(const char **at, EachStep *step) {
    char *end;
    *step = (EachStep){.op = OP_constant, .number = strtod(*at, &end)};
    bool found = end != *at;
    *at = end;
    return found;
}

static bool read_pixel(const char **at, int operands, EachStep *step) {
    *step = (EachStep){.op = OP_slice};
    if (!read_arg(at, operands, 0, &step->arg[0]) || step->arg[0] == 0 || (*at)[0] != ' ' || !isdigit((unsigned char)(*at)[1])) return false;
    char *end;
    step->pixel = strtoll(*at + 1, &end, 10);
    *at = end;
    return true;
}

static bool read_item(const char **at, int operands, Each *each) {
    char word[32];
    int length = (int)strspn(*at, "abcdefghijklmnopqrstuvwxyz_");
    if (length == 0 || length >= (int)sizeof word) return false;
    snprintf(word, sizeof word, "%.*s", length, *at);
    *at += length;
    if (!strcmp(word, "sum")) return each->sum_count < EACH_SUMS && read_arg(at, operands, each->step_count, &each->sum[each->sum_count++]);
    if (each->step_count == EACH_STEPS) return false;
    EachStep *step = &each->step[each->step_count];
    if (!strcmp(word, "number") || !strcmp(word, "pixel")) {
        each->step_count++;
        return *word == 'n' ? read_number(at, step) : read_pixel(at, operands, step);
    }
    *step = (EachStep){0};
    if (!op_parse(word, &step->op) || !each_takes(step->op)) return false;
    for (int i = 0; i < op_info(step->op)->inputs; i++)
        if (!read_arg(at, operands, each->step_count, &step->arg[i])) return false;
    each->step_count++;
    return true;
}

bool each_parse(const char *text, int operands, Each *each) {
    *each = (Each){0};
    if (operands > EACH_OPERANDS) return false;
    for (const char *at = text;; at += 2) {
        if (!read_item(&at, operands, each)) return false;
        if (!*at) return each->sum_count > 0;
        if (strncmp(at, "; ", 2)) return false;
    }
}

// ---- values

void each_evaluate(const Each *each, EachRead *read, const void *element, double *terms) {
    double value[EACH_STEPS];
    for (int i = 0; i < each->step_count; i++) {
        const EachStep *step = &each->step[i];
        double arg[3] = {0};
        if (step->op == OP_constant || step->op == OP_slice) {
            value[i] = step->op == OP_constant ? step->number : read(element, step->arg[0], step->pixel);
            continue;
        }
        for (int k = 0; k < op_info(step->op)->inputs; k++)
            arg[k] = step->arg[k] < EACH_OPERANDS ? read(element, step->arg[k], -1) : value[step->arg[k] - EACH_OPERANDS];
        value[i] = elementwise_value(step->op, arg[0], arg[1], arg[2]);
    }
    for (int i = 0; i < each->sum_count; i++)
        terms[i] = each->sum[i] < EACH_OPERANDS ? read(element, each->sum[i], -1) : value[each->sum[i] - EACH_OPERANDS];
}

// Of a truth value a number, and the other way round, where the other is asked for.
static Value *as_asked(Graph *g, Value *value, bool truth, LvDType dtype) {
    if (truth == (value->dtype == LV_BOOL)) return value;
    return truth ? build_binary(g, OP_ne, value, build_like(g, 0, value)) : build_cast(g, value, dtype);
}

static bool asks_truth(Op op, int arg) { return op == OP_not || op == OP_and || op == OP_or || (op == OP_select && arg == 0); }

static Value *at_pixel(Graph *g, Value *map, int64_t pixel) {
    const int64_t *dim = map->shape.dim;
    Value *one = build_slice(g, map, (int64_t[]){0, 0, pixel / dim[3], pixel % dim[3]}, lv_shape(4, (int64_t[]){dim[0], dim[1], 1, 1}), NULL);
    return build_expand(g, build_reshape(g, one, lv_shape(2, dim)), map->shape, (int64_t[]){0, 1});
}

void each_build(Graph *graph, const Each *each, Value *const *operands, Value **terms) {
    Value *value[EACH_OPERANDS + EACH_STEPS] = {0};
    const Value *like = operands[0];
    for (int i = 0; i < EACH_OPERANDS; i++) value[i] = operands[i];
    for (int i = 0; i < each->step_count; i++) {
        const EachStep *step = &each->step[i];
        Value *arg[3], *made;
        int count = step->op == OP_constant || step->op == OP_slice ? 0 : op_info(step->op)->inputs;
        for (int k = 0; k < count; k++) arg[k] = as_asked(graph, value[step->arg[k]], asks_truth(step->op, k), like->dtype);
        if (step->op == OP_constant) made = build_like(graph, step->number, like);
        else if (step->op == OP_slice) made = at_pixel(graph, operands[step->arg[0]], step->pixel);
        else made = build_node(graph, step->op, count, arg, NULL);
        value[EACH_OPERANDS + i] = made;
    }
    for (int i = 0; i < each->sum_count; i++) terms[i] = as_asked(graph, value[each->sum[i]], false, like->dtype);
}
