// 3 x 3 convolutions of stride 1 by Winograd's F(4x4, 3x3) in f32: forward, data gradient, weight gradient. All but the
// weight's gradient may lie in memory as bf16. See winograd_lanes.h.
#ifndef LV_DEVICE_CPU_WINOGRAD_H
#define LV_DEVICE_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/plan.h"

// Where the elements of a picture [B,C,H,W] lie: channels in blocks of `block` side by side, strides in elements.
typedef struct {
    int64_t image, block_stride, row, column, block;
    bool bf16;  // else f32
} WinogradPlace;

typedef struct WinogradSet WinogradSet;

typedef struct {
    const WinogradSet *set;
    int64_t images, in, out;                   // channels of what is read and of what is written; those of x and y where the
    int64_t height, width;                     // weight's gradient is made of both
    int64_t out_height, out_width;
    int64_t above, left;                       // padding
    WinogradPlace x, y;
    int64_t lane_stride, depth_stride;         // of the weight: by output channel, by input channel
    bool flipped;                              // data gradient: the taps in reverse order
    bool gradient;                             // weight gradient: y is read, w and bias are written
    bool weight_bf16, bias_bf16;               // a residual is as y is, the weight's gradient f32
    LvActivation activation;
    int threads;
} WinogradShape;

typedef struct {
    const void *x, *bias, *residual;  // bias, residual: may be NULL
    void *y, *w, *dbias;              // w is read, or is the weight's gradient
    char *scratch;                    // winograd_scratch bytes, aligned to 64
} WinogradData;

// One set of functions for each instruction set, winograd_avx2.c and winograd_avx512.c; empty where it was not compiled.
struct WinogradSet {
    const char *name;  // "winograd:avx2"
    int lanes;         // floats a vector: channels are multiples of it
    size_t (*scratch)(const WinogradShape *shape);
    void (*run)(const WinogradShape *shape, const WinogradData *data);
};
extern const WinogradSet winograd_avx2, winograd_avx512;

// Does the processor have it?
bool winograd_has(const WinogradSet *set);
// The best that the processor has, or NULL.
const WinogradSet *winograd_best(void);

// What the step would be by that set; false where the set is NULL, where it is no 3 x 3 convolution of stride 1 over f32 or bf16, or
// where channels do not lie in vectors.
bool winograd_shape(const LvStep *step, const WinogradSet *set, int threads, WinogradShape *shape);
size_t winograd_scratch(const WinogradShape *shape);
void winograd_run(const WinogradShape *shape, const WinogradData *data);
// The data of a step's operands.
WinogradData winograd_data(const LvStep *step, char *const *buffers, char *scratch);

#endif
