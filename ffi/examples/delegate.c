/* Runs a model on zeros in TensorFlow Lite, with Bantam as its delegate.
 *
 *   cc delegate.c -lbantam -ltensorflowlite_c -o delegate && ./delegate MODEL.tflite [KEY VALUE]...
 */
#include <stdio.h>
#include <stdlib.h>

#include "bantam.h"

/* What is used of tensorflow/lite/c/c_api.h. */
typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteTensor TfLiteTensor;
TfLiteModel *TfLiteModelCreateFromFile(const char *path);
void TfLiteModelDelete(TfLiteModel *model);
TfLiteInterpreterOptions *TfLiteInterpreterOptionsCreate(void);
void TfLiteInterpreterOptionsAddDelegate(TfLiteInterpreterOptions *, struct TfLiteDelegate *);
void TfLiteInterpreterOptionsDelete(TfLiteInterpreterOptions *options);
TfLiteInterpreter *TfLiteInterpreterCreate(const TfLiteModel *, const TfLiteInterpreterOptions *);
void TfLiteInterpreterDelete(TfLiteInterpreter *interpreter);
int TfLiteInterpreterAllocateTensors(TfLiteInterpreter *interpreter);
int TfLiteInterpreterInvoke(TfLiteInterpreter *interpreter);
int32_t TfLiteInterpreterGetInputTensorCount(const TfLiteInterpreter *interpreter);
TfLiteTensor *TfLiteInterpreterGetInputTensor(const TfLiteInterpreter *, int32_t index);
int32_t TfLiteInterpreterGetOutputTensorCount(const TfLiteInterpreter *interpreter);
const TfLiteTensor *TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter *, int32_t index);
size_t TfLiteTensorByteSize(const TfLiteTensor *tensor);
const char *TfLiteTensorName(const TfLiteTensor *tensor);
int TfLiteTensorCopyFromBuffer(TfLiteTensor *, const void *data, size_t size);

static void say(const char *message) { fprintf(stderr, "%s\n", message); }

static int run(TfLiteInterpreter *interpreter) {
  int32_t i;
  if (TfLiteInterpreterAllocateTensors(interpreter)) return 1;
  for (i = 0; i < TfLiteInterpreterGetInputTensorCount(interpreter); i++) {
    TfLiteTensor *tensor = TfLiteInterpreterGetInputTensor(interpreter, i);
    size_t size = TfLiteTensorByteSize(tensor);
    void *zeros = calloc(size ? size : 1, 1);
    int status = zeros ? TfLiteTensorCopyFromBuffer(tensor, zeros, size) : 1;
    free(zeros);
    if (status) return 1;
  }
  if (TfLiteInterpreterInvoke(interpreter)) return 1;
  for (i = 0; i < TfLiteInterpreterGetOutputTensorCount(interpreter); i++) {
    const TfLiteTensor *tensor = TfLiteInterpreterGetOutputTensor(interpreter, i);
    printf("output %s: %lu bytes\n", TfLiteTensorName(tensor),
           (unsigned long)TfLiteTensorByteSize(tensor));
  }
  return 0;
}

int main(int argc, char **argv) {
  enum { MOST_OPTIONS = 16 };
  char *keys[MOST_OPTIONS], *values[MOST_OPTIONS];
  struct TfLiteDelegate *delegate;
  TfLiteModel *model;
  TfLiteInterpreterOptions *options;
  TfLiteInterpreter *interpreter;
  size_t count = 0;
  int i, failed = 1;

  if (argc < 2 || argc % 2 || argc > 2 + 2 * MOST_OPTIONS) {
    fprintf(stderr, "usage: %s MODEL.tflite [KEY VALUE]...\n", argv[0]);
    return 2;
  }
  for (i = 2; i < argc; i += 2) {
    keys[count] = argv[i];
    values[count++] = argv[i + 1];
  }
  delegate = tflite_plugin_create_delegate(keys, values, count, say);
  if (!delegate) return 1;
  model = TfLiteModelCreateFromFile(argv[1]);
  options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreterOptionsAddDelegate(options, delegate);
  interpreter = model ? TfLiteInterpreterCreate(model, options) : NULL;
  if (interpreter) {
    failed = run(interpreter);
    TfLiteInterpreterDelete(interpreter);
  }
  TfLiteInterpreterOptionsDelete(options);
  if (model) TfLiteModelDelete(model);
  /* After the interpreters that use it. */
  tflite_plugin_destroy_delegate(delegate);
  return failed;
}
