/* lower.h - lower case beyond ASCII. Local. */
#ifndef GD_TRAINER_SCORES_LOWER_H
#define GD_TRAINER_SCORES_LOWER_H

#include <stdint.h>

/* The simple lower case of a code point, as Unicode 14 has it; itself where it has none. */
uint32_t gd_lower(uint32_t code_point);

#endif
