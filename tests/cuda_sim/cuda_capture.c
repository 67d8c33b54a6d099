// Graphs: what a capture collected, run as one piece of work. What another stream than the capture's own was given is done when the
// graph comes to a wait for it, and no sooner: where a wait is missing, what it would have brought is not there.
#include <pthread.h>
#include <stdlib.h>

#include "cuda.h"

static CuGraph captures[16];  // under way

static void forget(CuGraph graph) {
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        if (captures[i] == graph) captures[i] = NULL;
    }
}

// Not while any thread captures in the global mode, nor while this one does in its own; the capture is lost by it.
CuResult cuda_capture_forbids(CuResult result) {
    CuResult outcome = CU_OK;
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++) {
        CuGraph graph = captures[i];
        if (!graph || graph->mode == CU_CAPTURE_RELAXED) continue;
        if (graph->mode == CU_CAPTURE_THIS_THREAD && graph->thread != (uintptr_t)pthread_self()) continue;
        graph->invalid = true;
        outcome = result;
    }
    return outcome;
}

bool cuda_capture_lives(CuGraph graph) {
    for (size_t i = 0; i < sizeof captures / sizeof *captures; i++)
        if (captures[i] == graph) return true;
    return false;
}

static CuGraph make_graph(void) {
    CuGraph graph = calloc(1, sizeof *graph);
    if (!graph) return NULL;
    graph->references = 1;
    graph->last = &graph->first;
    return graph;
}

void cuda_graph_release(CuGraph graph) {
    if (--graph->references) return;
    for (CudaOp *op = graph->first, *next; op; op = next) {
        next = op->next;
        cuda_op_free(op);
    }
    free(graph);
}

void cuda_graph_append(CuGraph graph, CudaOp *op) {
    op->number = graph->count;
    *graph->last = op;
    graph->last = &op->next;
    graph->count++;
}

// What a stream was given before a number. `run` false: only marks what would be done.
static void go(CuGraph graph, CuStream lane, uint64_t until, bool run) {
    for (CudaOp *op = graph->first; op && op->number < until; op = op->next) {
        if (op->lane != lane || op->done) continue;
        op->done = true;
        if (op->kind == OP_WAIT) go(graph, op->event.stream, op->event.until, run);
        else if (run) cuda_op_run(op);
    }
}

static void go_all(CuGraph graph, bool run) {
    for (CudaOp *op = graph->first; op; op = op->next) op->done = false;
    go(graph, graph->lane, UINT64_MAX, run);
}

void cuda_graph_run(CuGraph graph) { go_all(graph, true); }

// Whether a stream has work that the capture's own does not wait for.
static bool is_unjoined(CuGraph graph) {
    bool unjoined = false;
    go_all(graph, false);
    for (const CudaOp *op = graph->first; op; op = op->next) unjoined |= !op->done;
    return unjoined;
}

CuResult cuStreamBeginCapture_v2(CuStream stream, int mode) {
    CUDA_ENTER(cuStreamBeginCapture_v2, CUDA_UNKNOWN);
    size_t i = 0;
    if (!stream || (uintptr_t)stream <= 2) return CUDA_CAPTURE_UNSUPPORTED;  // the stream 0 cannot be
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    if (stream->capture) return CUDA_INVALID_VALUE;
    while (i < sizeof captures / sizeof *captures && captures[i]) i++;
    CuGraph graph = i < sizeof captures / sizeof *captures ? make_graph() : NULL;
    if (!graph) return CU_OUT_OF_MEMORY;
    graph->origin = graph->lane = stream, graph->mode = mode, graph->thread = (uintptr_t)pthread_self();
    captures[i] = stream->capture = graph;
    return CU_OK;
}

CuResult cuStreamEndCapture(CuStream stream, CuGraph *graph) {
    CUDA_ENTER(cuStreamEndCapture, CUDA_UNKNOWN);
    *graph = NULL;
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    CuGraph captured = stream ? stream->capture : NULL;
    if (!captured) return CUDA_INVALID_VALUE;
    if (captured->origin != stream) return CUDA_CAPTURE_UNMATCHED;
    if (captured->mode != CU_CAPTURE_RELAXED && captured->thread != (uintptr_t)pthread_self()) return CUDA_CAPTURE_WRONG_THREAD;
    const bool unjoined = is_unjoined(captured);
    cuda_streams_leave(captured);
    forget(captured);
    captured->origin = NULL;
    if (captured->invalid || unjoined) {
        const CuResult result = captured->invalid ? CU_CAPTURE_INVALIDATED : CUDA_CAPTURE_UNJOINED;
        cuda_graph_release(captured);
        return result;
    }
    *graph = captured;
    return CU_OK;
}

PUBLIC CuResult cuStreamIsCapturing(CuStream stream, int *status);
CuResult cuStreamIsCapturing(CuStream stream, int *status) {
    CUDA_ENTER(cuStreamIsCapturing, CUDA_UNKNOWN);
    if (cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    *status = !stream || (uintptr_t)stream <= 2 || !stream->capture ? 0 : stream->capture->invalid ? 2 : 1;
    return CU_OK;
}

CuResult cuGraphInstantiateWithFlags(CuGraphExec *exec, CuGraph graph, unsigned long long flags) {
    CUDA_ENTER(cuGraphInstantiateWithFlags, CUDA_UNKNOWN);
    (void)flags;
    if (!graph || graph->destroyed) return CUDA_INVALID_HANDLE;
    CuGraphExec made = calloc(1, sizeof *made);
    if (!made) return CU_OUT_OF_MEMORY;
    made->graph = graph;
    graph->references++;
    *exec = made;
    return CU_OK;
}

CuResult cuGraphLaunch(CuGraphExec exec, CuStream stream) {
    CUDA_ENTER(cuGraphLaunch, CUDA_UNKNOWN);
    if (!exec || cuda_stream_check(stream)) return CUDA_INVALID_HANDLE;
    CudaOp *op = cuda_op(OP_GRAPH, 0);
    if (!op) return CU_OUT_OF_MEMORY;
    op->graph = exec->graph;
    exec->graph->references++;
    return cuda_stream_give(stream, op);
}

CuResult cuGraphDestroy(CuGraph graph) {
    CUDA_ENTER(cuGraphDestroy, CUDA_UNKNOWN);
    if (!graph || graph->destroyed) return CUDA_INVALID_HANDLE;
    graph->destroyed = true;
    cuda_graph_release(graph);
    return CU_OK;
}

CuResult cuGraphExecDestroy(CuGraphExec exec) {
    CUDA_ENTER(cuGraphExecDestroy, CUDA_UNKNOWN);
    if (!exec) return CUDA_INVALID_HANDLE;
    cuda_graph_release(exec->graph);
    free(exec);
    return CU_OK;
}

PUBLIC CuResult cuGraphGetNodes(CuGraph graph, void **nodes, size_t *count);
CuResult cuGraphGetNodes(CuGraph graph, void **nodes, size_t *count) {
    CUDA_ENTER(cuGraphGetNodes, CUDA_UNKNOWN);
    if (!graph || graph->destroyed) return CUDA_INVALID_HANDLE;
    size_t i = 0;
    for (CudaOp *op = graph->first; op && (!nodes || i < *count); op = op->next) {
        if (op->kind == OP_WAIT) continue;  // an edge
        if (nodes) nodes[i] = op;
        i++;
    }
    *count = i;
    return CU_OK;
}

// CU_GRAPH_NODE_TYPE_KERNEL 0, _MEMCPY 1, _MEMSET 2, _HOST 3
PUBLIC CuResult cuGraphNodeGetType(void *node, int *type);
CuResult cuGraphNodeGetType(void *node, int *type) {
    CUDA_ENTER(cuGraphNodeGetType, CUDA_UNKNOWN);
    const CudaOp *op = node;
    if (!op) return CUDA_INVALID_VALUE;
    *type = op->kind == OP_COPY ? 1 : op->kind == OP_SET ? 2 : 0;  // a library's call is a kernel
    return CU_OK;
}
