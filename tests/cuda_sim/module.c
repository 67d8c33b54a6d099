// Linked into every kernel module, compiled like any C: what the compiler calls before each access of instrumented code (gcc's
// thread sanitizer, of which nothing but the calls is used), the thread's indices, and the wrappers that text.h calls.
//
// Every access must lie in a live allocation of device memory, in the block's shared memory, in the thread's own stack or in the
// module's constants, and be aligned to its size. The common case, device memory, is decided here; the rest by the stand-in.
#include "module.h"

#include <stddef.h>
#include <string.h>

#include "half.h"

#define HIDDEN __attribute__((visibility("hidden")))

HIDDEN LvSimState lv_sim_state;
HIDDEN LvSimIndex lv_sim_threadIdx, lv_sim_blockIdx, lv_sim_blockDim, lv_sim_gridDim;
extern const LvSimKernel lv_sim_kernels[] HIDDEN;
extern const int lv_sim_kernel_count HIDDEN;

__attribute__((visibility("default"))) LvSimAttach lv_sim_attach;
void lv_sim_attach(LvSimModule *module) {
    *module = (LvSimModule){&lv_sim_state, &lv_sim_threadIdx, &lv_sim_blockIdx, &lv_sim_blockDim, &lv_sim_gridDim,
                            lv_sim_kernels, lv_sim_kernel_count};
}

static inline uint64_t pair_at(const uint32_t *cell) {
    uint64_t pair;
    memcpy(&pair, cell, sizeof pair);
    return pair;
}

static inline void put_pair(uint32_t *cell, uint64_t pair) { memcpy(cell, &pair, sizeof pair); }

#define BOTH(x) ((uint64_t)(x) << 32 | (uint32_t)(x))
static const uint32_t epoch_bits = (uint32_t)STAMP_MOST_EPOCH << STAMP_EPOCH_AT, warp_bits = 31u << STAMP_WARP_AT;

static inline int is_older(uint64_t stamps, uint64_t now) {
    const uint64_t different = stamps ^ now;
    return (different & epoch_bits) && (different >> 32 & epoch_bits);
}

// Four bytes of shared memory whose last accesses are this thread's own, or older than the last barrier: no race, and is noted.
// False: to be looked at closely (sim_shared.c).
static inline int touch_four(uint32_t *stamps, LvSimAccess kind, uint32_t stamp) {
    const uint64_t now = BOTH(stamp | STAMP_BYTES), write = pair_at(stamps), read = pair_at(stamps + SIM_READ_AT);
    if ((kind == SIM_READ && read == now) || write == now) return 1;
    if (!is_older(write, now) || (write & BOTH(STAMP_PENDING))) return 0;
    const uint64_t other = pair_at(stamps + SIM_OTHER_AT);
    if (kind == SIM_READ) {
        // The first reader of an epoch stays, and the last, and one of another warp than the last.
        const int of_warp = !((uint32_t)(read ^ now) & (epoch_bits | warp_bits)), is_now = !((uint32_t)(other ^ now) & epoch_bits);
        if (!of_warp || !is_now) put_pair(stamps + SIM_OTHER_AT, read);
        put_pair(stamps + SIM_READ_AT, now);
        return 1;
    }
    if ((read != now && !is_older(read, now)) || (other != now && !is_older(other, now))) return 0;
    put_pair(stamps, now);
    return 1;
}

// Of 4, 8 or 16 bytes. What is noted of the first of them is no harm where the others are to be looked at: it is the same that is noted then.
static inline __attribute__((always_inline)) int in_region(const LvSimRegion *r, uintptr_t address, uint32_t bytes, LvSimAccess kind, uint32_t stamp) {
    const uintptr_t at = address - r->from;
    if (at >= r->bytes || r->bytes - at < bytes) return 0;
    uint32_t *stamps = r->stamps + (address - r->origin) / 4 * SIM_WORD_STAMPS;
    for (uint32_t i = 0; i < bytes / 4; i++) {
        if (!touch_four(stamps + i * SIM_WORD_STAMPS, kind, stamp)) return 0;
    }
    return 1;
}

static inline __attribute__((always_inline)) void check(const void *pointer, uint32_t bytes, LvSimAccess kind, const void *where) {
    const LvSimState *s = &lv_sim_state;
    const uintptr_t address = (uintptr_t)pointer, offset = address - s->device_base;
    if (!(address & (bytes - 1))) {
        if (address - s->stack < s->stack_bytes) return;  // most of all: variables that the compiler keeps in memory
        if (offset < s->device_span && !s->watch_device && (offset & (SIM_GRANULE - 1)) + bytes <= s->valid[offset / SIM_GRANULE]) return;
        if (bytes >= 4 && (in_region(&s->dynamic, address, bytes, kind, s->stamp) || in_region(&s->fixed, address, bytes, kind, s->stamp))) return;
    }
    s->hooks->access(address, bytes, kind, where);
}

#define ACCESS(NAME, BYTES, KIND)                     \
    HIDDEN void NAME(void *address);                  \
    void NAME(void *address) {                        \
        check(address, BYTES, KIND, __builtin_return_address(0)); \
    }
ACCESS(__tsan_read1, 1, SIM_READ)
ACCESS(__tsan_read2, 2, SIM_READ)
ACCESS(__tsan_read4, 4, SIM_READ)
ACCESS(__tsan_read8, 8, SIM_READ)
ACCESS(__tsan_read16, 16, SIM_READ)
ACCESS(__tsan_write1, 1, SIM_WRITE)
ACCESS(__tsan_write2, 2, SIM_WRITE)
ACCESS(__tsan_write4, 4, SIM_WRITE)
ACCESS(__tsan_write8, 8, SIM_WRITE)
ACCESS(__tsan_write16, 16, SIM_WRITE)

// Structures copied whole, whose parts are smaller: by the largest words that their address and length allow.
static void range(char *at, size_t bytes, LvSimAccess kind, const void *where) {
    for (size_t step; bytes; at += step, bytes -= step) {
        for (step = 8; step > bytes || ((uintptr_t)at & (step - 1)); step /= 2) {}
        check(at, (uint32_t)step, kind, where);
    }
}

#define RANGE(NAME, KIND)                                  \
    HIDDEN void NAME(void *address, size_t bytes);         \
    void NAME(void *address, size_t bytes) {               \
        range(address, bytes, KIND, __builtin_return_address(0)); \
    }
#define RANGE_OF(NAME, BYTES, KIND)                        \
    HIDDEN void NAME(void *address);                       \
    void NAME(void *address) { range(address, BYTES, KIND, __builtin_return_address(0)); }
RANGE(__tsan_read_range, SIM_READ)
RANGE(__tsan_write_range, SIM_WRITE)
RANGE_OF(__tsan_unaligned_read2, 2, SIM_READ)
RANGE_OF(__tsan_unaligned_read4, 4, SIM_READ)
RANGE_OF(__tsan_unaligned_read8, 8, SIM_READ)
RANGE_OF(__tsan_unaligned_read16, 16, SIM_READ)
RANGE_OF(__tsan_unaligned_write2, 2, SIM_WRITE)
RANGE_OF(__tsan_unaligned_write4, 4, SIM_WRITE)
RANGE_OF(__tsan_unaligned_write8, 8, SIM_WRITE)
RANGE_OF(__tsan_unaligned_write16, 16, SIM_WRITE)

HIDDEN void __tsan_init(void);
void __tsan_init(void) {}

// What the undefined behaviour sanitizer calls: an index past the end of an array whose length is known, and division by zero.
HIDDEN void __ubsan_handle_out_of_bounds(void);
void __ubsan_handle_out_of_bounds(void) {
    lv_sim_state.hooks->wrong("an index outside of its array", __builtin_return_address(0));
}
HIDDEN void __ubsan_handle_divrem_overflow(void);
void __ubsan_handle_divrem_overflow(void) {
    lv_sim_state.hooks->wrong("an integer division by zero, or whose quotient is too large", __builtin_return_address(0));
}

// ---- for text.h

HIDDEN void lv_sim_vector(const void *address, unsigned bytes);
void lv_sim_vector(const void *address, unsigned bytes) {
    if ((uintptr_t)address & (bytes - 1)) lv_sim_state.hooks->vector((uintptr_t)address, bytes, __builtin_return_address(0));
}

HIDDEN void lv_sim_barrier(int line);
void lv_sim_barrier(int line) { lv_sim_state.hooks->barrier(line, __builtin_return_address(0)); }

HIDDEN uint64_t lv_sim_collective(int kind, unsigned mask, uint64_t value, unsigned operand, unsigned width);
uint64_t lv_sim_collective(int kind, unsigned mask, uint64_t value, unsigned operand, unsigned width) {
    LvSimExchange exchange = {.value = value, .operand = operand, .width = width};
    lv_sim_state.hooks->collective(kind, mask, &exchange, __builtin_return_address(0));
    return exchange.value;
}

typedef struct {
    float d[4];
} Quad;

HIDDEN Quad lv_sim_mma(int kind, Quad d, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1);
Quad lv_sim_mma(int kind, Quad d, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
    LvSimExchange exchange = {.a = {a0, a1, a2, a3}, .b = {b0, b1}, .d = {d.d[0], d.d[1], d.d[2], d.d[3]}};
    lv_sim_state.hooks->collective(kind, 0xFFFFFFFFu, &exchange, __builtin_return_address(0));
    for (int i = 0; i < 4; i++) d.d[i] = exchange.d[i];
    return d;
}

typedef struct {
    uint32_t r[4];
} Words;

HIDDEN Words lv_sim_ldmatrix(int kind, const void *row);
Words lv_sim_ldmatrix(int kind, const void *row) {
    LvSimExchange exchange = {.row = row};
    lv_sim_state.hooks->collective(kind, 0xFFFFFFFFu, &exchange, __builtin_return_address(0));
    return (Words){{exchange.r[0], exchange.r[1], exchange.r[2], exchange.r[3]}};
}

HIDDEN void lv_sim_copy(void *shared, const void *global, int bytes, int size);
void lv_sim_copy(void *shared, const void *global, int bytes, int size) {
    lv_sim_state.hooks->copy(shared, global, bytes, size, __builtin_return_address(0));
}

HIDDEN void lv_sim_copy_commit(void);
void lv_sim_copy_commit(void) { lv_sim_state.hooks->copy_commit(); }

HIDDEN void lv_sim_copy_wait(int groups);
void lv_sim_copy_wait(int groups) { lv_sim_state.hooks->copy_wait(groups); }

HIDDEN void lv_sim_wgmma(int kind, unsigned columns, unsigned across, float *sums, uint64_t left, uint64_t right);
void lv_sim_wgmma(int kind, unsigned columns, unsigned across, float *sums, uint64_t left, uint64_t right) {
    LvSimExchange exchange = {.operand = columns, .width = across, .sums = sums, .left = left, .right = right};
    lv_sim_state.hooks->collective(kind, 0xFFFFFFFFu, &exchange, __builtin_return_address(0));
}

HIDDEN void lv_sim_proxy_fence(void);
void lv_sim_proxy_fence(void) { lv_sim_state.hooks->proxy_fence(); }

HIDDEN unsigned lv_sim_shared_address(const void *shared);
unsigned lv_sim_shared_address(const void *shared) { return lv_sim_state.hooks->shared_address(shared, __builtin_return_address(0)); }

HIDDEN uint64_t lv_sim_atomic_add(void *address, unsigned bytes, uint64_t more);
uint64_t lv_sim_atomic_add(void *address, unsigned bytes, uint64_t more) {
    return lv_sim_state.hooks->atomic_add((uintptr_t)address, bytes, more, __builtin_return_address(0));
}

HIDDEN void lv_sim_fence(void);
void lv_sim_fence(void) { lv_sim_state.hooks->fence(); }

HIDDEN void *lv_sim_dynamic_shared(void);
void *lv_sim_dynamic_shared(void) { return lv_sim_state.hooks->dynamic_shared(__builtin_return_address(0)); }

// ---- conversions

HIDDEN unsigned lv_sim_to_bf16(float x);
unsigned lv_sim_to_bf16(float x) { return half_to_bf16(x); }

HIDDEN unsigned lv_sim_to_f16(float x);
unsigned lv_sim_to_f16(float x) { return half_to_f16(x); }

HIDDEN float lv_sim_from_f16(unsigned h);
float lv_sim_from_f16(unsigned h) { return half_from_f16(h); }

HIDDEN unsigned lv_sim_to_tf32(float x);
unsigned lv_sim_to_tf32(float x) { return half_to_tf32(x); }
