// Kernels of plain threads, of blocks with barriers, of warps.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

enum { N = 1000 };

static TestOutcome launch(CuFunction f, unsigned grid, unsigned block, unsigned shared, void **parameters) {
    return api.cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, NULL, parameters, NULL) ? TEST_FAULT : TEST_RIGHT;
}

// ---- pointwise

static TestOutcome run_pointwise(const char *text) {
    CuFunction f;
    float x[N], y[N];
    for (int i = 0; i < N; i++) x[i] = test_number((uint64_t)i);
    if (!test_build(text, "pointwise_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(sizeof y);
    double scale = 3;
    long long n = N;
    void *parameters[] = {&out, &in, &scale, &n};
    if (launch(f, (N / 4 + 127) / 128, 128, 0, parameters) || !test_get(y, out, sizeof y)) return TEST_FAULT;
    for (int i = 0; i < N; i++) {
        if (!(fabsf(y[i] - expf(3 * x[i])) <= 1e-6f * y[i])) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char pointwise[] =
    "extern \"C\" __global__ void __launch_bounds__(128) pointwise_0(float *out, const float *in, double scale, long long n) {\n"
    "  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * 4;\n"
    "  if (i >= (int)n) return;\n"
    "  float4 v = *(const float4 *)(in + i);\n"
    "  v = make_float4(expf(v.x * (float)scale), expf(v.y * (float)scale), expf(v.z * (float)scale), expf(v.w * (float)scale));\n"
    "  *(float4 *)(out + i) = v;\n"
    "}\n";

static const TestMutation pointwise_wrong[] = {
    {"read past the end", "(in + i)", "(in + i + 4)", "4 bytes past the end of an allocation of 4000; test.cu(4)"},
    {"a vector at an odd place", "(in + i)", "(in + i + 1)", "a vector of 16 bytes"},
    {"written one off", "(out + i) = v", "(out + i + 4) = v", "past the end"},
    {"no bound", "if (i >= (int)n) return;", "", "past the end"},
    {"shared by two", "* 4;", "* 4 % 992;", "race in device memory"},
    {"does not compile", "float4 v", "float5 v", "test.cu(4): error: 'float5' was not declared"},
    {NULL, NULL, NULL, NULL},
};

// ---- vectors in shared memory

static TestOutcome run_turned(const char *text) {
    enum { VECTORS = 64 };
    CuFunction f;
    float x[4 * VECTORS], y[4 * VECTORS];
    for (int i = 0; i < 4 * VECTORS; i++) x[i] = test_number((uint64_t)i);
    if (!test_build(text, "turned_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(sizeof y);
    void *parameters[] = {&out, &in};
    if (launch(f, 1, VECTORS, 0, parameters) || !test_get(y, out, sizeof y)) return TEST_FAULT;
    for (int i = 0; i < VECTORS; i++) {
        if (memcmp(y + 4 * i, x + 4 * (VECTORS - 1 - i), 4 * sizeof *x)) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char turned[] =
    "extern \"C\" __global__ void turned_0(float *out, const float *in) {\n"
    "  __shared__ float4 all[64];\n"
    "  const int t = threadIdx.x;\n"
    "  all[t] = *(const float4 *)(in + 4 * t);\n"
    "  __syncthreads();\n"
    "  *(float4 *)(out + 4 * t) = all[63 - t];\n"
    "}\n";

static const TestMutation turned_wrong[] = {
    {"no barrier", "  __syncthreads();\n", "", "race in shared memory"},
    {"two too far", "all[63 - t]", "all[65 - t]", "an index outside of its array"},
    {NULL, NULL, NULL, NULL},
};

// ---- a sum over a block

static TestOutcome run_reduction(const char *text) {
    enum { ROWS = 7, COLUMNS = 517 };
    CuFunction f;
    static float x[ROWS * COLUMNS], y[ROWS];
    for (int i = 0; i < ROWS * COLUMNS; i++) x[i] = test_number((uint64_t)i);
    if (!test_build(text, "reduction_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(sizeof y);
    long long columns = COLUMNS;
    void *parameters[] = {&out, &in, &columns};
    if (launch(f, ROWS, 128, 0, parameters) || !test_get(y, out, sizeof y)) return TEST_FAULT;
    for (int r = 0; r < ROWS; r++) {
        double sum = 0;
        for (int c = 0; c < COLUMNS; c++) sum += (double)x[r * COLUMNS + c];
        if (!(fabs(sum - (double)y[r]) <= 1e-4)) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char reduction[] =
    "extern \"C\" __global__ void reduction_0(float *out, const float *in, long long columns) {\n"
    "  __shared__ float sums[128];\n"
    "  const int t = threadIdx.x;\n"
    "  float sum = 0.0f;\n"
    "  for (int c = t; c < (int)columns; c += blockDim.x) sum += in[blockIdx.x * (int)columns + c];\n"
    "  sums[t] = sum;\n"
    "  __syncthreads();\n"
    "  for (int half = 64; half > 0; half /= 2) {\n"
    "    if (t < half) sums[t] += sums[t + half];\n"
    "    __syncthreads(); // of a round\n"
    "  }\n"
    "  if (t == 0) out[blockIdx.x] = sums[0];\n"
    "}\n";

static const TestMutation reduction_wrong[] = {
    {"no barrier before", "  __syncthreads();\n", "", "race in shared memory"},
    {"no barrier between", "__syncthreads(); // of a round", "", "race in shared memory"},
    {"half a barrier", "  __syncthreads();\n", "  if (t < 100) __syncthreads();\n", "at another, of line 7"},
    {"one too far", "sums[t + half]", "sums[t + half + 64]", "an index outside of its array"},
    {"not filled", "  sums[t] = sum;\n", "  if (t) sums[t] = sum;\n", NULL},
    {"fills too little", "c = t;", "c = t + 1;", NULL},
    {"all write", "if (t == 0) out", "out", "race in device memory"},
    {NULL, NULL, NULL, NULL},
};

// ---- dynamic shared memory, two launches, and a scratch

static TestOutcome run_transpose(const char *text) {
    enum { SIDE = 64 };
    CuFunction f;
    static float x[SIDE * SIDE], y[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) x[i] = (float)i;
    if (!test_build(text, "transpose_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(sizeof y);
    void *parameters[] = {&out, &in};
    if (api.cuLaunchKernel(f, 2, 2, 1, 256, 1, 1, 32 * 33 * 4, NULL, parameters, NULL) || !test_get(y, out, sizeof y)) return TEST_FAULT;
    for (int i = 0; i < SIDE * SIDE; i++) {
        if (y[i] != x[i % SIDE * SIDE + i / SIDE]) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char transpose[] =
    "extern \"C\" __global__ void transpose_0(float *out, const float *in) {\n"
    "  LV_SHARED(float, tile);\n"
    "  const int column = threadIdx.x % 32, row = threadIdx.x / 32, x = blockIdx.x * 32, y = blockIdx.y * 32;\n"
    "  for (int i = 0; i < 32; i += 8) tile[(row + i) * 33 + column] = in[(y + row + i) * 64 + x + column];\n"
    "  __syncthreads();\n"
    "  for (int i = 0; i < 32; i += 8) out[(x + row + i) * 64 + y + column] = tile[column * 33 + row + i];\n"
    "}\n";

static const TestMutation transpose_wrong[] = {
    {"no barrier", "  __syncthreads();\n", "", "race in shared memory"},
    {"past the shared bytes", "tile[(row + i) * 33 + column]", "tile[(row + i) * 34 + column]", "past the end of the block's 4224 bytes of dynamic"},
    {"before the shared bytes", "tile[column * 33 + row + i]", "tile[column * 33 + row + i - 32]", "before the block's dynamic"},
    {"swapped", "tile[column * 33 + row + i]", "tile[(row + i) * 33 + column]", NULL},
    {"barrier for some", "  __syncthreads();\n", "  if (row < 4) __syncthreads();\n", "race in shared memory"},
    {NULL, NULL, NULL, NULL},
};

// ---- warps

static TestOutcome run_warps(const char *text) {
    enum { THREADS = 96 };
    CuFunction f;
    int x[THREADS], y[THREADS * 6];
    for (int i = 0; i < THREADS; i++) x[i] = i * 7 % 50;
    if (!test_build(text, "warps_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(sizeof y);
    void *parameters[] = {&out, &in};
    if (launch(f, 1, THREADS, 0, parameters) || !test_get(y, out, sizeof y)) return TEST_FAULT;
    for (int i = 0; i < THREADS; i++) {
        const int warp = i / 32 * 32, lane = i % 32;
        unsigned votes = 0;
        int sum = 0;
        for (int l = 0; l < 32; l++) votes |= (unsigned)(x[warp + l] > 24) << l, sum += x[warp + l];
        const int want[6] = {sum, lane + 3 < 32 ? x[i + 3] : x[i], x[warp + lane / 8 * 8 + 5], (int)votes, x[warp + (lane + 1) % 32],
                             (int)(1000.5 * x[warp + 31])};
        if (memcmp(want, y + i * 6, sizeof want)) return TEST_WRONG;
    }
    return TEST_RIGHT;
}

static const char warps[] =
    "static __device__ int warps_sum(int x) {\n"
    "#pragma unroll\n"
    "  for (int o = 16; o > 0; o /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, o);\n"
    "  return x;\n"
    "}\n"
    "extern \"C\" __global__ void warps_0(int *out, const int *in) {\n"
    "  __shared__ int kept[96];\n"
    "  const int i = threadIdx.x, lane = i % 32, x = in[i];\n"
    "  int *o = out + i * 6;\n"
    "  o[0] = warps_sum(x);\n"
    "  o[1] = __shfl_down_sync(0xFFFFFFFFu, x, 3);\n"
    "  o[2] = __shfl_sync(0xFFFFFFFFu, x, 5, 8);\n"
    "  o[3] = (int)__ballot_sync(0xFFFFFFFFu, x > 24);\n"
    "  kept[i] = x;\n"
    "  __syncwarp();\n"
    "  o[4] = kept[i / 32 * 32 + (lane + 1) % 32];\n"
    "  o[5] = (int)__shfl_sync(0xFFFFFFFFu, 1000.5 * x, 31);\n"
    "}\n";

static const TestMutation warps_wrong[] = {
    {"no warp barrier", "  __syncwarp();\n", "", "race in shared memory"},
    {"lanes that do not come", "o[1] = __shfl_down_sync", "if (lane < 16) o[1] = __shfl_down_sync", "__shfl_down_sync"},
    {"a lane left out", "__shfl_sync(0xFFFFFFFFu, x, 5, 8)", "__shfl_sync(0x7FFFFFFFu, x, 5, 8)", "without the lane itself"},
    {"half a tree", "int o = 16;", "int o = 8;", NULL},
    {"another warp's", "kept[i / 32 * 32 + (lane + 1) % 32]", "kept[(i + 1) % 96]", "race in shared memory: "},
    {NULL, NULL, NULL, NULL},
};

// ---- the block that comes last adds up what the others left

static TestOutcome run_last_block(const char *text) {
    enum { BLOCKS = 9 };
    CuFunction f;
    float x[BLOCKS * 64], y = 0;
    double sum = 0;
    for (int i = 0; i < BLOCKS * 64; i++) sum += (double)(x[i] = test_number((uint64_t)i));
    if (!test_build(text, "last_block_0", &f)) return TEST_FAULT;
    CuPointer in = test_put(x, sizeof x), out = test_room(4), scratch = test_room(4 * (BLOCKS + 1));
    if (api.cuMemsetD8Async(scratch, 0, 4, NULL)) return TEST_FAULT;
    void *parameters[] = {&out, &in, &scratch};
    for (int i = 0; i < 2; i++) {
        if (api.cuMemsetD8Async(out, 0xFF, 4, NULL) || launch(f, BLOCKS, 64, 0, parameters)) return TEST_FAULT;
    }
    if (!test_get(&y, out, 4)) return TEST_FAULT;
    return fabs(sum - (double)y) <= 1e-4 ? TEST_RIGHT : TEST_WRONG;
}

static const char last_block[] =
    "extern \"C\" __global__ void last_block_0(float *out, const float *in, char *scratch) {\n"
    "  __shared__ float parts[64];\n"
    "  __shared__ int last;\n"
    "  unsigned *done = (unsigned *)scratch;\n"
    "  float *sums = (float *)scratch + 1;\n"
    "  parts[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];\n"
    "  __syncthreads();\n"
    "  if (threadIdx.x == 0) {\n"
    "    float sum = 0.0f;\n"
    "    for (int i = 0; i < 64; i++) sum += parts[i];\n"
    "    sums[blockIdx.x] = sum;\n"
    "    __threadfence(); // of what was written\n"
    "    last = atomicAdd(done, 1u) == gridDim.x - 1;\n"
    "    if (last) *done = 0;\n"
    "    __threadfence(); // before reading\n"
    "  }\n"
    "  __syncthreads();\n"
    "  if (!last || threadIdx.x != 1) return;\n"
    "  float sum = 0.0f;\n"
    "  for (int i = 0; i < (int)gridDim.x; i++) sum += sums[i];\n"
    "  out[0] = sum;\n"
    "}\n";

static const TestMutation last_block_wrong[] = {
    {"no fence before", "__threadfence(); // of what was written", "", "race in device memory: read"},
    {"no fence after", "__threadfence(); // before reading", "", "race in device memory: read"},
    {"too early", "gridDim.x - 1;", "gridDim.x - 2;", NULL},
    {"not cleared", "if (last) *done = 0;", "if (last) out[0] = 0;", NULL},
    {"the first does it", "== gridDim.x - 1;", "== 0;", NULL},
    {NULL, NULL, NULL, NULL},
};

const TestKernel test_threads[] = {
    {"last_block", last_block, run_last_block, last_block_wrong},
    {"pointwise", pointwise, run_pointwise, pointwise_wrong},
    {"turned", turned, run_turned, turned_wrong},
    {"reduction", reduction, run_reduction, reduction_wrong},
    {"transpose", transpose, run_transpose, transpose_wrong},
    {"warps", warps, run_warps, warps_wrong},
    {NULL, NULL, NULL, NULL},
};
