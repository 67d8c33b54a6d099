// Products on tensor cores: fragments by ldmatrix out of shared memory that asynchronous copies fill, and by hand.
#include <math.h>
#include <string.h>

#include "codegen/cuda/prelude.h"
#include "half.h"
#include "test.h"

// ---- bf16: 64 x 32 elements to a block, two stages

// The rows of the product of [m, k] and [k, n], by one block of a kernel NAME(float *out, left, right).
static TestOutcome run_product(const char *text, const char *name, int m, int n, int k, unsigned threads, unsigned shared) {
    enum { MOST = 64 * 192 };
    CuFunction f;
    static uint16_t a[MOST], b[MOST];
    static float d[MOST];
    const size_t bytes = (size_t)(m * n) * sizeof *d;
    for (int i = 0; i < m * k; i++) a[i] = (uint16_t)half_to_bf16(test_number((uint64_t)i));
    for (int i = 0; i < k * n; i++) b[i] = (uint16_t)half_to_bf16(test_number((uint64_t)i + 77777));
    if (!test_build(text, name, &f)) return TEST_FAULT;
    CuPointer out = test_room(bytes), left = test_put(a, (size_t)(m * k) * 2), right = test_put(b, (size_t)(k * n) * 2);
    void *parameters[] = {&out, &left, &right};
    if (api.cuLaunchKernel(f, 1, 1, 1, threads, 1, 1, shared, NULL, parameters, NULL)) return TEST_FAULT;
    if (!test_get(d, out, bytes)) return TEST_FAULT;
    for (int i = 0; i < m * n; i++) {
        double sum = 0;
        for (int e = 0; e < k; e++) sum += (double)half_from_bf16(a[i / n * k + e]) * (double)half_from_bf16(b[e * n + i % n]);
        if (!(fabs(sum - (double)d[i]) <= 1e-4)) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static TestOutcome run_pipeline(const char *text) { return run_product(text, "pipeline_0", 64, 32, 96, 128, 2 * (64 * 24 + 16 * 40) * 2); }

static const char pipeline[] =
    "#define A(stage, row, column) (a + ((stage) * 64 + (row)) * 24 + (column))\n"
    "#define B(stage, row, column) (b + ((stage) * 16 + (row)) * 40 + (column))\n"
    "static __device__ __forceinline__ void pipeline_fill(unsigned short *a, unsigned short *b, const unsigned short *left,\n"
    "                                                     const unsigned short *right, int step, int stage) {\n"
    "  const int t = threadIdx.x;\n"
    "  lv_copy_async16(A(stage, t / 2, t % 2 * 8), left + t / 2 * 96 + step * 16 + t % 2 * 8, 16);\n"
    "  if (t < 64) lv_copy_async16(B(stage, t / 4, t % 4 * 8), right + (step * 16 + t / 4) * 32 + t % 4 * 8, 16);\n"
    "}\n"
    "extern \"C\" __global__ void __launch_bounds__(128, 2) pipeline_0(float *out, const unsigned short *left, const unsigned short *right) {\n"
    "  LV_SHARED(unsigned short, a);\n"
    "  unsigned short *b = a + 2 * 64 * 24;\n"
    "  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;\n"
    "  float d[4][4] = {};\n"
    "  pipeline_fill(a, b, left, right, 0, 0);\n"
    "  lv_copy_commit(); // first\n"
    "  for (int step = 0; step < 6; step++) {\n"
    "    if (step + 1 < 6) pipeline_fill(a, b, left, right, step + 1, (step + 1) % 2);\n"
    "    lv_copy_commit(); // next\n"
    "    LV_COPY_WAIT(1);\n"
    "    __syncthreads(); // filled\n"
    "    unsigned x[4], y[4];\n"
    "    lv_ldmatrix4(x, A(step % 2, warp * 16 + lane % 16, lane / 16 * 8));\n"
    "#pragma unroll\n"
    "    for (int j = 0; j < 4; j += 2) {\n"
    "      lv_ldmatrix4_trans(y, B(step % 2, lane % 16, j * 8 + lane / 16 * 8));\n"
    "      lv_mma_bf16(d[j], x, y);\n"
    "      lv_mma_bf16(d[j + 1], x, y + 2);\n"
    "    }\n"
    "    __syncthreads(); // used\n"
    "  }\n"
    "  for (int j = 0; j < 4; j++) {\n"
    "    float *at = out + (warp * 16 + lane / 4) * 32 + j * 8 + lane % 4 * 2;\n"
    "    *(float2 *)at = make_float2(d[j][0], d[j][1]);\n"
    "    *(float2 *)(at + 8 * 32) = make_float2(d[j][2], d[j][3]);\n"
    "  }\n"
    "}\n";

static const TestMutation pipeline_wrong[] = {
    {"no wait", "LV_COPY_WAIT(1);", "", "where a copy under way"},
    {"waits for too little", "LV_COPY_WAIT(1);", "LV_COPY_WAIT(2);", "where a copy under way"},
    {"a commit dropped", "lv_copy_commit(); // next", "", "where a copy under way"},
    {"no barrier after the wait", "__syncthreads(); // filled", "", "race in shared memory"},
    {"barrier before the wait", "    LV_COPY_WAIT(1);\n    __syncthreads(); // filled\n", "    __syncthreads();\n    LV_COPY_WAIT(1);\n", "race in shared memory"},
    {"no barrier after the use", "__syncthreads(); // used", "", "race in shared memory"},
    {"one stage", "(step + 1) % 2", "0", "where a copy under way"},
    {"halves of a fragment swapped", "lane % 16, lane / 16 * 8)", "lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8)", NULL},
    {"the same half twice", "x, y + 2)", "x, y)", NULL},
    {"not transposed", "lv_ldmatrix4_trans", "lv_ldmatrix4", NULL},
    {"rows at odd places", ")) * 24 +", ")) * 20 +", "both must be multiples of 16"},
    {"ldmatrix one off", "lv_ldmatrix4(x, A(step % 2, warp * 16 + lane % 16, lane / 16 * 8))", "lv_ldmatrix4(x, A(step % 2, warp * 16 + lane % 16, 1))",
     "no multiple of 16"},
    {"ldmatrix outside", "lv_ldmatrix4(x, A(step % 2,", "lv_ldmatrix4(x, A(2 + step % 2,", NULL},
    {"a copy past the end", "(step * 16 + t / 4) * 32", "(step * 16 + t / 4 + 1) * 32", "past the end of an allocation of 6144"},
    {"a copy from an odd place", "step * 16 + t % 2 * 8, 16)", "step * 16 + t % 2 * 8 + 1, 16)", "both must be multiples of 16"},
    {"half a copy", "t % 2 * 8, 16)", "t % 2 * 8, 8)", NULL},
    {"product for some lanes", "lv_mma_bf16(d[j], x, y);", "if (lane < 31) lv_mma_bf16(d[j], x, y);", "lv_mma_bf16"},
    {"stored one off", "+ lane % 4 * 2;", "+ lane % 4 * 2 + 1;", "a vector of 8 bytes"},
    {"stored in another order", "make_float2(d[j][2], d[j][3])", "make_float2(d[j][3], d[j][2])", NULL},
    {NULL, NULL, NULL, NULL},
};

// ---- fragments by hand: TF32 and f16, one warp

static TestOutcome run_tf32(const char *text) {
    enum { DEPTH = 24 };
    CuFunction f;
    static float a[16 * DEPTH], b[DEPTH * 8], d[16 * 8];
    for (int i = 0; i < 16 * DEPTH; i++) a[i] = test_number((uint64_t)i) * 1.2345678f;
    for (int i = 0; i < DEPTH * 8; i++) b[i] = test_number((uint64_t)i + 4242) * 0.7654321f;
    if (!test_build(text, "tf32_0", &f)) return TEST_FAULT;
    CuPointer out = test_room(sizeof d), left = test_put(a, sizeof a), right = test_put(b, sizeof b);
    void *parameters[] = {&out, &left, &right};
    if (api.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL) || !test_get(d, out, sizeof d)) return TEST_FAULT;
    for (int i = 0; i < 16 * 8; i++) {
        double sum = 0;
        for (int k = 0; k < DEPTH; k++) {
            sum += (double)half_of_bits(half_to_tf32(a[i / 8 * DEPTH + k])) * (double)half_of_bits(half_to_tf32(b[k * 8 + i % 8]));
        }
        if (!(fabs(sum - (double)d[i]) <= 2e-6)) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char tf32[] =
    "extern \"C\" __global__ void tf32_0(float *out, const float *left, const float *right) {\n"
    "  const int g = threadIdx.x / 4, t = threadIdx.x % 4;\n"
    "  float d[4] = {0.0f, 0.0f, 0.0f, 0.0f};\n"
    "  for (int k = 0; k < 24; k += 8) {\n"
    "    const unsigned a[4] = {lv_to_tf32(left[g * 24 + k + t]), lv_to_tf32(left[(g + 8) * 24 + k + t]),\n"
    "                           lv_to_tf32(left[g * 24 + k + t + 4]), lv_to_tf32(left[(g + 8) * 24 + k + t + 4])};\n"
    "    const unsigned b[2] = {lv_to_tf32(right[(k + t) * 8 + g]), lv_to_tf32(right[(k + t + 4) * 8 + g])};\n"
    "    lv_mma_tf32(d, a, b);\n"
    "  }\n"
    "  out[g * 8 + t * 2] = d[0], out[g * 8 + t * 2 + 1] = d[1];\n"
    "  out[(g + 8) * 8 + t * 2] = d[2], out[(g + 8) * 8 + t * 2 + 1] = d[3];\n"
    "}\n";

static const TestMutation tf32_wrong[] = {
    {"not rounded", "lv_to_tf32(left[g * 24 + k + t])", "__float_as_uint(left[g * 24 + k + t])", NULL},
    {"parts of a swapped", "{lv_to_tf32(left[g * 24 + k + t]), lv_to_tf32(left[(g + 8) * 24 + k + t])",
     "{lv_to_tf32(left[(g + 8) * 24 + k + t]), lv_to_tf32(left[g * 24 + k + t])", NULL},
    {"parts of b swapped", "(k + t) * 8 + g]), lv_to_tf32(right[(k + t + 4) * 8", "(k + t + 4) * 8 + g]), lv_to_tf32(right[(k + t) * 8", NULL},
    {"one too deep", "k < 24", "k < 32", "past the end"},
    {NULL, NULL, NULL, NULL},
};

static TestOutcome run_f16(const char *text) {
    CuFunction f;
    static uint16_t a[16 * 16], b[16 * 8], h[16 * 8];
    static float d[16 * 8];
    for (int i = 0; i < 16 * 16; i++) a[i] = (uint16_t)half_to_f16(test_number((uint64_t)i) * 0.3f);
    for (int i = 0; i < 16 * 8; i++) b[i] = (uint16_t)half_to_f16(test_number((uint64_t)i + 99) * 0.2f);
    if (!test_build(text, "f16_0", &f)) return TEST_FAULT;
    CuPointer out = test_room(sizeof d), rounded = test_room(sizeof h), left = test_put(a, sizeof a), right = test_put(b, sizeof b);
    void *parameters[] = {&out, &rounded, &left, &right};
    if (api.cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL)) return TEST_FAULT;
    if (!test_get(d, out, sizeof d) || !test_get(h, rounded, sizeof h)) return TEST_FAULT;
    for (int i = 0; i < 16 * 8; i++) {
        double sum = 1;
        for (int k = 0; k < 16; k++) sum += (double)half_from_f16(a[i / 8 * 16 + k]) * (double)half_from_f16(b[k * 8 + i % 8]);
        if (!(fabs(sum - (double)d[i]) <= 1e-6) || h[i] != half_to_f16(d[i])) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char f16[] =
    "extern \"C\" __global__ void f16_0(float *out, unsigned short *rounded, const unsigned short *left, const unsigned short *right) {\n"
    "  const int g = threadIdx.x / 4, t = threadIdx.x % 4;\n"
    "  const unsigned *l = (const unsigned *)left;\n"
    "  const unsigned a[4] = {l[g * 8 + t], l[(g + 8) * 8 + t], l[g * 8 + t + 4], l[(g + 8) * 8 + t + 4]};\n"
    "  const unsigned b[2] = {right[t * 16 + g] | (unsigned)right[t * 16 + 8 + g] << 16, right[(t + 4) * 16 + g] | (unsigned)right[(t + 4) * 16 + 8 + g] << 16};\n"
    "  float d[4] = {1.0f, 1.0f, 1.0f, 1.0f};\n"
    "  lv_mma_f16(d, a, b);\n"
    "  for (int i = 0; i < 4; i++) out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];\n"
    "  *(unsigned *)(rounded + g * 8 + t * 2) = lv_pack_f16(d[0], d[1]);\n"
    "  rounded[(g + 8) * 8 + t * 2] = lv_to_f16(d[2]), rounded[(g + 8) * 8 + t * 2 + 1] = lv_to_f16(d[3]);\n"
    "}\n";

static const TestMutation f16_wrong[] = {
    {"of another type", "lv_mma_f16", "lv_mma_bf16", NULL},
    {"halves of a word swapped", "right[t * 16 + g] | (unsigned)right[t * 16 + 8 + g] << 16", "right[t * 16 + 8 + g] | (unsigned)right[t * 16 + g] << 16", NULL},
    {"packed the other way", "lv_pack_f16(d[0], d[1])", "lv_pack_f16(d[1], d[0])", NULL},
    {"one element off", "(const unsigned *)left", "(const unsigned *)(left + 1)", "no multiple of that"},
    {NULL, NULL, NULL, NULL},
};

// ---- a warp group: 64 x 64, lines of the left along k, of the right across it

// Behind the prelude, whose descriptors are tried here too.
static TestOutcome run_group(const char *text) {
    static char whole[1 << 15];
    if (snprintf(whole, sizeof whole, "%s%s", cuda_prelude_instructions, text) >= (int)sizeof whole) return TEST_FAULT;
    return run_product(whole, "group_0", 64, 64, 192, 128, 2 * 64 * 64 * 2 + 1024);
}

static const char group[] =
    "extern \"C\" __global__ void __launch_bounds__(128) group_0(float *out, const unsigned short *left, const unsigned short *right) {\n"
    "  LV_SHARED(unsigned short, given);\n"
    "  unsigned short *a = (unsigned short *)lv_align_shared(given), *b = a + 64 * 64;\n"
    "  const int t = threadIdx.x, lane = t % 32, warp = t / 32;\n"
    "  const unsigned long long froma = lv_wgmma_descriptor(a, 16, 1024), fromb = lv_wgmma_descriptor(b, 8192, 1024);\n"
    "  float d[8][4] = {};\n"
    "  for (int slice = 0; slice < 3; slice++) {\n"
    "    for (int i = t; i < 512; i += 128) {\n"
    "      const int line = i / 8, piece = i % 8, to = line * 64 + (piece ^ (line & 7)) * 8;\n"
    "      lv_copy_async16(a + to, left + line * 192 + slice * 64 + piece * 8, 16);\n"
    "      lv_copy_async16(b + to, right + (slice * 64 + line) * 64 + piece * 8, 16);\n"
    "    }\n"
    "    lv_copy_commit();\n"
    "    LV_COPY_WAIT(0);\n"
    "    lv_fence_proxy_async();\n"
    "    __syncthreads(); // filled\n"
    "    lv_wgmma_fence();\n"
    "    for (int s = 0; s < 4; s++) lv_wgmma_bf16(64, 0, 1, d, froma + s * 2, fromb + s * 128);\n"
    "    lv_wgmma_commit();\n"
    "    LV_WGMMA_WAIT(0);\n"
    "    __syncthreads(); // used\n"
    "  }\n"
    "  for (int j = 0; j < 8; j++) {\n"
    "    float *at = out + (warp * 16 + lane / 4) * 64 + j * 8 + lane % 4 * 2;\n"
    "    *(float2 *)at = make_float2(d[j][0], d[j][1]);\n"
    "    *(float2 *)(at + 8 * 64) = make_float2(d[j][2], d[j][3]);\n"
    "  }\n"
    "}\n";

static const TestMutation group_wrong[] = {
    {"no wait for copies", "LV_COPY_WAIT(0);", "", "where a copy under way"},
    {"copies not shown", "lv_fence_proxy_async();", "", "no fence.proxy.async shows"},
    {"shown before they land", "LV_COPY_WAIT(0);\n    lv_fence_proxy_async();", "lv_fence_proxy_async();\n    LV_COPY_WAIT(0);", "no fence.proxy.async shows"},
    {"no barrier after the wait", "__syncthreads(); // filled", "", "race in shared memory"},
    {"sums not fenced", "lv_wgmma_fence();", "", "without wgmma.fence"},
    {"no group", "lv_wgmma_commit();", "", NULL},
    {"waits for all but one", "LV_WGMMA_WAIT(0);", "LV_WGMMA_WAIT(1);", NULL},
    {"no barrier after the use", "__syncthreads(); // used", "", "race in shared memory"},
    {"shared memory as it comes", "(unsigned short *)lv_align_shared(given)", "given", "no multiple of 1024"},
    {"pieces in their order", "(piece ^ (line & 7))", "piece", NULL},
    {"eight lines too near", "lv_wgmma_descriptor(a, 16, 1024)", "lv_wgmma_descriptor(a, 16, 512)", NULL},
    {"steps along what lies across", "fromb + s * 128", "fromb + s * 2", NULL},
    {"the right read along k", "(64, 0, 1, d,", "(64, 0, 0, d,", NULL},
    {"half of the columns", "(64, 0, 1, d,", "(32, 0, 1, d,", NULL},
    {"of another type", "lv_wgmma_bf16", "lv_wgmma_f16", NULL},
    {"a warp left out", "s++) lv_wgmma_bf16", "s++) if (warp < 3 || s) lv_wgmma_bf16", "do not do alike"},
    {"a lane left out", "s++) lv_wgmma_bf16", "s++) if (lane < 31) lv_wgmma_bf16", "lv_wgmma_bf16"},
    {"beyond the memory", "fromb + s * 128", "fromb + s * 256", "not the block's"},
    {"rows of sums swapped", "make_float2(d[j][0], d[j][1])", "make_float2(d[j][2], d[j][3])", NULL},
    {NULL, NULL, NULL, NULL},
};

const TestKernel test_matrices[] = {
    {"group", group, run_group, group_wrong},
    {"pipeline", pipeline, run_pipeline, pipeline_wrong},
    {"tf32", tf32, run_tf32, tf32_wrong},
    {"f16", f16, run_f16, f16_wrong},
    {NULL, NULL, NULL, NULL},
};
