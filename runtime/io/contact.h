// A contact sheet: pictures in rows and columns, each with its label under it, wrapped, five lines at most. Small pictures are
// enlarged by whole factors, so that the labels have room.
#ifndef LV_IO_CONTACT_H
#define LV_IO_CONTACT_H

#include "data/picture.h"

typedef struct LvContact LvContact;

LvContact *lv_contact_create(int side, int columns, int limit);  // pictures beyond the limit are left out
void lv_contact_destroy(LvContact *contact);
int lv_contact_count(const LvContact *contact);
// [3, side, side] in [-1, 1]. The label is UTF-8; a letter that the font lacks is a box, bytes that are none are '?'.
void lv_contact_add(LvContact *contact, const float *planes, const char *label);
bool lv_contact_save(const LvContact *contact, const char *path, LvError *error);  // PNG

#endif
