// Checkpoints: safetensors files that hold a model's variables, and in their metadata all else that a run needs to go on
// and a reader needs to use them:
//   lverse.version  "1"
//   lverse.model    {"name", "config", "sources": [{"path", "text"}], "settings": {name: JSON text}}: see model_open
//   lverse.train    {"step", "epoch", "index", …}: the trainer's own
//   lverse.tokenizer, lverse.vae   of a model of text and pictures: the tokenizer of its captions as the text of a
//                   tokenizer.json, and its frozen picture tokenizer as lverse.model has a model; that one's tensors are vae.NAME
//   lverse.hash     xxh3, 128 bits, of every tensor and all other metadata: an altered file is refused
#ifndef LV_IO_CHECKPOINT_H
#define LV_IO_CHECKPOINT_H

#include "io/safetensors.h"

#define LV_CHECKPOINT_TOKENIZER "lverse.tokenizer"
#define LV_CHECKPOINT_VAE "lverse.vae"
#define LV_CHECKPOINT_VAE_PREFIX "vae."

// Whether a tensor of this name is not the model's own but carried for use beside it.
bool lv_checkpoint_carries(const char *name);

// Adds version and hash. The same tensors and metadata give the same bytes.
bool lv_checkpoint_write(const char *path, const LvTensor *tensors, int count, const LvMetadata *metadata, int metadata_count,
                         LvError *error);
// Reads and checks; a safetensors file without `lverse.hash` passes only if `any` allows what is no checkpoint of ours.
bool lv_checkpoint_read(const char *path, bool any, LvTensorFile **file, LvError *error);

// `folder`/last.safetensors, or where it is torn or altered the newest step-N.safetensors that is whole. *file NULL: there
// is none at all. `refused` gets a line for each file passed over. False: there are files, and none is whole.
bool lv_checkpoint_find(const char *folder, LvTensorFile **file, LvText *path, LvText *refused, LvError *error);
// Removes all step-N.safetensors of the folder but the `keep` newest, and temporary files that a killed run left.
void lv_checkpoint_prune(const char *folder, int keep);
// `to` becomes a copy of the file `from`, at once or not at all; a second name of it where it is large.
bool lv_checkpoint_link(const char *from, const char *to, LvError *error);

#endif
