// libnvrtc's stand-in: NVRTC's functions over sim_compile. LV_CUDA_SIM_NVRTC is its version (13000), LV_CUDA_SIM_ARCHS the list of
// architectures that it knows.
#include "device/cuda/nvrtc_api.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "nvrtc_compile.h"

enum { INVALID_INPUT = 3, INVALID_PROGRAM = 4, INTERNAL_ERROR = 11, OUT_OF_MEMORY = 1 };

struct NvrtcProgramObject {
    char *text, *name, *log;
    char *image, *ptx;
    size_t image_bytes, ptx_bytes;
};

#define X(type, name, parameters) __attribute__((visibility("default"))) type name parameters;
NVRTC_FUNCTIONS(X)
#undef X

static NvrtcResult trouble(const char *function) { return sim_trouble(function, INTERNAL_ERROR); }

NvrtcResult nvrtcVersion(int *major, int *minor) {
    const int version = sim_setting("LV_CUDA_SIM_NVRTC", 13000);
    *major = version / 1000, *minor = version % 1000 / 10;
    return trouble("nvrtcVersion");
}

const char *nvrtcGetErrorString(NvrtcResult result) {
    static const char *const names[] = {"NVRTC_SUCCESS", "NVRTC_ERROR_OUT_OF_MEMORY", "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
                                        "NVRTC_ERROR_INVALID_INPUT", "NVRTC_ERROR_INVALID_PROGRAM", "NVRTC_ERROR_INVALID_OPTION",
                                        "NVRTC_ERROR_COMPILATION", "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE"};
    if (result >= 0 && (size_t)result < sizeof names / sizeof *names) return names[result];
    return result == INTERNAL_ERROR ? "NVRTC_ERROR_INTERNAL_ERROR" : "NVRTC_ERROR unknown";
}

// Fills `list` if it is not NULL; ascending.
static int architectures(int *list) {
    const char *at = getenv("LV_CUDA_SIM_ARCHS");
    int count = 0;
    if (!at || !*at) at = "75,80,86,87,88,89,90,100,103,110,120,121";
    for (char *end; *at; at = *end ? end + 1 : end, count++) {
        const int value = (int)strtol(at, &end, 10);
        if (list) list[count] = value;
    }
    return count;
}

static bool is_known(int architecture) {
    int list[64];
    const int count = architectures(NULL);
    if (count > 64) return false;
    architectures(list);
    for (int i = 0; i < count; i++) {
        if (list[i] == architecture) return true;
    }
    return false;
}

NvrtcResult nvrtcGetNumSupportedArchs(int *count) {
    *count = architectures(NULL);
    return trouble("nvrtcGetNumSupportedArchs");
}

NvrtcResult nvrtcGetSupportedArchs(int *list) {
    architectures(list);
    return trouble("nvrtcGetSupportedArchs");
}

NvrtcResult nvrtcCreateProgram(NvrtcProgram *program, const char *text, const char *name, int headers, const char *const *header_texts,
                               const char *const *header_names) {
    const NvrtcResult t = trouble("nvrtcCreateProgram");
    (void)header_texts, (void)header_names;
    if (t) return t;
    if (!program || !text || headers) return INVALID_INPUT;
    NvrtcProgram p = calloc(1, sizeof *p);
    if (!p) return OUT_OF_MEMORY;
    p->text = strdup(text), p->name = strdup(name && *name ? name : "default_program"), p->log = strdup("");
    *program = p;
    return NVRTC_OK;
}

NvrtcResult nvrtcDestroyProgram(NvrtcProgram *program) {
    if (!program || !*program) return INVALID_PROGRAM;
    NvrtcProgram p = *program;
    free(p->text), free(p->name), free(p->log), free(p->image), free(p->ptx);
    free(p);
    *program = NULL;
    return trouble("nvrtcDestroyProgram");
}

static void say(NvrtcProgram p, const char *what, const char *which) {
    free(p->log);
    if (asprintf(&p->log, "nvrtc: error: %s '%s'\n", what, which) < 0) p->log = NULL;
}

typedef struct {
    int architecture;
    bool is_real;  // sm_90: machine code; compute_90: PTX alone
    const char *defines[64];
    int define_count;
} Options;

// Options that change nothing here: beginnings of them.
static bool is_taken(const char *option) {
    static const char *const known[] = {"std", "fmad", "use_fast_math", "ftz", "prec-", "lineinfo", "generate-line-info", "G", "device-debug", "dopt",
                                        "maxrregcount", "restrict", "extra-device-vectorization", "ptxas-options", "Xptxas", "w", "disable-warnings",
                                        "default-device", "minimal", "split-compile", "diag", "I", "include-path", "no-", "lto", "dlto", "rdc",
                                        "relocatable-device-code", "modify-stack-limit", "device-as-default", "time", "v", "O3"};
    while (*option == '-') option++;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strncmp(option, known[i], strlen(known[i]))) return true;
    }
    return false;
}

static NvrtcResult read_options(NvrtcProgram p, int count, const char *const *options, Options *out) {
    *out = (Options){.architecture = 75};
    for (int i = 0; i < count; i++) {
        const char *option = options[i], *value = NULL;
        if (!strncmp(option, "--gpu-architecture=", 19)) value = option + 19;
        if (!strncmp(option, "-arch=", 6)) value = option + 6;
        if (value) {
            char suffix = 0;
            out->is_real = !strncmp(value, "sm_", 3);
            const bool ok = sscanf(value, out->is_real ? "sm_%d%c" : "compute_%d%c", &out->architecture, &suffix) >= 1 && is_known(out->architecture);
            if (ok && suffix == 'a' && out->architecture == 90 && out->define_count < 64)
                out->defines[out->define_count++] = "-D__CUDA_ARCH_FEAT_SM90_ALL";
            if (ok) continue;
            say(p, "invalid value for --gpu-architecture", value);
            return NVRTC_INVALID_OPTION;
        }
        if (!strncmp(option, "-D", 2) || !strncmp(option, "-U", 2)) {
            if (out->define_count < 64) out->defines[out->define_count++] = option;
        } else if (!is_taken(option)) {
            say(p, "unrecognized option", option);
            return NVRTC_INVALID_OPTION;
        }
    }
    return NVRTC_OK;
}

static bool make_image(NvrtcProgram p, const Options *options, const char *object, size_t bytes) {
    const size_t text_bytes = strlen(p->text);
    const int version = sim_setting("LV_CUDA_SIM_NVRTC", 13000);
    SimImage head = {SIM_IMAGE_MARK, (uint32_t)options->architecture, (uint32_t)version, LV_CUDA_SIM_FORM, 0, bytes, text_bytes, 0};
    free(p->image), free(p->ptx);
    p->image_bytes = sizeof head + bytes + text_bytes;
    p->image = malloc(p->image_bytes);
    p->ptx = malloc(2 * p->image_bytes + 64);
    if (!p->image || !p->ptx) return false;
    memcpy(p->image + sizeof head, object, bytes);
    memcpy(p->image + sizeof head + bytes, p->text, text_bytes);
    head.hash = sim_hash(p->image + sizeof head, bytes + text_bytes, 0);
    memcpy(p->image, &head, sizeof head);
    char *at = p->ptx + sprintf(p->ptx, SIM_PTX_MARK "%d\n", options->architecture);
    for (size_t i = 0; i < p->image_bytes; i++) {
        const unsigned char byte = (unsigned char)p->image[i];
        *at++ = "0123456789abcdef"[byte >> 4], *at++ = "0123456789abcdef"[byte & 15];
    }
    *at++ = 0;
    p->ptx_bytes = (size_t)(at - p->ptx);
    if (!options->is_real) p->image_bytes = 0;  // as NVRTC: no machine code for a virtual architecture
    return true;
}

NvrtcResult nvrtcCompileProgram(NvrtcProgram program, int count, const char *const *option_list) {
    NvrtcResult result = sim_trouble("nvrtcCompileProgram", NVRTC_COMPILATION);
    Options options;
    char *object = NULL, *log = NULL;
    size_t bytes;
    if (!program) return INVALID_PROGRAM;
    if (result) {
        say(program, "failed on command", program->name);
        return result;
    }
    result = read_options(program, count, option_list, &options);
    if (result) return result;
    const SimSource source = {program->text, program->name, options.architecture, options.defines, options.define_count};
    if (!sim_compile(&source, &object, &bytes, &log)) result = NVRTC_COMPILATION;
    else if (!make_image(program, &options, object, bytes)) result = OUT_OF_MEMORY;
    free(object);
    if (log) {
        free(program->log);
        program->log = log;
    }
    return result;
}

NvrtcResult nvrtcGetProgramLogSize(NvrtcProgram program, size_t *bytes) {
    *bytes = strlen(program->log ? program->log : "") + 1;
    return trouble("nvrtcGetProgramLogSize");
}

NvrtcResult nvrtcGetProgramLog(NvrtcProgram program, char *log) {
    strcpy(log, program->log ? program->log : "");
    return trouble("nvrtcGetProgramLog");
}

NvrtcResult nvrtcGetCUBINSize(NvrtcProgram program, size_t *bytes) {
    if (!program->image) return INVALID_PROGRAM;
    *bytes = program->image_bytes;
    return trouble("nvrtcGetCUBINSize");
}

NvrtcResult nvrtcGetCUBIN(NvrtcProgram program, char *cubin) {
    if (!program->image) return INVALID_PROGRAM;
    memcpy(cubin, program->image, program->image_bytes);
    return trouble("nvrtcGetCUBIN");
}

NvrtcResult nvrtcGetPTXSize(NvrtcProgram program, size_t *bytes) {
    if (!program->ptx) return INVALID_PROGRAM;
    *bytes = program->ptx_bytes;
    return trouble("nvrtcGetPTXSize");
}

NvrtcResult nvrtcGetPTX(NvrtcProgram program, char *ptx) {
    if (!program->ptx) return INVALID_PROGRAM;
    memcpy(ptx, program->ptx, program->ptx_bytes);
    return trouble("nvrtcGetPTX");
}
