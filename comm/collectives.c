/* collectives.c - the hook through which the session sees every call of every back end. */
#include "comm/collectives.h"

gd_collectives_trace *gd_collectives_trace_hook;
