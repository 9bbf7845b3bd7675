/* What takes its arguments as printf does, which stable Rust cannot define: it formats the message and hands it on. One
 * function stands in the contexts that we make, the other in those of a runtime while we listen to a delegate there. */
#include <stdarg.h>
#include <stdio.h>

typedef void sink_function(void *context, const char *message);

static sink_function *report_sink;
static sink_function *overheard_sink;

void bantam_set_report_sink(sink_function *function) { report_sink = function; }
void bantam_set_overheard_sink(sink_function *function) { overheard_sink = function; }

static void hand_on(sink_function *sink, void *context, const char *format, va_list arguments) {
  char message[1024];
  if (sink == NULL || format == NULL) return;
  vsnprintf(message, sizeof message, format, arguments);
  sink(context, message);
}

void bantam_report_error(void *context, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  hand_on(report_sink, context, format, arguments);
  va_end(arguments);
}

void bantam_overhear_error(void *context, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  hand_on(overheard_sink, context, format, arguments);
  va_end(arguments);
}
