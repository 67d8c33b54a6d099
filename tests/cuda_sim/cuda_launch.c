// Launches: checked when they are asked for, run when the stream gets to them; a kernel's error is then the context's.
//
// LV_CUDA_SIM_FAIL takes the names of kernels too, and `launched` for any: that launch faults while it runs.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda.h"

static CuResult check_launch(CuFunction f, const unsigned grid[3], const unsigned block[3], unsigned shared) {
    const unsigned most = f->kernel->most_threads ? (unsigned)f->kernel->most_threads : SIM_MOST_THREADS;
    const int fixed = (int)(f->kernel->shared_stop - f->kernel->shared_start);
    if (!grid[0] || !grid[1] || !grid[2] || !block[0] || !block[1] || !block[2]) return CUDA_INVALID_VALUE;
    if (grid[0] > 0x7FFFFFFF || grid[1] > 65535 || grid[2] > 65535 || block[0] > SIM_MOST_THREADS) return CUDA_INVALID_VALUE;
    if (block[1] != 1 || block[2] != 1) {
        fprintf(stderr, "cuda_sim: %s: blocks are of one dimension here\n", f->kernel->name);
        return CUDA_INVALID_VALUE;
    }
    if (shared > (unsigned)f->most_dynamic || fixed > 48 << 10 || (int)shared + fixed > cuda_most_shared()) {
        fprintf(stderr, "cuda_sim: %s: %u bytes of dynamic shared memory beside %d: more than was asked for (%d), or than there is\n", f->kernel->name,
                shared, fixed, f->most_dynamic);
        return CUDA_INVALID_VALUE;
    }
    return block[0] > most ? CUDA_INVALID_VALUE : CU_OK;
}

CuResult cuLaunchKernel(CuFunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                        unsigned block_z, unsigned shared, CuStream stream, void **parameters, void **extra) {
    CUDA_ENTER(cuLaunchKernel, CU_LAUNCH_OUT_OF_RESOURCES);
    const unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    if (!function || cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    const LvSimKernel *kernel = function->kernel;
    if (extra || (kernel->parameters && !parameters)) return CUDA_INVALID_VALUE;
    const CuResult wrong = check_launch(function, grid, block, shared);
    if (wrong) return wrong;
    size_t bytes = 0;
    for (int i = 0; i < kernel->parameters; i++) bytes += sizeof(void *) + ((size_t)kernel->bytes[i] + 15) / 16 * 16;
    CudaOp *op = cuda_op(OP_LAUNCH, bytes + 16);
    if (!op) return CU_OUT_OF_MEMORY;
    op->launch.function = function;
    memcpy(op->launch.grid, grid, sizeof op->launch.grid);
    op->launch.threads = block_x;
    op->launch.shared = shared;
    op->launch.parameters = (void **)(void *)op->owned;
    char *at = op->owned + (size_t)kernel->parameters * sizeof(void *);
    at += -(uintptr_t)at & 15;
    for (int i = 0; i < kernel->parameters; i++) {
        op->launch.parameters[i] = memcpy(at, parameters[i], (size_t)kernel->bytes[i]);
        at += ((size_t)kernel->bytes[i] + 15) / 16 * 16;
    }
    return cuda_stream_give(stream, op);
}

// ---- an error's place in the text

typedef struct {
    char file[512];  // as a #line of the text names it
    int line;
} Place;

// By addr2line: of code that is inlined there, the innermost and the outermost place that is not text.h's. False if it cannot say.
static bool find_places(CuModule module, const void *where, Place *inner, Place *outer) {
    char command[256], said[512];
    bool found = false;
    snprintf(command, sizeof command, "addr2line -i -e /proc/%d/fd/%d 0x%zx 2>/dev/null", (int)getpid(), module->file,
             (size_t)((const char *)where - 1 - module->base));
    FILE *pipe = popen(command, "r");
    while (pipe && fgets(said, sizeof said, pipe)) {
        char *colon = strrchr(said, ':'), *slash = strrchr(said, '/');
        if (!colon || strstr(said, "/text.h:") || said[0] == '?') continue;
        *colon = 0;
        snprintf(outer->file, sizeof outer->file, "%s", slash && slash < colon ? slash + 1 : said);
        outer->line = atoi(colon + 1);
        if (!found) *inner = *outer;
        found = true;
    }
    if (pipe) pclose(pipe);
    return found;
}

static void print_place(const char *text, const Place *place) {
    char mark[600];
    snprintf(mark, sizeof mark, "#line 1 \"%s\"\n", place->file);
    const char *at = text ? strstr(text, mark) : NULL;
    at = at ? at + strlen(mark) : text;
    for (int i = 1; i < place->line && at; i++) at = (at = strchr(at, '\n')) ? at + 1 : NULL;
    while (at && *at == ' ') at++;
    fprintf(stderr, "; %s(%d)", place->file, place->line);
    if (at) fprintf(stderr, ": %.*s", (int)strcspn(at, "\n"), at);
}

static void report(CuModule module, const SimError *error) {
    Place inner, outer;
    fprintf(stderr, "cuda_sim: kernel %s, block (%u, %u, %u), thread %u: %s", error->kernel, error->block[0], error->block[1], error->block[2],
            error->thread, error->what);
    if (error->where && find_places(module, error->where, &inner, &outer)) {
        print_place(module->text, &outer);
        if (inner.line != outer.line || strcmp(inner.file, outer.file)) print_place(module->text, &inner);
    }
    fprintf(stderr, " (LV_CUDA_SIM_SEED=%llu)\n", (unsigned long long)sim.seed);
}

// ----

void cuda_launch_run(CudaOp *op) {
    if (cuda_error()) return;  // after a fault nothing runs any more
    CuFunction f = op->launch.function;
    int trouble = sim_trouble(f->kernel->name, CU_LAUNCH_FAILED);
    if (!trouble) trouble = sim_trouble("launched", CU_LAUNCH_FAILED);
    if (trouble) {
        cuda_set_error(trouble);
        return;
    }
    SimLaunch launch = {&f->module->sim, f->kernel, op->launch.parameters, {op->launch.grid[0], op->launch.grid[1], op->launch.grid[2]},
                        op->launch.threads, op->launch.shared};
    sim_run(&launch, f->module->base, f->module->image_end);
    if (!sim.error.code) return;
    report(f->module, &sim.error);
    cuda_set_error(sim.error.code);
}
