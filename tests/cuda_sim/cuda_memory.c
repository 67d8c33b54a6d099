// The device's memory: a range of addresses reserved once, of which allocations take one after the other, never the same twice while
// there are others, with pages between them that nobody may touch. An allocation starts at a multiple of 256 bytes, as the driver
// promises, and of no more.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cuda.h"

enum { PAGE = 4096 };
static const size_t span = (size_t)1 << 36;

typedef struct {
    uintptr_t address;
    size_t bytes;
} Allocation;

static char *base;
static uint16_t *valid;
static size_t used;            // of the addresses
static size_t held;            // bytes allocated
static Allocation *allocations, *pinned;  // by address; pinned: memory of the host
static size_t count, room, pinned_count, pinned_room;

void cuda_memory_start(void) {
    base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    valid = mmap(NULL, span / SIM_GRANULE * sizeof *valid, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED || (void *)valid == MAP_FAILED) {
        fputs("cuda_sim: no addresses for the device's memory\n", stderr);
        abort();
    }
}

size_t cuda_memory_total(void) {
    const char *set = getenv("LV_CUDA_SIM_MEMORY");
    return set && *set ? strtoull(set, NULL, 0) : (size_t)16 << 30;
}

void cuda_memory_attach(LvSimState *state) {
    state->device_base = (uintptr_t)base;
    state->device_span = span;
    state->valid = valid;
}

// The last allocation that begins at `address` or before it, as an index + 1; 0: none.
static size_t find(uintptr_t address) {
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (allocations[middle].address <= address) low = middle + 1;
        else high = middle;
    }
    return low;
}

bool cuda_memory_holds(CuPointer memory, size_t bytes) {
    const size_t i = find((uintptr_t)memory);
    if (!i) return false;
    const size_t offset = (uintptr_t)memory - allocations[i - 1].address;
    return offset <= allocations[i - 1].bytes && bytes <= allocations[i - 1].bytes - offset;
}

bool cuda_memory_block(uintptr_t address, uintptr_t *from, size_t *bytes) {
    const size_t i = find(address);
    if (!i || address - allocations[i - 1].address >= allocations[i - 1].bytes) return false;
    *from = allocations[i - 1].address, *bytes = allocations[i - 1].bytes;
    return true;
}

void sim_describe_device_address(uintptr_t address, uint32_t bytes, char *text, size_t size) {
    const size_t i = find(address);
    const Allocation *before = i ? &allocations[i - 1] : NULL, *after = i < count ? &allocations[i] : NULL;
    if (before && (!after || address - before->address - before->bytes <= after->address - address)) {
        snprintf(text, size, "%zu bytes past the end of an allocation of %zu", (size_t)(address + bytes - before->address - before->bytes),
                 before->bytes);
    } else if (after) {
        snprintf(text, size, "%zu bytes before an allocation of %zu", (size_t)(after->address - address), after->bytes);
    } else {
        snprintf(text, size, "where there is no allocation");
    }
}

static bool insert(Allocation **list, size_t *length, size_t *space, size_t at, Allocation a) {
    if (*length == *space) {
        const size_t more = *space ? 2 * *space : 64;
        Allocation *grown = realloc(*list, more * sizeof *grown);
        if (!grown) return false;
        *list = grown, *space = more;
    }
    memmove(*list + at + 1, *list + at, (*length - at) * sizeof **list);
    (*list)[at] = a;
    ++*length;
    return true;
}

static void set_valid(uintptr_t address, size_t bytes, bool live) {
    uint16_t *v = valid + (address - (uintptr_t)base) / SIM_GRANULE;
    for (; bytes; v++) {
        const size_t part = bytes < SIM_GRANULE ? bytes : SIM_GRANULE;
        *v = live ? (uint16_t)part : 0;
        bytes -= part;
    }
}

CuResult cuMemAlloc_v2(CuPointer *memory, size_t bytes) {
    CUDA_ENTER(cuMemAlloc_v2, CU_OUT_OF_MEMORY);
    const CuResult forbidden = cuda_capture_forbids(CUDA_CAPTURE_UNSUPPORTED);
    if (forbidden) return forbidden;
    if (!bytes || !memory) return CUDA_INVALID_VALUE;
    const size_t pages = (SIM_GRANULE + bytes + PAGE - 1) / PAGE * PAGE;
    if (bytes > span / 4 || bytes > cuda_memory_total() - held) return CU_OUT_OF_MEMORY;
    if (used + pages + PAGE > span) used = 0;  // around once: the oldest are free again, or there is no more
    const uintptr_t address = (uintptr_t)base + used + SIM_GRANULE;
    const size_t i = find(address + pages);
    if (i && allocations[i - 1].address + allocations[i - 1].bytes > (uintptr_t)base + used) return CU_OUT_OF_MEMORY;
    if (mprotect(base + used, pages, PROT_READ | PROT_WRITE)) return CU_OUT_OF_MEMORY;
    if (!insert(&allocations, &count, &room, i, (Allocation){address, bytes})) return CU_OUT_OF_MEMORY;
    used += pages + PAGE;
    held += bytes;
    set_valid(address, bytes, true);
    memset((void *)address, 0xFF, bytes);
    *memory = address;
    return CU_OK;
}

static void give_back(size_t i) {
    const Allocation a = allocations[i];
    char *start = (char *)a.address - SIM_GRANULE;
    const size_t pages = (SIM_GRANULE + a.bytes + PAGE - 1) / PAGE * PAGE;
    set_valid(a.address, a.bytes, false);
    cuda_order_forget(a.address, a.bytes);
    madvise(start, pages, MADV_DONTNEED);
    mprotect(start, pages, PROT_NONE);
    held -= a.bytes;
    memmove(allocations + i, allocations + i + 1, (--count - i) * sizeof *allocations);
}

void cuda_memory_free_all(void) {
    while (count) give_back(count - 1);
}

CuResult cuMemFree_v2(CuPointer memory) {
    CUDA_ENTER(cuMemFree_v2, CUDA_UNKNOWN);
    const CuResult forbidden = cuda_capture_forbids(CUDA_CAPTURE_UNSUPPORTED);
    if (forbidden) return forbidden;
    if (!memory) return CU_OK;
    const size_t i = find((uintptr_t)memory);
    if (!i || allocations[i - 1].address != memory) return CUDA_INVALID_VALUE;
    cuda_finish_all();
    give_back(i - 1);
    return CU_OK;
}

CuResult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    CUDA_ENTER(cuMemGetInfo_v2, CUDA_UNKNOWN);
    *total = cuda_memory_total();
    *free_bytes = *total - held;
    return CU_OK;
}

// ---- the host's memory that the device reaches

bool cuda_memory_is_pinned(const void *memory) {
    for (size_t i = 0; i < pinned_count; i++) {
        if ((uintptr_t)memory - pinned[i].address < pinned[i].bytes) return true;
    }
    return false;
}

CuResult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
    CUDA_ENTER(cuMemHostAlloc, CU_OUT_OF_MEMORY);
    (void)flags;
    const CuResult forbidden = cuda_capture_forbids(CUDA_CAPTURE_UNSUPPORTED);
    if (forbidden) return forbidden;
    if (!bytes) return CUDA_INVALID_VALUE;
    void *p = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
    if (!p || !insert(&pinned, &pinned_count, &pinned_room, pinned_count, (Allocation){(uintptr_t)p, bytes})) {
        free(p);
        return CU_OUT_OF_MEMORY;
    }
    memset(p, 0xFF, bytes);
    *memory = p;
    return CU_OK;
}

CuResult cuMemFreeHost(void *memory) {
    CUDA_ENTER(cuMemFreeHost, CUDA_UNKNOWN);
    for (size_t i = 0; i < pinned_count; i++) {
        if (pinned[i].address != (uintptr_t)memory) continue;
        cuda_finish_all();
        cuda_order_forget(pinned[i].address, pinned[i].bytes);
        memmove(pinned + i, pinned + i + 1, (--pinned_count - i) * sizeof *pinned);
        free(memory);
        return CU_OK;
    }
    return CUDA_INVALID_VALUE;
}
