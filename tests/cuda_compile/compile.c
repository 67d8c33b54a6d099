// Compiles what has no record yet: in batches of kernels, a program each, by several processes that take batches in turn. A process
// leaves a record a kernel in the folder; what a run knows it has from there, so that one killed half-way has not worked in vain.
//
// A record: a line a function, "NAME_0 registers 32 shared 0 stack 0 spilled 0 products 4 copies 8 wide 8 local 0 waits 0", or one line
// "error: ..." and the text that NVRTC refused beside it, NAME.sm_90.cu.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

#include "check.h"

enum { FORM = 3, BATCH_KERNELS = 24, BATCH_BYTES = 160000, MOST_RECORD = 1 << 16 };  // FORM: of records, part of their keys

// ---- collecting

// Rows lie along the dimension that is innermost in memory.
static bool has_lines(const LvOperand *operand) {
    int rank = operand->shape.rank;
    return rank > 0 && operand->shape.dim[operand->layout.perm[rank - 1]] * (int64_t)lv_dtype_size(operand->dtype) % 16 == 0;
}

bool check_add(Check *check, const LvPlan *plan, LvError *error) {
    int sm = strncmp(plan->device, "cuda:sm_", 8) ? 0 : atoi(plan->device + 8);
    if (!sm || (check->sm && check->sm != sm)) return lv_error_set(error, LV_ERROR_USAGE, "a plan for '%s'", plan->device);
    check->sm = sm;
    const char *prelude = lv_arena_strdup(check->arena, plan->prelude ? plan->prelude : "");
    for (int s = 0; s < plan->step_count; s++) {
        const LvStep *step = &plan->steps[s];
        if (step->kernel < 0 || !step->launch_count) continue;
        if (step->kernel >= plan->kernel_count || step->launch_count > MOST_FUNCTIONS) {
            return lv_error_set(error, LV_ERROR_FORMAT, "step %d: no such kernel, or more than %d launches", s, MOST_FUNCTIONS);
        }
        const LvKernelText *kernel = &plan->kernels[step->kernel];
        Checked *known = lv_map_get(&check->names, kernel->name);
        if (!known) {
            known = LV_NEW(check->arena, Checked);
            known->name = lv_arena_strdup(check->arena, kernel->name), known->text = lv_arena_strdup(check->arena, kernel->text);
            known->prelude = prelude;
            for (int i = 0; i < step->operand_count; i++) {
                known->empty |= lv_shape_elements(step->operands[i].shape) == 0;
                known->lined |= has_lines(&step->operands[i]);
            }
            known->about = lv_arena_printf(check->arena, "%s%s %s", check->context ? check->context : "",
                                           step->label && strcmp(step->label, kernel->name) ? step->label : "", step->sources ? step->sources : "");
            lv_map_set(&check->names, known->name, known);
            lv_vec_push(&check->kernels, known);
        }
        if (step->launch_count > known->count) known->count = step->launch_count;
        for (int i = 0; i < step->launch_count; i++) {
            if (step->launches[i].block > known->threads[i]) known->threads[i] = step->launches[i].block;
            if (step->launches[i].shared > known->dynamic[i]) known->dynamic[i] = step->launches[i].shared;
        }
    }
    return true;
}

static void make_key(const Check *check, Checked *kernel) {
    char about[96];
    snprintf(about, sizeof about, "%d %d.%d sm_%d%s %s %d", FORM, check->version[0], check->version[1], check->sm, nvrtc_suffix(check->sm),
             check->disassembler ? "sass" : "ptx", kernel->count);
    XXH64_hash_t hash = XXH3_64bits(about, strlen(about));
    hash = XXH3_64bits_withSeed(kernel->prelude, strlen(kernel->prelude), hash);
    hash = XXH3_64bits_withSeed(kernel->text, strlen(kernel->text), hash);
    snprintf(kernel->key, sizeof kernel->key, "%016llx", (unsigned long long)hash);
}

// ---- records

static char *path_of(const Check *check, const Checked *kernel) { return lv_arena_printf(check->arena, "%s/%s", check->folder, kernel->key); }

static void write_record(const Check *check, const Checked *kernel) {
    LvText text = {0};
    LvError error = {0};
    if (kernel->error) lv_text_printf(&text, "error: %s\n", kernel->error);
    for (int i = 0; i < kernel->count && !kernel->error; i++) {
        const Usage *u = &kernel->usage[i];
        if (!u->known) continue;
        lv_text_printf(&text, "%s_%d registers %d shared %d stack %d spilled %d products %d copies %d wide %d local %d waits %d\n", kernel->name, i,
                       u->registers, u->shared, u->stack, u->spilled, u->products, u->copies, u->wide, u->local, u->waits);
    }
    if (!lv_file_write(path_of(check, kernel), lv_text_get(&text), text.length, &error)) fprintf(stderr, "%s\n", error.message);
    lv_error_clear(&error);
    lv_text_free(&text);
}

static bool read_record(const Check *check, Checked *kernel) {
    char *text, *rest, function[128];
    size_t length;
    LvError error = {0};
    Usage u = {.known = true};
    if (!lv_file_read(path_of(check, kernel), MOST_RECORD, &text, &length, &error)) return lv_error_clear(&error), false;
    if (!strncmp(text, "error: ", 7)) kernel->error = lv_arena_copy(check->arena, text + 7, strcspn(text + 7, "\n"));
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "%127s registers %d shared %d stack %d spilled %d products %d copies %d wide %d local %d waits %d", function, &u.registers,
                   &u.shared, &u.stack, &u.spilled, &u.products, &u.copies, &u.wide, &u.local, &u.waits) != 10) continue;
        Usage *of = usage_of(&kernel, 1, function, strlen(function));
        if (of) *of = u;
    }
    free(text);
    return true;
}

// ---- one program

static char *listing_of(const Check *check, const char *cubin, size_t size) {
    char path[] = "/tmp/lverse-cubin-XXXXXX";
    LvText out = {0}, command = {0};
    int file = mkstemp(path);
    if (file < 0 || write(file, cubin, size) != (ssize_t)size) return NULL;
    close(file);
    lv_text_printf(&command, "'%s' '%s' 2>/dev/null", check->disassembler, path);
    FILE *pipe = popen(lv_text_get(&command), "r");
    char piece[1 << 14];
    for (size_t n; pipe && (n = fread(piece, 1, sizeof piece, pipe)) > 0;) lv_text_append(&out, piece, n);
    if (pipe) pclose(pipe);
    unlink(path);
    lv_text_free(&command);
    return out.data;
}

static void read_code(const Check *check, NvrtcProgram program, Checked **kernels, int count) {
    const Nvrtc *nvrtc = &check->nvrtc;
    size_t size = 0;
    bool sass = check->disassembler != NULL;
    if ((sass ? nvrtc->nvrtcGetCUBINSize : nvrtc->nvrtcGetPTXSize)(program, &size) != NVRTC_OK || !size) return;
    char *code = lv_calloc(size + 1, 1), *listing = NULL;
    if ((sass ? nvrtc->nvrtcGetCUBIN : nvrtc->nvrtcGetPTX)(program, code) == NVRTC_OK && sass) listing = listing_of(check, code, size);
    if (listing) usage_from_sass(listing, kernels, count);
    else if (!sass) usage_from_ptx(code, kernels, count);
    free(listing);
    free(code);
}

// The log's first line that is an error, else its first.
static const char *first_error(const Check *check, const char *log) {
    const char *at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n') at--;
    if (!at) at = log;
    return lv_arena_copy(check->arena, at, strcspn(at, "\n"));
}

static void keep_text(const Check *check, const Checked *kernel, const char *text) {
    LvError error = {0};
    char *path = lv_arena_printf(check->arena, "%s/%s.sm_%d.cu", check->folder, kernel->name, check->sm);
    lv_file_write(path, text, strlen(text), &error);
    lv_error_clear(&error);
}

static void compile_batch(const Check *check, Checked **kernels, int count) {
    const Nvrtc *nvrtc = &check->nvrtc;
    LvText text = {0};
    char architecture[48];
    snprintf(architecture, sizeof architecture, "--gpu-architecture=sm_%d%s", check->sm, nvrtc_suffix(check->sm));
    const char *options[] = {architecture, "--fmad=true", "--std=c++17", "-default-device", "--disable-warnings", "--ptxas-options=-v"};  // as the runtime
    lv_text_puts(&text, kernels[0]->prelude);
    for (int i = 0; i < count; i++) lv_text_printf(&text, "\n%s", kernels[i]->text);
    NvrtcProgram program = NULL;
    NvrtcResult result = nvrtc->nvrtcCreateProgram(&program, lv_text_get(&text), "kernels.cu", 0, NULL, NULL);
    if (result == NVRTC_OK) result = nvrtc->nvrtcCompileProgram(program, sizeof options / sizeof *options, options);
    size_t size = 0;
    char *log = NULL;
    if (program && nvrtc->nvrtcGetProgramLogSize(program, &size) == NVRTC_OK) {
        log = lv_calloc(size + 1, 1);
        nvrtc->nvrtcGetProgramLog(program, log);
    }
    if (result == NVRTC_OK) {
        usage_from_log(log ? log : "", kernels, count);
        read_code(check, program, kernels, count);
    } else if (count == 1) {
        kernels[0]->error = log && *log ? first_error(check, log) : nvrtc->nvrtcGetErrorString(result);
        keep_text(check, kernels[0], lv_text_get(&text));
    } else {  // which of them? halves find it
        compile_batch(check, kernels, count / 2);
        compile_batch(check, kernels + count / 2, count - count / 2);
    }
    if (result == NVRTC_OK || count == 1) {
        for (int i = 0; i < count; i++) write_record(check, kernels[i]);
    }
    if (program) nvrtc->nvrtcDestroyProgram(&program);
    free(log);
    lv_text_free(&text);
}

// ---- all of them

typedef struct {
    int first, count;
} Batch;

typedef LV_VEC(Batch) Batches;

static void cut_batches(Checked *const *kernels, int count, Batches *out) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        Batch *last = out->count ? &out->data[out->count - 1] : NULL;
        bytes += strlen(kernels[i]->text);
        if (!last || last->count == BATCH_KERNELS || bytes > BATCH_BYTES || strcmp(kernels[i]->prelude, kernels[last->first]->prelude)) {
            lv_vec_push(out, ((Batch){i, 1}));
            bytes = strlen(kernels[i]->text);
        } else {
            last->count++;
        }
    }
}

static void run_workers(const Check *check, Checked **kernels, const Batches *batches) {
    int *next = mmap(NULL, sizeof *next, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (next == MAP_FAILED) return;
    for (int w = 0; w < check->jobs; w++) {
        pid_t child = fork();
        if (child) continue;
        for (int b; (b = __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < (int)batches->count;) {
            compile_batch(check, kernels + batches->data[b].first, batches->data[b].count);
        }
        _exit(0);
    }
    while (wait(NULL) > 0) {}
    munmap(next, sizeof *next);
}

bool check_compile(Check *check, LvError *error) {
    LV_VEC(Checked *) missing = {0};
    Batches batches = {0};
    for (size_t i = 0; i < check->kernels.count; i++) {
        make_key(check, check->kernels.data[i]);
        if (!read_record(check, check->kernels.data[i])) lv_vec_push(&missing, check->kernels.data[i]);
    }
    check->compiled = (int)missing.count;
    cut_batches(missing.data, (int)missing.count, &batches);
    if (batches.count) run_workers(check, missing.data, &batches);
    int lost = 0;
    for (size_t i = 0; i < missing.count; i++) lost += !read_record(check, missing.data[i]);
    lv_vec_free(&missing);
    lv_vec_free(&batches);
    return !lost || lv_error_set(error, LV_ERROR_DEVICE, "%d kernels left no record: did NVRTC crash?", lost);
}
