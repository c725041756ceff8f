# libshoal-cuda.so: the CUDA backend, loaded at run time (worker/engine/cuda/loader.h). Included by worker/CMakeLists.txt where nvcc
# was found. It holds its own copy of the rooms it uses and shows one symbol.
if(NOT CMAKE_CUDA_COMPILER)
  find_program(CMAKE_CUDA_COMPILER nvcc HINTS /usr/local/cuda/bin REQUIRED)
endif()
set(CMAKE_CUDA_ARCHITECTURES OFF) # named below
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(shoal-cuda SHARED engine/cuda/backend.c engine/cuda/device.c engine/cuda/forward.c engine/cuda/gemm.c engine/cuda/plan_memory.c
            engine/cuda/attention.c engine/cuda/batch.c engine/cuda/mlp.c engine/cuda/moves.c engine/cuda/run.c engine/cuda/weights.c
            engine/cuda/kernels/attention.cu engine/cuda/kernels/elementwise.cu engine/cuda/kernels/moe.cu engine/cuda/kernels/quantise.cu engine/cuda/kernels/sample.cu
            engine/cuda/kernels/stream.cu)
shoal_links(shoal-cuda worker/engine worker/plan worker/model common/base)
# Hopper's own code; the plain path for 8.0 (runs on 8.6 and 8.9 too) and as PTX for what comes after.
target_compile_options(shoal-cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-gencode=arch=compute_90a,code=sm_90a;-gencode=arch=compute_80,code=sm_80;-gencode=arch=compute_80,code=compute_80>"
  "$<$<COMPILE_LANGUAGE:CUDA>:--threads=2;-D_Static_assert=static_assert;-Xcompiler=-fPIC,-Wall;-Xptxas=-warn-spills>" "$<$<COMPILE_LANGUAGE:C>:-fvisibility=hidden>")
set_source_files_properties(engine/cuda/kernels/sample.cu PROPERTIES COMPILE_OPTIONS "-fmad=false") # the bits of sampler.c
set_target_properties(shoal-cuda PROPERTIES CUDA_STANDARD 17 CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY Static LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin
                      BUILD_RPATH "$ORIGIN;${CUDAToolkit_LIBRARY_DIR}" CUDA_VISIBILITY_PRESET hidden)
target_link_libraries(shoal-cuda PRIVATE CUDA::cudart_static CUDA::cublasLt PkgConfig::XXHASH m)
target_link_options(shoal-cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -Wl,--no-undefined)
