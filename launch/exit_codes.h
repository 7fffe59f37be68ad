/* exit_codes.h - the exit codes of all programs and what they mean: the one list behind every --help. */
#ifndef GD_LAUNCH_EXIT_CODES_H
#define GD_LAUNCH_EXIT_CODES_H

/* Prints "exit codes of all gptdist programs:" and a line a code to standard output. */
void gd_exit_codes_print(void);

#endif
