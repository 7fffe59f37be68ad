# libgptdist-cuda.so: all CUDA, cuBLASLt and NCCL code, opened with dlopen where a GPU may be (comm/cuda_backend.h). Programs
# never link to it: a CPU run starts without mapping 750 MB of libraries.
#
# GPTDIST_CUDA=AUTO builds it where nvcc, the toolkit and NCCL are found, else says in one line what is missing; ON stops the
# configuration where something is missing; OFF does not look.
#
# The shared object has no copy of the error record, the log or the trace hook: it takes gd_error_* from the program that opens
# it, so programs export their symbols. tests/gpu/test_cuda_backend.sh checks that it wants nothing else.
set(CMAKE_ENABLE_EXPORTS ON)

set(gptdist_cuda_missing "")
set(gptdist_cuda FALSE)
if(NOT GPTDIST_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "GPTDIST_CUDA is \"${GPTDIST_CUDA}\", expected AUTO, ON or OFF")
endif()
if(NOT GPTDIST_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(GPTDIST_NVCC nvcc HINTS ${CUDAToolkit_BIN_DIR})
    mark_as_advanced(GPTDIST_NVCC)
    if(GPTDIST_NVCC)
      set(CMAKE_CUDA_COMPILER ${GPTDIST_NVCC})
    endif()
  endif()
  if(CMAKE_CUDA_COMPILER)
    check_language(CUDA)
  endif()
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)
  if(NOT CMAKE_CUDA_COMPILER)
    list(APPEND gptdist_cuda_missing "a working nvcc")
  endif()
  if(NOT CUDAToolkit_FOUND)
    list(APPEND gptdist_cuda_missing "the CUDA toolkit")
  elseif(NOT TARGET CUDA::cublasLt)
    list(APPEND gptdist_cuda_missing "cuBLASLt")
  elseif(NOT TARGET CUDA::cudart_static)
    list(APPEND gptdist_cuda_missing "the static CUDA runtime")
  endif()
  if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
    list(APPEND gptdist_cuda_missing "NCCL")
  endif()
  list(JOIN gptdist_cuda_missing ", " gptdist_cuda_missing)
  if(NOT gptdist_cuda_missing)
    set(gptdist_cuda TRUE)
  elseif(GPTDIST_CUDA STREQUAL "ON")
    message(FATAL_ERROR "GPTDIST_CUDA=ON, but not found: ${gptdist_cuda_missing}")
  else()
    message(STATUS "CUDA: not built (not found: ${gptdist_cuda_missing}); this build is for CPUs only")
  endif()
endif()

if(gptdist_cuda)
  # Before any target exists. 8.0 is A100, 9.0 is H100 and H200; the 9.0 intermediate code serves newer GPUs.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)

  file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/trainer/kernels/cuda/*.cu
       ${PROJECT_SOURCE_DIR}/trainer/kernels/cuda/*.c)
  add_library(gptdist-cuda SHARED ${cuda_sources} comm/device_cuda.c comm/probe_cuda.cu comm/collectives_nccl.c
              comm/library_nccl.c comm/group.c)
  target_include_directories(gptdist-cuda PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(gptdist-cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
  list(JOIN CMAKE_CUDA_ARCHITECTURES ", " gptdist_cuda_architectures)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/comm/device_cuda.c PROPERTIES COMPILE_DEFINITIONS
    GPTDIST_CUDA_ARCHITECTURES="${gptdist_cuda_architectures}")
  # -fmad=false: as -ffp-contract=off on the CPU; a fused multiply-add is written as one. Division, square root and subnormal
  # numbers as IEEE 754 has them (nvcc's default, said here because the bits of a run rest on it). Only gd_cuda_backend is exported.
  target_compile_options(gptdist-cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false -ftz=false -prec-div=true -prec-sqrt=true -Xcompiler=-Wall,-Wextra,-Wshadow -Xptxas=-v>
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${GPTDIST_WERROR}>>:-Werror=all-warnings -Xcompiler=-Werror>
    $<$<COMPILE_LANGUAGE:C>:-fvisibility=hidden> $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fvisibility=hidden>)
  # -Xptxas=-v says what each kernel takes; it is kept beside the objects, where tests/gpu/registers reads it.
  set_property(TARGET gptdist-cuda PROPERTY CUDA_COMPILER_LAUNCHER ${PROJECT_SOURCE_DIR}/cmake/keep-ptxas-report
    ${CMAKE_CUDA_COMPILER_LAUNCHER})
  target_link_libraries(gptdist-cuda PRIVATE CUDA::cublasLt CUDA::cudart_static Threads::Threads ${CMAKE_DL_LIBS})
  # nodelete: libraries under it register exit handlers, so dlclose must not unmap it.
  target_link_options(gptdist-cuda PRIVATE -Wl,-z,nodelete)
  set_target_properties(gptdist-cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib
                                                INSTALL_RPATH_USE_LINK_PATH ON)
  # NCCL is opened when several ranks need it (comm/library_nccl.c): where it was found is looked at, after LD_LIBRARY_PATH.
  get_filename_component(gptdist_nccl_folder ${NCCL_LIBRARY} DIRECTORY)
  if(NOT gptdist_nccl_folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
    target_link_options(gptdist-cuda PRIVATE LINKER:-rpath,${gptdist_nccl_folder})
  endif()
  install(TARGETS gptdist-cuda LIBRARY DESTINATION lib)
  message(STATUS "CUDA: libgptdist-cuda.so with CUDA ${CUDAToolkit_VERSION}, for compute capability 8.0 and 9.0")
endif()
