// What linear_cross_entropy does to a block of rows of logits, between the matmuls that the backend's library makes (the step
// LV_STEP_LINEAR_LOSS of base/plan.h says how the parts go together): a row's maximum, the sum of its exponentials, its loss,
// and in place of its logits their gradient, (softmax - onehot) dloss. Four reads of a row that stays in cache.
#include "codegen/c/template_text.h"
#include "ops/op.h"

// buffers: 0 logits [rows, V] in and out, 1 loss [rows], then for the gradient 2 target i32 [rows], 3 dloss [rows], 4 the
// gradient as bf16 [rows, V] where it is wanted in that. scalars: 0 rows, 1 whether the gradient is wanted, 2 whether as bf16.
static const char kernel_text[] =
    "void $name(char *const *buffers, const LvScalar *scalars) {\n"
    "  float *restrict logits = (float *)buffers[0], *restrict loss = (float *)buffers[1];\n"
    "  const int32_t *restrict target = (const int32_t *)buffers[2];\n"
    "  const float *restrict dloss = (const float *)buffers[3];\n"
    "  uint16_t *restrict narrow = (uint16_t *)buffers[4];\n"
    "  const long rows = (long)scalars[0].i;\n"
    "  const int gradient = scalars[1].i != 0, as_bf16 = scalars[2].i != 0;\n"
    "#pragma omp parallel for schedule(static)\n"
    "  for (long row = 0; row < rows; row++) {\n"
    "    float *restrict x = logits + row * $vL;\n"
    "    float top = x[0], part[16] = {0};\n"
    "#pragma omp simd reduction(max : top)\n"
    "    for (long i = 0; i < $v; i++) top = x[i] > top ? x[i] : top;\n"
    "    const float own = x[target[row]] - top;\n"
    "    long i = 0;\n"
    "    for (; i + 16 <= $v; i += 16)\n"
    "      for (int l = 0; l < 16; l++) {\n"
    "        const float e = lv_exp(x[i + l] - top);\n"
    "        part[l] += e;\n"
    "        x[i + l] = e;\n"
    "      }\n"
    "    for (int l = 0; i < $v; i++, l++) part[l] += x[i] = lv_exp(x[i] - top);\n"
    "    double sum = 0;\n"
    "    for (int l = 0; l < 16; l++) sum += part[l];\n"
    "    loss[row] = lv_log((float)sum) - own;\n"
    "    if (!gradient) continue;\n"
    "    const float factor = dloss[row] / (float)sum;\n"
    "    for (i = 0; i < $v; i++) x[i] *= factor;\n"
    "    x[target[row]] -= dloss[row];\n"
    "    if (as_bf16) for (i = 0; i < $v; i++) narrow[row * $vL + i] = lv_to_bf16(x[i]);\n"
    "  }\n"
    "}\n";

bool print_linear_loss(const Node *node, const char *name, LvText *out) {
    const Value *x = node->inputs[0], *weight = node->inputs[1];
    if (x->dtype != LV_F32 && x->dtype != LV_BF16) return false;
    for (int i = 0; i < node->input_count; i++)
        if (!lv_layout_is_row_major(node->inputs[i]->layout, node->inputs[i]->shape.rank)) return false;
    if (!x->shape.dim[0] || !x->shape.dim[1]) return false;
    if (out) TEMPLATE_FILL(out, kernel_text, {"name", name, 0}, {"v", NULL, weight->shape.dim[0]}, {"vL", NULL, weight->shape.dim[0]});
    return true;
}
