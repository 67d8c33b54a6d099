// MPI by dlopen: what of it the ranks need, whichever library it is.
#ifndef LV_COMM_MPI_H
#define LV_COMM_MPI_H

#include <stdint.h>

#include "base/error.h"

typedef uintptr_t MpiHandle;  // a pointer to Open MPI, an int to MPICH

typedef struct {
    int (*init)(int *argc, char ***argv, int threads, int *provided);
    int (*finalize)(void);
    int (*abort)(MpiHandle comm, int code);
    int (*comm_rank)(MpiHandle comm, int *rank);
    int (*comm_size)(MpiHandle comm, int *size);
    int (*comm_split_type)(MpiHandle comm, int type, int key, MpiHandle info, MpiHandle *made);
    int (*comm_free)(MpiHandle *comm);
    int (*comm_set_errhandler)(MpiHandle comm, MpiHandle handler);
    int (*iallreduce)(const void *from, void *to, int count, MpiHandle type, MpiHandle op, MpiHandle comm, MpiHandle *request);
    int (*ibcast)(void *data, int count, MpiHandle type, int root, MpiHandle comm, MpiHandle *request);
    int (*test)(MpiHandle *request, int *done, void *status);
    int (*error_string)(int code, char *text, int *length);
    MpiHandle world, sum, most, byte, f32, f64, i32, i64, no_info, errors_return;
    void *in_place, *no_status;
    int shared;  // the type of ranks that share memory
} Mpi;

enum { MPI_TEXT = 512, MPI_FUNNELED = 1 };

// The library that the launcher belongs to: $LV_MPI (a path) where set.
bool mpi_load(Mpi *mpi, LvError *error);

#endif
