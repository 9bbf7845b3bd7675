/* The one function of the host that takes its arguments as printf does, which stable Rust cannot
 * define. It formats the message and hands it on. */
#include <stdarg.h>
#include <stdio.h>

static void (*sink)(void *context, const char *message);

void bantam_set_report_sink(void (*function)(void *, const char *)) { sink = function; }

void bantam_report_error(void *context, const char *format, ...) {
  char message[1024];
  va_list arguments;
  if (sink == NULL || format == NULL) return;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  sink(context, message);
}
