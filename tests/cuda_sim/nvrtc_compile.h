// The compiler behind NVRTC's stand-in.
#ifndef LV_CUDA_SIM_NVRTC_COMPILE_H
#define LV_CUDA_SIM_NVRTC_COMPILE_H

#include <stdbool.h>
#include <stddef.h>

typedef struct {
    const char *text, *name;
    int architecture;             // 90
    const char *const *defines;   // -DNAME=VALUE
    int define_count;
} SimSource;

// The shared object made of a text, from the cache if it is there. False: *log says why, in NVRTC's form: name(line): error: ...
// The caller frees both.
bool sim_compile(const SimSource *source, char **object, size_t *bytes, char **log);

#endif
