// Folders: making them, and where the user's cache is.
#ifndef LV_BASE_FOLDER_H
#define LV_BASE_FOLDER_H

#include "base/error.h"
#include "base/text.h"

// Makes the folder and those above it, where they are missing.
bool lv_folder_make(const char *path, LvError *error);
// $LV_CACHE_DIR, else $XDG_CACHE_HOME/lverse, else ~/.cache/lverse; false where none of these is
// set. Makes nothing.
bool lv_folder_cache(LvText *path);

#endif
