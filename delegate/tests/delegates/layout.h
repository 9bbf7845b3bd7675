/* What a delegate of the tests knows of its runtime: the layouts of src/driver/tflite/abi.rs, said once more, in the language of
 * those who write delegates. TENSOR_BYTES is the distance of tensors that the library is compiled with. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TENSOR_BYTES
#define TENSOR_BYTES 112
#endif
#define EXPORT __attribute__((visibility("default")))

enum { OK = 0, FAILED = 1 };
enum { FLOAT32 = 1, UINT8 = 3, INT16 = 7, INT8 = 9 };
enum { CONSTANT = 1 };

typedef struct { int size; int data[]; } ints;
typedef struct { int size; float data[]; } floats;
typedef struct { floats *scale; ints *zero_point; int axis; } affine;
struct context;
struct delegate;
typedef struct {
  int type;
  void *data;
  ints *dims;
  float scale;
  int zero_point;
  int allocation;
  size_t bytes;
  const void *file;
  const char *name;
  struct delegate *delegate;
  int handle;
  bool is_stale, is_variable;
  int quantization_type;
  affine *quantization;
  void *sparsity;
#if TENSOR_BYTES == 112
  ints *signature;
#endif
} tensor;
typedef struct {
  ints *inputs, *outputs, *intermediates, *temporaries;
  void *user_data, *builtin_data;
  const void *custom_data;
  int custom_bytes;
  struct delegate *delegate;
  bool has_side_effect;
} node;
typedef struct {
  void *(*init)(struct context *, const char *, size_t);
  void (*free)(struct context *, void *);
  int (*prepare)(struct context *, node *);
  int (*invoke)(struct context *, node *);
  void *profiling;
  int builtin_code;
  const char *custom_name;
  int version;
} registration;
typedef struct { struct delegate *delegate; ints *nodes, *inputs, *outputs; } params;
typedef struct context {
  size_t tensors_size;
  int (*get_plan)(struct context *, ints **);
  tensor *tensors;
  void *behind;
  int (*resize)(struct context *, tensor *, ints *);
  void (*report)(struct context *, const char *, ...);
  int (*add_tensors)(struct context *, int, int *);
  int (*get_node)(struct context *, int, node **, registration **);
  int (*replace)(struct context *, registration, const ints *, struct delegate *);
  int threads;
  void *(*get_external)(struct context *, int);
  void (*set_external)(struct context *, int, void *);
  bool allows_float16;
  void *profiler;
  void *no_business[5];
  int (*preview)(struct context *, const ints *, params **, int *);
} context;
typedef struct delegate {
  void *data;
  int (*prepare)(struct context *, struct delegate *);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
} delegate;

_Static_assert(sizeof(tensor) == TENSOR_BYTES, "tensor");
_Static_assert(sizeof(registration) == 64 && sizeof(node) == 80 && sizeof(delegate) == 48, "structs");
_Static_assert(offsetof(context, preview) == 152, "context");

static inline ints *array(int size, const int *values) {
  ints *made = malloc(sizeof(int) * (size_t)(size + 1));
  made->size = size;
  memcpy(made->data, values, sizeof(int) * (size_t)size);
  return made;
}
