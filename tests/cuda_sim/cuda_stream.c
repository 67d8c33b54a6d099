// Streams, events, copies. A stream's work is done when somebody waits for it, and no sooner, but for one operation at each question
// whether it is done yet. Memory of the host that is not pinned is read at the call, as the driver stages it.
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda.h"

static struct CuStreamObject *streams;  // all there ever were: a handle that was destroyed is told from one that lives

CudaOp *cuda_op(CudaOpKind kind, size_t owned) {
    CudaOp *op = calloc(1, sizeof *op + owned);
    if (op) op->kind = kind;
    return op;
}

static void event_release(CuEvent event) {
    if (!--event->references) free(event);
}

void cuda_op_free(CudaOp *op) {
    if (op->kind == OP_RECORD) event_release(op->event.event);
    if (op->kind == OP_GRAPH) cuda_graph_release(op->graph);
    free(op);
}

// With LV_CUDA_SIM_TICK a clock of the device's own, on which a kernel takes so many microseconds, and a library call those and what it
// says itself.
static double passed;

static int tick(void) { return sim_setting("LV_CUDA_SIM_TICK", 0); }

PUBLIC void lv_sim_clock_pass(int microseconds);
void lv_sim_clock_pass(int microseconds) { passed += 1e-6 * microseconds; }

static double now(void) {
    struct timespec t;
    if (tick()) return passed;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cuda_op_run(CudaOp *op) {
    switch (op->kind) {
        case OP_LAUNCH: cuda_launch_run(op), lv_sim_clock_pass(tick()); break;
        case OP_COPY: memmove(op->copy.to, op->copy.from, op->copy.bytes); break;
        case OP_SET: memset(op->set.to, op->set.value, op->set.bytes); break;
        case OP_RECORD: op->event.event->time = now(); break;
        case OP_WAIT: cuda_stream_finish(op->event.stream, op->event.until); break;
        case OP_GRAPH: cuda_graph_run(op->graph); break;
        case OP_CALL: op->call.run(op->call.data), lv_sim_clock_pass(tick()); break;
    }
}

// ---- streams

static CuStream stream_zero(void) {
    static struct CuStreamObject zero;
    if (!zero.last) zero.last = &zero.first, cuda_order_open(&zero);
    return &zero;
}

static CuStream resolve(CuStream stream) { return stream && (uintptr_t)stream > 2 ? stream : stream_zero(); }

CuResult cuda_stream_check(CuStream stream) {
    if (!stream || (uintptr_t)stream <= 2) return CU_OK;
    for (CuStream s = streams; s; s = s->next) {
        if (s == stream) return s->destroyed ? CUDA_INVALID_HANDLE : CU_OK;
    }
    return CUDA_INVALID_HANDLE;
}

static void run_first(CuStream stream) {
    CudaOp *op = stream->first;
    cuda_op_run(op);
    stream->first = op->next;
    if (!stream->first) stream->last = &stream->first;
    stream->done = op->number;
    cuda_op_free(op);
}

void cuda_stream_finish(CuStream stream, uint64_t until) {
    stream = resolve(stream);
    while (stream->first && stream->first->number <= until) run_first(stream);
}

void cuda_finish_all(void) {
    for (CuStream s = streams; s; s = s->next) cuda_stream_finish(s, UINT64_MAX), cuda_order_host(&s->clock);
    cuda_stream_finish(NULL, UINT64_MAX);
    cuda_order_host(&stream_zero()->clock);
}

void cuda_finish_blocking(void) {
    for (CuStream s = streams; s; s = s->next) {
        if (!(s->flags & CU_STREAM_OF_ITS_OWN)) cuda_stream_finish(s, UINT64_MAX), cuda_order_host(&s->clock);
    }
    cuda_stream_finish(NULL, UINT64_MAX);
    cuda_order_host(&stream_zero()->clock);
}

CuResult cuda_stream_give(CuStream handle, CudaOp *op) {
    CuStream stream = resolve(handle);
    if (stream->capture) {
        if (stream->capture->invalid) {
            cuda_op_free(op);
            return CU_CAPTURE_INVALIDATED;
        }
        op->lane = stream;
        cuda_graph_append(stream->capture, op);
        return CU_OK;
    }
    // The stream 0 and those that are not of their own wait for each other.
    if (stream == stream_zero()) cuda_finish_blocking();
    else if (!(stream->flags & CU_STREAM_OF_ITS_OWN)) cuda_stream_finish(NULL, UINT64_MAX), cuda_order_host(&stream_zero()->clock);
    cuda_order_give(stream, op);
    op->number = ++stream->given;
    *stream->last = op;
    stream->last = &op->next;
    return CU_OK;
}

CuResult cuStreamCreate(CuStream *stream, unsigned flags) {
    CUDA_ENTER(cuStreamCreate, CUDA_UNKNOWN);
    CuStream s = calloc(1, sizeof *s);
    if (!s) return CU_OUT_OF_MEMORY;
    s->flags = flags;
    s->last = &s->first;
    cuda_order_open(s);
    s->next = streams;
    streams = s;
    *stream = s;
    return CU_OK;
}

CuResult cuStreamDestroy_v2(CuStream stream) {
    CUDA_ENTER(cuStreamDestroy_v2, CUDA_UNKNOWN);
    if (!stream || cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    cuda_stream_finish(stream, UINT64_MAX);
    cuda_order_close(stream);
    stream->destroyed = true;
    return CU_OK;
}

CuResult cuStreamSynchronize(CuStream stream) {
    CUDA_ENTER(cuStreamSynchronize, CUDA_UNKNOWN);
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    if (resolve(stream)->capture) {
        resolve(stream)->capture->invalid = true;
        return CUDA_CAPTURE_UNSUPPORTED;
    }
    if (resolve(stream) == stream_zero()) cuda_finish_blocking();
    else cuda_stream_finish(stream, UINT64_MAX), cuda_order_host(&stream->clock);
    return cuda_error();
}

CuResult cuStreamQuery(CuStream stream) {
    CUDA_ENTER(cuStreamQuery, CUDA_UNKNOWN);
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    stream = resolve(stream);
    if (!stream->first) return cuda_order_host(&stream->clock), CU_OK;
    run_first(stream);
    return cuda_error() ? cuda_error() : CU_NOT_READY;
}

// ---- events

CuResult cuEventCreate(CuEvent *event, unsigned flags) {
    CUDA_ENTER(cuEventCreate, CUDA_UNKNOWN);
    CuEvent e = calloc(1, sizeof *e);
    if (!e) return CU_OUT_OF_MEMORY;
    e->flags = flags, e->references = 1;
    *event = e;
    return CU_OK;
}

CuResult cuEventDestroy_v2(CuEvent event) {
    CUDA_ENTER(cuEventDestroy_v2, CUDA_UNKNOWN);
    if (!event || event->destroyed) return CUDA_INVALID_HANDLE;
    event->destroyed = true;
    event_release(event);
    return CU_OK;
}

CuResult cuEventRecord(CuEvent event, CuStream handle) {
    CUDA_ENTER(cuEventRecord, CUDA_UNKNOWN);
    if (!event || event->destroyed || cuda_stream_check(handle)) return CUDA_INVALID_HANDLE;
    CuStream stream = resolve(handle);
    event->recorded = true;
    event->stream = stream;
    event->capture = stream->capture;
    if (stream->capture) {  // marks a place in the graph, and is no work of it
        event->number = stream->capture->count;
        return stream->capture->invalid ? CU_CAPTURE_INVALIDATED : CU_OK;
    }
    CudaOp *op = cuda_op(OP_RECORD, 0);
    if (!op) return CU_OUT_OF_MEMORY;
    op->event.event = event;
    event->references++;
    const CuResult result = cuda_stream_give(stream, op);
    event->number = stream->given;
    event->clock = stream->clock;
    return result;
}

CuResult cuStreamWaitEvent(CuStream handle, CuEvent event, unsigned flags) {
    CUDA_ENTER(cuStreamWaitEvent, CUDA_UNKNOWN);
    (void)flags;
    if (!event || event->destroyed || cuda_stream_check(handle)) return CUDA_INVALID_HANDLE;
    CuStream stream = resolve(handle);
    if (!event->recorded) return CU_OK;
    if (event->capture && !cuda_capture_lives(event->capture)) return CUDA_CAPTURED_EVENT;
    if (event->capture && stream->capture && stream->capture != event->capture) return CUDA_INVALID_VALUE;
    if (!event->capture && stream->capture) return CUDA_INVALID_VALUE;  // a graph cannot wait for what is outside of it
    CudaOp *op = cuda_op(OP_WAIT, 0);
    if (!op) return CU_OUT_OF_MEMORY;
    op->event.stream = event->stream, op->event.until = event->number;
    if (event->capture) stream->capture = event->capture;  // joins it
    else cuda_order_after(stream, &event->clock);
    return cuda_stream_give(stream, op);
}

static bool is_complete(CuEvent event) { return !event->recorded || event->stream->done >= event->number; }

CuResult cuEventSynchronize(CuEvent event) {
    CUDA_ENTER(cuEventSynchronize, CUDA_UNKNOWN);
    if (!event || event->destroyed) return CUDA_INVALID_HANDLE;
    if (event->capture) return CUDA_CAPTURED_EVENT;
    if (!is_complete(event)) cuda_stream_finish(event->stream, event->number);
    cuda_order_host(&event->clock);
    return cuda_error();
}

CuResult cuEventQuery(CuEvent event) {
    CUDA_ENTER(cuEventQuery, CUDA_UNKNOWN);
    if (!event || event->destroyed) return CUDA_INVALID_HANDLE;
    if (event->capture) return CUDA_CAPTURED_EVENT;
    if (is_complete(event)) return cuda_order_host(&event->clock), CU_OK;
    run_first(event->stream);
    return cuda_error() ? cuda_error() : CU_NOT_READY;
}

static CuResult elapsed(float *milliseconds, CuEvent from, CuEvent to) {
    if (!from || !to || from->destroyed || to->destroyed || !from->recorded || !to->recorded) return CUDA_INVALID_HANDLE;
    if ((from->flags | to->flags) & CU_EVENT_UNTIMED) return CUDA_INVALID_HANDLE;
    if (!is_complete(from) || !is_complete(to)) return CU_NOT_READY;
    *milliseconds = (float)((to->time - from->time) * 1e3);
    return CU_OK;
}

CuResult cuEventElapsedTime(float *milliseconds, CuEvent from, CuEvent to) {
    CUDA_ENTER(cuEventElapsedTime, CUDA_UNKNOWN);
    return elapsed(milliseconds, from, to);
}

PUBLIC CuResult cuEventElapsedTime_v2(float *milliseconds, CuEvent from, CuEvent to);
CuResult cuEventElapsedTime_v2(float *milliseconds, CuEvent from, CuEvent to) {
    CUDA_ENTER(cuEventElapsedTime_v2, CUDA_UNKNOWN);
    return elapsed(milliseconds, from, to);
}

// ---- copies

static CuResult give_copy(CuStream stream, void *to, const void *from, size_t bytes, bool stage) {
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    if (!bytes) return CU_OK;
    stage = stage && !resolve(stream)->capture;
    CudaOp *op = cuda_op(OP_COPY, stage ? bytes : 0);
    if (!op) return CU_OUT_OF_MEMORY;
    op->copy.to = to, op->copy.from = from, op->copy.bytes = bytes;
    if (stage) op->copy.from = memcpy(op->owned, from, bytes);
    return cuda_stream_give(stream, op);
}

CuResult cuMemcpyHtoDAsync_v2(CuPointer to, const void *from, size_t bytes, CuStream stream) {
    CUDA_ENTER(cuMemcpyHtoDAsync_v2, CUDA_UNKNOWN);
    if (!cuda_memory_holds(to, bytes)) return CUDA_INVALID_VALUE;
    return give_copy(stream, (void *)(uintptr_t)to, from, bytes, !cuda_memory_is_pinned(from));
}

CuResult cuMemcpyDtoHAsync_v2(void *to, CuPointer from, size_t bytes, CuStream stream) {
    CUDA_ENTER(cuMemcpyDtoHAsync_v2, CUDA_UNKNOWN);
    if (!cuda_memory_holds(from, bytes)) return CUDA_INVALID_VALUE;
    const CuResult result = give_copy(stream, to, (const void *)(uintptr_t)from, bytes, false);
    if (!result && !cuda_memory_is_pinned(to) && !resolve(stream)->capture) {  // to pageable memory the call waits
        cuda_stream_finish(stream, UINT64_MAX);
        cuda_order_host(&resolve(stream)->clock);
        return cuda_error();
    }
    return result;
}

CuResult cuMemcpyDtoDAsync_v2(CuPointer to, CuPointer from, size_t bytes, CuStream stream) {
    CUDA_ENTER(cuMemcpyDtoDAsync_v2, CUDA_UNKNOWN);
    if (!cuda_memory_holds(to, bytes) || !cuda_memory_holds(from, bytes)) return CUDA_INVALID_VALUE;
    return give_copy(stream, (void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes, false);
}

CuResult cuMemsetD8Async(CuPointer to, unsigned char value, size_t bytes, CuStream stream) {
    CUDA_ENTER(cuMemsetD8Async, CUDA_UNKNOWN);
    if (!cuda_memory_holds(to, bytes)) return CUDA_INVALID_VALUE;
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    if (!bytes) return CU_OK;
    CudaOp *op = cuda_op(OP_SET, 0);
    if (!op) return CU_OUT_OF_MEMORY;
    op->set.to = (void *)(uintptr_t)to, op->set.bytes = bytes, op->set.value = value;
    return cuda_stream_give(stream, op);
}

// The forms without a stream: of the stream 0, and done when they return. They do not wait for streams of their own.
static CuResult copy_now(void *to, const void *from, size_t bytes) {
    const CuResult forbidden = cuda_capture_forbids(CUDA_CAPTURE_IMPLICIT);
    if (forbidden) return forbidden;
    cuda_finish_blocking();
    if (!cuda_error()) memmove(to, from, bytes);
    return cuda_error();
}

PUBLIC CuResult cuMemcpyHtoD_v2(CuPointer to, const void *from, size_t bytes);
CuResult cuMemcpyHtoD_v2(CuPointer to, const void *from, size_t bytes) {
    CUDA_ENTER(cuMemcpyHtoD_v2, CUDA_UNKNOWN);
    return cuda_memory_holds(to, bytes) ? copy_now((void *)(uintptr_t)to, from, bytes) : CUDA_INVALID_VALUE;
}

PUBLIC CuResult cuMemcpyDtoH_v2(void *to, CuPointer from, size_t bytes);
CuResult cuMemcpyDtoH_v2(void *to, CuPointer from, size_t bytes) {
    CUDA_ENTER(cuMemcpyDtoH_v2, CUDA_UNKNOWN);
    return cuda_memory_holds(from, bytes) ? copy_now(to, (const void *)(uintptr_t)from, bytes) : CUDA_INVALID_VALUE;
}

PUBLIC CuResult cuMemcpyDtoD_v2(CuPointer to, CuPointer from, size_t bytes);
CuResult cuMemcpyDtoD_v2(CuPointer to, CuPointer from, size_t bytes) {
    CUDA_ENTER(cuMemcpyDtoD_v2, CUDA_UNKNOWN);
    if (!cuda_memory_holds(to, bytes) || !cuda_memory_holds(from, bytes)) return CUDA_INVALID_VALUE;
    return copy_now((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
}

// ---- for libcublasLt's stand-in: runs `run` with a copy of the data as work of a stream

PUBLIC CuResult lv_sim_stream_call(CuStream stream, void (*run)(void *data), const void *data, size_t bytes);
CuResult lv_sim_stream_call(CuStream stream, void (*run)(void *data), const void *data, size_t bytes) {
    CUDA_ENTER(lv_sim_stream_call, CUDA_UNKNOWN);
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    CudaOp *op = cuda_op(OP_CALL, bytes);
    if (!op) return CU_OUT_OF_MEMORY;
    op->call.run = run;
    op->call.bytes = bytes;
    op->call.data = memcpy(op->owned, data, bytes);
    return cuda_stream_give(stream, op);
}

PUBLIC int lv_sim_memory_holds(const void *memory, size_t bytes);
int lv_sim_memory_holds(const void *memory, size_t bytes) {
    CUDA_LOCK();
    return cuda_memory_holds((CuPointer)(uintptr_t)memory, bytes);
}

// For libnccl's stand-in, whose other ranks wait for what was queued here and the host has not waited for yet: a GPU would do it.
PUBLIC void lv_sim_progress(void);
void lv_sim_progress(void) {
    CUDA_LOCK();
    for (CuStream s = streams; s; s = s->next) cuda_stream_finish(s, UINT64_MAX);
}

// The streams of a capture that ends.
void cuda_streams_leave(CuGraph graph) {
    for (CuStream s = streams; s; s = s->next)
        if (s->capture == graph) s->capture = NULL;
}
