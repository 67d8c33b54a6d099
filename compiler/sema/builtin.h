// Private to the builtin functions: one call's arguments, reading them, and the rules behind the table in builtin.c.
#ifndef LV_SEMA_BUILTIN_H
#define LV_SEMA_BUILTIN_H

#include <math.h>

#include "sema/value.h"

enum { MAX_ARGUMENTS = 8 };

typedef struct {
    Val at[MAX_ARGUMENTS];      // VAL_NONE where left out
    LvSpan span[MAX_ARGUMENTS];
    LvSpan call;
    const struct Builtin *self;
} Arguments;

typedef Val BuiltinRule(Elaborator *e, const Arguments *a);

typedef struct Builtin {
    const char *name, *parameters;
    BuiltinRule *rule;
    Op op;
    double (*number)(double);   // of elementwise ones: the same on compile-time numbers
} Builtin;

// ---- reading arguments: false or NULL where one is not what is wanted, which is reported
bool want_int(Elaborator *e, const Arguments *a, int i, int64_t otherwise, int64_t *out);
bool want_bool(Elaborator *e, const Arguments *a, int i, bool *out);
bool want_number(Elaborator *e, const Arguments *a, int i, double otherwise, double *out);
bool want_ints(Elaborator *e, const Arguments *a, int i, int limit, int *count, int64_t *out);
bool want_shape(Elaborator *e, const Arguments *a, int i, LvShape *shape);
bool want_axis(Elaborator *e, const Arguments *a, int i, int rank, int64_t otherwise, int64_t *axis);
bool want_dtype(Elaborator *e, const Arguments *a, int i, LvDType otherwise, LvDType *out);
Value *tensor_at(Elaborator *e, const Arguments *a, int i);
Value *real_tensor(Elaborator *e, const Arguments *a, int i);
void mark_nodes(Elaborator *e, LvSpan span);
Val add_builtin(Elaborator *e, const Arguments *a, int count, Value *const *inputs, const Attrs *attrs);

// ---- the rules: builtin_numbers.c, builtin_tensors.c, builtin_make.c
BuiltinRule rule_range, rule_len, rule_min, rule_max, rule_sum, rule_prod, rule_reversed, rule_zip, rule_enumerate,
    rule_int, rule_float, rule_assert, rule_error, rule_unary, rule_binary, rule_select, rule_cast, rule_same,
    rule_reduce, rule_along_axis, rule_reshape, rule_transpose, rule_expand, rule_slice, rule_pad, rule_concat,
    rule_reverse, rule_two, rule_scatter_add, rule_dynamic_slice, rule_three, rule_matmul, rule_conv2d,
    rule_layer_norm, rule_group_norm, rule_attention, rule_cross_entropy, rule_zeros,
    rule_ones, rule_full, rule_iota, rule_random, rule_constant, rule_group, rule_in_group;  // the last two: variable.c

#endif
