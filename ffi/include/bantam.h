/*
 * bantam.h: the C interface of Bantam.
 *
 * Reads .tflite models, converts float models to integer ones, and runs them: on an accelerator's
 * driver where it takes an operator, on fast CPU kernels where it does not, and says which.
 *
 * Rules that hold throughout:
 *
 * - Handles are opaque. What a _new, _open or _from function gives is freed by the _free function
 *   of the same type, once; _free(NULL) does nothing.
 * - A function that can fail returns a bantam_status and gives its result through a pointer, which
 *   is set to NULL (or zero) on failure; a struct that it fills is then left as it was. Its last
 *   parameter is `bantam_error **error`: NULL, or where to put an error that the caller frees with
 *   bantam_error_free(). It is set to NULL on success.
 * - NULL where a pointer is required is BANTAM_INVALID_ARGUMENT, never a crash.
 * - Structs that the caller fills begin with `struct_size`; initialize them with their _INIT
 *   macro. The library reads no further than that size, so a caller compiled against an older
 *   header keeps working. What a newer header has at the end is refused unless it is zero, so that
 *   no option is ignored. Structs that the library fills are written up to the smaller size.
 * - Strings are UTF-8 and end with a zero byte. Those that a function returns belong to the handle
 *   they were asked of and live as long as it does, unless said otherwise.
 * - Numbers in buffers have this machine's byte order.
 * - Different handles may be used by different threads at the same time. One handle must not be,
 *   unless the function says that it may; a session that is in use answers BANTAM_BUSY, or what
 *   the function says instead.
 * - Nothing here ends the process, prints, or lets a panic through. A callback must not throw and
 *   must not longjmp().
 */
#ifndef BANTAM_H
#define BANTAM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this interface. It grows by addition only; a library whose
 * bantam_abi_version() is at least this one serves a caller of this header. */
#define BANTAM_ABI_VERSION 1

/* The version of the library, such as "0.1.0". Lives for ever. */
const char *bantam_version(void);
/* The BANTAM_ABI_VERSION of the library. */
uint32_t bantam_abi_version(void);

/* ------------------------------------------------------------------ errors */

typedef int32_t bantam_status;
enum {
  BANTAM_OK = 0,
  /* NULL, an index out of range, a size that does not fit, an option that is not known. */
  BANTAM_INVALID_ARGUMENT = 1,
  /* The file cannot be read or written. */
  BANTAM_IO = 2,
  /* The bytes are not a sound model. */
  BANTAM_INVALID_MODEL = 3,
  /* The model has something that this version cannot run or convert. */
  BANTAM_UNSUPPORTED = 4,
  /* The driver or its device is missing or failed. */
  BANTAM_DRIVER = 5,
  /* Full delegation was required and some operator runs on the CPU path. */
  BANTAM_NOT_DELEGATED = 6,
  /* The session is running already. */
  BANTAM_BUSY = 7,
  /* The caller's callback asked to stop. */
  BANTAM_CANCELLED = 8,
  /* The model could not be run to its end. */
  BANTAM_RUN = 9,
  /* A mistake of the library's own; the handle should be freed and not used again. */
  BANTAM_INTERNAL = 10
};

typedef struct bantam_error bantam_error;

/* The status that the function returned. BANTAM_OK for NULL. */
bantam_status bantam_error_status(const bantam_error *error);
/* What went wrong, in one line, with the causes after colons. "" for NULL. */
const char *bantam_error_message(const bantam_error *error);
void bantam_error_free(bantam_error *error);
/* The name of a status, such as "BANTAM_BUSY". Lives for ever. */
const char *bantam_status_name(bantam_status status);

/* --------------------------------------------------------------------- log */

enum { BANTAM_LOG_WARNING = 1, BANTAM_LOG_INFO = 2 };

/* Where the library says what it decided and what went wrong without being an error: where the
 * operators of a new session run, a driver call that failed and was made up for. `message` is one
 * line and lives during the call. The callback may be called by any thread, by several at a time;
 * a call that another thread has begun may go on when bantam_set_log() returns. NULL turns it off,
 * which is the default. */
typedef void (*bantam_log_fn)(void *user, int32_t level, const char *message);
void bantam_set_log(bantam_log_fn log, void *user);

/* ------------------------------------------------------------------ models */

/* A model does not change: any number of threads may use one at the same time. */
typedef struct bantam_model bantam_model;

/* Reads a file. It is mapped, so it must not change while the model or anything made from it
 * lives. */
bantam_status bantam_model_open(const char *path, bantam_model **model, bantam_error **error);
/* Reads a copy of `size` bytes. */
bantam_status bantam_model_from_bytes(const void *data, size_t size, bantam_model **model,
                                      bantam_error **error);
/* Reads the caller's bytes in place: they must not change or move until `release(user)` is called,
 * which happens once, by whichever thread lets go of them last, and also when this function
 * fails. `release` may be NULL for memory that lives for ever. */
bantam_status bantam_model_from_static(const void *data, size_t size, void (*release)(void *user),
                                       void *user, bantam_model **model, bantam_error **error);
void bantam_model_free(bantam_model *model);

/* Writes the model to a file: whole, or not at all. */
bantam_status bantam_model_save(const bantam_model *model, const char *path, bantam_error **error);
/* The model as a .tflite file in memory, freed with bantam_bytes_free(). */
bantam_status bantam_model_to_bytes(const bantam_model *model, uint8_t **data, size_t *size,
                                    bantam_error **error);
void bantam_bytes_free(uint8_t *data, size_t size);

/* The number of named entry points, and their names; NULL where there is none of that index. */
size_t bantam_model_signature_count(const bantam_model *model);
const char *bantam_model_signature(const bantam_model *model, size_t index);

/* ----------------------------------------------------------------- tensors */

/* Element types, by their numbers in the format. */
typedef int32_t bantam_type;
enum {
  BANTAM_FLOAT32 = 0,
  BANTAM_FLOAT16 = 1,
  BANTAM_INT32 = 2,
  BANTAM_UINT8 = 3,
  BANTAM_INT64 = 4,
  BANTAM_STRING = 5,
  BANTAM_BOOL = 6,
  BANTAM_INT16 = 7,
  BANTAM_COMPLEX64 = 8,
  BANTAM_INT8 = 9,
  BANTAM_FLOAT64 = 10,
  BANTAM_COMPLEX128 = 11,
  BANTAM_UINT64 = 12,
  BANTAM_RESOURCE = 13,
  BANTAM_VARIANT = 14,
  BANTAM_UINT32 = 15,
  BANTAM_UINT16 = 16,
  BANTAM_INT4 = 17,
  BANTAM_BFLOAT16 = 18
};

/* An input or output of a session. Pointers live until the session is resized, run or freed. */
typedef struct bantam_tensor_info {
  size_t struct_size;
  const char *name;
  bantam_type type;
  /* The number of dimensions, and each, outermost first. */
  size_t rank;
  const size_t *shape;
  /* The size of a buffer for it. */
  size_t byte_size;
  /* real = scale * (integer - zero_point): none, one, or one for each index of the axis. */
  size_t scale_count;
  const float *scales;
  const int64_t *zero_points;
  int32_t quantized_dimension;
} bantam_tensor_info;
#define BANTAM_TENSOR_INFO_INIT {sizeof(bantam_tensor_info), NULL, 0, 0, NULL, 0, 0, NULL, NULL, 0}

/* ---------------------------------------------------------------- sessions */

typedef struct bantam_session bantam_session;

typedef int32_t bantam_numerics;
enum {
  /* XNNPACK's arithmetic, exactly, and the quicker. */
  BANTAM_NUMERICS_FAST = 0,
  /* Exactly that of LiteRT's reference kernels. */
  BANTAM_NUMERICS_REFERENCE = 1
};

typedef struct bantam_session_options {
  size_t struct_size;
  /* What takes partitions of the model: "cpu", "virtual", "bantam:/path/lib.so?key=value" ...;
   * see docs/partitioning.md. NULL is "cpu". */
  const char *driver;
  /* The device of that driver, such as "usb:0"; NULL for the driver's choice. */
  const char *device;
  /* The entry point; NULL for the first subgraph. */
  const char *signature;
  bantam_numerics numerics;
  /* The most threads of the CPU path; 0 is 1. */
  uint32_t threads;
  /* The most milliseconds of one driver call; 0 for no limit. Behind it the call is given up,
   * tried once more, and then made up for on the CPU path. */
  uint32_t deadline_ms;
  /* Non-zero: an operator on the CPU path is an error, here and in a run. */
  int32_t require_full_delegation;
  /* The fewest operators of a partition; 0 for the driver's own figure. */
  uint32_t min_partition_ops;
  /* Compares the driver's results with those of the CPU path, bit for bit: in the first so many
   * runs of each partition, and in each run whose number is a multiple; 0 for none. Results that
   * differ are replaced, counted in the report and told to the log. */
  uint32_t check_runs;
  uint32_t check_every;
  /* Non-zero: no partition whose data takes longer to move than the CPU path takes for its work. */
  int32_t cost_aware;
  /* Which operators may leave the CPU path, and which may not whatever the first says: arrays of
   * "op:KIND", "tensor:REGEX" or "index:[SUBGRAPH/]FIRST[-LAST]". No `allow` is all. */
  const char *const *allow;
  size_t allow_len;
  const char *const *deny;
  size_t deny_len;
} bantam_session_options;
#define BANTAM_SESSION_OPTIONS_INIT                                                              \
  {                                                                                              \
    sizeof(bantam_session_options), NULL, NULL, NULL, BANTAM_NUMERICS_FAST, 0, 0, 0, 0, 0, 0, 0, \
        NULL, 0, NULL, 0                                                                         \
  }

/* Prepares a model to run. `options` may be NULL. The model may be freed at once. */
bantam_status bantam_session_new(const bantam_model *model, const bantam_session_options *options,
                                 bantam_session **session, bantam_error **error);
/* Waits for a run that bantam_session_run_async() began and its `done`. */
void bantam_session_free(bantam_session *session);

/* These two may be called at any time, by any thread. */
size_t bantam_session_input_count(const bantam_session *session);
size_t bantam_session_output_count(const bantam_session *session);
/* An output whose shape depends on data has the shape of the last run. */
bantam_status bantam_session_input(const bantam_session *session, size_t index,
                                   bantam_tensor_info *info, bantam_error **error);
bantam_status bantam_session_output(const bantam_session *session, size_t index,
                                    bantam_tensor_info *info, bantam_error **error);

/* Gives an input another shape of the same rank. The model is prepared anew and forgets its
 * variables; on failure the session stays as it was. */
bantam_status bantam_session_resize_input(bantam_session *session, size_t index,
                                          const size_t *shape, size_t rank, bantam_error **error);

/* A buffer of the caller's. `size` is exactly the tensor's byte_size. Aligning `data` to 64 bytes
 * is not required. */
typedef struct bantam_input {
  const void *data;
  size_t size;
} bantam_input;
typedef struct bantam_output {
  void *data;
  size_t size;
} bantam_output;

/* Runs the model once. `inputs` and `outputs` hold one buffer for each input and output, in the
 * model's order. They stay the caller's and are not used after the call returns. An output must not
 * share memory with another buffer: BANTAM_INVALID_ARGUMENT. On failure the content of the outputs
 * is unspecified and the session can be run again. */
bantam_status bantam_session_run(bantam_session *session, const bantam_input *inputs,
                                 size_t inputs_len, const bantam_output *outputs,
                                 size_t outputs_len, bantam_error **error);

/* The same on a thread of the library's. The two arrays are copied; the buffers must live until
 * the run is over. `done`, if not NULL, is called by that thread when it is over, once; it is not
 * called where this function fails. Its `error` is NULL unless the status is not BANTAM_OK, and
 * lives during the call. `done` must not call a function on the same session. A session has one
 * run at a time: BANTAM_BUSY otherwise. */
typedef void (*bantam_done_fn)(void *user, bantam_status status, const bantam_error *error);
bantam_status bantam_session_run_async(bantam_session *session, const bantam_input *inputs,
                                       size_t inputs_len, const bantam_output *outputs,
                                       size_t outputs_len, bantam_done_fn done, void *user,
                                       bantam_error **error);
/* Waits for the run that bantam_session_run_async() began and returns its status; BANTAM_OK at
 * once where there is none. */
bantam_status bantam_session_wait(bantam_session *session, bantam_error **error);

/* Forgets what earlier runs left in variables. */
bantam_status bantam_session_reset_variables(bantam_session *session, bantam_error **error);

/* --------------------------------------------------------------- placement */

/* Where an operator runs. */
enum {
  BANTAM_PLACED_CPU = 0,
  /* In a partition, on the driver. */
  BANTAM_PLACED_PARTITION = 1,
  /* Nowhere: its results are known before the first run. */
  BANTAM_PLACED_CONSTANT = 2
};

/* Where one operator of the model runs. Strings live until the session is resized or freed. */
typedef struct bantam_placement {
  size_t struct_size;
  /* Its place in the order of execution of its subgraph. */
  size_t index;
  size_t subgraph;
  /* Its name in the format, such as "CONV_2D". */
  const char *op;
  int32_t placed;
  /* The partition it belongs to, -1 for none. */
  int32_t partition;
  /* Why it is on the CPU path: the rule's id, and a sentence. NULL where there is nothing to say. */
  const char *rule;
  const char *reason;
} bantam_placement;
#define BANTAM_PLACEMENT_INIT {sizeof(bantam_placement), 0, 0, NULL, 0, -1, NULL, NULL}

/* The number of operators that a driver was asked about; 0 where there is no driver, so that all
 * run on the CPU path, and while the session is in use. */
size_t bantam_session_op_count(const bantam_session *session);
bantam_status bantam_session_placement(const bantam_session *session, size_t index,
                                       bantam_placement *placement, bantam_error **error);
/* All of it in one line, for people. Lives until the session is resized or freed. "" while the
 * session is in use. */
const char *bantam_session_summary(const bantam_session *session);
/* All of it, and what happened in runs so far (calls that failed, operators that moved to the CPU
 * path), as one JSON object, whose form docs/c-api.md states. Freed with bantam_string_free(). */
bantam_status bantam_session_report(const bantam_session *session, char **json,
                                    bantam_error **error);
void bantam_string_free(char *text);

/* -------------------------------------------------------------- conversion */

typedef struct bantam_convert_options {
  size_t struct_size;
  /* "float", "int8", "int8-only", "dynamic-range", "float16", "int16x8", "int16x8-only" or
   * "weight-only". NULL is the recipe's, or "int8". */
  const char *mode;
  /* "f32", "int8", "uint8" or "int16". NULL is the mode's. */
  const char *input_type;
  const char *output_type;
  /* The text of a recipe, TOML or JSON, see docs/recipes.md; "best" for int8 as accurate as it
   * gets. NULL for none. */
  const char *recipe;
  /* The entry point to convert; NULL for the first subgraph. */
  const char *signature;
  /* How many samples `sample` gives. */
  size_t sample_count;
  /* The most threads; 0 is 1. */
  uint32_t threads;
  /* With a target: by how many steps the integers of a result may change; -1 for any number. */
  int32_t allow_inexact;
  /* The accelerator that the result is for, by its name, such as "edgetpu", or by the path of its
   * pack, see docs/targets.md: what it refuses of the first subgraph is rewritten where that helps,
   * before quantization and after. NULL for none. */
  const char *target;
} bantam_convert_options;
#define BANTAM_CONVERT_OPTIONS_INIT \
  {sizeof(bantam_convert_options), NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL}

/* Fills one buffer for each input of the model, whose content is zero, with sample `index`. Called with any index below
 * sample_count, in any order, perhaps more than once, by one thread at a time. Non-zero stops the
 * conversion with BANTAM_CANCELLED. */
typedef int32_t (*bantam_sample_fn)(void *user, size_t index, const bantam_output *inputs,
                                    size_t inputs_len);

/* Converts a float model. `sample` may be NULL for modes that need no samples. `report`, if not
 * NULL, gets a JSON object that says what became of each operator and why, whose form
 * docs/c-api.md states; freed with bantam_string_free(). */
bantam_status bantam_convert(const bantam_model *model, const bantam_convert_options *options,
                             bantam_sample_fn sample, void *user, bantam_model **converted,
                             char **report, bantam_error **error);

/* ------------------------------------------------------ external delegate */

/* What TensorFlow Lite's runtimes look up in a library that is an external delegate. Other programs
 * may call them as well, and hand the result to TfLiteInterpreterOptionsAddDelegate().
 *
 * `count` keys and values, which are copied, are the options of docs/interop.md. NULL where one of
 * them cannot be used, or the driver cannot be had; `report`, which may be NULL, is told why first.
 * One delegate may serve any number of interpreters, on any threads, and outlives them all. */
struct TfLiteDelegate;
struct TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                     void (*report)(const char *message));
/* Frees it. NULL does nothing. */
void tflite_plugin_destroy_delegate(struct TfLiteDelegate *delegate);

#ifdef __cplusplus
}
#endif
#endif
