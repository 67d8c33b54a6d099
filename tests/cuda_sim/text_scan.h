// What NVRTC's stand-in does to the text between the preprocessor and the compiler.
#ifndef LV_CUDA_SIM_TEXT_SCAN_H
#define LV_CUDA_SIM_TEXT_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// Writes the preprocessed text (`bytes` and a zero after them) to `out`, with kernels and shared variables as plain C++ has them
// and the table of kernels after it.
bool sim_text_rewrite(const char *text, size_t bytes, FILE *out);

#endif
