// A convolution's kernel whose blocks meet (template_conv_join.c), and the same text made wrong,
// which must fail: a fence or a counter less gives wrong results, counters that are not zero when
// it ends, or a race that the stand-ins name (LV_CUDA_SIM_CHECK=2). Each form runs in a process of
// its own, `test_cuda_joins --form N`. Skipped where the stand-ins are not on the path.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cases.h"
#include "codegen/cuda/template_conv.h"
#include "cuda_device.h"

typedef struct {
    const char *what, *from, *to;  // the first `from` of the text becomes `to`
    const char *said;  // part of what the stand-ins say; NULL: results or counters are wrong
    const char *cut;   // this is cut out of it too
} Form;

static const Form forms[] = {
    {"as it is", "", "", NULL, ""},
    {"no fence before it counts itself", "  __threadfence();\n  __syncthreads();",
     "  __syncthreads();", "race in device memory: read", ""},
    {"no fence after counting", "*done = 0;\n    __threadfence();", "*done = 0;",
     "race in device memory: read", "if (!lv_have_come(scratch, counter, 1, last))"},
    {"a counter that is not cleared", "if (*last) *done = 0;", "", NULL, ""},
    {"tiles share counters", "counter = tile * ", "counter = 0 * ", NULL, ""},
    {"all meetings at one counter", "(mine | d) - 1", "0", NULL, ""},
    {"the first goes on", "counter, 2, last", "counter, 1, last", NULL, ""},
    {"the first leaves nothing", "if (!lv_have_come(", "if (false && !lv_have_come(", NULL, ""},
    {"its own sums twice", "left + (other *", "left + (mine *", NULL, ""},
    {"rows leave while others read", "  __syncthreads();\n  return true;", "  return true;",
     "race in shared memory", ""},
    {"does not wait for a copy", "LV_COPY_WAIT(0);\n      #pragma", "      #pragma", "", ""},
    {"no sums of the odd one", "if (other >= 5)", "if (other >= 4)", NULL, ""},
};
enum {
    FORMS = sizeof forms / sizeof *forms,
    RIGHT = 0,
    WRONG = 1,
    NO_PLACE = 7,
    TILE = 5,
    SPLITS = 5
};

static const char line[] =
    "conv2d {stride = [1, 1], pad = [1, 1, 1, 1], bias = true} bf16[1, 96, 9, 9] bf16[72, 96, 3, "
    "3] bf16[72]";

static const char *replaced(const char *text, const char *from, const char *to, LvArena *arena) {
    const char *at = strstr(text, from);
    if (!at) exit(NO_PLACE);
    return lv_arena_printf(arena, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void put(CuPointer to, const Value *v, const Tensor *t) {
    int64_t n = lv_shape_elements(v->shape), index[LV_MAX_RANK];
    char *bytes = lv_calloc((size_t)n * 4 + 4, 1);
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = i;
        for (int k = v->shape.rank - 1; k >= 0; k--)
            index[k] = rest % v->shape.dim[k], rest /= v->shape.dim[k];
        lv_element_set(bytes, v->dtype, lv_layout_offset(v->layout, v->shape, index), t->f[i]);
    }
    cuda_device_put(to, bytes, (size_t)n * lv_dtype_size(v->dtype));
    free(bytes);
}

static bool is_right(const char *bytes, const Value *y, const Tensor *want) {
    int64_t index[4];
    double most = 0, apart = 0;
    for (int64_t i = 0, n = lv_shape_elements(y->shape); i < n; i++) {
        int64_t rest = i;
        for (int k = 3; k >= 0; k--)
            index[k] = rest % y->shape.dim[k], rest /= y->shape.dim[k];
        double off =
            fabs(lv_element_get(bytes, y->dtype, lv_layout_offset(y->layout, y->shape, index)) -
                 want->f[i]);
        if (!(off <= apart)) apart = off;
        if (fabs(want->f[i]) > most) most = fabs(want->f[i]);
    }
    return apart <= most / 128;
}

static int run_form(const Form *form) {
    CudaDevice device;
    if (!cuda_device_open(&device)) return NO_PLACE;
    LvArena *arena = lv_arena_create();
    OpCase *c = case_parse(line, arena);
    Graph *graph = case_graph(c);
    Node *node = graph->last;
    for (int i = 0; i < 2; i++)
        node->inputs[i]->layout = lv_layout_nhwc();
    node->results[0].layout = lv_layout_nhwc();
    Conv conv;
    if (!conv_read(node, &(Target){.cuda = true, .sm = device.sm}, &conv)) return NO_PLACE;
    ConvTile tile = conv_tile(&conv, TILE, SPLITS);
    LvText text = {0};
    CudaKernel made = {0};
    cuda_put_prelude(&text);
    conv_print(&conv, &tile, "conv", &text, &made);
    const char *wrong =
        replaced(replaced(lv_text_get(&text), form->from, form->to, arena), form->cut, "", arena);
    CuModule module = cuda_device_compile(&device, wrong);

    enum { BYTES = 9 * 9 * 72 * 2 };
    unsigned long long parameters[5];
    TensorSet inputs = {0}, want;
    parameters[0] = cuda_device_memory(BYTES, 0xFF);
    for (int i = 0; i < 3; i++) {
        Tensor *input = case_input(c, i);
        set_add(&inputs, lv_arena_printf(arena, "x%d", i), input);
        parameters[1 + i] = cuda_device_memory((size_t)lv_shape_elements(input->shape) * 2, 0xFF);
        put(parameters[1 + i], node->inputs[i], input);
    }
    evaluate_set(graph, false, &inputs, &want, arena);
    char head[LV_SCRATCH_HEAD] = {0}, bytes[BYTES];
    CuPointer scratch = cuda_device_memory((size_t)made.scratch + LV_SCRATCH_HEAD, 0xFF);
    cuda_device_put(scratch, head, sizeof head);
    parameters[4] = scratch + LV_SCRATCH_HEAD;
    cuda_device_launch(module, "conv", made.launches.data, made.launches.count, parameters, 5,
                       form->what);
    cuda_device_get(bytes, parameters[0], sizeof bytes);
    cuda_device_get(head, scratch, sizeof head);
    for (size_t i = 0; i < sizeof head; i++)
        if (head[i]) return WRONG;
    return is_right(bytes, &node->results[0], want.at[0].tensor) ? RIGHT : WRONG;
}

// ---- the processes

static int run_process(int number, char *said, size_t room) {
    int ends[2], status;
    char argument[16];
    snprintf(argument, sizeof argument, "%d", number);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1), dup2(ends[1], 2);
        close(ends[0]), close(ends[1]);
        setenv("LV_CUDA_SIM_CHECK", "2", 1);
        execl("/proc/self/exe", "test_cuda_joins", "--form", argument, (char *)NULL);
        _exit(NO_PLACE);
    }
    close(ends[1]);
    size_t length = 0;
    char rest[512];
    for (ssize_t n; (n = read(ends[0], rest, sizeof rest)) > 0;)
        for (ssize_t i = 0; i < n && length + 1 < room; i++)
            said[length++] = rest[i];
    said[length] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wrong_forms_fail(void **state) {
    (void)state;
    const char *path = getenv("LD_LIBRARY_PATH");
    if (!path || !strstr(path, "cuda_sim")) skip();
    for (int i = 0; i < FORMS; i++) {
        char said[4096];
        int status = run_process(i, said, sizeof said);
        if (status == NO_PLACE) fail_msg("%s: the text has no such place", forms[i].what);
        if (i == 0 ? status != RIGHT : status == RIGHT)
            fail_msg("%s: %s\n%s", forms[i].what, i ? "nothing was noticed" : "wrong", said);
        if (i && forms[i].said && !strstr(said, forms[i].said))
            fail_msg("%s: not noticed as a race\n%s", forms[i].what, said);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--form")) return run_form(&forms[atoi(argv[2]) % FORMS]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_forms_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
