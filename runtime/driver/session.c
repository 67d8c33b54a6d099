// Sessions: see session.h.
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "exec/weights.h"
#include "io/checkpoint.h"
#include "io/recipe.h"
#include "train/restore.h"

static bool load_weights(Session *s, LvError *error) {
    const char *path = options_get(&s->options, "weights", NULL);
    LvTensorFile *own = NULL;
    if (!path && !s->open.checkpoint) {
        lv_error_set(error, LV_ERROR_USAGE, "'%s' holds no weights", s->open.path);
        return lv_error_hint(error, "name a checkpoint as MODEL, or a file by --weights");
    }
    size_t length = path ? strlen(path) : 0;
    bool recipe = length > 5 && !strcmp(path + length - 5, ".json");
    if (recipe && !lv_recipe_read(path, &own, error)) return false;
    if (path && !recipe && !lv_checkpoint_read(path, true, &own, error)) return false;
    bool good = own ? (lv_weights_check(s->store, own, false, error) && lv_store_load(s->store, own, NULL, NULL, error)) ||
                          lv_error_prefix(error, "%s", path)
                    : model_load_weights(&s->open, s->store, error);
    lv_safetensors_free(own);
    return good;
}

static bool make_plan(void *user, const char *entry, int64_t batch, LvPlan **plan, LvError *error) {
    Session *s = user;
    LvCompileOptions compile = s->compile;
    int count;
    const LvModelEntry *entries = lv_model_entries(s->open.model, &count);
    *plan = NULL;
    for (int i = 0; i < count; i++) {
        if (strcmp(entries[i].name, entry)) continue;
        compile.entry = entry;
        compile.batch = batch;
        return model_compile(&s->open, &compile, plan, error);
    }
    return true;
}

LvPlanSource session_plans(Session *session) {
    return (LvPlanSource){session, make_plan};
}

static bool open_store(Session *s, const LvPlan *plan, LvError *error) {
    return s->store || (lv_store_create(s->device, plan, &s->store, error) && load_weights(s, error));
}

bool session_store(Session *session, const char *entry, int64_t batch, LvError *error) {
    LvPlan *plan = NULL;
    bool good = lv_model_find_entry(session->open.model, entry, error) && make_plan(session, entry, batch, &plan, error) &&
                open_store(session, plan, error);
    lv_plan_destroy(plan);
    return good;
}

bool session_program(Session *session, const char *entry, int64_t batch, LvPlan **plan, LvProgram **program, LvError *error) {
    int64_t seed = 42;
    return options_integer(&session->options, "seed", INT64_MIN, INT64_MAX, &seed, error) &&
           lv_model_find_entry(session->open.model, entry, error) && make_plan(session, entry, batch, plan, error) &&
           open_store(session, *plan, error) && lv_program_create(session->device, *plan, session->store, program, error) &&
           lv_program_set_input(*program, "$seed", &seed, sizeof seed, error);
}

void session_tell_memory(const Session *session) {
    LvText line = {0};
    lv_memory_print(&line, lv_memory_use(session->device));
    fprintf(stderr, "%s\n", line.data);
    lv_text_free(&line);
}

bool session_folder(const char *path, LvError *error) {
    struct stat info;
    if (mkdir(path, 0777) == 0) return true;
    if (errno == EEXIST && stat(path, &info) == 0 && S_ISDIR(info.st_mode)) return true;
    return lv_error_system(error, "cannot make the folder '%s'", path);
}

static bool open_session(Session *s, LvError *error) {
    s->compile.bytes = true;
    return options_compile(&s->options, &s->compile, error) &&
           model_open(&s->open, s->options.words.data[0], &s->options, error) &&
           model_open_device(&s->options, &s->compile, &s->device, error);
}

int session_main(const SessionCommand *command, int argc, char **argv) {
    Session session = {0};
    LvError error = {0};
    int code = 0;
    bool good = options_parse(&session.options, command->specs, true, argc, argv, &error);
    if (good && options_flag(&session.options, "help", false)) {
        code = options_help_page(command->usage, command->about, command->specs, command->examples);
    } else {
        if (good && session.options.words.count < command->least + 1) {
            good = lv_error_set(&error, LV_ERROR_USAGE, "%s takes %s", argv[0],
                                command->least ? "MODEL and what to work on" : "MODEL");
            lv_error_hint(&error, "usage: %s", command->usage);
        }
        good = good && (!command->check || command->check(&session.options, &error)) && open_session(&session, &error) &&
               command->work(&session, &error);
        if (!good) code = command_fail(&error);
    }
    lv_store_destroy(session.store);
    model_close(&session.open);
    command_close_device(session.device);
    options_free(&session.options);
    return code;
}
