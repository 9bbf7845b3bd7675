/*
 * bantam_driver.h: what a vendor implements so that Bantam runs parts of a model on its accelerator.
 *
 * A driver is a shared library that exports one function, bantam_driver_get, which returns a table of functions. Bantam asks it
 * which operators it takes, hands it each partition as a .tflite file in memory, and runs what comes of that on its own buffers.
 *
 * Versions. BANTAM_DRIVER_VERSION changes only when an old driver could no longer be understood; a driver refuses a version that
 * it does not speak. Between such changes structures grow at their end. Whoever makes a structure sets its first member, `size`,
 * to the sizeof it was compiled with, and whoever reads or fills it touches no byte beyond. bantam_driver_option,
 * bantam_driver_input and bantam_driver_output have no `size`, stand in arrays, and never grow.
 *
 * Threads. Functions of one instance and of its executables may be called from any thread, but never two at a time, unless the
 * driver sets BANTAM_DRIVER_PARALLEL: then calls on different executables may overlap each other and those on the instance.
 * Two calls on the same executable never overlap but for `cancel`, which may come from any thread during `run` or `wait`.
 * Different instances are independent of each other.
 *
 * Ownership. Every text and array is its maker's. What is passed into a function is valid until it returns and is not kept,
 * except for the buffers of `submit`, which are valid until `wait` returns anything but BANTAM_DRIVER_PENDING. What a driver
 * passes to a callback is valid until the callback returns. Texts in bantam_driver_info are valid until `close`, those in the
 * table for ever. Texts are UTF-8 and end with a NUL.
 *
 * Errors. A function that returns anything but BANTAM_DRIVER_OK and BANTAM_DRIVER_PENDING may set *error to a text that says why,
 * which the caller gives back to `error_free`; it may also leave *error alone. `error` itself may be NULL. No function throws
 * or jumps out, and none ends the process. A NULL where there must be none, or a structure that is too small, is
 * BANTAM_DRIVER_INVALID.
 *
 * The library is never unloaded.
 */
#ifndef BANTAM_DRIVER_H
#define BANTAM_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BANTAM_DRIVER_VERSION 1u

#if defined(_WIN32)
#define BANTAM_DRIVER_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define BANTAM_DRIVER_EXPORT __attribute__((visibility("default")))
#else
#define BANTAM_DRIVER_EXPORT
#endif

/* What a function returns. */
typedef int32_t bantam_driver_status;
enum {
  BANTAM_DRIVER_OK = 0,
  BANTAM_DRIVER_FAILED = 1,      /* this call; the next may succeed */
  BANTAM_DRIVER_REFUSED = 2,     /* the partition cannot be compiled */
  BANTAM_DRIVER_NO_DEVICE = 3,   /* there is no such device */
  BANTAM_DRIVER_DEVICE_LOST = 4, /* the executable is of no more use; compiling again may find the device back */
  BANTAM_DRIVER_BAD_OPTION = 5,  /* an option is unknown, or its value makes no sense */
  BANTAM_DRIVER_CANCELLED = 6,   /* `cancel` ended the run */
  BANTAM_DRIVER_PENDING = 7,     /* of `wait` alone: not yet */
  BANTAM_DRIVER_INVALID = 8,     /* the caller broke this contract */
  BANTAM_DRIVER_VERSION_MISMATCH = 9 /* of bantam_driver_get alone */
};

/* One key=value of the user. Both texts are set. */
typedef struct bantam_driver_option {
  const char *key;
  const char *value;
} bantam_driver_option;

/* The bytes of an input, in this machine's byte order; `data` is not NULL, even where `size` is 0. */
typedef struct bantam_driver_input {
  const void *data;
  size_t size;
} bantam_driver_input;

/* The place for an output, as long as the tensor. It overlaps no other buffer, and every byte of it has been written before. */
typedef struct bantam_driver_output {
  void *data;
  size_t size;
} bantam_driver_output;

/* Bits of bantam_driver_info.flags. */
enum {
  BANTAM_DRIVER_PARALLEL = 1 /* calls on different executables may overlap */
};

/* Which of the possible partitions the driver wants. */
enum {
  BANTAM_DRIVER_ALL_PARTITIONS = 0,
  BANTAM_DRIVER_FIRST_PARTITION = 1
};

/* Who an instance is. The caller sets `size`. */
typedef struct bantam_driver_info {
  size_t size;
  const char *target;  /* the chip, which may be the name of one of Bantam's targets, or NULL */
  uint32_t flags;
  uint32_t partitions; /* BANTAM_DRIVER_ALL_PARTITIONS or BANTAM_DRIVER_FIRST_PARTITION */
  uint32_t min_ops;    /* the fewest operators for which a partition pays, at least 1 */
  uint32_t alignment;  /* of every input and output buffer: a power of two up to 4096; 1 is any address */
} bantam_driver_info;

/* A device. The driver sets `size`. */
typedef struct bantam_driver_device {
  size_t size;
  const char *id;          /* what chooses it, such as "usb:0"; unique within the driver, and the same from call to call */
  const char *description; /* for people */
} bantam_driver_device;

enum {
  BANTAM_DRIVER_UNKNOWN = 0, /* nothing is known; the operator stays on the CPU */
  BANTAM_DRIVER_SUPPORTED = 1,
  BANTAM_DRIVER_UNSUPPORTED = 2
};

/* Whether an operator is taken. The driver sets `size`. */
typedef struct bantam_driver_verdict {
  size_t size;
  uint32_t op;          /* its place in the subgraph */
  uint32_t verdict;     /* BANTAM_DRIVER_UNKNOWN, _SUPPORTED or _UNSUPPORTED */
  const char *rule;     /* the id of the rule, stable over versions, such as "max-rank"; set if unsupported */
  const char *reason;   /* one sentence: what the rule says and what the operator has; set if unsupported, may be set if unknown */
  const char *measured; /* what was measured on the operator, a number or a word, or NULL */
  const char *limit;    /* what the rule allows, or NULL */
} bantam_driver_verdict;

/* One figure of what a run costs. The driver sets `size`. */
typedef struct bantam_driver_cost {
  size_t size;
  const char *name; /* with its unit, such as "cycles" or "bytes_in" */
  double value;     /* finite */
} bantam_driver_cost;

/* Called once for each item, before the function that was given it returns, with the `user` that it was given. */
typedef void (*bantam_driver_on_device)(void *user, const bantam_driver_device *device);
typedef void (*bantam_driver_on_verdict)(void *user, const bantam_driver_verdict *verdict);
typedef void (*bantam_driver_on_cost)(void *user, const bantam_driver_cost *cost);

/* The driver's own. */
typedef struct bantam_driver_instance bantam_driver_instance;
typedef struct bantam_driver_executable bantam_driver_executable;

/* The table. It never changes and is valid for ever. A function is set unless it is said that it may be NULL. */
typedef struct bantam_driver {
  size_t size;
  const char *name;    /* the driver, for people */
  const char *version; /* of the driver */

  /* Opens the driver. An option that it does not know is BANTAM_DRIVER_BAD_OPTION. That no device is there is no error. */
  bantam_driver_status (*open)(const bantam_driver_option *options, size_t options_count, bantam_driver_instance **instance,
                               char **error);
  /* Ends an instance all of whose executables are freed. NULL does nothing. */
  void (*close)(bantam_driver_instance *instance);
  /* Frees the text of an error. NULL does nothing. */
  void (*error_free)(char *error);

  bantam_driver_status (*info)(bantam_driver_instance *instance, bantam_driver_info *info, char **error);
  /* The devices that are there now, in a stable order. */
  bantam_driver_status (*devices)(bantam_driver_instance *instance, bantam_driver_on_device on_device, void *user, char **error);
  /* A verdict for each operator of a subgraph of a .tflite, in any order, each exactly once. `model` is aligned to 16 bytes. */
  bantam_driver_status (*supports)(bantam_driver_instance *instance, const void *model, size_t model_size, uint32_t subgraph,
                                   bantam_driver_on_verdict on_verdict, void *user, char **error);
  /* Makes a partition ready to run: the first subgraph of a .tflite aligned to 16 bytes, whose inputs and outputs are those of
   * the partition. `device` is the id of a device, or NULL for any. */
  bantam_driver_status (*compile)(bantam_driver_instance *instance, const char *device, const void *model, size_t model_size,
                                  bantam_driver_executable **executable, char **error);
  /* Frees an executable that is not running. NULL does nothing. */
  void (*executable_free)(bantam_driver_executable *executable);

  /* Runs once. The buffers are in the partition's order. After a failure the outputs are unspecified. */
  bantam_driver_status (*run)(bantam_driver_executable *executable, const bantam_driver_input *inputs, size_t inputs_count,
                              const bantam_driver_output *outputs, size_t outputs_count, char **error);

  /* Starts a run and returns at once; one at a time for each executable. May be NULL, and then `wait` is as well. */
  bantam_driver_status (*submit)(bantam_driver_executable *executable, const bantam_driver_input *inputs, size_t inputs_count,
                                 const bantam_driver_output *outputs, size_t outputs_count, char **error);
  /* The result of the run that was started, or BANTAM_DRIVER_PENDING if there is none within the time. 0 asks and returns. */
  bantam_driver_status (*wait)(bantam_driver_executable *executable, uint32_t milliseconds, char **error);
  /* Makes the run that is going on return soon, with BANTAM_DRIVER_CANCELLED unless it ends by itself. Does nothing if there
   * is none. May be NULL. */
  void (*cancel)(bantam_driver_executable *executable);

  /* What one run costs by the driver's own reckoning. May be NULL. */
  bantam_driver_status (*cost)(bantam_driver_executable *executable, bantam_driver_on_cost on_cost, void *user, char **error);
} bantam_driver;

/*
 * The one function that a driver exports, with C linkage. Sets *theirs to the version that it speaks, and if that is `version`,
 * *driver to its table; else it returns BANTAM_DRIVER_VERSION_MISMATCH. May be called often, from any thread.
 */
BANTAM_DRIVER_EXPORT bantam_driver_status bantam_driver_get(uint32_t version, uint32_t *theirs, const bantam_driver **driver);

typedef bantam_driver_status (*bantam_driver_get_function)(uint32_t version, uint32_t *theirs, const bantam_driver **driver);

#ifdef __cplusplus
}
#endif

#endif
