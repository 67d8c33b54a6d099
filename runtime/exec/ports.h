// Private to a program: its inputs and results, through a channel of the device. Inputs are gathered until a run sends them together;
// small results may be read a run late.
#ifndef LV_EXEC_PORTS_H
#define LV_EXEC_PORTS_H

#include "device/device.h"

typedef struct LvPorts LvPorts;

// `io`: where the plan's LV_ARENA_IO lies on the device.
bool ports_create(LvDevice *device, const LvPlan *plan, char *io, LvPorts **ports, LvError *error);
void ports_destroy(LvPorts *ports);
bool ports_set(LvPorts *ports, const LvPort *input, const void *data, size_t bytes, LvError *error);
bool ports_send(LvPorts *ports, LvError *error);  // what was set since the last time
bool ports_post(LvPorts *ports, LvError *error);  // the results of at most LV_LATE_BYTES each
// The oldest posted. values [plan's results], may be NULL: 0 for those of more elements than one.
bool ports_receive(LvPorts *ports, double *values, LvError *error);
// One of those received last; its size was checked.
bool ports_received(const LvPorts *ports, const LvPort *result, void *data, size_t bytes, LvError *error);

#endif
