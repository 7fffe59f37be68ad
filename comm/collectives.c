#include "comm/collectives.h"

gd_collectives_trace *gd_collectives_trace_hook;
