// What the stand-ins have in common: settings, failures on command, the form of what NVRTC's makes and the driver's loads.
#ifndef LV_CUDA_SIM_COMMON_H
#define LV_CUDA_SIM_COMMON_H

#include <stddef.h>
#include <stdint.h>

int sim_setting(const char *name, int otherwise);  // an environment variable, as a number

// LV_CUDA_SIM_FAIL="cuMemAlloc_v2:3,nvrtcCompileProgram:1:6": what the call of this function that is now made should return: 0 if it
// is to go on, else the number named, or `usual`. Counts calls.
int sim_trouble(const char *function, int usual);

void *sim_of_driver(const char *function);  // of libcuda's stand-in: what the libraries ask it for; NULL: it is not there

uint64_t sim_hash(const void *data, size_t bytes, uint64_t seed);

// A compiled program. "CUBIN": this header, the shared object, the program's text. "PTX", which is text: SIM_PTX_MARK and the
// target's number, a line end, then the same in hexadecimal digits.
#define SIM_IMAGE_MARK "LVSIMBIN"
#define SIM_PTX_MARK "// cuda_sim PTX for compute_"
typedef struct {
    char mark[8];
    uint32_t architecture;     // 90
    uint32_t toolkit;          // 13000
    uint32_t form;             // LV_CUDA_SIM_FORM: what the stand-ins were then
    uint32_t unused;
    uint64_t object_bytes, text_bytes;
    uint64_t hash;             // of what follows
} SimImage;

#endif
