// C for one element: types, constants, conversions, and the expressions of ops.def in the arithmetic of a type. The same text serves
// C and CUDA C: what it names (lv_exp, LV_INF, lv_half, int64_t) each prelude defines in its own way.
#ifndef LV_CODEGEN_EXPRESSION_H
#define LV_CODEGEN_EXPRESSION_H

#include "base/text.h"
#include "graph/graph.h"

const char *c_type(LvDType dtype);                // in registers
const char *c_storage_type(LvDType dtype);        // in buffers
bool c_is_float(LvDType dtype);
const char *c_load_conversion(LvDType dtype);     // "" or "function("
const char *c_store_conversion(LvDType dtype);
void c_put_constant(LvDType dtype, double value, LvText *out);
void c_put_extreme(LvDType dtype, bool most, LvText *out);  // the largest (or smallest) value, infinite if the type has one
void c_put_op(Op op, LvDType arithmetic, LvDType result, char args[3][16], LvText *out);
void c_put_cast(LvDType from, LvDType to, const char *arg, LvText *out);

#endif
