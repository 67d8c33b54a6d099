// Between a store and files of tensors: loading by name with conversion of the float type, collecting for saving.
#ifndef LV_EXEC_WEIGHTS_H
#define LV_EXEC_WEIGHTS_H

#include "exec/program.h"
#include "io/safetensors.h"

typedef struct {
    int loaded, missing, unused;
    char first_missing[256], first_unused[256];
} LvLoadReport;

// Every variable whose name, after `prefix`, is in the file. A shape that differs is an error; a missing one is counted
// (optimizer states are not: they may be absent). `report` may be NULL: then a missing variable is an error.
bool lv_store_load(LvStore *store, const LvTensorFile *file, const char *prefix, LvLoadReport *report, LvError *error);
// Adds variables of the kinds in `kinds` (1 << LV_VARIABLE_PARAM | …) to `file`; those in the host's memory as they lie, not copied: `file`
// is good until a program runs.
bool lv_store_collect(const LvStore *store, unsigned kinds, LvTensorFile *file, LvError *error);
bool lv_store_save(const LvStore *store, unsigned kinds, const char *path, const LvMetadata *metadata, int metadata_count,
                   LvError *error);
// `count` elements from one type to another; false where that would lose the meaning (float to integer).
bool lv_elements_convert(void *to, LvDType to_type, const void *from, LvDType from_type, int64_t count);

#endif
