// Finding NVIDIA's libraries: by the loader's own path first (LD_LIBRARY_PATH, ld.so.cache), then where toolkits and Python's
// packages put them: $CUDA_HOME, $CUDA_PATH, /usr/local/cuda*, nvidia/*/lib of the site-packages of the active environment and of
// the python3 on the PATH. Folders are found by pattern; no Python is run. Where $LV_CUDA_PATH is set (folders with colons between
// them) it is all that is looked at.
#include "device/cuda/library.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/text.h"
#include "base/vec.h"

enum { NAMES = 3 };

// The file's names, newest first, with the toolkit's major version that each belongs to (0: of any).
static const struct {
    struct {
        const char *name;
        int major;
    } files[NAMES];
    const char *package;
} libraries[CUDA_LIBRARY_COUNT] = {
    [CUDA_DRIVER] =
        {{{"libcuda.so.1", 0}},
         "NVIDIA's driver: apt install nvidia-driver (Debian), ubuntu-drivers install (Ubuntu), or nvidia.com/drivers"},
    [CUDA_NVRTC] = {{{"libnvrtc.so.13", 13}, {"libnvrtc.so.12", 12}, {"libnvrtc.so", 0}},
                    "apt install cuda-nvrtc-12-8 (NVIDIA's repository), or pip install nvidia-cuda-nvrtc-cu12"},
    [CUDA_CUBLASLT] = {{{"libcublasLt.so.13", 13}, {"libcublasLt.so.12", 12}, {"libcublasLt.so", 0}},
                       "apt install libcublas-12-8 (NVIDIA's repository), or pip install nvidia-cublas-cu12"},
    [CUDA_CUDNN] = {{{"libcudnn.so.9", 0}, {"libcudnn.so.8", 0}, {"libcudnn.so", 0}},
                    "apt install cudnn9 (NVIDIA's repository), or pip install nvidia-cudnn-cu12"},
    [CUDA_NCCL] = {{{"libnccl.so.2", 0}, {"libnccl.so", 0}},
                   "apt install libnccl2 (NVIDIA's repository), or pip install nvidia-nccl-cu12"},
};

const char *cuda_library_file(CudaLibraryName name) { return libraries[name].files[0].name; }
const char *cuda_library_package(CudaLibraryName name) { return libraries[name].package; }

// ---- where to look

typedef LV_VEC(char *) Patterns;

static const char *chosen_folders(void) {
    const char *folders = getenv("LV_CUDA_PATH");
    return folders && *folders ? folders : NULL;
}

static void add(Patterns *patterns, const char *folder, const char *below) {
    LvText text = {0};
    if (!folder || !*folder) return;
    lv_text_printf(&text, "%s/%s", folder, below);
    lv_vec_push(patterns, text.data);
}

static void add_toolkit(Patterns *patterns, const char *folder) {
    add(patterns, folder, "lib64");
    add(patterns, folder, "targets/*/lib");
    add(patterns, folder, "lib");  // a conda environment is one
}

static void add_python(Patterns *patterns, const char *prefix) {
    static const char *const sites[] = {"lib/python3*/site-packages/nvidia/*/lib", "lib64/python3*/site-packages/nvidia/*/lib",
                                        "lib/python3*/dist-packages/nvidia/*/lib"};
    for (size_t i = 0; i < sizeof sites / sizeof *sites; i++) add(patterns, prefix, sites[i]);
}

// The environment of every python3 on the PATH: the folder above the one that it is in, and above the one that it links to.
static void add_pythons(Patterns *patterns) {
    const char *at = getenv("PATH");
    while (at && *at) {
        size_t length = strcspn(at, ":");
        LvText program = {0};
        lv_text_printf(&program, "%.*s/python3", (int)length, at);
        if (length && access(program.data, X_OK) == 0) {
            LvText prefix = {0};
            char real[PATH_MAX];
            lv_text_printf(&prefix, "%.*s/..", (int)length, at);
            add_python(patterns, prefix.data);
            if (realpath(program.data, real)) {
                prefix.length = 0;
                *strrchr(real, '/') = 0;
                lv_text_printf(&prefix, "%s/..", real);
                add_python(patterns, prefix.data);
            }
            lv_text_free(&prefix);
        }
        lv_text_free(&program);
        at += length + (at[length] == ':');
    }
}

static void add_folders(Patterns *patterns, const char *at) {
    while (*at) {
        LvText folder = {0};
        size_t length = strcspn(at, ":");
        lv_text_append(&folder, at, length);
        if (length) lv_vec_push(patterns, folder.data);
        at += length + (at[length] == ':');
    }
}

static void list_patterns(Patterns *patterns) {
    if (chosen_folders()) {
        add_folders(patterns, chosen_folders());
        return;
    }
    add_toolkit(patterns, getenv("CUDA_HOME"));
    add_toolkit(patterns, getenv("CUDA_PATH"));
    add_python(patterns, getenv("VIRTUAL_ENV"));
    add_toolkit(patterns, getenv("CONDA_PREFIX"));
    add_python(patterns, getenv("CONDA_PREFIX"));
    add_toolkit(patterns, "/usr/local/cuda");
    add_toolkit(patterns, "/usr/local/cuda-*");
    add_pythons(patterns);
    LvText home = {0};
    if (getenv("HOME")) lv_text_printf(&home, "%s/.local", getenv("HOME"));
    add_python(patterns, home.data);
    lv_text_free(&home);
    add_python(patterns, "/usr/local");
    add(patterns, "/usr/lib/python3", "dist-packages/nvidia/*/lib");
    add(patterns, "/usr/lib/wsl", "lib");  // Windows' driver, seen from inside
}

// ---- opening

static char *path_of(void *handle, const char *name) {
    struct link_map *map = NULL;
    char real[PATH_MAX];
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || !map || !map->l_name || !*map->l_name) return lv_strdup(name);
    return lv_strdup(realpath(map->l_name, real) ? real : map->l_name);
}

// NVRTC loads this by name when it compiles and does not find it where Python's packages are: it is loaded from beside it.
static void open_companions(const char *path) {
    LvText pattern = {0};
    glob_t found;
    const char *slash = strrchr(path, '/');
    lv_text_printf(&pattern, "%.*slibnvrtc-builtins.so.*", slash ? (int)(slash - path + 1) : 0, path);
    if (glob(pattern.data, 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) dlopen(found.gl_pathv[i], RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
        globfree(&found);
    }
    lv_text_free(&pattern);
}

static bool open_file(CudaLibraryName name, const char *file, CudaLibrary *library) {
    void *handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) return false;
    *library = (CudaLibrary){handle, path_of(handle, file)};
    if (name == CUDA_NVRTC) open_companions(library->path);
    return true;
}

static bool open_in(CudaLibraryName name, const Patterns *patterns, const char *file, CudaLibrary *library) {
    bool good = false;
    for (size_t i = 0; i < patterns->count && !good; i++) {
        LvText pattern = {0};
        glob_t found;
        lv_text_printf(&pattern, "%s/%s", patterns->data[i], file);
        if (glob(pattern.data, 0, NULL, &found) == 0) {
            for (size_t k = found.gl_pathc; k-- > 0 && !good;) good = open_file(name, found.gl_pathv[k], library);
            globfree(&found);
        }
        lv_text_free(&pattern);
    }
    return good;
}

bool cuda_library_open(CudaLibraryName name, int major, CudaLibrary *library) {
    Patterns patterns = {0};
    bool good = false;
    list_patterns(&patterns);
    for (int i = 0; i < NAMES && !good && libraries[name].files[i].name; i++) {
        const char *file = libraries[name].files[i].name;
        if (major && libraries[name].files[i].major > major) continue;
        good = (!chosen_folders() && open_file(name, file, library)) || open_in(name, &patterns, file, library);
    }
    for (size_t i = 0; i < patterns.count; i++) free(patterns.data[i]);
    lv_vec_free(&patterns);
    return good;
}

void cuda_library_close(CudaLibrary *library) {
    if (library->handle) dlclose(library->handle);
    free(library->path);
    *library = (CudaLibrary){0};
}

const char *cuda_library_fill(const CudaLibrary *library, const CudaSymbol *symbols, size_t count, void *table) {
    for (size_t i = 0; i < count; i++) {
        void *symbol = dlsym(library->handle, symbols[i].name);
        if (!symbol) return symbols[i].name;
        memcpy((char *)table + symbols[i].at, &symbol, sizeof symbol);
    }
    return NULL;
}
