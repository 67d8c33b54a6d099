// Blocks in shuffled order, one after the other. Where threads of a block wait for each other, each is a fiber: the lanes of a warp
// run in turn until each waits, then the next warp of the block's shuffled order has its turn. Else a loop calls the kernel for
// each thread, on a single fiber, which an error can leave.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fiber.h"
#include "sim.h"

Sim sim;

const LvSimHooks sim_hooks = {
    .access = sim_access,
    .barrier = sim_barrier,
    .collective = sim_collective,
    .copy = sim_copy,
    .copy_commit = sim_copy_commit,
    .copy_wait = sim_copy_wait,
    .proxy_fence = sim_proxy_fence,
    .shared_address = sim_shared_address,
    .atomic_add = sim_atomic_add,
    .fence = sim_fence,
    .dynamic_shared = sim_dynamic_shared,
    .vector = sim_vector,
    .wrong = sim_wrong,
};

uint64_t sim_random(void) {  // splitmix64
    uint64_t z = sim.random += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static void shuffle(uint32_t *order, uint32_t count) {
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = (uint32_t)(sim_random() % i), kept = order[i - 1];
        order[i - 1] = order[j], order[j] = kept;
    }
}

void sim_start(void) {
    const char *check = getenv("LV_CUDA_SIM_CHECK"), *seed = getenv("LV_CUDA_SIM_SEED");
    sim.check = check ? atoi(check) : 1;
    sim.seed = seed ? strtoull(seed, NULL, 0) : 1;
    sim.epoch = sim.block_epoch = 1;
    // A page between two stacks that nobody may touch: too deep a stack is a fault, not another thread's value.
    const size_t guard = 4096, each = SIM_STACK + guard;
    char *stacks = mmap(NULL, each * SIM_MOST_THREADS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    sim.dynamic_memory = aligned_alloc(1024, SIM_MOST_SHARED);
    sim.stamps = calloc(SIM_STAMPS, sizeof *sim.stamps);
    if (stacks == MAP_FAILED || !sim.dynamic_memory || !sim.stamps) {
        fputs("cuda_sim: no memory for the threads' stacks\n", stderr);
        abort();
    }
    for (uint32_t i = 0; i < SIM_MOST_THREADS; i++) {
        mprotect(stacks + i * each, guard, PROT_NONE);
        sim.threads[i].stack = (uintptr_t)stacks + i * each + guard;
        sim.threads[i].index = i;
    }
}

void sim_fail(int code, const void *where, const char *format, ...) {
    va_list arguments;
    SimError *error = &sim.error;
    const LvSimIndex *block = sim.launch.module->block;
    *error = (SimError){.kernel = sim.launch.kernel->name, .code = code, .block = {block->x, block->y, block->z},
                        .thread = sim.launch.module->thread->x, .where = where};
    va_start(arguments, format);
    vsnprintf(error->what, sizeof error->what, format, arguments);
    va_end(arguments);
    void *left;
    fiber_switch(&left, sim.host_stack);  // for good: nobody comes back to these stacks
    abort();
}

void sim_new_epoch(void) {
    sim.epoch++;
    if (++sim.shared_epoch > STAMP_MOST_EPOCH) {
        sim_forget_shared();
        sim.shared_epoch = 1;
    }
}

// ---- threads that wait for each other

static void make_current(SimThread *thread) {
    sim.current = thread;
    sim.state->stamp = sim_stamp_of(thread);
    sim.index->x = thread->index;
    sim.state->stack = thread->stack;
}

static void enter(SimThread *thread) {  // from the host's stack
    make_current(thread);
    fiber_switch(&sim.host_stack, thread->stack_pointer);
}

static void resume(SimThread *thread) {  // from another thread's
    SimThread *left = sim.current;
    make_current(thread);
    if (thread != left) fiber_switch(&left->stack_pointer, thread->stack_pointer);
}

static void release_barrier(void) {
    for (uint32_t w = 0; w < sim.warp_count; w++) {
        sim.warps[w].ready |= sim.warps[w].at_barrier;
        sim.warps[w].at_barrier = 0;
    }
    sim.arrived = 0;
    sim_wgmma_compare();
    sim_new_epoch();
    shuffle(sim.order, sim.warp_count);
}

// Nobody can go on: of those who wait, names one and what it waits for.
static _Noreturn void report_stuck(void) {
    for (uint32_t i = 0; i < sim.launch.threads; i++) {
        const SimThread *t = &sim.threads[i];
        if (!(sim.warps[i / SIM_WARP].in_collective >> i % SIM_WARP & 1)) continue;
        for (uint32_t lane = 0; lane < SIM_WARP; lane++) {
            const uint32_t other = i / SIM_WARP * SIM_WARP + lane;
            if (!(t->mask >> lane & 1) || (sim.warps[i / SIM_WARP].in_collective >> lane & 1)) continue;
            sim.launch.module->thread->x = i;
            const bool none = other >= sim.launch.threads, done = !none && sim.threads[other].done;
            sim_fail(SIM_LAUNCH_FAILED, t->where, "%s waits for lane %u of its warp (mask 0x%x), which %s", sim_collective_name(t->kind),
                     lane, t->mask, none ? "does not exist" : done ? "has ended" : "waits at a barrier of the block");
        }
    }
    sim_fail(SIM_LAUNCH_FAILED, sim.barrier_where, "a barrier that not all threads of the block reach");
}

static SimThread *next_thread(void) {
    for (;;) {
        for (uint32_t tries = 0; tries <= sim.warp_count; tries++) {
            const uint32_t w = sim.order[sim.turn], ready = sim.warps[w].ready;
            if (ready) {
                // Lanes in turn, beginning after the one that ran last.
                const uint32_t last = sim.current ? sim.current->index % SIM_WARP : SIM_WARP - 1, after = ready & ~(((1u << last) << 1) - 1);
                return &sim.threads[w * SIM_WARP + (uint32_t)__builtin_ctz(after ? after : ready)];
            }
            sim.turn = (sim.turn + 1) % sim.warp_count;
        }
        if (!sim.live) return NULL;
        if (sim.arrived != sim.live) report_stuck();
        release_barrier();
    }
}

void sim_schedule(void) {
    // Mostly the next lane of the same warp.
    const SimThread *t = sim.current;
    const uint32_t lane = t->index % SIM_WARP, after = sim.warps[t->index / SIM_WARP].ready & ~(((1u << lane) << 1) - 1);
    resume(after ? &sim.threads[t->index - lane + (uint32_t)__builtin_ctz(after)] : next_thread());
}

void sim_barrier(int line, const void *where) {
    SimThread *t = sim.current;
    SimWarp *warp = &sim.warps[t->index / SIM_WARP];
    const uint32_t bit = 1u << t->index % SIM_WARP;
    if (sim.arrived && sim.barrier_line != line) {
        sim_fail(SIM_LAUNCH_FAILED, where, "__syncthreads, while other threads of the block are at another, of line %d", sim.barrier_line);
    }
    sim.barrier_line = line, sim.barrier_where = t->where = where;
    sim.arrived++;
    warp->ready &= ~bit;
    warp->at_barrier |= bit;
    sim_schedule();
}

static void run_thread(void) {
    SimThread *t;
    sim.launch.kernel->enter(sim.launch.parameters);
    t = sim.current;
    t->done = true;
    sim.warps[t->index / SIM_WARP].ready &= ~(1u << t->index % SIM_WARP);
    sim.live--;
    t = next_thread();
    if (t) resume(t);
    else fiber_switch(&sim.current->stack_pointer, sim.host_stack);
    abort();
}

// The stacks' tops lie at different places of their pages, for the sake of the caches.
static char *top_of(const SimThread *t) {
    return (char *)t->stack + SIM_STACK - t->index % 16 * 192;
}

static void run_block_of_fibers(void) {
    const uint32_t threads = sim.launch.threads;
    sim.live = threads;
    sim.arrived = 0;
    sim.turn = 0;
    for (uint32_t i = 0; i < threads; i++) {
        SimThread *t = &sim.threads[i];
        t->stack_pointer = fiber_make(top_of(t), run_thread);
        t->done = false;
        t->fenced = false;
        t->steps = 0;
        t->copy_count = t->groups = 0;
    }
    for (uint32_t w = 0; w < sim.warp_count; w++) {
        const uint32_t lanes = threads - w * SIM_WARP;
        sim.warps[w] = (SimWarp){.ready = lanes >= SIM_WARP ? 0xFFFFFFFFu : (1u << lanes) - 1};
    }
    sim_wgmma_begin();
    sim.current = NULL;
    enter(next_thread());
}

// ---- the grid

static uint32_t *order_of_blocks;
static uint64_t block_count;

static void begin_block(uint64_t i) {
    const uint64_t block = order_of_blocks ? order_of_blocks[i] : i;
    LvSimIndex *index = sim.launch.module->block;
    index->x = (uint32_t)(block % sim.launch.grid[0]);
    index->y = (uint32_t)(block / sim.launch.grid[0] % sim.launch.grid[1]);
    index->z = (uint32_t)(block / sim.launch.grid[0] / sim.launch.grid[1]);
    sim_new_epoch();
    sim.block_epoch = sim.epoch;
    sim_device_block();
    shuffle(sim.order, sim.warp_count);
}

static void run_grid_of_fibers(void) {
    const LvSimKernel *kernel = sim.launch.kernel;
    for (uint64_t i = 0; i < block_count && !sim.error.code; i++) {
        begin_block(i);
        if (kernel->shared_start) memset(kernel->shared_start, 0xFF, (size_t)(kernel->shared_stop - kernel->shared_start));
        memset(sim.dynamic_memory, 0xFF, sim.launch.dynamic_bytes);
        run_block_of_fibers();
        sim_copies_drop();  // after an error too, so that the next launch begins anew
    }
}

// Threads that do not wait for each other: one after the other, on the first fiber's stack.
static void run_plain_grid(void) {
    LvSimIndex *index = sim.launch.module->thread;
    void (*enter_kernel)(void **) = sim.launch.kernel->enter;
    for (uint64_t b = 0; b < block_count; b++) {
        begin_block(b);
        for (uint32_t w = 0; w < sim.warp_count; w++) {
            const uint32_t first = sim.order[w] * SIM_WARP;
            for (uint32_t i = first; i < first + SIM_WARP && i < sim.launch.threads; i++) {
                index->x = i;
                enter_kernel(sim.launch.parameters);
            }
        }
    }
    void *left;
    fiber_switch(&left, sim.host_stack);
}

void sim_run(const SimLaunch *launch, const char *image, const char *image_end) {
    LvSimState *state = launch->module->state;
    sim.launch = *launch;
    sim.state = state;
    sim.index = launch->module->thread;
    const uintptr_t fixed = (uintptr_t)launch->kernel->shared_start, fixed_bytes = (uintptr_t)launch->kernel->shared_stop - fixed;
    const uintptr_t dynamic = (uintptr_t)sim.dynamic_memory, origin = fixed & ~(uintptr_t)15;
    state->fixed = (LvSimRegion){fixed, fixed_bytes, origin, sim.stamps};
    state->dynamic = (LvSimRegion){dynamic, launch->dynamic_bytes, dynamic, sim.stamps + SIM_STAMPS / 2};
    sim.image = image, sim.image_end = image_end;
    sim.error = (SimError){0};
    sim.warp_count = (launch->threads + SIM_WARP - 1) / SIM_WARP;
    for (uint32_t i = 0; i < sim.warp_count; i++) sim.order[i] = i;
    *launch->module->block_dim = (LvSimIndex){launch->threads, 1, 1};
    *launch->module->grid_dim = (LvSimIndex){launch->grid[0], launch->grid[1], launch->grid[2]};
    *launch->module->thread = (LvSimIndex){0, 0, 0};
    state->stack_bytes = SIM_STACK;
    state->watch_device = sim.check > 1;
    state->hooks = &sim_hooks;
    if (sim.epoch > UINT32_MAX / 2) {  // once in a long while: stamps are forgotten before epochs repeat
        sim_forget_device();
        sim.epoch = 1;
    }
    sim.launch_epoch = sim.epoch + 1;
    block_count = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    order_of_blocks = block_count > 1 && block_count < UINT32_MAX ? malloc(block_count * sizeof *order_of_blocks) : NULL;
    if (order_of_blocks) {
        for (uint64_t i = 0; i < block_count; i++) order_of_blocks[i] = (uint32_t)i;
        shuffle(order_of_blocks, (uint32_t)block_count);
    }
    sim.random = sim.seed;
    sim_watch_begin();
    if (launch->kernel->fibers) {
        run_grid_of_fibers();
    } else {
        SimThread *host = &sim.threads[0];
        host->stack_pointer = fiber_make(top_of(host), run_plain_grid);
        sim.current = host;
        state->stack = host->stack;
        fiber_switch(&sim.host_stack, host->stack_pointer);
    }
    sim.current = NULL;
    sim_watch_end();
    free(order_of_blocks);
    order_of_blocks = NULL;
}
