// nvrtc_check [--label NAME] [--folder F] [--nvdisasm PROGRAM] [--jobs N] [--table] PLAN.lvm... | --ops sm_90
//             | --own sm_90 | --self sm_90
// Compiles the kernels of plans for a GPU as the runtime would and checks what came out: check.h. Exit 0: nothing is wrong,
// 1: something is, 2: bad usage, 77: no NVRTC here, or one that does not know the architecture.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/plan_file.h"
#include "check.h"
#include "device/cuda/library.h"
#include "device/cuda/own.h"

enum { SKIPPED = 77 };

typedef struct {
    const char *label, *ops, *own, *self, *files[64];
    int count;
    bool table;
} Wanted;

static const char *value_of(int argc, char **argv, int *at) { return *at + 1 < argc ? argv[++*at] : NULL; }

static bool read_words(int argc, char **argv, Wanted *wanted, Check *check) {
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--table")) wanted->table = true;
        else if (!strcmp(argv[i], "--label")) wanted->label = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--folder")) check->folder = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--nvdisasm")) check->disassembler = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--ops")) wanted->ops = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--own")) wanted->own = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--self")) wanted->self = value_of(argc, argv, &i);
        else if (!strcmp(argv[i], "--jobs")) check->jobs = atoi(i + 1 < argc ? argv[++i] : "1");
        else if (argv[i][0] == '-' || wanted->count == 64) return false;
        else wanted->files[wanted->count++] = argv[i];
    }
    if (!wanted->label) wanted->label = wanted->ops ? "ops" : wanted->own ? "own" : wanted->self ? "self" : wanted->count ? wanted->files[0] : "";
    return check->folder && check->jobs > 0 && (wanted->count > 0) + (wanted->ops != NULL) + (wanted->own != NULL) + (wanted->self != NULL) == 1;
}

static int number_of(const char *architecture) { return strncmp(architecture, "sm_", 3) ? 0 : atoi(architecture + 3); }

// Those of the backend's own.
static bool add_own(Check *check, const char *architecture, LvError *error) {
    LvPlan *plan = cuda_own_plan(lv_arena_printf(check->arena, "cuda:%s", architecture));
    bool good = check_add(check, plan, error);
    lv_plan_destroy(plan);
    return good;
}

static bool add_all(const Wanted *wanted, Check *check, LvError *error) {
    if (wanted->ops) return check_add_ops(check, number_of(wanted->ops), error);
    if (wanted->own) return add_own(check, wanted->own, error);
    for (int i = 0; i < wanted->count; i++) {
        LvPlan *plan = NULL;
        bool good = lv_plan_read(wanted->files[i], &plan, error) && check_add(check, plan, error);
        lv_plan_destroy(plan);
        if (!good) return lv_error_prefix(error, "%s", wanted->files[i]);
    }
    return true;
}

static bool load_nvrtc(Check *check) {
#define X(type, name, parameters) {#name, offsetof(Nvrtc, name)},
    static const CudaSymbol symbols[] = {NVRTC_FUNCTIONS(X)};
#undef X
    CudaLibrary library = {0};
    return cuda_library_open(CUDA_NVRTC, 0, &library) && !cuda_library_fill(&library, symbols, sizeof symbols / sizeof *symbols, &check->nvrtc) &&
           check->nvrtc.nvrtcVersion(&check->version[0], &check->version[1]) == NVRTC_OK;
}

// NVRTC names the architectures it knows since CUDA 11.2.
static bool knows(const Check *check, int sm) {
    int count = 0, all[64];
    if (check->nvrtc.nvrtcGetNumSupportedArchs(&count) != NVRTC_OK || count > 64 || check->nvrtc.nvrtcGetSupportedArchs(all) != NVRTC_OK) return true;
    for (int i = 0; i < count; i++) {
        if (all[i] == sm) return true;
    }
    return false;
}

static int run(const Wanted *wanted, Check *check) {
    LvError error = {0};
    if (!load_nvrtc(check)) {
        printf("skip %s: NVRTC is not installed (%s)\n", wanted->label, cuda_library_package(CUDA_NVRTC));
        return SKIPPED;
    }
    mkdir(check->folder, 0777);
    if (wanted->self) {
        if (check_self(check, number_of(wanted->self), &error)) return 0;
        printf("not ok self: %s\n", error.message);
        return lv_error_clear(&error), 1;
    }
    bool good = add_all(wanted, check, &error);
    if (good && !knows(check, check->sm)) {
        printf("skip %s: NVRTC %d.%d does not know sm_%d\n", wanted->label, check->version[0], check->version[1], check->sm);
        return SKIPPED;
    }
    LvText report = {0};
    good = good && check_compile(check, &error);
    if (!good) printf("not ok %s: %s\n", wanted->label, error.message);
    else good = !check_report(check, wanted->label, wanted->table, &report);
    fputs(lv_text_get(&report), stdout);
    lv_text_free(&report);
    lv_error_clear(&error);
    return good ? 0 : 1;
}

int main(int argc, char **argv) {
    Wanted wanted = {0};
    Check check = {.jobs = 1, .arena = lv_arena_create()};
    int status = 2;
    if (read_words(argc, argv, &wanted, &check)) status = run(&wanted, &check);
    else fprintf(stderr, "usage: nvrtc_check --folder F [--label NAME] [--nvdisasm PROGRAM] [--jobs N] [--table] PLAN.lvm... | --ops sm_90 | --own sm_90 | --self sm_90\n");
    lv_map_free(&check.names);
    lv_vec_free(&check.kernels);
    lv_arena_destroy(check.arena);
    return status;
}
