// NVIDIA's libraries, found at run time: where they are looked for, which package brings them.
#ifndef LV_DEVICE_CUDA_LIBRARY_H
#define LV_DEVICE_CUDA_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>

typedef enum { CUDA_DRIVER, CUDA_NVRTC, CUDA_CUBLASLT, CUDA_CUDNN, CUDA_NCCL, CUDA_LIBRARY_COUNT } CudaLibraryName;

typedef struct {
    void *handle;  // of dlopen; the library stays loaded to the process's end
    char *path;    // the file itself, links resolved
} CudaLibrary;

typedef struct {
    const char *name;  // of the function
    size_t at;         // of its pointer in the table
} CudaSymbol;

// Opens the newest version that is not newer than toolkit `major` (12, 13; 0: any). False: nowhere found.
bool cuda_library_open(CudaLibraryName name, int major, CudaLibrary *library);
void cuda_library_close(CudaLibrary *library);
// Fills a table of pointers to functions. Returns the first name that the library lacks, NULL if none.
const char *cuda_library_fill(const CudaLibrary *library, const CudaSymbol *symbols, size_t count, void *table);
const char *cuda_library_file(CudaLibraryName name);     // "libnvrtc.so.12"
const char *cuda_library_package(CudaLibraryName name);  // what to install where it is missing

#endif
