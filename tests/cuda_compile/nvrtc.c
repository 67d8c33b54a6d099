// Opening NVRTC where the runtime would: by soname, in CUDA's folders, in a Python environment's packages.
#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static const char *const sonames[] = {"libnvrtc.so.13", "libnvrtc.so.12"};
static const char *const folders[] = {"/usr/local/cuda/lib64/", "/usr/local/cuda-*/lib64/", "/usr/local/cuda/targets/*/lib/",
                                      "/usr/local/cuda-*/lib/", "/usr/lib/x86_64-linux-gnu/"};

static void *open_in(const char *folder, const char *soname) {
    char pattern[512];
    glob_t found;
    void *library = NULL;
    snprintf(pattern, sizeof pattern, "%s%s", folder, soname);
    if (glob(pattern, 0, NULL, &found)) return NULL;
    for (size_t i = found.gl_pathc; i > 0 && !library; i--) library = dlopen(found.gl_pathv[i - 1], RTLD_NOW | RTLD_LOCAL);
    globfree(&found);
    return library;
}

static void *open_any(void) {
    void *library = NULL;
    char python[512];
    const char *environment = getenv("VIRTUAL_ENV"), *home = getenv("CUDA_HOME");
    for (size_t s = 0; s < sizeof sonames / sizeof *sonames && !library; s++) {
        library = dlopen(sonames[s], RTLD_NOW | RTLD_LOCAL);
        if (!library && home) {
            snprintf(python, sizeof python, "%s/lib*/", home);
            library = open_in(python, sonames[s]);
        }
        for (size_t f = 0; f < sizeof folders / sizeof *folders && !library; f++) library = open_in(folders[f], sonames[s]);
        if (!library && environment) {
            snprintf(python, sizeof python, "%s/lib/python3*/site-packages/nvidia/*/lib/", environment);
            library = open_in(python, sonames[s]);
        }
    }
    return library;
}

bool nvrtc_load(const char *path, Nvrtc *nvrtc) {
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : open_any();
    bool whole = library != NULL;
#define X(type, name, parameters) whole = whole && (*(void **)&nvrtc->name = dlsym(library, #name));
    NVRTC_FUNCTIONS(X)
#undef X
    return whole;
}
