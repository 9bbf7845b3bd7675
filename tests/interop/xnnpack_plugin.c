/* XNNPACK's delegate, out of a libtensorflowlite_c.so, behind the entry points of a plug-in: the
 * real, foreign delegate of the tests. Options: library=PATH, threads=N. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The beginning of XNNPACK's options, which every version has; what follows stays zero. */
struct options {
  int32_t threads;
  uint32_t flags;
  char more[240];
};
enum { SIGNED_8_BIT = 1, UNSIGNED_8_BIT = 2 };

static void (*delete_delegate)(void *);

__attribute__((visibility("default"))) void *tflite_plugin_create_delegate(
    char **keys, char **values, size_t count, void (*report)(const char *)) {
  struct options options = {1, SIGNED_8_BIT | UNSIGNED_8_BIT, {0}};
  void *(*create)(const struct options *);
  const char *path = NULL;
  void *library;
  size_t i;
  for (i = 0; i < count; i++) {
    if (strcmp(keys[i], "library") == 0) path = values[i];
    else if (strcmp(keys[i], "threads") == 0) options.threads = atoi(values[i]);
    else {
      if (report) report("unknown option");
      return NULL;
    }
  }
  library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  if (!library) {
    if (report) report(path ? dlerror() : "option library is missing");
    return NULL;
  }
  create = (void *(*)(const struct options *))dlsym(library, "TfLiteXNNPackDelegateCreate");
  delete_delegate = (void (*)(void *))dlsym(library, "TfLiteXNNPackDelegateDelete");
  if (!create || !delete_delegate) {
    if (report) report("the library has no XNNPACK delegate");
    return NULL;
  }
  return create(&options);
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(void *delegate) {
  if (delegate && delete_delegate) delete_delegate(delegate);
}
