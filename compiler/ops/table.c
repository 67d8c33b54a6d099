// ops.def as a table.
#include "ops/rules.h"

#include <string.h>

#define no_gradient NULL
#define primitive NULL
#define evaluate_given NULL

static const OpInfo table[OP_COUNT] = {
#define OP(id, kind_, inputs_, results_, attributes, SHAPE, EVALUATE, GRADIENT, DECOMPOSE)                             \
    [OP_##id] = {.name = #id, .kind = OP_KIND_##kind_, .inputs = inputs_, .results = results_, .shape = SHAPE,       \
                   .evaluate = EVALUATE, .gradient = GRADIENT, .decompose = DECOMPOSE, .attribute_text = #attributes},
#define ELEMENTWISE(id, inputs_, expression_, GRADIENT)                                                                \
    [OP_##id] = {.name = #id, .kind = OP_KIND_ELEMENTWISE, .inputs = inputs_, .results = 1,                          \
                   .expression = #expression_, .shape = shape_elementwise, .evaluate = evaluate_##id,                  \
                   .gradient = GRADIENT, .attribute_text = "()"},
#include "ops/ops.def"
};

const OpInfo *op_info(Op op) {
    if (op < 0 || op >= OP_COUNT) lv_internal_error("ops: no operation %d", (int)op);
    return &table[op];
}

const char *op_name(Op op) { return op_info(op)->name; }

bool op_parse(const char *name, Op *op) {
    for (int i = 0; i < OP_COUNT; i++) {
        if (strcmp(table[i].name, name)) continue;
        *op = (Op)i;
        return true;
    }
    return false;
}

// "(stride, pad, bias)": whether `name` is one of the words.
bool op_takes_attr(Op op, AttrName name) {
    const char *word = attr_name_text(name), *at = op_info(op)->attribute_text;
    size_t length = strlen(word);
    for (at++; *at && *at != ')';) {
        size_t span = strcspn(at, ",) ");
        if (span == length && !memcmp(at, word, length)) return true;
        at += span;
        at += strspn(at, ", ");
    }
    return false;
}
