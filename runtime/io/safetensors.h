// safetensors files: named tensors, and metadata of text. The form is that of huggingface/safetensors: u64 length of a JSON
// header, the header ({"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {…}}), the data.
#ifndef LV_IO_SAFETENSORS_H
#define LV_IO_SAFETENSORS_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"

typedef struct {
    const char *name;
    LvDType dtype;
    LvShape shape;
    const void *data;  // row-major
    size_t bytes;
} LvTensor;

typedef struct {
    const char *key, *value;
} LvMetadata;

typedef struct LvTensorFile LvTensorFile;  // owns names, metadata and data

// The data stays in the file until it is read: nobody may write to it meanwhile (to replace it by another is fine).
bool lv_safetensors_read(const char *path, LvTensorFile **file, LvError *error);
bool lv_safetensors_parse(const void *data, size_t length, LvTensorFile **file, LvError *error);  // copies
// What of a file that was read lies in this process's memory is given back; it comes again where it is read again.
void lv_safetensors_leave(const LvTensorFile *file);
void lv_safetensors_free(LvTensorFile *file);
int lv_safetensors_count(const LvTensorFile *file);
const LvTensor *lv_safetensors_at(const LvTensorFile *file, int index);  // in the order of the header
const LvTensor *lv_safetensors_find(const LvTensorFile *file, const char *name);  // NULL if absent
const char *lv_safetensors_metadata(const LvTensorFile *file, const char *key);   // NULL if absent
// An empty file to add tensors to; the tensor's bytes are zero until written through `data`.
LvTensorFile *lv_tensor_file_create(void);
void *lv_tensor_file_add(LvTensorFile *file, const char *name, LvDType dtype, LvShape shape);
// The same of bytes that lie elsewhere and outlive the file; false: the shape is too large.
bool lv_tensor_file_refer(LvTensorFile *file, const char *name, LvDType dtype, LvShape shape, const void *data);
// The tensors whose names begin with `prefix`, without it. Their data stays with `file`, which must outlive the part.
LvTensorFile *lv_tensor_file_part(const LvTensorFile *file, const char *prefix);

// Written under a temporary name, synced, renamed. Data starts at a multiple of 64 bytes, tensors lie end to end.
bool lv_safetensors_write(const char *path, const LvTensor *tensors, int count, const LvMetadata *metadata,
                          int metadata_count, LvError *error);

#endif
