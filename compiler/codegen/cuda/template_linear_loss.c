// What linear_cross_entropy does to a block of rows of logits, between the matmuls that the backend's library makes: of a row, a
// block of threads finds maximum and sum of exponentials in one reading, then the loss, and then the logits' gradient, (softmax -
// onehot) dloss. For that a row waits in shared memory where it fits, so that it is read once; else it is read again. The
// runtime launches it itself, README.md says how.
#include "codegen/cuda/templates.h"
#include "ops/op.h"

enum { BLOCK = 256, WIDE_BLOCK = 1024, MANY_CLASSES = 8192 };  // a long row has a multiprocessor to itself

static const char kernel_text[] =
    "// x joins a running maximum and the sum of exponentials under it\n"
    "static __device__ __forceinline__ void $name_join(float *top, float *sum, float top2, float sum2) {\n"
    "  const float most = fmaxf(*top, top2);\n"
    "  *sum = *sum * expf(*top - most) + sum2 * expf(top2 - most);\n"
    "  *top = most;\n"
    "}\n"
    "static __device__ __forceinline__ float4 $name_read(const float *x, int i, bool wide) {\n"
    "  if (wide) return *(const float4 *)(x + 4 * i);\n"
    "  return make_float4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__($block) $name_0(float *logits, const int *target, const float *dloss, float *loss, char *scratch, long long rows,\n"
    "                                    long long classes, long long ignore) {\n"
    "  __shared__ float tops[$block / 32], sums[$block / 32];\n"
    "  const long long row = blockIdx.x;\n"
    "  if (row >= rows) return;\n"
    "  float *x = logits + row * $stride;\n"
    "$narrow"
    "$keep"
    "  const int own = target[row], thread = threadIdx.x;\n"
    "  const bool counts = own >= 0 && own < $v && own != ignore;\n"
    "  if (!counts) {\n"
    "    if (thread == 0) loss[row] = 0;\n"
    "    if (dloss) for (int i = thread; i < $v; i += $block) $zero;\n"
    "    return;\n"
    "  }\n"
    "  const bool wide = ((unsigned long long)x & 15) == 0;\n"
    "  float top = -3e38f, sum = 0;\n"
    "  #pragma unroll 4\n"
    "  for (int i = thread; i < $v / 4; i += $block) {\n"
    "    const float4 a = $name_read(x, i, wide);\n"
    "$store4"
    "    const float most = fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w));\n"
    "    if (most > top) sum *= expf(top - most), top = most;\n"
    "    sum += (expf(a.x - top) + expf(a.y - top)) + (expf(a.z - top) + expf(a.w - top));\n"
    "  }\n"
    "  if (thread < $v % 4) $name_join(&top, &sum, x[$v / 4 * 4 + thread], 1.f);\n"
    "  #pragma unroll\n"
    "  for (int o = 16; o > 0; o /= 2) $name_join(&top, &sum, __shfl_xor_sync(0xFFFFFFFFu, top, o), __shfl_xor_sync(0xFFFFFFFFu, sum, o));\n"
    "  if (thread % 32 == 0) tops[thread / 32] = top, sums[thread / 32] = sum;\n"
    "  const float there = x[own];\n"
    "  __syncthreads();\n"
    "  top = tops[0], sum = sums[0];\n"
    "  #pragma unroll\n"
    "  for (int w = 1; w < $block / 32; w++) $name_join(&top, &sum, tops[w], sums[w]);\n"
    "  if (thread == 0) loss[row] = logf(sum) - (there - top);\n"
    "  if (!dloss) return;\n"
    "  const float d = dloss[row], factor = d / sum;\n"
    "  for (int i = thread; i < $v / 4; i += $block) {\n"
    "    float4 a = $load4;\n"
    "    a.x = expf(a.x - top) * factor, a.y = expf(a.y - top) * factor, a.z = expf(a.z - top) * factor, a.w = expf(a.w - top) * factor;\n"
    "    const int at = own - 4 * i;\n"
    "    if (at == 0) a.x -= d;\n"
    "    if (at == 1) a.y -= d;\n"
    "    if (at == 2) a.z -= d;\n"
    "    if (at == 3) a.w -= d;\n"
    "    $store\n"
    "  }\n"
    "  if (thread < $v % 4) {\n"
    "    const int i = $v / 4 * 4 + thread;\n"
    "    const float a = expf(x[i] - top) * factor - (i == own ? d : 0.f);\n"
    "    $last;\n"
    "  }\n"
    "}\n";

static const char wide_store[] =
    "if (wide) *(float4 *)(x + 4 * i) = a;\n"
    "    else x[4 * i] = a.x, x[4 * i + 1] = a.y, x[4 * i + 2] = a.z, x[4 * i + 3] = a.w;";

// The gradient as the matmuls take it, in scratch memory; the logits stay.
static const char narrow_store[] =
    "*(uint2 *)(narrow + 4 * i) = make_uint2($pack(a.x, a.y), $pack(a.z, a.w));";

bool cuda_print_linear_loss(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    const Value *x = node->inputs[0], *weight = node->inputs[1];
    int64_t v = weight->shape.dim[0];
    if (!cuda_is_small_float(x->dtype) || !cuda_all_row_major(node) || v > INT32_MAX / 2) return false;
    if (!x->shape.dim[0] || !x->shape.dim[1]) return false;
    if (!out) return true;
    bool narrow = x->dtype != LV_F32;
    const char *to = cuda_to(x->dtype), *pack = x->dtype == LV_BF16 ? "lv_pack_bf16" : "lv_pack_f16";
    LvText store = {0}, last = {0}, narrows = {0}, again = {0};
    int64_t stride = (v + 7) / 8 * 8, kept = v / 4 * 16;
    int block = v >= MANY_CLASSES ? WIDE_BLOCK : BLOCK;
    bool keeps = node->op == OP_linear_cross_entropy_grad && kept && kept + 1024 <= cuda_shared_room(target);
    if (narrow) TEMPLATE_FILL(&narrows, "  unsigned short *narrow = (unsigned short *)scratch + row * $stride;\n", {"stride", NULL, stride});
    TEMPLATE_FILL(&store, narrow ? narrow_store : wide_store, {"v", NULL, v}, {"to", to, 0}, {"pack", pack, 0});
    TEMPLATE_FILL(&again, "$name_read(x, i, wide)", {"name", name, 0});
    TEMPLATE_FILL(&last, narrow ? "narrow[i] = $to(a)" : "x[i] = a", {"to", to, 0});
    TEMPLATE_FILL(out, kernel_text, {"name", name, 0}, {"v", NULL, v}, {"block", NULL, block}, {"store", lv_text_get(&store), 0},
                  {"last", lv_text_get(&last), 0}, {"zero", narrow ? "narrow[i] = 0" : "x[i] = 0", 0},
                  {"narrow", lv_text_get(&narrows), 0}, {"stride", NULL, stride},
                  {"keep", keeps ? "  LV_SHARED(float4, kept);\n" : "", 0}, {"store4", keeps ? "    kept[i] = a;\n" : "", 0},
                  {"load4", keeps ? "kept[i]" : lv_text_get(&again), 0});
    cuda_push_launch(made, 1, 1, 1, block, keeps ? kept : 0);
    lv_text_free(&store);
    lv_text_free(&last);
    lv_text_free(&narrows), lv_text_free(&again);
    return true;
}
