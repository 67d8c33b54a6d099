// Capture: what is queued in between is recorded as a CUDA graph, which one launch replays. Addresses are part of it: memory,
// scratch memory and kernels must stay until it is destroyed.
#include <stdlib.h>

#include "base/arena.h"
#include "device/cuda/cuda.h"

struct LvGraph {
    CuGraphExec exec;
    const char *entry;  // whose steps they are, the module's
};

// Relaxed: a library may load its code while it is captured.
bool cuda_capture_begin(LvCuda *gpu, LvError *error) {
    cuda_enter(gpu);
    return cuda_check(gpu, gpu->cu.cuStreamBeginCapture_v2(gpu->stream, CU_CAPTURE_RELAXED), error, "capture");
}

bool cuda_capture_end(LvCuda *gpu, LvGraph **out, LvError *error) {
    CuGraph graph = NULL;
    CuGraphExec exec = NULL;
    bool good = cuda_check(gpu, gpu->cu.cuStreamEndCapture(gpu->stream, &graph), error, "capture") &&
                cuda_check(gpu, gpu->cu.cuGraphInstantiateWithFlags(&exec, graph, 0), error, "a graph of the captured steps");
    if (graph) gpu->cu.cuGraphDestroy(graph);
    if (!good) return false;
    LvGraph *made = *out = lv_calloc(1, sizeof *made);
    *made = (LvGraph){exec, gpu->running};
    return true;
}

bool cuda_replay(LvCuda *gpu, LvGraph *graph, LvError *error) {
    cuda_enter(gpu);
    gpu->running = graph->entry;
    return cuda_check(gpu, gpu->cu.cuGraphLaunch(graph->exec, gpu->stream), error, "replay");
}

void cuda_graph_destroy(LvCuda *gpu, LvGraph *graph) {
    if (!graph) return;
    cuda_enter(gpu);
    gpu->cu.cuStreamSynchronize(gpu->stream);
    gpu->cu.cuGraphExecDestroy(graph->exec);
    free(graph);
}
