// What a graph becomes before memory is planned: units in an order of execution. A unit is one kernel (a fused group of
// nodes, printed from loop IR) or one library call (a contraction node). Values that no unit writes live elsewhere:
//   inputs, state_read, literal   in storage that is given
//   aliases                       another value's storage, seen with another shape (row-major reshape, contiguous slice)
// Only values named in some unit's `writes` take memory of their own; everything else was fused away.
#ifndef LV_UNIT_H
#define LV_UNIT_H

#include "base/plan.h"
#include "driver/target.h"
#include "graph/graph.h"

typedef struct Kernel Kernel;  // loop IR: schedule/loop.h

typedef enum { UNIT_KERNEL, UNIT_CALL } UnitKind;

typedef struct {
    UnitKind kind;
    Kernel *kernel;   // UNIT_KERNEL
    Node *node;       // UNIT_CALL: conv2d and its gradients, matmul, linear_cross_entropy and its gradient
    // Operands: buffers in the order in which the kernel's text or the call takes them.
    int operand_count;
    struct UnitOperand {
        Value *value;
        bool written;
        // A written operand may take the storage of read operand `in_place` (every element is read, by the same thread,
        // at or before the moment when it is written), -1 if it must not.
        int in_place;
    } *operands;
    int scalar_count;
    LvScalar *scalars;
    int launch_count;  // of its kernel on a GPU
    LvLaunch *launches;
    int64_t scratch;
    const char *kernel_name, *kernel_text;  // after printing; units with equal texts share one name. UNIT_CALL: mostly NULL
    int node_count;
    Node **nodes;     // the nodes that this unit computes, for --explain and messages
    int64_t flops, bytes;
} Unit;

typedef struct {
    LvArena *arena;
    Graph *graph;
    Target target;
    int unit_count, prepared_count;  // the first are prepared: they need not run again while nobody changes the variables
    Unit *units;
    // alias_of[value id]: the value whose storage it shares, at alias_offset elements; NULL: storage of its own or none.
    Value **alias_of;
    int64_t *alias_offset;
    const char *prelude;  // text before the kernels
} Schedule;

// Nodes -> units: lowers, fuses by the legality rules on the loop IR, prints kernels for the target. `no_fuse`: a kernel a node.
// requires: no composite that a kernel template does not take, no gradient nodes; layouts chosen
// establishes: every value in a unit's operands is an input, a variable, a literal, an alias, or written by an earlier unit
Schedule *schedule_build(Graph *graph, const Target *target, bool no_fuse, LvArena *arena);

void schedule_print_loops(const Schedule *schedule, LvText *out);  // --emit loop, fused
void schedule_print_code(const Schedule *schedule, LvText *out);   // --emit c, cuda

#endif
