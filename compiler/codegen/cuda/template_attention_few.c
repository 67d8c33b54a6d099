// attention of few queries over many keys on GPUs, as in sampling token by token: reads each key and value once, at memory's speed.
//
// A block has a head and CHUNK of its keys; it leaves sums, their maximum and divisor of each query in scratch memory, and a
// second launch puts the chunks of a query together in their order (flash-decoding, Dao et al. 2023). Where chunks end depends
// on shapes alone; those behind the last key that any query sees end at once.
#include <stdio.h>

#include "codegen/cuda/templates.h"

enum { FEW = 8, MAX_CHANNELS = 1024, BLOCK = 128 };

static const char reach_text[] =
    "// keys that query t sees\n"
    "static __device__ __forceinline__ int $name_reach(int length, int t) {\n"
    "  const int reach = $causal ? length - $t + t + 1 : length;\n"
    "  return reach < 1 ? 1 : reach < $s ? reach : $s;\n"
    "}\n"
    "// $piece elements of a row\n"
    "static __device__ __forceinline__ void $name_read(const $type *p, bool aligned, float *x) {\n"
    "  if (aligned) {\n"
    "$wide"
    "  } else for (int i = 0; i < $piece; i++) x[i] = $from(p[i]);\n"
    "}\n";

// Three steps with barriers between: scores, $across lanes to a key and 4 keys at a time; their exponentials, a warp to a query;
// products with the values, $across2 threads to a value, whose sums over groups of threads then go through shared memory.
static const char chunk_text[] =
    "extern \"C\" __global__ void $name_0(const $type *q, const $type *k, const $type *v$lengthParameter, $type *y, float *lse, char *scratch) {\n"
    "  __shared__ float room[$room], score[$t * $chunk];\n"
    "  const int head = blockIdx.x / $parts, part = blockIdx.x % $parts, first = part * $chunk, thread = threadIdx.x;\n"
    "  const int length = $length, keys = $name_reach(length, $t - 1), last = first + $chunk < keys ? first + $chunk : keys;\n"
    "  if (head >= $heads || first >= keys) return;\n"
    "  const bool k_aligned = ((unsigned long long)k & 15) == 0, v_aligned = ((unsigned long long)v & 15) == 0;\n"
    "  float *out = (float *)scratch + (long long)blockIdx.x * ($t * ($e + 2));\n"
    "  q += (long long)head * ($t * $d), k += (long long)head * $s * $d, v += (long long)head * $s * $e;\n"
    "  for (int i = thread; i < $t * $d; i += $block) room[i] = $from(q[i]);\n"
    "  __syncthreads();\n"
    "  const int lane = thread % $across, group = thread / $across;\n"
    "  for (int round = 0; round < $chunk; round += 4 * $block / $across) {\n"
    "    const int key = first + round + 4 * group;\n"
    "    float dot[$t][4];\n"
    "    #pragma unroll\n"
    "    for (int t = 0; t < $t; t++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) dot[t][j] = 0;\n"
    "    for (int p = lane; p < $d / $piece; p += $across) {\n"
    "      float x[4][$piece];\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) $name_read(k + (long long)(key + j < last ? key + j : last - 1) * $d + p * $piece, k_aligned, x[j]);\n"
    "      #pragma unroll\n"
    "      for (int t = 0; t < $t; t++)\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < $piece; i++) {\n"
    "          const float a = room[t * $d + p * $piece + i];\n"
    "          #pragma unroll\n"
    "          for (int j = 0; j < 4; j++) dot[t][j] = fmaf(a, x[j][i], dot[t][j]);\n"
    "        }\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int t = 0; t < $t; t++)\n"
    "      #pragma unroll\n"
    "      for (int j = 0; j < 4; j++) {\n"
    "        const float sum = lv_warp_sum(dot[t][j], $across);\n"
    "        if (lane == 0 && key + j < first + $chunk) score[t * $chunk + key + j - first] = sum * $scale;\n"
    "      }\n"
    "  }\n"
    "  __syncthreads();\n"
    "  for (int t = thread / 32; t < $t; t += $block / 32) {\n"
    "    const int reach = $name_reach(length, t), own = reach < last ? reach : last;\n"
    "    float *p = score + t * $chunk, top = -1e30f, sum = 0;\n"
    "    for (int j = thread % 32; j < own - first; j += 32) top = fmaxf(top, p[j]);\n"
    "    top = lv_warp_max(top);\n"
    "    for (int j = thread % 32; j < $chunk; j += 32) {\n"
    "      p[j] = j < own - first ? expf(p[j] - top) : 0.f;\n"
    "      sum += p[j];\n"
    "    }\n"
    "    sum = lv_warp_sum(sum);\n"
    "    if (thread % 32 == 0) out[t * ($e + 2) + $e] = top, out[t * ($e + 2) + $e + 1] = sum;\n"
    "  }\n"
    "  __syncthreads();\n"
    "  const int lane2 = thread % $across2, group2 = thread / $across2;\n"
    "  for (int p = lane2; p < $e / $piece; p += $across2) {\n"
    "    float sum[$t][$piece];\n"
    "    #pragma unroll\n"
    "    for (int t = 0; t < $t; t++)\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $piece; i++) sum[t][i] = 0;\n"
    "    #pragma unroll 4\n"
    "    for (int j = group2; j < last - first; j += $block / $across2) {\n"
    "      float x[$piece];\n"
    "      $name_read(v + (long long)(first + j) * $e + p * $piece, v_aligned, x);\n"
    "      #pragma unroll\n"
    "      for (int t = 0; t < $t; t++) {\n"
    "        const float weight = score[t * $chunk + j];\n"
    "        #pragma unroll\n"
    "        for (int i = 0; i < $piece; i++) sum[t][i] = fmaf(weight, x[i], sum[t][i]);\n"
    "      }\n"
    "    }\n"
    "    #pragma unroll\n"
    "    for (int t = 0; t < $t; t++)\n"
    "      #pragma unroll\n"
    "      for (int i = 0; i < $piece; i++) room[(group2 * $t + t) * $e + p * $piece + i] = sum[t][i];\n"
    "  }\n"
    "  __syncthreads();\n"
    "  for (int i = thread; i < $t * $e; i += $block) {\n"
    "    float sum = room[i];\n"
    "    for (int g = 1; g < $block / $across2; g++) sum += room[g * ($t * $e) + i];\n"
    "    out[i / $e1 * ($e + 2) + i % $e1] = sum;\n"
    "  }\n"
    "}\n";

static const char merge_text[] =
    "extern \"C\" __global__ void $name_1(const $type *q, const $type *k, const $type *v$lengthParameter, $type *y, float *lse, char *scratch) {\n"
    "  const int row = blockIdx.x, head = row / $t1, t = row % $t1, keys = $name_reach($length, $t - 1);\n"
    "  if (row >= $heads * $t) return;\n"
    "  const float *parts = (const float *)scratch + ((long long)head * $parts * $t + t) * ($e + 2);\n"
    "  const int count = (keys + $chunk - 1) / $chunk;\n"
    "  float top = -1e30f, sum = 0;\n"
    "  for (int n = 0; n < count; n++) top = fmaxf(top, parts[(long long)n * ($t * ($e + 2)) + $e]);\n"
    "  for (int n = 0; n < count; n++) {\n"
    "    const float *part = parts + (long long)n * ($t * ($e + 2));\n"
    "    sum += part[$e + 1] * expf(part[$e] - top);\n"
    "  }\n"
    "  for (int i = threadIdx.x; i < $e; i += $block) {\n"
    "    float own = 0;\n"
    "    for (int n = 0; n < count; n++) {\n"
    "      const float *part = parts + (long long)n * ($t * ($e + 2));\n"
    "      own = fmaf(part[i], expf(part[$e] - top), own);\n"
    "    }\n"
    "    y[(long long)row * $e + i] = $to(own / sum);\n"
    "  }\n"
    "  if (threadIdx.x == 0) lse[row] = top + logf(sum);\n"
    "}\n";

static bool takes(const Node *node) {
    LvShape q = node->inputs[0]->shape, k = node->inputs[1]->shape, v = node->inputs[2]->shape;
    if (!cuda_is_small_float(node->inputs[0]->dtype) || !cuda_all_row_major(node) || node_float(node, ATTR_dropout, 0) > 0) return false;
    int64_t heads = q.dim[0] * q.dim[1], most = INT32_MAX / 2;
    return q.dim[2] < FEW && q.dim[3] <= MAX_CHANNELS && v.dim[3] <= MAX_CHANNELS && k.dim[2] < most / 2048 && heads * k.dim[2] < most;
}

static int power_of_two(int64_t least, int most) {
    int p = 1;
    while (p < least && p < most) p *= 2;
    return p;
}

// Keys of a block: few where there are few heads, so that all multiprocessors have work.
static int64_t chunk_of(int64_t heads, int64_t s) {
    int64_t chunk = 256;
    while (chunk > 64 && heads * ((s + chunk - 1) / chunk) < 512) chunk /= 2;
    return chunk;
}

bool cuda_print_attention_few(const Node *node, const Target *target, const char *name, LvText *out, CudaKernel *made) {
    (void)target;
    if (!takes(node)) return false;
    if (!out) return true;
    LvShape q = node->inputs[0]->shape, v = node->inputs[2]->shape;
    LvDType dtype = node->inputs[0]->dtype;
    int64_t heads = q.dim[0] * q.dim[1], t = q.dim[2], s = v.dim[2], d = q.dim[3], e = v.dim[3];
    int64_t chunk = chunk_of(heads, s), parts = (s + chunk - 1) / chunk;
    bool has_length = node_bool(node, ATTR_length, false), causal = node_bool(node, ATTR_causal, false);
    if (t == 0) heads = 0;
    int piece = dtype == LV_F32 ? 4 : 8;
    if (d % piece || e % piece) piece = 1;
    int across = power_of_two(d / piece, 32), across2 = power_of_two(e / piece, BLOCK);
    int64_t room = t * d, room2 = BLOCK / across2 * t * e, few = t ? t : 1;
    char scale[48], fixed[32];
    snprintf(scale, sizeof scale, "((float)%.17g)", node_float(node, ATTR_scale, 1));
    snprintf(fixed, sizeof fixed, "%lld", (long long)(causal ? t : s));
    if (room < room2) room = room2;
    LvText wide = {0};
    cuda_print_load(dtype, piece, "x", "p", &wide);
    static const char *const texts[] = {reach_text, chunk_text, merge_text};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        TEMPLATE_FILL(out, texts[i], {"name", name, 0}, {"type", cuda_type(dtype), 0}, {"from", cuda_from(dtype), 0}, {"to", cuda_to(dtype), 0},
                      {"wide", lv_text_get(&wide), 0}, {"piece", NULL, piece}, {"heads", NULL, heads}, {"t", NULL, few}, {"t1", NULL, few},
                      {"s", NULL, s}, {"d", NULL, d}, {"e", NULL, e}, {"e1", NULL, e ? e : 1}, {"scale", scale, 0},
                      {"causal", NULL, causal}, {"chunk", NULL, chunk}, {"parts", NULL, parts}, {"room", NULL, room ? room : 1},
                      {"across", NULL, across}, {"across2", NULL, across2}, {"block", NULL, BLOCK},
                      {"lengthParameter", has_length ? ", const int *length_at" : "", 0}, {"length", has_length ? "*length_at" : fixed, 0});
    lv_text_free(&wide);
    cuda_take_scratch(made, heads * parts * t * (e + 2) * 4);
    cuda_push_launch(made, heads * parts, 1, 1, BLOCK, 0);
    cuda_push_launch(made, heads * t, 1, 1, BLOCK, 0);
    return true;
}
