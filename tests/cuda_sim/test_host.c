// The host's side: streams, events, graphs, modules, products, and what goes wrong on command.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "test.h"

static const char add[] =
    "extern \"C\" __global__ void add_0(float *x, double much) { x[blockIdx.x * 32 + threadIdx.x] += (float)much; }\n"
    "extern \"C\" __global__ void scale_0(float *x, double by) { x[blockIdx.x * 32 + threadIdx.x] *= (float)by; }\n";

static CuResult call(CuFunction f, CuPointer x, double number, CuStream stream) {
    void *parameters[] = {&x, &number};
    return api.cuLaunchKernel(f, 2, 1, 1, 32, 1, 1, 0, stream, parameters, NULL);
}

static bool open_with(CuFunction *f) { return test_open() && test_build(add, "add_0", f); }

// Work of a stream is done when it is waited for, and not before; memory that is pinned is read then.
static bool run_streams(void) {
    CuFunction f;
    CuStream one, two;
    CuEvent event;
    float *pinned;
    TEST_CHECK(open_with(&f));
    TEST_CHECK(!api.cuStreamCreate(&one, CU_STREAM_OF_ITS_OWN) && !api.cuStreamCreate(&two, CU_STREAM_OF_ITS_OWN));
    TEST_CHECK(!api.cuEventCreate(&event, CU_EVENT_UNTIMED));
    TEST_CHECK(!api.cuMemHostAlloc((void **)&pinned, 64 * 4, 0));
    TEST_CHECK(pinned[0] != pinned[0]);
    CuPointer x = test_room(64 * 4);
    for (int i = 0; i < 64; i++) pinned[i] = 1;
    TEST_CHECK(!api.cuMemcpyHtoDAsync_v2(x, pinned, 64 * 4, one) && !api.cuEventRecord(event, one));
    TEST_CHECK(!api.cuStreamWaitEvent(two, event, 0) && !call(f, x, 1, two) && !api.cuMemcpyDtoHAsync_v2(pinned, x, 64 * 4, two));
    TEST_CHECK(pinned[0] == 1);
    pinned[5] = 10;  // too early: the copy has not been made
    TEST_CHECK(api.cuStreamQuery(two) == 600);
    TEST_CHECK(!api.cuStreamSynchronize(two) && pinned[0] == 2 && pinned[63] == 2 && pinned[5] == 11);
    // Pageable memory is taken at the call.
    float own[64] = {0};
    own[3] = 5;
    TEST_CHECK(!api.cuMemcpyHtoDAsync_v2(x, own, sizeof own, one));
    own[3] = 6;
    TEST_CHECK(!api.cuMemcpyDtoHAsync_v2(own, x, sizeof own, one) && own[3] == 5);
    // The stream 0 does not wait for streams of their own.
    TEST_CHECK(!api.cuMemsetD8Async(x, 0, 64 * 4, one) && !api.cuMemcpyDtoH_v2(own, x, sizeof own) && own[3] == 5);
    TEST_CHECK(!api.cuStreamDestroy_v2(one) && api.cuStreamSynchronize(one) == 400);
    TEST_CHECK(!api.cuStreamDestroy_v2(two) && !api.cuEventDestroy_v2(event) && !api.cuMemFreeHost(pinned) && !api.cuMemFree_v2(x));
    return true;
}

static bool run_events(void) {
    CuFunction f;
    CuStream stream;
    CuEvent from, to;
    float milliseconds = -1;
    TEST_CHECK(open_with(&f) && !api.cuStreamCreate(&stream, CU_STREAM_OF_ITS_OWN));
    TEST_CHECK(!api.cuEventCreate(&from, CU_EVENT_TIMED) && !api.cuEventCreate(&to, CU_EVENT_TIMED));
    CuPointer x = test_room(64 * 4);
    TEST_CHECK(!api.cuMemsetD8Async(x, 0, 64 * 4, stream));
    TEST_CHECK(!api.cuEventRecord(from, stream) && !call(f, x, 1, stream) && !api.cuEventRecord(to, stream));
    TEST_CHECK(api.cuEventElapsedTime(&milliseconds, from, to) == 600);
    TEST_CHECK(!api.cuEventSynchronize(to) && !api.cuEventElapsedTime(&milliseconds, from, to) && milliseconds >= 0);
    return true;
}

// A stream brings what a captured kernel and a copy on another take, three times over. LV_TEST_EDGE: what is wrong of it.
static bool run_order(void) {
    const int left_out = getenv("LV_TEST_EDGE") ? atoi(getenv("LV_TEST_EDGE")) : 0;
    CuFunction f;
    CuStream bring, take;
    CuEvent brought, taken;
    CuGraph graph;
    CuGraphExec exec;
    float *pinned, got[64];
    CuResult result = CU_OK;
    TEST_CHECK(open_with(&f) && !api.cuStreamCreate(&bring, CU_STREAM_OF_ITS_OWN) && !api.cuStreamCreate(&take, CU_STREAM_OF_ITS_OWN));
    TEST_CHECK(!api.cuEventCreate(&brought, CU_EVENT_UNTIMED) && !api.cuEventCreate(&taken, CU_EVENT_UNTIMED));
    TEST_CHECK(!api.cuMemHostAlloc((void **)&pinned, 3 * 64 * 4, 0));
    const CuPointer landing = test_room(64 * 4), sum = test_room(64 * 4);
    TEST_CHECK(!api.cuStreamBeginCapture_v2(take, CU_CAPTURE_THIS_THREAD) && !call(f, landing, 1, take));
    TEST_CHECK(!api.cuStreamEndCapture(take, &graph) && !api.cuGraphInstantiateWithFlags(&exec, graph, 0) && !api.cuGraphDestroy(graph));
    TEST_CHECK(!api.cuMemsetD8Async(landing, 0, 64 * 4, take) && !api.cuEventRecord(taken, take));
    for (int i = 0; i < 3 && !result; i++) {
        for (int k = 0; k < 64; k++) pinned[64 * i + k] = (float)(i + 1);
        if (!(left_out == 1 && i == 0) && !(left_out == 2 && i == 1)) result = api.cuStreamWaitEvent(bring, taken, 0);
        if (!result) result = api.cuMemcpyHtoDAsync_v2(landing, pinned + (ptrdiff_t)64 * i, 64 * 4, bring);
        if (!result) result = api.cuEventRecord(brought, bring);
        if (!result && !(left_out == 3 && i == 1)) result = api.cuStreamWaitEvent(take, brought, 0);
        if (!result) result = api.cuGraphLaunch(exec, left_out == 4 && i == 2 ? bring : take);
        if (!result) result = api.cuMemcpyDtoDAsync_v2(sum, landing, 64 * 4, take);
        if (!result) result = api.cuEventRecord(taken, take);
    }
    if (!result) result = api.cuStreamSynchronize(take);
    if (left_out) return result == CU_LAUNCH_FAILED;
    TEST_CHECK(!result && test_get(got, sum, sizeof got) && got[0] == 4 && got[63] == 4);
    return !api.cuMemsetD8Async(landing, 0, 64 * 4, bring);  // the host waited between
}

static bool run_graph(void) {
    CuFunction f;
    CuStream stream, other;
    CuEvent fork, join;
    CuGraph graph;
    CuGraphExec exec;
    float own[64];
    size_t nodes = 0;
    TEST_CHECK(open_with(&f) && !api.cuStreamCreate(&stream, CU_STREAM_OF_ITS_OWN) && !api.cuStreamCreate(&other, CU_STREAM_OF_ITS_OWN));
    TEST_CHECK(!api.cuEventCreate(&fork, CU_EVENT_UNTIMED) && !api.cuEventCreate(&join, CU_EVENT_UNTIMED));
    CuPointer x = test_room(64 * 4), y = test_room(64 * 4), z;
    TEST_CHECK(!api.cuMemsetD8Async(x, 0, 64 * 4, stream) && !api.cuMemsetD8Async(y, 0, 64 * 4, stream));
    TEST_CHECK(!api.cuStreamBeginCapture_v2(stream, CU_CAPTURE_THIS_THREAD));
    TEST_CHECK(!call(f, x, 1, stream));
    TEST_CHECK(!api.cuEventRecord(fork, stream) && !api.cuStreamWaitEvent(other, fork, 0));
    TEST_CHECK(!call(f, y, 3, other) && !api.cuEventRecord(join, other));
    TEST_CHECK(!api.cuMemcpyDtoDAsync_v2(x + 8, y + 8, 4, stream));  // too early
    TEST_CHECK(!api.cuStreamWaitEvent(stream, join, 0) && !api.cuMemcpyDtoDAsync_v2(x, y, 4, stream));
    TEST_CHECK(!api.cuStreamEndCapture(stream, &graph) && !api.cuGraphGetNodes(graph, NULL, &nodes) && nodes == 4);
    TEST_CHECK(!api.cuGraphInstantiateWithFlags(&exec, graph, 0) && !api.cuGraphDestroy(graph));
    TEST_CHECK(!api.cuStreamSynchronize(stream) && test_get(own, x, sizeof own) && own[1] == 0);
    for (int i = 0; i < 3; i++) TEST_CHECK(!api.cuGraphLaunch(exec, stream));
    TEST_CHECK(!api.cuGraphExecDestroy(exec) && !api.cuStreamSynchronize(stream));
    TEST_CHECK(!api.cuMemcpyDtoH_v2(own, x, sizeof own) && own[0] == 9 && own[1] == 3 && own[2] == 6 && own[63] == 3);
    // What a capture does not allow ends it.
    TEST_CHECK(!api.cuStreamBeginCapture_v2(stream, CU_CAPTURE_THIS_THREAD));
    TEST_CHECK(api.cuStreamSynchronize(stream) == 900 && api.cuStreamEndCapture(stream, &graph) == CU_CAPTURE_INVALIDATED);
    TEST_CHECK(!api.cuStreamBeginCapture_v2(stream, CU_CAPTURE_THIS_THREAD));
    TEST_CHECK(api.cuMemAlloc_v2(&z, 64) == 900 && api.cuStreamEndCapture(stream, &graph) == CU_CAPTURE_INVALIDATED);
    TEST_CHECK(!api.cuStreamBeginCapture_v2(stream, CU_CAPTURE_THIS_THREAD) && !api.cuEventRecord(fork, stream));
    TEST_CHECK(!api.cuStreamWaitEvent(other, fork, 0) && !call(f, y, 3, other) && api.cuStreamEndCapture(stream, &graph) == 904);
    // One that another stream's end marks, and nothing waits for.
    TEST_CHECK(!api.cuStreamBeginCapture_v2(stream, CU_CAPTURE_THIS_THREAD) && !api.cuEventRecord(fork, stream));
    TEST_CHECK(!api.cuStreamWaitEvent(other, fork, 0) && !call(f, y, 3, other) && !api.cuEventRecord(join, other));
    TEST_CHECK(api.cuStreamEndCapture(stream, &graph) == 904 && api.cuStreamWaitEvent(stream, join, 0) == 907);
    return !api.cuMemAlloc_v2(&z, 64);
}

// A fault shows at the next wait, and from then on everything fails.
static bool run_fault(void) {
    CuFunction f;
    CuPointer x;
    float own[64];
    TEST_CHECK(open_with(&f));
    x = test_room(64 * 4);
    TEST_CHECK(!call(f, x + 64, 1, NULL) && api.cuStreamSynchronize(NULL) == CU_ILLEGAL_ADDRESS);
    TEST_CHECK(api.cuMemAlloc_v2(&x, 64) == CU_ILLEGAL_ADDRESS && !test_get(own, x, sizeof own));
    return true;
}

static bool run_endless(void) {
    static const char *const texts[] = {
        "extern \"C\" __global__ void add_0(float *x, double much) { while (x[0] == x[0]) x[1] = 1.0f; }\n",
        "extern \"C\" __global__ void add_0(float *x, double step) {\n"
        "  int i = 8;\n"
        "  __syncthreads();\n"
        "  while (i >= (int)step) i -= (int)step;\n"
        "  x[threadIdx.x] = (float)i;\n"
        "}\n"};
    CuFunction f;
    TEST_CHECK(test_open() && test_build(texts[getenv("LV_TEST_SECOND") != NULL], "add_0", &f));
    CuPointer x = test_room(64 * 4);
    TEST_CHECK(!api.cuMemsetD8Async(x, 0, 64 * 4, NULL) && !call(f, x, 0, NULL));
    return api.cuStreamSynchronize(NULL) == CU_LAUNCH_TIMEOUT;
}

static bool run_memory(void) {
    CuPointer x, y;
    size_t free_bytes, total;
    char byte;
    TEST_CHECK(test_open());
    TEST_CHECK(!api.cuMemGetInfo_v2(&free_bytes, &total) && total == 1 << 20 && free_bytes == total);
    TEST_CHECK(!api.cuMemAlloc_v2(&x, 700000) && x % 256 == 0 && x % 512 != 0);
    TEST_CHECK(api.cuMemAlloc_v2(&y, 700000) == CU_OUT_OF_MEMORY && !api.cuMemGetInfo_v2(&free_bytes, &total) && free_bytes == total - 700000);
    TEST_CHECK(api.cuMemcpyDtoH_v2(&byte, x + 700000, 1) == 1 && api.cuMemFree_v2(x + 256) == 1);
    TEST_CHECK(!api.cuMemFree_v2(x) && api.cuMemFree_v2(x) == 1 && !api.cuMemAlloc_v2(&y, 700000) && y != x);
    return true;
}

static bool compile(const char *architecture, char **cubin, char **ptx, NvrtcResult want) {
    const char *const options[] = {architecture};
    NvrtcProgram program;
    size_t bytes;
    TEST_CHECK(!api.nvrtcCreateProgram(&program, add, "add.cu", 0, NULL, NULL));
    TEST_CHECK(api.nvrtcCompileProgram(program, 1, options) == want);
    if (want) return true;
    TEST_CHECK(!api.nvrtcGetCUBINSize(program, &bytes));
    *cubin = bytes ? malloc(bytes) : NULL;
    if (*cubin) TEST_CHECK(!api.nvrtcGetCUBIN(program, *cubin));
    TEST_CHECK(!api.nvrtcGetPTXSize(program, &bytes) && (*ptx = malloc(bytes)) && !api.nvrtcGetPTX(program, *ptx) && strlen(*ptx) + 1 == bytes);
    return !api.nvrtcDestroyProgram(&program);
}

// A device newer than its NVRTC: no machine code for it, but PTX of an older one runs.
static bool run_images(void) {
    char *cubin, *ptx;
    CuModule module;
    CuFunction f;
    int count, list[8], value;
    TEST_CHECK(test_open());
    TEST_CHECK(!api.nvrtcGetNumSupportedArchs(&count) && count == 2 && !api.nvrtcGetSupportedArchs(list) && list[0] == 80 && list[1] == 90);
    TEST_CHECK(compile("--gpu-architecture=sm_100", &cubin, &ptx, NVRTC_INVALID_OPTION));
    TEST_CHECK(compile("--gpu-architecture=sm_90", &cubin, &ptx, NVRTC_OK) && cubin);
    TEST_CHECK(api.cuModuleLoadData(&module, cubin) == CU_NO_BINARY_FOR_GPU);
    cubin[200] ^= 1;
    TEST_CHECK(api.cuModuleLoadData(&module, cubin) == CU_NO_BINARY_FOR_GPU && api.cuModuleLoadData(&module, "nothing of the kind") == CU_INVALID_IMAGE);
    TEST_CHECK(!api.cuModuleLoadDataEx(&module, ptx, 0, NULL, NULL) && !api.cuModuleGetFunction(&f, module, "scale_0"));
    TEST_CHECK(api.cuModuleGetFunction(&f, module, "scale_1") == CU_NOT_FOUND);
    TEST_CHECK(!api.cuModuleUnload(module) && compile("--gpu-architecture=compute_90", &cubin, &ptx, NVRTC_OK) && !cubin);
    TEST_CHECK(!api.cuModuleLoadData(&module, ptx) && !api.cuModuleGetFunction(&f, module, "add_0"));
    TEST_CHECK(!api.cuFuncGetAttribute(&value, CU_FUNCTION_MOST_THREADS, f) && value == 1024);
    TEST_CHECK(!api.cuFuncSetAttribute(f, CU_FUNCTION_DYNAMIC_SHARED, 100 << 10) && api.cuFuncSetAttribute(f, CU_FUNCTION_DYNAMIC_SHARED, 300 << 10));
    CuPointer x = test_room(64 * 4);
    TEST_CHECK(!api.cuMemsetD8Async(x, 0, 64 * 4, NULL) && !call(f, x, 4, NULL));
    float own[64];
    return test_get(own, x, sizeof own) && own[63] == 4;
}

static bool run_corrupted(void) {
    char *cubin, *ptx;
    CuModule module;
    TEST_CHECK(test_open() && compile("--gpu-architecture=sm_90", &cubin, &ptx, NVRTC_OK));
    cubin[4000] ^= 1;
    return api.cuModuleLoadData(&module, cubin) == CU_INVALID_IMAGE;
}

static bool run_old_driver(void) {
    char *cubin, *ptx;
    CuModule module;
    TEST_CHECK(test_open() && compile("--gpu-architecture=compute_80", &cubin, &ptx, NVRTC_OK));
    return api.cuModuleLoadData(&module, ptx) == CU_UNSUPPORTED_PTX_VERSION;
}

static bool run_no_device(void) {
    int count;
    TEST_CHECK(!test_open() && api.cuInit(0) == CU_NO_DEVICE && api.cuDeviceGetCount(&count) == 3);
    return true;
}

static bool run_failures(void) {
    CuPointer x;
    CuFunction f;
    TEST_CHECK(open_with(&f));
    TEST_CHECK(!api.cuMemAlloc_v2(&x, 256) && api.cuMemAlloc_v2(&x, 256) == CU_OUT_OF_MEMORY && !api.cuMemAlloc_v2(&x, 256));
    TEST_CHECK(!test_build(add, "scale_0", &f));                                        // the second compilation
    TEST_CHECK(!call(f, x, 1, NULL) && !api.cuStreamSynchronize(NULL));
    TEST_CHECK(!call(f, x, 1, NULL) && api.cuStreamSynchronize(NULL) == CU_LAUNCH_TIMEOUT);  // while the second launch runs
    return true;
}

// ---- products

typedef struct {
    int type, out_type, compute;
    bool transpose_a, transpose_b, bias, relu, gelu;
    float alpha, beta;
    int m, n, k, batch;
    uint32_t sums;  // the epilogue that asks for them, 0: none
} Case;

static void put_number(void *data, int type, int i, float x) {
    if (type == LT_F32) ((float *)data)[i] = x;
    else ((uint16_t *)data)[i] = (uint16_t)(type == LT_F16 ? half_to_f16(x) : half_to_bf16(x));
}

static float number_at(const void *data, int type, int i) {
    if (type == LT_F32) return ((const float *)data)[i];
    return type == LT_F16 ? half_from_f16(((const uint16_t *)data)[i]) : half_from_bf16(((const uint16_t *)data)[i]);
}

static int filled(void *data, int type, int count, uint64_t seed) {
    for (int i = 0; i < count; i++) put_number(data, type, i, test_number((uint64_t)i + seed));
    return count * (type == LT_F32 ? 4 : 2);
}

static double expected(const Case *c, const void *a, const void *b, const void *bias, const void *before, int batch, int row, int column) {
    double sum = 0;
    for (int k = 0; k < c->k; k++) {
        const int i = batch * c->m * c->k + (c->transpose_a ? row * c->k + k : k * c->m + row);
        const int j = batch * c->k * c->n + (c->transpose_b ? k * c->n + column : column * c->k + k);
        sum += (double)number_at(a, c->type, i) * (double)number_at(b, c->type, j);
    }
    sum = (double)c->alpha * sum + (double)c->beta * (double)number_at(before, c->out_type, batch * c->m * c->n + column * c->m + row);
    if (c->bias) sum += (double)number_at(bias, c->out_type, row);
    if (c->relu && sum < 0) sum = 0;
    if (c->gelu) sum = 0.5 * sum * (1 + erf(sum * 0.70710678));
    return sum;
}

// Of row i of a, or of column i of b.
static double expected_sum(const Case *c, const void *a, const void *b, int i) {
    const bool of_b = c->sums == LT_EPILOGUE_SUMS_B, along = of_b ? !c->transpose_b : c->transpose_a;
    double sum = 0;
    for (int k = 0; k < c->k; k++) sum += (double)number_at(of_b ? b : a, c->type, along ? i * c->k + k : k * (of_b ? c->n : c->m) + i);
    return sum;
}

static bool sums_are_right(const Case *c, const void *a, const void *b, CuPointer at) {
    static char sums[1 << 12];
    const int count = c->sums == LT_EPILOGUE_SUMS_B ? c->n : c->m;
    TEST_CHECK(test_get(sums, at, (size_t)count * (c->out_type == LT_F32 ? 4 : 2)));
    for (int i = 0; i < count; i++) {
        const double want = expected_sum(c, a, b, i), got = (double)number_at(sums, c->out_type, i);
        if (!(fabs(want - got) <= (c->out_type == LT_F32 ? 1e-5 : 1e-2 * (1 + fabs(want))))) return printf("# sum %g for %g at %d\n", got, want, i), false;
    }
    return true;
}

static bool run_product(Lt lt, const Case *c) {
    static char a[1 << 16], b[1 << 16], bias[1 << 12], before[1 << 16], after[1 << 16];
    const CuPointer pa = test_put(a, (size_t)filled(a, c->type, c->m * c->k * c->batch, 1)), pb = test_put(b, (size_t)filled(b, c->type, c->k * c->n * c->batch, 2));
    const CuPointer pbias = test_put(bias, (size_t)filled(bias, c->out_type, c->m, 3));
    const int bytes = filled(before, c->out_type, c->m * c->n * c->batch, 4);
    const CuPointer pd = test_put(before, (size_t)bytes);
    const int32_t yes = 1, batch = c->batch;
    const CuPointer psums = test_put(bias, (size_t)filled(bias, c->out_type, c->sums == LT_EPILOGUE_SUMS_B ? c->n : c->m, 3));
    const uint32_t epilogue = c->sums | (c->bias ? LT_EPILOGUE_BIAS : 0) | (c->relu ? LT_EPILOGUE_RELU : 0) | (c->gelu ? LT_EPILOGUE_GELU : 0);
    LtMatmul op;
    LtMatrix ma, mb, md;
    LtCandidate best;
    int found;
    TEST_CHECK(!api.cublasLtMatmulDescCreate(&op, c->compute, LT_F32));
    if (c->transpose_a) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, LT_MATMUL_TRANSPOSE_A, &yes, sizeof yes));
    if (c->transpose_b) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, LT_MATMUL_TRANSPOSE_B, &yes, sizeof yes));
    if (epilogue) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, LT_MATMUL_EPILOGUE, &epilogue, sizeof epilogue));
    if (c->bias) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, LT_MATMUL_BIAS_POINTER, &pbias, sizeof pbias));
    if (c->sums) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, LT_MATMUL_BIAS_POINTER, &psums, sizeof psums));
    const int ra = c->transpose_a ? c->k : c->m, ca = c->transpose_a ? c->m : c->k, rb = c->transpose_b ? c->n : c->k, cb = c->transpose_b ? c->k : c->n;
    TEST_CHECK(!api.cublasLtMatrixLayoutCreate(&ma, c->type, (uint64_t)ra, (uint64_t)ca, ra));
    TEST_CHECK(!api.cublasLtMatrixLayoutCreate(&mb, c->type, (uint64_t)rb, (uint64_t)cb, rb));
    TEST_CHECK(!api.cublasLtMatrixLayoutCreate(&md, c->out_type, (uint64_t)c->m, (uint64_t)c->n, c->m));
    const LtMatrix all[] = {ma, mb, md};
    const int64_t strides[] = {c->m * c->k, c->k * c->n, c->m * c->n};
    for (int i = 0; i < 3; i++) {
        TEST_CHECK(!api.cublasLtMatrixLayoutSetAttribute(all[i], LT_MATRIX_BATCH_COUNT, &batch, sizeof batch));
        TEST_CHECK(!api.cublasLtMatrixLayoutSetAttribute(all[i], LT_MATRIX_BATCH_STRIDE, &strides[i], sizeof strides[i]));
    }
    TEST_CHECK(!api.cublasLtMatmulAlgoGetHeuristic(lt, op, ma, mb, md, md, NULL, 1, &best, &found) && found == 1);
    TEST_CHECK(!api.cublasLtMatmul(lt, op, &c->alpha, (void *)(uintptr_t)pa, ma, (void *)(uintptr_t)pb, mb, &c->beta, (void *)(uintptr_t)pd, md,
                                   (void *)(uintptr_t)pd, md, &best.algorithm, NULL, 0, NULL));
    TEST_CHECK(test_get(after, pd, (size_t)bytes));
    for (int i = 0; i < c->m * c->n * c->batch; i++) {
        const double want = expected(c, a, b, bias, before, i / (c->m * c->n), i % c->m, i / c->m % c->n), got = (double)number_at(after, c->out_type, i);
        const double most = c->out_type == LT_F32 ? (c->compute == LT_COMPUTE_TF32 ? 1e-5 : c->gelu ? 1e-3 : 1e-5) : 1e-2 * (1 + fabs(want));
        if (!(fabs(want - got) <= most)) return printf("# %g for %g at %d\n", got, want, i), false;
    }
    return !c->sums || sums_are_right(c, a, b, psums);
}

// Sums are asked for by themselves, of the type of d, and have somewhere to go that is long enough.
static bool run_wrong_sums(void) {
    const uint32_t right = LT_EPILOGUE_SUMS_B, with_relu = LT_EPILOGUE_SUMS_B | LT_EPILOGUE_RELU, both = LT_EPILOGUE_SUMS_A | LT_EPILOGUE_SUMS_B;
    const int32_t f32 = LT_F32, bf16 = LT_BF16;
    const float one = 1, zero = 0;
    Lt lt;
    LtMatmul op;
    LtMatrix m, d;
    LtCandidate best;
    int found;
    TEST_CHECK(test_open() && !api.cublasLtCreate(&lt) && !api.cublasLtMatmulDescCreate(&op, LT_COMPUTE_F32, LT_F32));
    const CuPointer memory = test_put((char[64 * 64 * 4]){0}, 64 * 64 * 4), narrow = test_put((char[63 * 4]){0}, 63 * 4);
    TEST_CHECK(!api.cublasLtMatrixLayoutCreate(&m, LT_BF16, 64, 64, 64) && !api.cublasLtMatrixLayoutCreate(&d, LT_F32, 64, 64, 64));
#define ASK() api.cublasLtMatmulAlgoGetHeuristic(lt, op, m, m, d, d, NULL, 1, &best, &found)
#define SET(ATTRIBUTE, VALUE) TEST_CHECK(!api.cublasLtMatmulDescSetAttribute(op, ATTRIBUTE, &(VALUE), sizeof(VALUE)))
    SET(LT_MATMUL_EPILOGUE, right);
    TEST_CHECK(ASK() == LT_INVALID_VALUE);
    SET(LT_MATMUL_BIAS_POINTER, memory);
    TEST_CHECK(!ASK() && found == 1);
    SET(LT_MATMUL_BIAS_TYPE, bf16);
    TEST_CHECK(ASK() == LT_NOT_SUPPORTED && found == 0);
    SET(LT_MATMUL_BIAS_TYPE, f32);
    TEST_CHECK(!ASK());
    SET(LT_MATMUL_EPILOGUE, with_relu);
    TEST_CHECK(ASK() == LT_NOT_SUPPORTED);
    SET(LT_MATMUL_EPILOGUE, both);
    TEST_CHECK(ASK() == LT_NOT_SUPPORTED);
    SET(LT_MATMUL_EPILOGUE, right);
    SET(LT_MATMUL_BIAS_POINTER, narrow);  // a number short
    void *at = (void *)(uintptr_t)memory;
    TEST_CHECK(api.cublasLtMatmul(lt, op, &one, at, m, at, m, &zero, at, d, at, d, &best.algorithm, NULL, 0, NULL));
#undef ASK
#undef SET
    return true;
}

static bool run_products(void) {
    static const Case cases[] = {
        {LT_F32, LT_F32, LT_COMPUTE_F32, false, false, false, false, false, 1, 0, 5, 7, 3, 1, 0},
        {LT_F32, LT_F32, LT_COMPUTE_F32, true, false, true, true, false, 0.5f, 0, 33, 17, 40, 1, 0},
        {LT_F32, LT_F32, LT_COMPUTE_TF32, false, true, false, false, false, 1, 1, 20, 48, 31, 3, 0},
        {LT_BF16, LT_BF16, LT_COMPUTE_F32, true, true, true, false, true, 1, 0, 19, 16, 64, 2, 0},
        {LT_BF16, LT_F32, LT_COMPUTE_F32, true, false, false, false, false, 1, 1, 16, 16, 16, 1, 0},
        {LT_F16, LT_F16, LT_COMPUTE_F32, false, false, true, false, false, 2, 0.25f, 8, 9, 10, 1, 0},
        {LT_F32, LT_F32, LT_COMPUTE_F32, false, false, true, false, true, 1, 0, 12, 5, 6, 1, 0},
        {LT_BF16, LT_F32, LT_COMPUTE_F32, false, true, false, false, false, 1, 0, 19, 33, 21, 1, LT_EPILOGUE_SUMS_B},
        {LT_F16, LT_F16, LT_COMPUTE_F32, false, false, false, false, false, 1, 0, 9, 14, 40, 1, LT_EPILOGUE_SUMS_B},
        {LT_BF16, LT_F32, LT_COMPUTE_F32, true, false, false, false, false, 1, 0, 17, 5, 30, 1, LT_EPILOGUE_SUMS_A},
        {LT_F32, LT_F32, LT_COMPUTE_F32, false, true, false, false, false, 1, 0, 8, 24, 7, 1, LT_EPILOGUE_SUMS_A},
    };
    Lt lt;
    TEST_CHECK(test_open() && !api.cublasLtCreate(&lt));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!run_product(lt, &cases[i])) return printf("# product %zu\n", i), false;
    }
    return true;
}

const TestCase test_host[] = {
    {"wrong_sums", {NULL}, run_wrong_sums},
    {"streams", {NULL}, run_streams},
    {"events", {NULL}, run_events},
    {"graph", {NULL}, run_graph},
    {"order", {NULL}, run_order},
    {"order_of_begin", {"LV_TEST_EDGE=1", NULL}, run_order},    // brought before the memory was cleared
    {"order_of_taking", {"LV_TEST_EDGE=2", NULL}, run_order},   // brought before the last was taken
    {"order_of_bringing", {"LV_TEST_EDGE=3", NULL}, run_order}, // taken before it was brought
    {"order_of_launch", {"LV_TEST_EDGE=4", NULL}, run_order},   // launched where nobody waits for it
    {"fault", {NULL}, run_fault},
    {"endless", {"LV_CUDA_SIM_PATIENCE=1", NULL}, run_endless},
    {"endless_of_one", {"LV_CUDA_SIM_PATIENCE=1", "LV_TEST_SECOND=1", NULL}, run_endless},
    {"memory", {"LV_CUDA_SIM_MEMORY=1048576", NULL}, run_memory},
    {"images", {"LV_CUDA_SIM_ARCH=100", "LV_CUDA_SIM_ARCHS=80,90", NULL}, run_images},
    {"corrupted", {NULL}, run_corrupted},
    {"old_driver", {"LV_CUDA_SIM_DRIVER=12040", NULL}, run_old_driver},
    {"no_device", {"LV_CUDA_SIM_DEVICES=0", NULL}, run_no_device},
    {"failures", {"LV_CUDA_SIM_FAIL=cuMemAlloc_v2:2,nvrtcCompileProgram:2:6,launched:2:702", NULL}, run_failures},
    {"products", {NULL}, run_products},
    {NULL, {NULL}, NULL},
};
