/* library_nccl.h - NCCL's functions, from a library that is opened when the first group needs it: a run on one GPU neither
 * waits for its 200 MB nor needs it at all. Private to the shared object. */
#ifndef GD_COMM_LIBRARY_NCCL_H
#define GD_COMM_LIBRARY_NCCL_H

#include <nccl.h>

#include "shard/base/status.h"

/* What we call, without "nccl". */
#define GD_NCCL_FUNCTIONS(X) \
  X(AllGather)               \
  X(AllReduce)               \
  X(Broadcast)               \
  X(CommAbort)               \
  X(CommCount)               \
  X(CommDestroy)             \
  X(CommFinalize)            \
  X(CommGetAsyncError)       \
  X(CommInitRankConfig)      \
  X(CommSplit)               \
  X(CommUserRank)            \
  X(GetErrorString)          \
  X(GetLastError)            \
  X(GetUniqueId)             \
  X(GetVersion)              \
  X(GroupEnd)                \
  X(GroupStart)              \
  X(Recv)                    \
  X(ReduceScatter)           \
  X(Send)

typedef struct gd_nccl_library {
#define GD_NCCL_MEMBER(name) __typeof__(nccl##name) *name;
  GD_NCCL_FUNCTIONS(GD_NCCL_MEMBER)
#undef GD_NCCL_MEMBER
} gd_nccl_library;

/* Filled by gd_nccl_load. */
extern gd_nccl_library gd_nccl;

/* Opens libnccl.so.2 once; it stays open. From the thread that makes groups. GD_NO_MEMORY with the loader's text. */
GD_CHECKED gd_status gd_nccl_load(void);

#endif
