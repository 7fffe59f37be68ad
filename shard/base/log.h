/* log.h - the one sink for messages. The floors below launch/ call gd_log; launch/ decides where lines go. */
#ifndef GD_SHARD_BASE_LOG_H
#define GD_SHARD_BASE_LOG_H

typedef enum gd_log_level { GD_LOG_DEBUG, GD_LOG_INFO, GD_LOG_WARNING, GD_LOG_ERROR } gd_log_level;

/* Receives one finished line without its newline. May be called from any thread, one call at a time. */
typedef void gd_log_sink(void *context, gd_log_level level, const char *line);

/* Sets the sink; NULL drops all lines (the state before the first call). */
void gd_log_set_sink(gd_log_sink *sink, void *context);

/* Formats one line and hands it to the sink. */
void gd_log(gd_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a line that tells the calling thread's fault: where it was raised follows as a debug line, so that the log
 * file has it and the terminal has not. */
void gd_log_fault(gd_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
