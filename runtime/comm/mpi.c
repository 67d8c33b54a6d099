// Two binary interfaces of MPI are in use: Open MPI's, whose handles are addresses of objects that the library exports, and MPICH's (Intel
// MPI, MVAPICH, Cray MPICH share it), whose handles are integers fixed by its ABI initiative. Both are opened by hand, so that one lvrun
// serves machines with either, or with none.
#include "comm/mpi.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

static const struct {
    const char *name;
    size_t at;
} functions[] = {
    {"MPI_Init_thread", offsetof(Mpi, init)},
    {"MPI_Finalize", offsetof(Mpi, finalize)},
    {"MPI_Abort", offsetof(Mpi, abort)},
    {"MPI_Comm_rank", offsetof(Mpi, comm_rank)},
    {"MPI_Comm_size", offsetof(Mpi, comm_size)},
    {"MPI_Comm_split_type", offsetof(Mpi, comm_split_type)},
    {"MPI_Comm_free", offsetof(Mpi, comm_free)},
    {"MPI_Comm_set_errhandler", offsetof(Mpi, comm_set_errhandler)},
    {"MPI_Iallreduce", offsetof(Mpi, iallreduce)},
    {"MPI_Ibcast", offsetof(Mpi, ibcast)},
    {"MPI_Test", offsetof(Mpi, test)},
    {"MPI_Error_string", offsetof(Mpi, error_string)},
};

// Open MPI's names, and MPICH's numbers for the same.
static const struct {
    const char *name;
    size_t at;
    MpiHandle number;
} handles[] = {
    {"ompi_mpi_comm_world", offsetof(Mpi, world), 0x44000000},
    {"ompi_mpi_op_sum", offsetof(Mpi, sum), 0x58000003},
    {"ompi_mpi_op_max", offsetof(Mpi, most), 0x58000001},
    {"ompi_mpi_byte", offsetof(Mpi, byte), 0x4c00010d},
    {"ompi_mpi_float", offsetof(Mpi, f32), 0x4c00040a},
    {"ompi_mpi_double", offsetof(Mpi, f64), 0x4c00080b},
    {"ompi_mpi_int32_t", offsetof(Mpi, i32), 0x4c000439},
    {"ompi_mpi_int64_t", offsetof(Mpi, i64), 0x4c00083a},
    {"ompi_mpi_info_null", offsetof(Mpi, no_info), 0x1c000000},
    {"ompi_mpi_errors_return", offsetof(Mpi, errors_return), 0x54000001},
};

// A rank must speak through the library of its launcher; srun goes with either.
static void *open_library(const char **tried) {
    static const char *const open_mpi[] = {"libmpi.so.40", "libmpi.so.80", NULL};
    static const char *const mpich[] = {"libmpi.so.12", "libmpich.so.12", NULL};
    const char *path = getenv("LV_MPI");
    void *library = NULL;
    *tried = path;
    if (path && *path) return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    bool of_mpich = getenv("PMI_RANK") && !getenv("OMPI_COMM_WORLD_RANK");
    *tried = of_mpich ? "libmpi.so.12, libmpich.so.12 (MPICH)" : "libmpi.so.40 (Open MPI), libmpi.so.12 (MPICH)";
    for (int pass = 0; pass < 2; pass++) {
        const char *const *names = (pass == 0) == of_mpich ? mpich : open_mpi;
        for (int i = 0; !library && names[i]; i++) library = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
        if (of_mpich) break;
    }
    return library;
}

static void *slot(Mpi *mpi, size_t at) { return (char *)mpi + at; }

bool mpi_load(Mpi *mpi, LvError *error) {
    const char *tried;
    void *library = open_library(&tried);
    if (!library) {
        lv_error_set(error, LV_ERROR_UNSUPPORTED, "several ranks need MPI, and it does not open: %s", tried);
        return lv_error_hint(error, "apt install openmpi-bin; LV_MPI=PATH names a library elsewhere");
    }
    *mpi = (Mpi){0};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);
        if (!function) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the MPI library lacks %s: it is older than MPI 3", functions[i].name);
        *(void **)slot(mpi, functions[i].at) = function;
    }
    bool objects = dlsym(library, handles[0].name);
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
        MpiHandle handle = objects ? (MpiHandle)dlsym(library, handles[i].name) : handles[i].number;
        if (!handle) return lv_error_set(error, LV_ERROR_UNSUPPORTED, "the MPI library lacks %s", handles[i].name);
        *(MpiHandle *)slot(mpi, handles[i].at) = handle;
    }
    mpi->in_place = (void *)(intptr_t)(objects ? 1 : -1);
    mpi->no_status = (void *)(intptr_t)(objects ? 0 : 1);
    mpi->shared = objects ? 0 : 1;
    return true;
}
