// Memory of the CPU device: zeroed pages from the kernel, which zeroes them when they are first touched. A thread of the device
// has that done ahead of their use, while whoever allocated reads plans, loads kernels and makes primitives; before a run all
// threads help it to the end, or the first step would wait for page after page.
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/process.h"
#include "base/vec.h"
#include "device/cpu/cpu.h"

enum { PAGE = 4096, PORTION = 4 << 20, LEAST = 4 << 20 };

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

typedef struct {
    char *at;
    size_t left;
} Range;

// `blocks` is all that is allocated, `ranges` what of it no one has begun to touch; `busy` says how many threads touch what they took;
// nobody takes more while somebody waits for there to be none.
struct LvToucher {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    bool started, stopping, several_nodes;
    int busy, waiting;
    LV_VEC(Range) blocks, ranges;
};

// A readable page before and at least a vector after: gcc turns a masked load into a whole one and a blend where it thinks
// that cannot fault, so a kernel may read (never use) up to a vector beyond either end of a buffer.
static size_t mapped_size(size_t bytes) { return (bytes + 64 + PAGE - 1) / PAGE * PAGE + PAGE; }

// The contents stay as they are, so it does not matter who else is at work there. Kernels before 5.14 do not know the request;
// a locked addition of nothing has the same effect, a page at a time.
static void touch(char *at, size_t size) {
    if (madvise(at, size, MADV_POPULATE_WRITE) == 0 || errno != EINVAL) return;
    for (size_t i = 0; i < size; i += PAGE) __atomic_fetch_add(at + i, 0, __ATOMIC_RELAXED);
}

// With the mutex held: takes a portion and touches it without. False: there was none.
static bool touch_portion(LvToucher *toucher) {
    if (toucher->ranges.count == 0 || toucher->waiting > 0) return false;
    Range *range = &toucher->ranges.data[toucher->ranges.count - 1];
    char *at = range->at;
    size_t size = range->left < PORTION ? range->left : PORTION;
    range->at += size, range->left -= size;
    if (range->left == 0) toucher->ranges.count--;
    toucher->busy++;
    pthread_mutex_unlock(&toucher->mutex);
    touch(at, size);
    pthread_mutex_lock(&toucher->mutex);
    toucher->busy--;
    pthread_cond_broadcast(&toucher->changed);
    return true;
}

// With the mutex held: nobody is at work once this returns, until the mutex is given up.
static void wait_for_all(LvToucher *toucher) {
    toucher->waiting++;
    while (toucher->busy > 0) pthread_cond_wait(&toucher->changed, &toucher->mutex);
    toucher->waiting--;
    pthread_cond_broadcast(&toucher->changed);
}

static void *work(void *argument) {
    LvToucher *toucher = argument;
    pthread_mutex_lock(&toucher->mutex);
    while (!toucher->stopping) {
        if (!touch_portion(toucher)) pthread_cond_wait(&toucher->changed, &toucher->mutex);
    }
    pthread_mutex_unlock(&toucher->mutex);
    return NULL;
}

void cpu_memory_open(LvCpu *cpu) {
    LvToucher *toucher = cpu->toucher = lv_calloc(1, sizeof *toucher);
    pthread_mutex_init(&toucher->mutex, NULL);
    pthread_cond_init(&toucher->changed, NULL);
    toucher->several_nodes = access("/sys/devices/system/node/node1", F_OK) == 0;
}

void cpu_memory_close(LvCpu *cpu) {
    LvToucher *toucher = cpu->toucher;
    if (!toucher) return;
    if (toucher->started) {
        pthread_mutex_lock(&toucher->mutex);
        toucher->stopping = true;
        pthread_cond_broadcast(&toucher->changed);
        pthread_mutex_unlock(&toucher->mutex);
        pthread_join(toucher->thread, NULL);
    }
    pthread_mutex_destroy(&toucher->mutex);
    pthread_cond_destroy(&toucher->changed);
    lv_vec_free(&toucher->blocks);
    lv_vec_free(&toucher->ranges);
    free(toucher);
}

// The thread starts with the first large block; where none can be had, cpu_memory_finish does it all. So it does where memory has
// several nodes: a page lies with the processor that touches it first, and one thread would put all on one side.
bool cpu_memory_allocate(LvCpu *cpu, size_t bytes, void **memory, LvError *error) {
    LvToucher *toucher = cpu->toucher;
    size_t size = mapped_size(bytes);
    char *at = size < bytes ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        lv_error_set(error, LV_ERROR_MEMORY, "no memory for %.1f MB", (double)bytes / 1e6);
        return lv_error_hint(error, "a smaller batch, or --memory-limit");
    }
    *memory = at + PAGE;
    bool large = size >= LEAST;
    if (large) madvise(at, size, MADV_HUGEPAGE);
    pthread_mutex_lock(&toucher->mutex);
    lv_vec_push(&toucher->blocks, (Range){at, size});
    if (large) lv_vec_push(&toucher->ranges, (Range){at, size});
    if (large && !toucher->started && !toucher->several_nodes) toucher->started = pthread_create(&toucher->thread, NULL, work, toucher) == 0;
    pthread_cond_broadcast(&toucher->changed);
    pthread_mutex_unlock(&toucher->mutex);
    return true;
}

// Takes out of the list what lies in the block.
static void forget(Range *ranges, size_t *count, const char *at, size_t size) {
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        if (ranges[i].at < at || ranges[i].at >= at + size) ranges[kept++] = ranges[i];
    }
    *count = kept;
}

// What of the block is not begun is forgotten, what is being touched is waited for.
void cpu_memory_release(LvCpu *cpu, void *memory, size_t bytes) {
    LvToucher *toucher = cpu->toucher;
    if (!memory) return;
    char *at = (char *)memory - PAGE;
    size_t size = mapped_size(bytes);
    pthread_mutex_lock(&toucher->mutex);
    forget(toucher->blocks.data, &toucher->blocks.count, at, size);
    forget(toucher->ranges.data, &toucher->ranges.count, at, size);
    if (size >= LEAST) wait_for_all(toucher);
    pthread_mutex_unlock(&toucher->mutex);
    munmap(at, size);
}

// Nobody touches anything meanwhile, or what is new would count as the process's own.
void cpu_memory_use(LvCpu *cpu, LvMemoryUse *use) {
    LvToucher *toucher = cpu->toucher;
    pthread_mutex_lock(&toucher->mutex);
    wait_for_all(toucher);
    use->own_bytes = lv_process_resident();
    for (size_t i = 0; i < toucher->blocks.count; i++) {
        Range block = toucher->blocks.data[i];
        use->device_bytes += (int64_t)block.left;
        use->own_bytes -= (int64_t)lv_process_resident_in(block.at, block.left);
    }
    pthread_mutex_unlock(&toucher->mutex);
}

void cpu_memory_finish(LvCpu *cpu) {
    LvToucher *toucher = cpu->toucher;
    pthread_mutex_lock(&toucher->mutex);
    bool more = toucher->ranges.count > 0;
    pthread_mutex_unlock(&toucher->mutex);
    if (more) {
#pragma omp parallel
        {
            pthread_mutex_lock(&toucher->mutex);
            while (touch_portion(toucher)) {}
            pthread_mutex_unlock(&toucher->mutex);
        }
    }
    pthread_mutex_lock(&toucher->mutex);
    while (toucher->busy > 0) pthread_cond_wait(&toucher->changed, &toucher->mutex);
    pthread_mutex_unlock(&toucher->mutex);
}
