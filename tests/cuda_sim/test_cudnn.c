// libcudnn's stand-in: its three directions against one another, since each is the adjoint of the others; and all that it must refuse.
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/cudnn_api.h"
#include "test.h"

enum { N = 2, C = 8, H = 6, W = 5, O = 4, K = 3, STRIDE = 2, PAD = 1, OH = 3, OW = 3, ROOM = 4096 };
enum { X = N * H * W * C, Y = N * OH * OW * O, F = O * K * K * C };

static Cudnn dnn;
static Dnn handle;
static DnnTensor x, y, bias;
static DnnFilter filter;
static DnnConvolution convolution;
static DnnActivation activation;
static float one = 1, zero = 0, half = 0.5f;

static bool open_dnn(void) {
    const char *path = getenv("LD_LIBRARY_PATH");
    char file[4096];
    snprintf(file, sizeof file, "%.*s/cudnn/libcudnn.so.9", path ? (int)strcspn(path, ":") : 0, path ? path : "");
    void *library = dlopen(file, RTLD_NOW);
    if (!library) return printf("# %s\n", dlerror()), false;
#define X_FUNCTION(type, name, parameters)                               \
    dnn.name = (type(*) parameters)(uintptr_t)dlsym(library, #name);     \
    if (!dnn.name) return printf("# no function %s\n", #name), false;
    DNN_FUNCTIONS(X_FUNCTION)
    return true;
}

static bool describe(CuStream stream, int type, int math) {
    TEST_CHECK(!dnn.cudnnCreate(&handle) && !dnn.cudnnSetStream(handle, stream));
    TEST_CHECK(!dnn.cudnnCreateTensorDescriptor(&x) && !dnn.cudnnSetTensor4dDescriptorEx(x, type, N, C, H, W, H * W * C, 1, W * C, C));
    TEST_CHECK(!dnn.cudnnCreateTensorDescriptor(&y) && !dnn.cudnnSetTensor4dDescriptorEx(y, type, N, O, OH, OW, OH * OW * O, 1, OW * O, O));
    TEST_CHECK(!dnn.cudnnCreateTensorDescriptor(&bias) && !dnn.cudnnSetTensor4dDescriptorEx(bias, type, 1, O, 1, 1, O, 1, O, O));
    TEST_CHECK(!dnn.cudnnCreateFilterDescriptor(&filter) && !dnn.cudnnSetFilter4dDescriptor(filter, type, DNN_NHWC, O, C, K, K));
    TEST_CHECK(!dnn.cudnnCreateConvolutionDescriptor(&convolution) &&
               !dnn.cudnnSetConvolution2dDescriptor(convolution, PAD, PAD, STRIDE, STRIDE, 1, 1, DNN_CROSS_CORRELATION, DNN_F32) &&
               !dnn.cudnnSetConvolutionMathType(convolution, math));
    TEST_CHECK(!dnn.cudnnCreateActivationDescriptor(&activation) && !dnn.cudnnSetActivationDescriptor(activation, DNN_RELU, DNN_NAN_STAYS, 0));
    return true;
}

static CuPointer put_numbers(int count, uint64_t seed) {
    float *data = malloc((size_t)count * sizeof *data);
    if (!data) abort();
    for (int i = 0; i < count; i++) data[i] = test_number(seed + (uint64_t)i);
    const CuPointer memory = test_put(data, (size_t)count * sizeof *data);
    free(data);
    return memory;
}

static bool dot(CuPointer a, CuPointer b, int count, double *sum) {
    float pa[X], pb[X];
    *sum = 0;
    if (!test_get(pa, a, (size_t)count * 4) || !test_get(pb, b, (size_t)count * 4)) return false;
    for (int i = 0; i < count; i++) *sum += (double)pa[i] * (double)pb[i];
    return true;
}

static void *at(CuPointer memory) { return (void *)(uintptr_t)memory; }

static bool run_directions(void) {
    CuStream stream;
    double of_y, of_x, of_f;
    TEST_CHECK(test_open() && open_dnn() && !api.cuStreamCreate(&stream, 1) && describe(stream, DNN_F32, DNN_MATH_FMA));
    const CuPointer px = put_numbers(X, 1), pf = put_numbers(F, 1001), py = put_numbers(Y, 2001);
    const CuPointer rx = test_room(X * 4), rf = test_room(F * 4), ry = test_room(Y * 4), room = test_room(ROOM);
    TEST_CHECK(!api.cuStreamSynchronize(NULL));
    TEST_CHECK(!dnn.cudnnConvolutionForward(handle, &one, x, at(px), filter, at(pf), convolution, 1, at(room), ROOM, &zero, y, at(ry)));
    TEST_CHECK(!dnn.cudnnConvolutionBackwardData(handle, &one, filter, at(pf), y, at(py), convolution, 1, at(room), ROOM, &zero, x, at(rx)));
    TEST_CHECK(!dnn.cudnnConvolutionBackwardFilter(handle, &one, x, at(px), y, at(py), convolution, 1, at(room), ROOM, &zero, filter, at(rf)));
    TEST_CHECK(!api.cuStreamSynchronize(stream));
    TEST_CHECK(dot(ry, py, Y, &of_y) && dot(rx, px, X, &of_x) && dot(rf, pf, F, &of_f));
    TEST_CHECK(fabs(of_y) > 1 && fabs(of_x - of_y) < 1e-4 && fabs(of_f - of_y) < 1e-4);
    return true;
}

// What a call must not be given; each is right but for one thing.
static bool run_refusals(void) {
    CuStream stream;
    size_t bytes;
    TEST_CHECK(test_open() && open_dnn() && !api.cuStreamCreate(&stream, 1) && describe(stream, DNN_F32, DNN_MATH_FMA));
    const CuPointer px = put_numbers(X, 1), pf = put_numbers(F, 1001), pb = put_numbers(O, 5), pz = put_numbers(Y, 3001);
    const CuPointer ry = test_room(Y * 4 + 16), room = test_room(ROOM + 16);
    TEST_CHECK(!api.cuStreamSynchronize(NULL));
#define FORWARD(ALPHA, X_AT, ALGORITHM, ROOM_AT, ROOM_BYTES, BETA, Y_AT) \
    dnn.cudnnConvolutionForward(handle, ALPHA, x, X_AT, filter, at(pf), convolution, ALGORITHM, ROOM_AT, ROOM_BYTES, BETA, y, Y_AT)
    TEST_CHECK(!FORWARD(&one, at(px), 1, at(room), ROOM, &zero, at(ry)));
    TEST_CHECK(!FORWARD(&one, at(px), 0, NULL, 0, &zero, at(ry)));
    TEST_CHECK(FORWARD(&half, at(px), 1, at(room), ROOM, &zero, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px), 1, at(room), ROOM, &one, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px), 1, at(room), ROOM - 1, &zero, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px), 1, NULL, ROOM, &zero, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px), 1, at(room + 4), ROOM, &zero, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px + 16), 1, at(room), ROOM, &zero, at(ry)));
    TEST_CHECK(FORWARD(&one, at(px), 1, at(room), ROOM, &zero, at(ry + 4)));
    TEST_CHECK(FORWARD(&one, at(px), 5, at(room), ROOM, &zero, at(ry)));
    float host[X];
    TEST_CHECK(FORWARD(&one, host, 1, at(room), ROOM, &zero, at(ry)));
#define FUSED(ALGORITHM, ALPHA, Z_AT, BIAS, Y_AT)                                                                                       \
    dnn.cudnnConvolutionBiasActivationForward(handle, &one, x, at(px), filter, at(pf), convolution, ALGORITHM, at(room), ROOM, ALPHA, y, Z_AT, \
                                              BIAS, at(pb), activation, y, Y_AT)
    TEST_CHECK(!FUSED(0, &zero, at(ry), bias, at(ry)) && !FUSED(0, &one, at(pz), bias, at(ry)));
    TEST_CHECK(FUSED(0, &one, at(ry), bias, at(ry)) && FUSED(0, &half, at(pz), bias, at(ry)) && FUSED(0, &zero, at(ry), y, at(ry)));
    TEST_CHECK(!dnn.cudnnSetActivationDescriptor(activation, DNN_IDENTITY, 0, 0));
    TEST_CHECK(FUSED(0, &zero, at(ry), bias, at(ry)) && !FUSED(1, &zero, at(ry), bias, at(ry)));
    // gradients that add in any order
    TEST_CHECK(!dnn.cudnnGetConvolutionBackwardFilterWorkspaceSize(handle, x, y, convolution, filter, 0, &bytes));
    TEST_CHECK(dnn.cudnnConvolutionBackwardFilter(handle, &one, x, at(px), y, at(ry), convolution, 0, at(room), ROOM, &zero, filter, at(pf)));
    // shapes, types and layouts
    TEST_CHECK(dnn.cudnnSetTensor4dDescriptorEx(y, DNN_F32, N, O, OH, OW, OH * OW * O, OH * OW, OW, 1));
    TEST_CHECK(!dnn.cudnnSetTensor4dDescriptorEx(y, DNN_F32, N, O, OH - 1, OW, (OH - 1) * OW * O, 1, OW * O, O));
    TEST_CHECK(dnn.cudnnGetConvolutionForwardWorkspaceSize(handle, x, filter, convolution, y, 1, &bytes));
    TEST_CHECK(!dnn.cudnnSetTensor4dDescriptorEx(y, DNN_BF16, N, O, OH, OW, OH * OW * O, 1, OW * O, O));
    TEST_CHECK(dnn.cudnnGetConvolutionForwardWorkspaceSize(handle, x, filter, convolution, y, 1, &bytes));
    TEST_CHECK(dnn.cudnnSetConvolution2dDescriptor(convolution, PAD, PAD, 1, 1, 2, 1, DNN_CROSS_CORRELATION, DNN_F32));
    TEST_CHECK(dnn.cudnnSetConvolution2dDescriptor(convolution, PAD, PAD, 1, 1, 1, 1, 0, DNN_F32));
    TEST_CHECK(dnn.cudnnSetStream(handle, NULL));
    return !api.cuStreamSynchronize(stream);
}

const TestCase test_dnn[] = {
    {"cudnn_directions", {0}, run_directions},
    {"cudnn_refusals", {0}, run_refusals},
    {0},
};
