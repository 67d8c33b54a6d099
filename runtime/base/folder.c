// Folders: see folder.h.
#include "base/folder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool lv_folder_make(const char *path, LvError *error) {
    LvText part = {0};
    bool good = true;
    for (const char *at = path; good && *at;) {
        const char *slash = strchr(at + 1, '/');
        part.length = 0;
        if (slash)
            lv_text_append(&part, path, (size_t)(slash - path));
        else
            lv_text_puts(&part, path);
        struct stat info;
        if (mkdir(part.data, 0777) != 0 && errno != EEXIST)
            good = lv_error_system(error, "cannot make the folder '%s'", part.data);
        else if (stat(part.data, &info) != 0 || !S_ISDIR(info.st_mode))
            good = lv_error_set(error, LV_ERROR_IO, "'%s' is no folder", part.data);
        if (!slash) break;
        at = slash;
    }
    lv_text_free(&part);
    return good;
}

bool lv_folder_cache(LvText *path) {
    const char *own = getenv("LV_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    path->length = 0;
    if (own && *own)
        lv_text_puts(path, own);
    else if (xdg && xdg[0] == '/')
        lv_text_printf(path, "%s/lverse", xdg);
    else if (home && home[0] == '/')
        lv_text_printf(path, "%s/.cache/lverse", home);
    return path->length > 0;
}
