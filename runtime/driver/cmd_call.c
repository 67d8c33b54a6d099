// lvrun call MODEL ENTRY: any entry on tensors from a file. For debugging, and for checking numbers from outside: direct
// convolution unless told otherwise, nothing between the entry and its results.
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plan_file.h"
#include "command.h"
#include "exec/loss_scale.h"
#include "exec/weights.h"
#include "io/recipe.h"
#include "model.h"

static const OptionSpec specs[] = {
    {"weights", OPTION_VALUE, "FILE", "safetensors, or a .json recipe; without it the model's initial values"},
    {"input", OPTION_VALUE, "FILE", "safetensors with the entry's inputs by name"},
    {"output", OPTION_VALUE, "FILE", "where the results go"},
    {"grads", OPTION_VALUE, "FILE", "train: the first step's gradients"},
    {"weights-out", OPTION_VALUE, "FILE", "train: parameters and states after the last step"},
    {"steps", OPTION_VALUE, "N", "train: how many steps, on the same input (default 1)"},
    {"lr", OPTION_VALUE, "X", "train: the learning rate of every step"},
    {"loss-scale", OPTION_VALUE, "X", "train in f16: what the loss is multiplied by at first, 1 to 2^24 (default 65536)"},
    {"seed", OPTION_VALUE, "N", "seed of initial values and random operations (default 42)"},
    {"batch", OPTION_VALUE, "N", "batch size where no input has one (default 1)"},
    {"save-plan", OPTION_VALUE, "FILE", "write the compiled entry as an artifact"},
    MODEL_OPTIONS,
    {"help", OPTION_FLAG, NULL, "this text"},
    {0},
};

typedef struct {
    Options options;
    OpenModel open;
    LvDevice *device;
    LvTensorFile *input;
    LvPlan *plan;
    LvStore *store;
    LvProgram *program;
    int64_t steps, seed, batch;
    double lr, loss_scale;
    bool trains;
} Call;

static bool read_options(Call *call, int argc, char **argv, LvError *error) {
    call->steps = 1, call->seed = 42, call->batch = 0, call->lr = 0;
    return options_parse(&call->options, specs, true, argc, argv, error) &&
           options_integer(&call->options, "steps", 1, INT32_MAX, &call->steps, error) &&
           options_integer(&call->options, "seed", INT64_MIN, INT64_MAX, &call->seed, error) &&
           options_integer(&call->options, "batch", 0, 1 << 20, &call->batch, error) &&
           options_number(&call->options, "lr", &call->lr, error);
}

static bool refuse_shape(const LvPort *port, const LvTensor *tensor, LvError *error) {
    LvText text = {0};
    lv_shape_print(&text, tensor->shape);
    lv_text_puts(&text, " in the file, ");
    for (int d = 0; d < port->shape.rank; d++) {
        if (port->shape.dim[d] < 0) lv_text_puts(&text, d ? ", B" : "[B");
        else lv_text_printf(&text, "%s%" PRId64, d ? ", " : "[", port->shape.dim[d]);
    }
    lv_text_puts(&text, port->shape.rank ? "]" : "[]");
    lv_error_set(error, LV_ERROR_USAGE, "the input '%s' is %s in the entry", port->name, text.data);
    lv_text_free(&text);
    return lv_error_hint(error, "the model's parameters (--config, --set) decide the sizes");
}

// The batch is the extent that the file's tensors have where the entry leaves it free.
static bool find_batch(Call *call, const LvModelEntry *entry, LvError *error) {
    for (int i = 0; i < entry->input_count; i++) {
        const LvPort *port = &entry->inputs[i];
        if (port->name[0] == '$') continue;
        const LvTensor *tensor = call->input ? lv_safetensors_find(call->input, port->name) : NULL;
        if (!tensor) {
            lv_error_set(error, LV_ERROR_USAGE, "the input '%s' of entry '%s' is missing", port->name, entry->name);
            return lv_error_hint(error, "--input takes a safetensors file with a tensor of that name");
        }
        bool free_batch = port->shape.rank > 0 && port->shape.dim[0] < 0;
        bool fits = tensor->shape.rank == port->shape.rank;
        for (int d = 0; fits && d < port->shape.rank; d++) fits = port->shape.dim[d] < 0 || port->shape.dim[d] == tensor->shape.dim[d];
        if (!fits) return refuse_shape(port, tensor, error);
        if (free_batch && call->batch == 0) call->batch = tensor->shape.dim[0];
        if (free_batch && call->batch != tensor->shape.dim[0]) {
            return lv_error_set(error, LV_ERROR_USAGE, "the input '%s' has batch %" PRId64 ", another has %" PRId64, port->name,
                                tensor->shape.dim[0], call->batch);
        }
    }
    if (call->batch == 0) call->batch = 1;
    return true;
}

static bool set_inputs(Call *call, LvError *error) {
    for (int i = 0; i < call->plan->input_count; i++) {
        const LvPort *port = &call->plan->inputs[i];
        if (port->name[0] == '$') continue;
        const LvTensor *tensor = call->input ? lv_safetensors_find(call->input, port->name) : NULL;
        size_t bytes;
        if (!tensor) return lv_error_set(error, LV_ERROR_USAGE, "the input '%s' is missing", port->name);
        if (!lv_shape_equal(tensor->shape, port->shape) || !lv_shape_bytes(port->shape, port->dtype, &bytes)) {
            return refuse_shape(port, tensor, error);
        }
        void *data = lv_malloc(bytes + 1);
        bool good = lv_elements_convert(data, port->dtype, tensor->data, tensor->dtype, lv_shape_elements(port->shape));
        if (!good) {
            lv_error_set(error, LV_ERROR_USAGE, "the input '%s' is %s in the file, %s in the entry", port->name,
                         lv_dtype_name(tensor->dtype), lv_dtype_name(port->dtype));
        }
        good = good && lv_program_set_input(call->program, port->name, data, bytes, error);
        free(data);
        if (!good) return false;
    }
    return true;
}

static bool load_weights(Call *call, const LvCompileOptions *compile, LvError *error) {
    const char *path = options_get(&call->options, "weights", NULL);
    LvTensorFile *file = NULL;
    LvLoadReport report;
    if (!path && !call->open.checkpoint) {
        return model_initialize(&call->open, compile, call->device, call->store, call->seed, error);
    }
    if (path && !lv_weights_read(path, &file, error)) return false;
    bool good = lv_store_load(call->store, path ? file : call->open.checkpoint, NULL, &report, error);
    if (good && report.missing) {
        good = lv_error_set(error, LV_ERROR_USAGE, "%d of the model's variables are missing, '%s' first", report.missing, report.first_missing);
        lv_error_hint(error, "the model's parameters (--config, --set) must be those that the weights were made with");
    }
    if (!good) lv_error_prefix(error, "%s", path ? path : "the checkpoint");
    if (good && path && report.unused) {
        fprintf(stderr, "lvrun: note: %d tensors of %s are not in the model, '%s' first\n", report.unused, path, report.first_unused);
    }
    lv_safetensors_free(file);
    return good;
}

static bool prepare(Call *call, const char *path, const char *entry_name, LvError *error) {
    LvCompileOptions compile = {.entry = entry_name, .conv = LV_CONV_DIRECT, .uncontracted = true};
    const char *input = options_get(&call->options, "input", NULL), *save = options_get(&call->options, "save-plan", NULL);
    if (!options_compile(&call->options, &compile, error) || !options_loss_scale(&call->options, &compile, &call->loss_scale, error) ||
        !model_open_device(&call->options, &compile, &call->device, error) ||
        !model_open(&call->open, path, &call->options, error)) {
        return false;
    }
    const LvModelEntry *entry = lv_model_find_entry(call->open.model, entry_name, error);
    if (!entry || (input && !lv_safetensors_read(input, &call->input, error)) || !find_batch(call, entry, error)) return false;
    if (!entry->trains && (options_has(&call->options, "grads") || options_has(&call->options, "lr"))) {
        return lv_error_set(error, LV_ERROR_USAGE, "entry '%s' does not train: it takes no --grads and no --lr", entry_name);
    }
    call->trains = entry->trains;
    compile.batch = call->batch;
    compile.gradients = options_has(&call->options, "grads");
    return model_compile(&call->open, &compile, &call->plan, error) && (!save || lv_plan_write(call->plan, save, error)) &&
           lv_store_create(call->device, call->plan, &call->store, error) && load_weights(call, &compile, error) &&
           lv_program_create(call->device, call->plan, call->store, &call->program, error) && set_inputs(call, error);
}

// {"step": 1, "loss": 0.5223…}: scalars only. JSON has no NaN: null.
static bool print_results(Call *call, int64_t step, LvError *error) {
    LvText line = {0};
    bool good = true;
    lv_text_puts(&line, "{");
    if (step) lv_text_printf(&line, "\"step\": %" PRId64, step);
    for (int i = 0; good && i < call->plan->result_count; i++) {
        const LvPort *port = &call->plan->results[i];
        size_t bytes;
        if (port->name[0] == '$' || !lv_shape_bytes(port->shape, port->dtype, &bytes) || lv_shape_elements(port->shape) != 1) continue;
        char data[16] = {0};
        good = lv_program_get_result(call->program, port->name, data, bytes, error);
        double value = lv_element_get(data, port->dtype, 0);
        lv_text_printf(&line, "%s\"%s\": ", line.length > 1 ? ", " : "", port->name);
        if (!isfinite(value)) lv_text_puts(&line, "null");
        else if (lv_dtype_is_float(port->dtype)) lv_text_printf(&line, "%.9g", value);
        else lv_text_printf(&line, "%.0f", value);
    }
    if (good && line.length > 1) {
        printf("%s}\n", line.data);
        fflush(stdout);
    }
    lv_text_free(&line);
    return good;
}

static bool write_file(const LvTensorFile *file, const char *path, LvError *error) {
    int count = lv_safetensors_count(file);
    return lv_safetensors_write(path, count ? lv_safetensors_at(file, 0) : NULL, count, NULL, 0, error);
}

// `scale`: what the loss was multiplied by.
static bool write_gradients(Call *call, const char *path, double scale, LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    bool good = true;
    for (int i = 0; good && i < call->plan->variable_count; i++) {
        const LvVariable *v = &call->plan->variables[i];
        size_t bytes;
        if (v->kind != LV_VARIABLE_PARAM || v->gradient.offset < 0 || !lv_shape_bytes(v->shape, v->dtype, &bytes)) continue;
        float *gradient = lv_tensor_file_add(file, v->name, v->dtype, v->shape);
        good = lv_program_get_gradient(call->program, i, gradient, bytes, error);
        for (size_t k = 0; scale != 1 && k < bytes / sizeof *gradient; k++) gradient[k] = (float)((double)gradient[k] / scale);
    }
    good = good && write_file(file, path, error);
    lv_safetensors_free(file);
    return good;
}

static bool write_results(Call *call, const char *path, LvError *error) {
    LvTensorFile *file = lv_tensor_file_create();
    bool good = true;
    for (int i = 0; good && i < call->plan->result_count; i++) {
        const LvPort *port = &call->plan->results[i];
        size_t bytes;
        if (port->name[0] == '$') continue;
        good = lv_shape_bytes(port->shape, port->dtype, &bytes) &&
               lv_program_get_result(call->program, port->name, lv_tensor_file_add(file, port->name, port->dtype, port->shape), bytes,
                                     error);
    }
    good = good && write_file(file, path, error);
    lv_safetensors_free(file);
    return good;
}

static bool run(Call *call, LvError *error) {
    const char *grads = options_get(&call->options, "grads", NULL), *output = options_get(&call->options, "output", NULL);
    const char *weights_out = options_get(&call->options, "weights-out", NULL);
    float lr = (float)call->lr;
    LvLossScaling scaling = {.scale = call->loss_scale};
    if (!lv_loss_scale_write(call->store, &scaling, error) || !lv_loss_scale_read(call->store, &scaling, error)) return false;
    double scale = lv_loss_scaled(call->store) ? scaling.scale : 1;
    if (!lv_program_set_input(call->program, "$seed", &call->seed, sizeof call->seed, error) ||
        !lv_program_set_input(call->program, "$lr", &lr, sizeof lr, error)) {
        return false;
    }
    for (int32_t step = 1; step <= call->steps; step++) {
        if (!lv_program_set_input(call->program, "$step", &step, sizeof step, error) || !lv_program_run(call->program, error) ||
            !print_results(call, call->trains ? step : 0, error) || (step == 1 && grads && !write_gradients(call, grads, scale, error))) {
            return false;
        }
    }
    unsigned kinds = 1u << LV_VARIABLE_PARAM | 1u << LV_VARIABLE_STATE;
    return (!output || write_results(call, output, error)) &&
           (!weights_out || lv_store_save(call->store, kinds, weights_out, NULL, 0, error));
}

static int print_help(void) {
    return options_help_page("lvrun call MODEL ENTRY [options] [--PARAMETER value]...",
                             "Runs an entry on tensors from a file. Inputs and results go by the entry's names. Of `train`, each step prints a JSON\n"
                             "line of the results, all steps see the same input.",
                             specs,
                             "  lvrun call models/augvae.lv eval --config tiny --weights W.safetensors --input IN.safetensors --output OUT.safetensors\n"
                             "  lvrun call models/augvae.lv train --config tiny --input IN.safetensors --steps 10 --lr 1e-3 --grads G.safetensors\n"
                             "  lvrun call runs/augvae/checkpoints/best.safetensors encode --input IN.safetensors --output TOKENS.safetensors\n");
}

int cmd_call(int argc, char **argv) {
    Call call = {0};
    LvError error = {0};
    int code = 0;
    bool good = read_options(&call, argc, argv, &error);
    if (good && options_flag(&call.options, "help", false)) {
        code = print_help();
    } else {
        if (good && call.options.words.count != 2) {
            good = lv_error_set(&error, LV_ERROR_USAGE, "call takes MODEL and ENTRY");
            lv_error_hint(&error, "lvrun call models/augvae.lv eval --weights W.safetensors --input IN.safetensors");
        }
        good = good && prepare(&call, call.options.words.data[0], call.options.words.data[1], &error) && run(&call, &error);
        if (!good) code = command_fail(&error);
    }
    lv_program_destroy(call.program);
    lv_store_destroy(call.store);
    lv_plan_destroy(call.plan);
    lv_safetensors_free(call.input);
    model_close(&call.open);
    command_close_device(call.device);
    options_free(&call.options);
    return code;
}
