// Plans in the user's cache: see plan_cache.h. Compiling a small model takes a tenth of a second, reading its plan two
// thousandths.
#include "plan_cache.h"

#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>

#include "base/plan_file.h"
#include "base/processor.h"
#include "base/vec.h"
#include "io/cache.h"

// The note that the linker leaves in a program: a hash of all that is in it. The first object listed is the program itself.
static int read_build_id(struct dl_phdr_info *info, size_t size, void *out) {
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_NOTE) continue;
        const char *at = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr), *end = at + info->dlpi_phdr[i].p_memsz;
        while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
            ElfW(Nhdr) note;
            memcpy(&note, at, sizeof note);
            const char *name = at + sizeof note, *id = name + (note.n_namesz + 3) / 4 * 4;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !memcmp(name, "GNU", 4)) {
                for (unsigned k = 0; k < note.n_descsz; k++) lv_text_printf(out, "%02x", (unsigned char)id[k]);
                return 1;
            }
            at = id + (note.n_descsz + 3) / 4 * 4;
        }
    }
    return 1;
}

// Every field of LvCompileOptions but those with which nothing is kept.
static void print_options(const LvCompileOptions *o, LvText *out) {
    lv_text_printf(out,
                   "entry %s batch %lld precision %d device %s tf32 %d conv %d accumulate %lld ranks %lld clip %d gradients %d bytes %d cpu %s fuse %d "
                   "optimize %d contract %d alone %d limit %lld",
                   o->entry, (long long)o->batch, o->precision, o->device, o->tf32, o->conv, (long long)o->accumulate, (long long)o->ranks, o->clip,
                   o->gradients, o->bytes, lv_processor_level_name(), !o->no_fuse, !o->no_optimize, !o->uncontracted, o->alone,
                   (long long)o->memory_limit);
    for (const char *const *entry = o->beside; entry && *entry; entry++) lv_text_printf(out, " beside %s", *entry);
}

static void print_key(const LvModel *model, const LvCompileOptions *options, const char *build, char key[33]) {
    LV_VEC(const char *) parts = {0};
    LvText text = {0};
    int count;
    print_options(options, &text);
    lv_vec_push(&parts, "plan 1");
    lv_vec_push(&parts, build);
    lv_vec_push(&parts, lv_text_get(&text));
    lv_vec_push(&parts, lv_model_name(model));
    lv_vec_push(&parts, lv_model_config(model));
    const LvModelParameter *parameters = lv_model_parameters(model, &count);
    for (int i = 0; i < count; i++) {
        lv_vec_push(&parts, parameters[i].name);
        lv_vec_push(&parts, parameters[i].value);
    }
    const LvBundledSource *sources = lv_model_sources(model, &count);
    for (int i = 0; i < count; i++) {
        lv_vec_push(&parts, sources[i].path);
        lv_vec_push(&parts, sources[i].text);
    }
    lv_cache_key(key, parts.data, (int)parts.count);
    lv_vec_free(&parts);
    lv_text_free(&text);
}

PlanCache plan_cache_open(const LvModel *model, const LvCompileOptions *options) {
    PlanCache cache = {0};
    LvText build = {0}, path = {0};
    dl_iterate_phdr(read_build_id, &build);
    char *folder = options->emit || options->explain || !build.length ? NULL : lv_cache_open();
    if (folder) {
        print_key(model, options, build.data, cache.key);
        lv_text_printf(&path, "%s/%s.plan", folder, cache.key);
        cache.path = path.data;
    }
    free(folder);
    lv_text_free(&build);
    return cache;
}

void plan_cache_close(PlanCache *cache) {
    free(cache->path);
    cache->path = NULL;
}

// What the device's library takes is not in the key: it grows as algorithms are measured.
static bool is_within(const LvCompileOptions *options, const LvPlan *plan) {
    return options->memory_limit <= 0 || lv_model_limited_bytes(options, plan) <= options->memory_limit;
}

bool plan_cache_find(const PlanCache *cache, const LvCompileOptions *options, LvPlan **plan) {
    char *data = NULL;
    size_t length;
    LvError error = {0};
    if (!cache->path || !lv_cache_read(cache->path, &data, &length)) return false;
    bool good = lv_plan_decode(data, length, plan, &error);
    lv_error_clear(&error);
    free(data);
    if (!good || is_within(options, *plan)) return good;
    lv_plan_destroy(*plan);
    *plan = NULL;
    return false;
}

void plan_cache_keep(const PlanCache *cache, const LvPlan *plan) {
    LvText text = {0};
    LvError error = {0};
    if (cache->path && lv_plan_encode(plan, &text, &error)) lv_cache_write(cache->path, text.data, text.length);
    lv_error_clear(&error);
    lv_text_free(&text);
}
