// Weights from a recipe: {"seed": s, "tensors": {name: {"shape", "scale", "offset"} or {"times": [a, b]}}}, for tests whose
// weights would be too large to keep. The formula is in recipe.c.
#ifndef LV_IO_RECIPE_H
#define LV_IO_RECIPE_H

#include "io/safetensors.h"

bool lv_recipe_read(const char *path, LvTensorFile **file, LvError *error);
// A recipe where the name ends in ".json", else a safetensors file.
bool lv_weights_read(const char *path, LvTensorFile **file, LvError *error);

#endif
