// Compiling and running schedules, as kernels.h says.
#include "kernels.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void kernels_add(KernelSet *set, const Schedule *schedule) {
    set->prelude = schedule->prelude;
    for (int i = 0; i < schedule->unit_count; i++) {
        const Unit *unit = &schedule->units[i];
        if (unit->kernel_name && !lv_map_has(&set->texts, unit->kernel_name)) {
            lv_map_set(&set->texts, unit->kernel_name, lv_strdup(unit->kernel_text));
        }
    }
}

enum { FILES = 4 };

void kernels_compile(KernelSet *set, const char *flags) {
    snprintf(set->path, sizeof set->path, "/tmp/lv-kernels-XXXXXX");
    if (!mkdtemp(set->path)) abort();
    char command[1024];
    for (int f = 0; f < FILES; f++) {
        char path[96];
        snprintf(path, sizeof path, "%s/k%d.c", set->path, f);
        FILE *file = fopen(path, "w");
        if (!file) abort();
        fputs(set->prelude, file);
        for (size_t i = (size_t)f; i < set->texts.count; i += FILES)
            fprintf(file, "\n%s", (const char *)set->texts.entries[i].value);
        fclose(file);
    }
    snprintf(command, sizeof command,
             "cd %s && for f in 0 1 2 3; do cc -std=gnu11 -w -fPIC %s -c k$f.c & done; wait; cc -shared -fopenmp k?.o -o "
             "k.so -lm",
             set->path, flags);
    if (system(command) != 0) {
        fprintf(stderr, "cc refused the kernels in %s\n", set->path);
        abort();
    }
    snprintf(command, sizeof command, "%s/k.so", set->path);
    set->library = dlopen(command, RTLD_NOW | RTLD_LOCAL);
    if (!set->library) {
        fprintf(stderr, "%s\n", dlerror());
        abort();
    }
    if (getenv("LV_KEEP_KERNELS")) {
        fprintf(stderr, "kernels in %s\n", set->path);
        return;
    }
    snprintf(command, sizeof command, "rm -rf %s", set->path);
    if (system(command) != 0) abort();
}

void kernels_threads(const KernelSet *set, int threads) {
    void (*set_threads)(int) = NULL;
    *(void **)&set_threads = dlsym(set->library, "omp_set_num_threads");
    if (set_threads) set_threads(threads);
}

void kernels_free(KernelSet *set) {
    // The library stays: it brought OpenMP's threads, which do not survive being unloaded.
    for (size_t i = 0; i < set->texts.count; i++) free(set->texts.entries[i].value);
    lv_map_free(&set->texts);
}

// ---- running

typedef struct {
    const Schedule *schedule;
    char **storage;  // by value id
    LvArena *arena;
} Run;

static char *address(Run *run, const Value *value) {
    int64_t offset = 0;
    const Value *at = value;
    while (run->schedule->alias_of[at->id]) {
        offset += run->schedule->alias_offset[at->id];
        at = run->schedule->alias_of[at->id];
    }
    size_t bytes = (size_t)lv_shape_elements(at->shape) * lv_dtype_size(at->dtype);
    if (!run->storage[at->id]) {
        run->storage[at->id] = (char *)(((uintptr_t)lv_arena_alloc(run->arena, bytes + 128) + 63) & ~(uintptr_t)63);
        memset(run->storage[at->id], 0xEE, bytes);
    }
    return run->storage[at->id] + offset * (int64_t)lv_dtype_size(value->dtype);
}

static int64_t element_offset(const Value *value, int64_t i) {
    int64_t index[LV_MAX_RANK];
    for (int k = value->shape.rank - 1; k >= 0; k--) index[k] = i % value->shape.dim[k], i /= value->shape.dim[k];
    return lv_layout_offset(value->layout, value->shape, index);
}

static void store(Run *run, const Value *value, const Tensor *tensor) {
    char *data = address(run, value);
    for (int64_t i = 0, n = lv_shape_elements(value->shape); i < n; i++) {
        int64_t at = element_offset(value, i);
        if (value->dtype == LV_I64) memcpy(data + 8 * at, &tensor->i[i], 8);
        else lv_element_set(data, value->dtype, at, tensor_at(tensor, i));
    }
}

static Tensor *load(Run *run, const Value *value) {
    Tensor *tensor = tensor_new(run->arena, value->dtype, value->shape);
    const char *data = address(run, value);
    for (int64_t i = 0, n = lv_shape_elements(value->shape); i < n; i++) {
        int64_t at = element_offset(value, i);
        if (value->dtype == LV_I64) memcpy(&tensor->i[i], data + 8 * at, 8);
        else if (tensor->f) tensor->f[i] = lv_element_get(data, value->dtype, at);
        else tensor->i[i] = (int64_t)lv_element_get(data, value->dtype, at);
    }
    return tensor;
}

static void run_call(Run *run, const Unit *unit) {
    const Node *node = unit->node;
    const Tensor **inputs = LV_NEW_ARRAY(run->arena, const Tensor *, node->input_count + 1);
    Tensor *results = LV_NEW_ARRAY(run->arena, Tensor, node->result_count + 1);
    for (int i = 0; i < node->input_count; i++) inputs[i] = load(run, node->inputs[i]);
    for (int i = 0; i < node->result_count; i++)
        results[i] = *tensor_new(run->arena, node->results[i].dtype, node->results[i].shape);
    op_info(node->op)->evaluate(&(Evaluation){.round = true, .arena = run->arena}, node, inputs, results);
    for (int i = 0; i < node->result_count; i++) store(run, &node->results[i], &results[i]);
}

static void run_unit(Run *run, const KernelSet *set, const Unit *unit) {
    if (unit->kind == UNIT_CALL) {
        run_call(run, unit);
        return;
    }
    void (*kernel)(char *const *, const LvScalar *) = NULL;
    *(void **)&kernel = dlsym(set->library, unit->kernel_name);
    if (!kernel) abort();
    char **buffers = LV_NEW_ARRAY(run->arena, char *, unit->operand_count + 1);
    for (int i = 0; i < unit->operand_count; i++) {
        buffers[i] = address(run, unit->operands[i].value);
        // What may take over an operand's memory does so here, so that the promise is tested.
        int read = unit->operands[i].in_place;
        if (!unit->operands[i].written || read < 0 || run->schedule->alias_of[unit->operands[i].value->id]) continue;
        const Value *from = unit->operands[read].value, *to = unit->operands[i].value;
        size_t bytes = (size_t)lv_shape_elements(to->shape) * lv_dtype_size(to->dtype);
        memcpy(buffers[i], address(run, from), bytes);
    }
    // Two outputs may be allowed the same operand; then each has a copy of it: read from the first.
    for (int i = 0; i < unit->operand_count; i++) {
        int read = unit->operands[i].in_place;
        if (unit->operands[i].written && read >= 0 && !run->schedule->alias_of[unit->operands[i].value->id])
            buffers[read] = buffers[i];
    }
    kernel(buffers, unit->scalars);
}

void schedule_run(const KernelSet *set, const Schedule *schedule, const TensorSet *inputs, TensorSet *results, LvArena *arena) {
    Run run = {.schedule = schedule, .arena = arena};
    run.storage = LV_NEW_ARRAY(arena, char *, schedule->graph->next_value + 1);
    for GRAPH_EACH(schedule->graph, node) {
        if (node->op == OP_input) store(&run, &node->results[0], set_find(inputs, node_attr(node, ATTR_name)->s));
        if (node->op == OP_literal) {
            size_t bytes = (size_t)lv_shape_elements(node->results[0].shape) * lv_dtype_size(node->results[0].dtype);
            memcpy(address(&run, &node->results[0]), node_attr(node, ATTR_data)->data, bytes);
        }
    }
    for (int i = 0; i < schedule->unit_count; i++) run_unit(&run, set, &schedule->units[i]);
    results->count = 0;
    for (size_t i = 0; i < schedule->graph->results.count; i++) {
        const GraphPort *port = &schedule->graph->results.data[i];
        set_add(results, port->name, load(&run, port->value));
    }
}
