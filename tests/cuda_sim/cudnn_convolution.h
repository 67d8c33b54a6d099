// A convolution and its two gradients, pictures N,H,W,C, by plain loops.
#ifndef LV_CUDA_SIM_CUDNN_CONVOLUTION_H
#define LV_CUDA_SIM_CUDNN_CONVOLUTION_H

#include <stdbool.h>
#include <stddef.h>

#include "number.h"

typedef enum { CONVOLUTION_FORWARD, CONVOLUTION_DATA, CONVOLUTION_FILTER } ConvolutionKind;

typedef struct {
    ConvolutionKind kind;
    NumberType type;
    int n, c, h, w, o, kh, kw, oh, ow;
    int pad_h, pad_w, stride_h, stride_w;
    bool filter_rows;       // O,C,KH,KW, not O,KH,KW,C
    bool tf32;
    void *x, *filter, *y;   // of the forward direction; one of them is written
    const void *bias, *add; // forward: [o], as y; NULL: none
    bool relu;
    void *workspace;        // left full of NaN
    size_t workspace_bytes;
    int time;               // microseconds besides a call's usual ones, on the device's own clock
} Convolution;

void convolution_run(void *convolution);

#endif
