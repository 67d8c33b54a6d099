// The stand-ins' own tests: small kernels that must compute right, and the same texts made wrong, which must fail.
#ifndef LV_CUDA_SIM_TEST_H
#define LV_CUDA_SIM_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "device/cuda/cublaslt_api.h"
#include "device/cuda/driver_api.h"
#include "device/cuda/nvrtc_api.h"

#define TEST_MORE_FUNCTIONS(X)                                                      \
    X(CuResult, cuMemcpyHtoD_v2, (CuPointer to, const void *from, size_t bytes))    \
    X(CuResult, cuMemcpyDtoH_v2, (void *to, CuPointer from, size_t bytes))          \
    X(CuResult, cuGraphGetNodes, (CuGraph graph, void **nodes, size_t *count))

typedef struct {
#define X(type, name, parameters) type(*name) parameters;
    CU_FUNCTIONS(X)
    NVRTC_FUNCTIONS(X)
    LT_FUNCTIONS(X)
    TEST_MORE_FUNCTIONS(X)
#undef X
} TestApi;

extern TestApi api;

typedef enum { TEST_RIGHT, TEST_WRONG, TEST_FAULT } TestOutcome;  // wrong values; an error of the driver or the compiler

typedef struct {
    const char *what, *from, *to;  // the first `from` of the text becomes `to`
    const char *said;              // part of the message that it must bring; NULL: wrong values will do
} TestMutation;

typedef struct {
    const char *name, *text;
    TestOutcome (*run)(const char *text);
    const TestMutation *mutations;  // ends with .what == NULL
} TestKernel;

extern const TestKernel test_threads[], test_matrices[];  // end with .name == NULL

typedef struct {
    const char *name;
    const char *environment[4];  // "LV_CUDA_SIM_DEVICES=0"
    bool (*run)(void);
} TestCase;

extern const TestCase test_host[], test_dnn[], test_nccl[];  // end with .name == NULL

// Libraries, device, context: once in a process.
bool test_open(void);
// Compiles, loads, finds a function. False after saying why.
bool test_build(const char *text, const char *name, CuFunction *function);
// An allocation with these bytes in it.
CuPointer test_put(const void *data, size_t bytes);
CuPointer test_room(size_t bytes);
// Waits for all, brings bytes back; false after an error.
bool test_get(void *data, CuPointer from, size_t bytes);
float test_number(uint64_t i);  // between -1 and 1, of few bits: exact in bf16

#define TEST_CHECK(condition)                                                   \
    do {                                                                        \
        if (!(condition)) return printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition), false; \
    } while (0)

#endif
