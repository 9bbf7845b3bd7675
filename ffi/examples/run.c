/* Runs a model on zeros and says where its operators ran and what came out.
 *
 *   cc run.c -lbantam -o run && ./run MODEL.tflite [DRIVER]
 */
#include <stdio.h>
#include <stdlib.h>

#include "bantam.h"

static int fail(bantam_error *error) {
  fprintf(stderr, "%s: %s\n", bantam_status_name(bantam_error_status(error)),
          bantam_error_message(error));
  bantam_error_free(error);
  return 1;
}

static void say(void *user, int32_t level, const char *message) {
  (void)user;
  fprintf(stderr, "%s%s\n", level == BANTAM_LOG_WARNING ? "warning: " : "", message);
}

/* One buffer of the tensor's size; a NULL is refused by the run. */
static void *buffer(const bantam_tensor_info *info) {
  return calloc(info->byte_size ? info->byte_size : 1, 1);
}

int main(int argc, char **argv) {
  bantam_session_options options = BANTAM_SESSION_OPTIONS_INIT;
  bantam_tensor_info info = BANTAM_TENSOR_INFO_INIT;
  bantam_model *model = NULL;
  bantam_session *session = NULL;
  bantam_error *error = NULL;
  bantam_input *inputs = NULL;
  bantam_output *outputs = NULL;
  size_t inputs_len, outputs_len, i;
  int failed = 0;

  if (argc < 2) {
    fprintf(stderr, "usage: %s MODEL.tflite [DRIVER]\n", argv[0]);
    return 2;
  }
  bantam_set_log(say, NULL);
  if (bantam_model_open(argv[1], &model, &error)) return fail(error);
  options.driver = argc > 2 ? argv[2] : NULL;
  failed = bantam_session_new(model, &options, &session, &error);
  bantam_model_free(model);
  if (failed) return fail(error);

  inputs_len = bantam_session_input_count(session);
  outputs_len = bantam_session_output_count(session);
  inputs = calloc(inputs_len + 1, sizeof *inputs);
  outputs = calloc(outputs_len + 1, sizeof *outputs);
  if (!inputs || !outputs) return 1;
  for (i = 0; i < inputs_len && !failed; i++) {
    failed = bantam_session_input(session, i, &info, &error);
    if (failed) break;
    inputs[i].data = buffer(&info);
    inputs[i].size = info.byte_size;
    printf("input %s: %lu bytes\n", info.name, (unsigned long)info.byte_size);
  }
  for (i = 0; i < outputs_len && !failed; i++) {
    failed = bantam_session_output(session, i, &info, &error);
    if (failed) break;
    outputs[i].data = buffer(&info);
    outputs[i].size = info.byte_size;
  }
  if (!failed) failed = bantam_session_run(session, inputs, inputs_len, outputs, outputs_len, &error);
  for (i = 0; i < outputs_len && !failed; i++) {
    failed = bantam_session_output(session, i, &info, &error);
    if (failed) break;
    printf("output %s: first byte %d\n", info.name,
           info.byte_size ? ((unsigned char *)outputs[i].data)[0] : 0);
  }
  if (!failed) printf("%s\n", bantam_session_summary(session));
  for (i = 0; i < inputs_len; i++) free((void *)inputs[i].data);
  for (i = 0; i < outputs_len; i++) free(outputs[i].data);
  free(inputs);
  free(outputs);
  bantam_session_free(session);
  return failed ? fail(error) : 0;
}
