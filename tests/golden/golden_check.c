// golden_check calls CASE               prints the number of calls of a case
// golden_check command CASE CALL OUT    prints the words after `lvrun call` of one call, one a line; files go to OUT
// golden_check compare CASE CALL OUT    compares what the call left in OUT: prints the worst share of the tolerance and what it
//                                       is of, exit 1 when that is over 1 or anything is missing
// What is compared how: README.md.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "io/safetensors.h"

typedef struct {
    const char *folder, *out;
    json_t *root, *call;
    double worst;  // largest error over its tolerance
    char where[256], problem[256];
} Check;

static char *join(const char *folder, const char *name) {
    LvText text = {0};
    lv_text_printf(&text, "%s/%s", folder, name);
    return text.data;
}

// LV_LOOSER: a factor on every tolerance but that of the results (Winograd's tensors may err ten times as much).
// LV_WITHIN: one tolerance for all, of a precision that is coarser than the case's.
static double tolerance(const Check *check, const char *what) {
    if (getenv("LV_WITHIN")) return strtod(getenv("LV_WITHIN"), NULL);
    const char *looser = strcmp(what, "results") ? getenv("LV_LOOSER") : NULL;
    return (looser ? strtod(looser, NULL) : 1) * json_number_value(json_object_get(json_object_get(check->root, "tolerance"), what));
}

static void note(Check *check, double share, const char *kind, const char *name) {
    if (share == share && share <= check->worst) return;
    check->worst = share == share ? share : INFINITY;
    snprintf(check->where, sizeof check->where, "%s %s", kind, name);
}

static void refuse(Check *check, const char *format, const char *name) {
    if (!check->problem[0]) snprintf(check->problem, sizeof check->problem, format, name);
}

static LvTensorFile *read_file(Check *check, const char *folder, const char *name) {
    LvTensorFile *file = NULL;
    LvError error = {0};
    char *path = join(folder, name);
    if (!lv_safetensors_read(path, &file, &error)) refuse(check, "%s", error.message);
    lv_error_clear(&error);
    free(path);
    return file;
}

static double rms(const LvTensor *t) {
    int64_t n = lv_shape_elements(t->shape);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = lv_element_get(t->data, t->dtype, i);
        sum += x * x;
    }
    return n ? sqrt(sum / (double)n) : 0;
}

// rms(got - want) / rms(want); `want` may hold every stride-th element of the flattened tensor.
static double difference(const LvTensor *got, const LvTensor *want, int64_t stride) {
    int64_t n = lv_shape_elements(want->shape);
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double w = lv_element_get(want->data, want->dtype, i), g = lv_element_get(got->data, got->dtype, i * stride);
        sum += (g - w) * (g - w), size += w * w;
    }
    return sum == 0 ? 0 : sqrt(sum / size);
}

static bool is_zero_gradient(const Check *check, const char *name) {
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(check->root, "zero_grads"), i, item) {
        if (!strcmp(json_string_value(item), name)) return true;
    }
    return false;
}

// `kind`: output, grads, weights_out.
static void compare_file(Check *check, const char *kind) {
    const char *name = json_string_value(json_object_get(check->call, kind));
    if (!name) return;
    char got_name[64];
    snprintf(got_name, sizeof got_name, "%s.safetensors", kind);
    LvTensorFile *want = read_file(check, check->folder, name), *got = read_file(check, check->out, got_name);
    bool grads = !strcmp(kind, "grads"), weights = !strcmp(kind, "weights_out");
    double largest = 0, allowed = tolerance(check, kind);
    for (int i = 0; want && i < lv_safetensors_count(want); i++) largest = fmax(largest, rms(lv_safetensors_at(want, i)));
    for (int i = 0; want && got && i < lv_safetensors_count(want); i++) {
        const LvTensor *w = lv_safetensors_at(want, i), *g = lv_safetensors_find(got, w->name);
        if (!g) {
            refuse(check, "no tensor '%s'", w->name);
            continue;
        }
        json_t *step = json_object_get(json_object_get(check->root, "stride"), w->name);
        int64_t stride = step && (grads || weights) ? json_integer_value(step) : 1, n = lv_shape_elements(g->shape);
        bool scalars = n == 1 && lv_shape_elements(w->shape) == 1;  // [] or [1]
        if (stride == 1 ? !scalars && !lv_shape_equal(g->shape, w->shape) : (n + stride - 1) / stride != lv_shape_elements(w->shape)) {
            refuse(check, "'%s' has another shape", w->name);
            continue;
        }
        if (is_zero_gradient(check, w->name) && (grads || weights)) {
            if (grads) note(check, rms(g) / ((getenv("LV_WITHIN") ? 0.1 * allowed : 1e-5) * largest), "zero gradient", w->name);
        } else if (!lv_dtype_is_float(w->dtype)) {
            if (g->dtype != w->dtype || memcmp(g->data, w->data, w->bytes)) refuse(check, "'%s' differs", w->name);
        } else {
            double share = difference(g, w, stride) / allowed;
            if (getenv("LV_SHOW")) fprintf(stderr, "%10.4f %s %s\n", share, kind, w->name);
            note(check, share, kind, w->name);
        }
    }
    for (int i = 0; want && got && i < lv_safetensors_count(got); i++) {
        if (!lv_safetensors_find(want, lv_safetensors_at(got, i)->name)) refuse(check, "'%s' is too many", lv_safetensors_at(got, i)->name);
    }
    lv_safetensors_free(want);
    lv_safetensors_free(got);
}

// OUT/results: a JSON object a line.
// LV_STEPS_COMPARED: results of later steps of training are only shown. Adam divides by the gradient's size, so that where a gradient is
// near nothing rounding decides the step: losses drift apart by a factor of two or so a step, from whatever rounding.
static void compare_results(Check *check) {
    const char *most = getenv("LV_STEPS_COMPARED");
    size_t compared = most ? strtoul(most, NULL, 10) : SIZE_MAX;
    json_t *steps = json_object_get(check->call, "results"), *want;
    char *path = join(check->out, "results"), *line = NULL;
    size_t i, room = 0;
    FILE *file = steps ? fopen(path, "r") : NULL;
    free(path);
    json_array_foreach(steps, i, want) {
        json_t *got = file && getline(&line, &room, file) > 0 ? json_loads(line, 0, NULL) : NULL, *value;
        const char *name;
        char label[64];
        if (!got) refuse(check, "%s", "a step printed no results");
        json_object_foreach(want, name, value) {
            json_t *number = json_object_get(got, name);
            double w = json_number_value(value), g = json_is_number(number) ? json_number_value(number) : NAN;
            if (got && !json_is_number(number)) refuse(check, "no number for '%s'", name);
            snprintf(label, sizeof label, "%s of step %zu", name, i + 1);
            if (getenv("LV_SHOW")) fprintf(stderr, "%10.4f %s: %.9g, %.9g\n", fabs(g - w) / fabs(w) / tolerance(check, "results"), label, g, w);
            if (i < compared) note(check, g == w ? 0 : fabs(g - w) / fabs(w) / tolerance(check, "results"), "result", label);
        }
        json_decref(got);
    }
    free(line);
    if (file) fclose(file);
}

static int compare(Check *check) {
    compare_results(check);
    compare_file(check, "output");
    compare_file(check, "grads");
    compare_file(check, "weights_out");
    if (check->problem[0]) {
        printf("%s\n", check->problem);
        return 1;
    }
    printf("%.3f of the tolerance%s%s\n", check->worst, check->where[0] ? ", " : "", check->where);
    return check->worst > 1;
}

static void print_path(const char *option, const char *folder, const char *name) {
    printf("%s\n%s/%s\n", option, folder, name);
}

static void print_command(const Check *check) {
    json_t *value, *set = json_object_get(check->root, "set");
    const char *name, *precision = json_string_value(json_object_get(check->root, "precision"));
    printf("%s\n%s\n--device\ncpu\n--precision\n%s\n", json_string_value(json_object_get(check->root, "model")),
           json_string_value(json_object_get(check->call, "entry")), precision ? precision : "f32");
    print_path("--weights", check->folder, json_string_value(json_object_get(check->root, "weights")));
    print_path("--input", check->folder, json_string_value(json_object_get(check->call, "input")));
    json_object_foreach(set, name, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        printf("--set=%s=%s\n", name, json_is_string(value) ? json_string_value(value) : text);
        free(text);
    }
    if (json_object_get(check->call, "output")) print_path("--output", check->out, "output.safetensors");
    if (json_object_get(check->call, "grads")) print_path("--grads", check->out, "grads.safetensors");
    if (json_object_get(check->call, "weights_out")) print_path("--weights-out", check->out, "weights_out.safetensors");
    if (json_object_get(check->call, "steps")) printf("--steps\n%" PRId64 "\n", (int64_t)json_integer_value(json_object_get(check->call, "steps")));
    if (json_object_get(check->call, "lr")) printf("--lr\n%.17g\n", json_number_value(json_object_get(check->call, "lr")));
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: golden_check calls CASE | command CASE CALL OUT | compare CASE CALL OUT\n");
        return 2;
    }
    Check check = {.folder = argv[2], .out = argc > 4 ? argv[4] : "."};
    char *path = join(check.folder, "case.json");
    json_error_t problem;
    check.root = json_load_file(path, 0, &problem);
    free(path);
    json_t *calls = json_object_get(check.root, "calls");
    check.call = json_array_get(calls, argc > 3 ? strtoul(argv[3], NULL, 10) : 0);
    int code = 0;
    if (!check.call) {
        fprintf(stderr, "%s: no such case or call: %s\n", check.folder, check.root ? "" : problem.text);
        code = 2;
    } else if (!strcmp(argv[1], "calls")) {
        printf("%zu\n", json_array_size(calls));
    } else if (!strcmp(argv[1], "command")) {
        print_command(&check);
    } else {
        code = compare(&check);
    }
    json_decref(check.root);
    return code;
}
