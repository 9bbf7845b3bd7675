/*
 * A driver in one file: takes ADD and RELU on int8 and computes them on the CPU, as a start for one that hands them to a chip.
 *
 *     cc -std=c99 -shared -fPIC -I include -o libexample.so driver.c -lm
 *     bantam doctor --conformance ./libexample.so
 *     bantam run model.tflite --driver bantam:./libexample.so ...
 *
 * What to change: `judge` says what the chip takes, `compile` translates the partition, `run` runs it, `devices` finds devices.
 */
#include "bantam_driver.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Texts of errors ---- */

static bantam_driver_status fail(char **error, bantam_driver_status status, const char *text) {
  if (error != NULL) {
    size_t size = strlen(text) + 1;
    *error = malloc(size);
    if (*error != NULL) memcpy(*error, text, size);
  }
  return status;
}

static void error_free(char *error) { free(error); }

/* ---- Reading a .tflite, a flatbuffer: every place is checked, for a model may come from anywhere ---- */

typedef struct {
  const uint8_t *data;
  size_t size;
} bytes_t;

/* A table or a vector, by its place in the file; 0 is none. */
typedef size_t place_t;

static bool in_file(bytes_t file, size_t place, size_t size) { return place <= file.size && size <= file.size - place; }

static uint64_t number(bytes_t file, size_t place, size_t size) {
  uint64_t value = 0;
  if (!in_file(file, place, size)) return 0;
  for (size_t i = 0; i < size; i++) value |= (uint64_t)file.data[place + i] << (8 * i);
  return value;
}

/* Where a field of a table is, or 0 if it has its default. */
static place_t field(bytes_t file, place_t table, unsigned id) {
  if (table == 0 || !in_file(file, table, 4)) return 0;
  int64_t vtable = (int64_t)table - (int32_t)number(file, table, 4);
  if (vtable <= 0 || !in_file(file, (size_t)vtable, 4)) return 0;
  if (number(file, (size_t)vtable, 2) < 6 + 2 * id) return 0;
  uint64_t offset = number(file, (size_t)vtable + 4 + 2 * id, 2);
  return offset == 0 ? 0 : table + (size_t)offset;
}

/* What an offset leads to. */
static place_t follow(bytes_t file, place_t place) {
  if (place == 0 || !in_file(file, place, 4)) return 0;
  size_t to = place + (size_t)number(file, place, 4);
  return in_file(file, to, 4) ? to : 0;
}

static place_t child(bytes_t file, place_t table, unsigned id) { return follow(file, field(file, table, id)); }

/* The number of elements of a vector, all of which are in the file. */
static size_t count(bytes_t file, place_t vector, size_t size) {
  if (vector == 0) return 0;
  size_t length = (size_t)number(file, vector, 4);
  return length <= (file.size - vector - 4) / size ? length : 0;
}

static int64_t scalar(bytes_t file, place_t table, unsigned id, size_t size, int64_t otherwise) {
  place_t place = field(file, table, id);
  if (place == 0) return otherwise;
  uint64_t value = number(file, place, size);
  return size == 1 ? (int8_t)value : size == 4 ? (int32_t)value : (int64_t)value;
}

/* ---- What of a model matters here ---- */

enum { ADD = 0, RELU = 19, INT8 = 9 };

typedef struct {
  place_t place;
  float scale;
  int32_t zero_point;
  size_t size;
  bool is_int8, is_quantized, is_constant;
} tensor_t;

typedef struct {
  bytes_t file;
  place_t model, subgraph, tensors, operators, inputs, outputs;
  size_t tensors_count, operators_count, inputs_count, outputs_count;
} graph_t;

static bool open_graph(const void *model, size_t size, uint32_t index, graph_t *graph) {
  bytes_t file = {(const uint8_t *)model, size};
  if (size < 8 || memcmp(file.data + 4, "TFL3", 4) != 0) return false;
  memset(graph, 0, sizeof *graph);
  graph->file = file;
  graph->model = (place_t)number(file, 0, 4);
  place_t subgraphs = child(file, graph->model, 2);
  if (index >= count(file, subgraphs, 4)) return false;
  graph->subgraph = follow(file, subgraphs + 4 + 4 * (size_t)index);
  if (graph->subgraph == 0) return false;
  graph->tensors = child(file, graph->subgraph, 0);
  graph->inputs = child(file, graph->subgraph, 1);
  graph->outputs = child(file, graph->subgraph, 2);
  graph->operators = child(file, graph->subgraph, 3);
  graph->tensors_count = count(file, graph->tensors, 4);
  graph->inputs_count = count(file, graph->inputs, 4);
  graph->outputs_count = count(file, graph->outputs, 4);
  graph->operators_count = count(file, graph->operators, 4);
  return true;
}

static bool get_tensor(const graph_t *graph, int32_t index, tensor_t *tensor) {
  bytes_t file = graph->file;
  if (index < 0 || (size_t)index >= graph->tensors_count) return false;
  place_t table = follow(file, graph->tensors + 4 + 4 * (size_t)index);
  memset(tensor, 0, sizeof *tensor);
  tensor->place = table;
  tensor->is_int8 = scalar(file, table, 1, 1, 0) == INT8;
  tensor->size = 1;
  place_t shape = child(file, table, 0);
  for (size_t i = 0; i < count(file, shape, 4); i++) {
    int32_t length = (int32_t)number(file, shape + 4 + 4 * i, 4);
    if (length < 0 || (length > 0 && tensor->size > (size_t)INT32_MAX / (size_t)length)) return false;
    tensor->size *= (size_t)length;
  }
  place_t buffers = child(file, graph->model, 4);
  size_t buffer = (size_t)scalar(file, table, 2, 4, 0);
  if (buffer < count(file, buffers, 4)) {
    place_t data = child(file, follow(file, buffers + 4 + 4 * buffer), 0);
    tensor->is_constant = count(file, data, 1) > 0;
  }
  place_t quantization = child(file, table, 4);
  place_t scales = child(file, quantization, 2), zero_points = child(file, quantization, 3);
  tensor->is_quantized = count(file, scales, 4) == 1 && count(file, zero_points, 8) == 1;
  if (tensor->is_quantized) {
    uint32_t bits = (uint32_t)number(file, scales + 4, 4);
    memcpy(&tensor->scale, &bits, 4);
    tensor->zero_point = (int32_t)number(file, zero_points + 4, 8);
    tensor->is_quantized = tensor->scale > 0 && isfinite(tensor->scale) && tensor->zero_point >= -128 && tensor->zero_point <= 127;
  }
  return true;
}

typedef struct {
  int32_t code, operands[2], result;
  size_t operands_count;
  int64_t activation;
} op_t;

static bool get_op(const graph_t *graph, size_t index, op_t *op) {
  bytes_t file = graph->file;
  place_t table = follow(file, graph->operators + 4 + 4 * index);
  place_t codes = child(file, graph->model, 1);
  size_t code = (size_t)scalar(file, table, 0, 4, 0);
  memset(op, 0, sizeof *op);
  op->code = -1;
  if (table == 0 || code >= count(file, codes, 4)) return false;
  place_t entry = follow(file, codes + 4 + 4 * code);
  int64_t old = scalar(file, entry, 0, 1, 0), newer = scalar(file, entry, 3, 4, 0);
  op->code = (int32_t)(newer > old ? newer : old);
  place_t inputs = child(file, table, 1), outputs = child(file, table, 2);
  op->operands_count = count(file, inputs, 4);
  if (op->operands_count < 1 || op->operands_count > 2 || count(file, outputs, 4) != 1) return false;
  for (size_t i = 0; i < op->operands_count; i++) op->operands[i] = (int32_t)number(file, inputs + 4 + 4 * i, 4);
  op->result = (int32_t)number(file, outputs + 4, 4);
  op->activation = scalar(file, child(file, table, 4), 0, 1, 0);
  return true;
}

/* Whether the driver takes an operator; if not, why. `text` is room for figures. */
static bantam_driver_verdict judge(const graph_t *graph, size_t index, char text[2][24]) {
  bantam_driver_verdict verdict;
  memset(&verdict, 0, sizeof verdict);
  verdict.size = sizeof verdict;
  verdict.op = (uint32_t)index;
  verdict.verdict = BANTAM_DRIVER_UNSUPPORTED;
  op_t op;
  bool is_simple = get_op(graph, index, &op);
  if (op.code != ADD && op.code != RELU) {
    verdict.rule = "operator";
    verdict.reason = "only ADD and RELU are taken";
    return verdict;
  }
  tensor_t tensors[3];
  size_t operands = op.code == ADD ? 2 : 1;
  is_simple = is_simple && op.operands_count == operands && get_tensor(graph, op.result, &tensors[0]);
  for (size_t i = 0; is_simple && i < operands; i++) is_simple = get_tensor(graph, op.operands[i], &tensors[1 + i]);
  if (!is_simple) {
    verdict.rule = "operands";
    verdict.reason = "the number of operands or results is not the usual one";
    return verdict;
  }
  for (size_t i = 0; i <= operands; i++) {
    if (!tensors[i].is_int8 || !tensors[i].is_quantized) {
      verdict.rule = "int8";
      verdict.reason = "operands and results must be int8 with one scale";
      return verdict;
    }
    if (tensors[i].size != tensors[0].size) {
      verdict.rule = "no-broadcast";
      verdict.reason = "operands and result must have as many elements";
      snprintf(text[0], sizeof text[0], "%zu", tensors[i].size);
      snprintf(text[1], sizeof text[1], "%zu", tensors[0].size);
      verdict.measured = text[0];
      verdict.limit = text[1];
      return verdict;
    }
    if (tensors[i].is_constant) {
      verdict.rule = "no-constants";
      verdict.reason = "no operand may be a constant";
      return verdict;
    }
  }
  if (op.code == ADD && op.activation != 0) {
    verdict.rule = "no-activation";
    verdict.reason = "ADD must have no fused activation";
    return verdict;
  }
  verdict.verdict = BANTAM_DRIVER_SUPPORTED;
  return verdict;
}

/* ---- The arithmetic of TFLite's reference kernels ---- */

/* value * 2^(exponent - 31) */
typedef struct {
  int32_t value, exponent;
} factor_t;

static factor_t factor_of(double real) {
  factor_t factor = {0, 0};
  int exponent;
  int64_t value = (int64_t)round(frexp(real, &exponent) * 2147483648.0);
  if (value == INT64_C(2147483648)) {
    value /= 2;
    exponent++;
  }
  if (exponent < -31 || exponent > 30) return factor;
  factor.value = (int32_t)value;
  factor.exponent = exponent;
  return factor;
}

static int32_t times(int32_t x, factor_t factor) {
  int32_t shifted = (int32_t)((uint32_t)x << (factor.exponent > 0 ? factor.exponent : 0));
  int64_t product = (int64_t)shifted * factor.value;
  int64_t nudge = product >= 0 ? (INT64_C(1) << 30) : 1 - (INT64_C(1) << 30);
  int32_t high = (int32_t)((product + nudge) / (INT64_C(1) << 31));
  int shift = factor.exponent < 0 ? -factor.exponent : 0;
  int64_t mask = (INT64_C(1) << shift) - 1, rest = high & mask;
  return (int32_t)(high >> shift) + (rest > (mask >> 1) + (high < 0));
}

static int8_t clamp(int32_t x, int32_t low) { return (int8_t)(x < low ? low : x > 127 ? 127 : x); }

/* ---- Instances and executables ---- */

struct bantam_driver_instance {
  int unused;
};

typedef struct {
  int32_t code;
  size_t operands[2], result;
  tensor_t tensors[3];
} step_t;

struct bantam_driver_executable {
  size_t steps_count, inputs_count, outputs_count;
  step_t *steps;
  size_t *inputs, *outputs; /* tensors */
  size_t *sizes;            /* of each tensor */
  int8_t **values;          /* of each tensor */
  size_t values_count;
};

static bantam_driver_status open_driver(const bantam_driver_option *options, size_t options_count, bantam_driver_instance **instance,
                                        char **error) {
  if (instance == NULL || (options == NULL && options_count > 0)) return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  for (size_t i = 0; i < options_count; i++) {
    if (options[i].key == NULL || options[i].value == NULL) return fail(error, BANTAM_DRIVER_INVALID, "an option is NULL");
  }
  if (options_count > 0) return fail(error, BANTAM_DRIVER_BAD_OPTION, "this driver has no options");
  *instance = calloc(1, sizeof **instance);
  return *instance != NULL ? BANTAM_DRIVER_OK : fail(error, BANTAM_DRIVER_FAILED, "out of memory");
}

static void close_driver(bantam_driver_instance *instance) { free(instance); }

static bantam_driver_status info(bantam_driver_instance *instance, bantam_driver_info *info, char **error) {
  if (instance == NULL || info == NULL) return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  if (info->size < sizeof *info) return fail(error, BANTAM_DRIVER_INVALID, "info is too small");
  info->target = NULL;
  info->flags = BANTAM_DRIVER_PARALLEL;
  info->partitions = BANTAM_DRIVER_ALL_PARTITIONS;
  info->min_ops = 1;
  info->alignment = 1;
  return BANTAM_DRIVER_OK;
}

static bantam_driver_status devices(bantam_driver_instance *instance, bantam_driver_on_device on_device, void *user, char **error) {
  if (instance == NULL || on_device == NULL) return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  bantam_driver_device device = {sizeof device, "cpu:0", "the CPU, in place of a chip"};
  on_device(user, &device);
  return BANTAM_DRIVER_OK;
}

static bantam_driver_status supports(bantam_driver_instance *instance, const void *model, size_t model_size, uint32_t subgraph,
                                     bantam_driver_on_verdict on_verdict, void *user, char **error) {
  if (instance == NULL || model == NULL || on_verdict == NULL) return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  graph_t graph;
  if (!open_graph(model, model_size, subgraph, &graph)) return fail(error, BANTAM_DRIVER_REFUSED, "this is no such model");
  for (size_t i = 0; i < graph.operators_count; i++) {
    char text[2][24];
    bantam_driver_verdict verdict = judge(&graph, i, text);
    on_verdict(user, &verdict);
  }
  return BANTAM_DRIVER_OK;
}

static void executable_free(bantam_driver_executable *executable) {
  if (executable == NULL) return;
  for (size_t i = 0; executable->values != NULL && i < executable->values_count; i++) free(executable->values[i]);
  free(executable->values);
  free(executable->sizes);
  free(executable->steps);
  free(executable->inputs);
  free(executable->outputs);
  free(executable);
}

/* The tensors that a vector lists. */
static bool list(const graph_t *graph, place_t vector, size_t length, size_t *indices) {
  for (size_t i = 0; i < length; i++) {
    indices[i] = (size_t)number(graph->file, vector + 4 + 4 * i, 4);
    if (indices[i] >= graph->tensors_count) return false;
  }
  return true;
}

static bool translate(const graph_t *graph, bantam_driver_executable *executable) {
  for (size_t i = 0; i < graph->tensors_count; i++) {
    tensor_t tensor;
    if (!get_tensor(graph, (int32_t)i, &tensor)) return false;
    executable->sizes[i] = tensor.size;
    executable->values[i] = calloc(tensor.size + 1, 1);
    if (executable->values[i] == NULL) return false;
  }
  for (size_t i = 0; i < graph->operators_count; i++) {
    step_t *step = &executable->steps[i];
    op_t op;
    if (!get_op(graph, i, &op) || !get_tensor(graph, op.result, &step->tensors[0])) return false;
    step->code = op.code;
    step->result = (size_t)op.result;
    for (size_t k = 0; k < op.operands_count; k++) {
      if (!get_tensor(graph, op.operands[k], &step->tensors[1 + k])) return false;
      step->operands[k] = (size_t)op.operands[k];
    }
  }
  return list(graph, graph->inputs, graph->inputs_count, executable->inputs) &&
         list(graph, graph->outputs, graph->outputs_count, executable->outputs);
}

static bantam_driver_status compile(bantam_driver_instance *instance, const char *device, const void *model, size_t model_size,
                                    bantam_driver_executable **executable, char **error) {
  if (instance == NULL || model == NULL || executable == NULL) return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  if (device != NULL && strcmp(device, "cpu:0") != 0) return fail(error, BANTAM_DRIVER_NO_DEVICE, "cpu:0");
  graph_t graph;
  if (!open_graph(model, model_size, 0, &graph)) return fail(error, BANTAM_DRIVER_REFUSED, "this is no model");
  for (size_t i = 0; i < graph.operators_count; i++) {
    char text[2][24], message[160];
    bantam_driver_verdict verdict = judge(&graph, i, text);
    if (verdict.verdict == BANTAM_DRIVER_SUPPORTED) continue;
    snprintf(message, sizeof message, "operator %zu: %s", i, verdict.reason);
    return fail(error, BANTAM_DRIVER_REFUSED, message);
  }
  bantam_driver_executable *made = calloc(1, sizeof *made);
  if (made == NULL) return fail(error, BANTAM_DRIVER_FAILED, "out of memory");
  made->steps_count = graph.operators_count;
  made->inputs_count = graph.inputs_count;
  made->outputs_count = graph.outputs_count;
  made->values_count = graph.tensors_count;
  made->steps = calloc(graph.operators_count + 1, sizeof *made->steps);
  made->inputs = calloc(graph.inputs_count + 1, sizeof *made->inputs);
  made->outputs = calloc(graph.outputs_count + 1, sizeof *made->outputs);
  made->sizes = calloc(graph.tensors_count + 1, sizeof *made->sizes);
  made->values = calloc(graph.tensors_count + 1, sizeof *made->values);
  bool has_room = made->steps != NULL && made->inputs != NULL && made->outputs != NULL && made->sizes != NULL && made->values != NULL;
  if (!has_room || !translate(&graph, made)) {
    executable_free(made);
    return fail(error, BANTAM_DRIVER_REFUSED, "the model is broken or too large");
  }
  *executable = made;
  return BANTAM_DRIVER_OK;
}

static void add(const step_t *step, const int8_t *a, const int8_t *b, int8_t *result) {
  const tensor_t *to = &step->tensors[0], *x = &step->tensors[1], *y = &step->tensors[2];
  double twice = 2.0 * (double)(x->scale > y->scale ? x->scale : y->scale);
  factor_t of_a = factor_of(x->scale / twice), of_b = factor_of(y->scale / twice);
  factor_t of_result = factor_of(twice / ((double)(1 << 20) * to->scale));
  for (size_t i = 0; i < to->size; i++) {
    int32_t left = times((a[i] - x->zero_point) * (1 << 20), of_a);
    int32_t right = times((b[i] - y->zero_point) * (1 << 20), of_b);
    result[i] = clamp(times(left + right, of_result) + to->zero_point, -128);
  }
}

static void relu(const step_t *step, const int8_t *a, int8_t *result) {
  const tensor_t *to = &step->tensors[0], *x = &step->tensors[1];
  factor_t scale = factor_of((double)(x->scale / to->scale));
  for (size_t i = 0; i < to->size; i++) result[i] = clamp(times(a[i] - x->zero_point, scale) + to->zero_point, to->zero_point);
}

static bantam_driver_status run(bantam_driver_executable *executable, const bantam_driver_input *inputs, size_t inputs_count,
                                const bantam_driver_output *outputs, size_t outputs_count, char **error) {
  if (executable == NULL || (inputs == NULL && inputs_count > 0) || (outputs == NULL && outputs_count > 0)) {
    return fail(error, BANTAM_DRIVER_INVALID, "a NULL");
  }
  if (inputs_count != executable->inputs_count || outputs_count != executable->outputs_count) {
    return fail(error, BANTAM_DRIVER_INVALID, "the numbers of inputs and outputs are not the partition's");
  }
  for (size_t i = 0; i < inputs_count; i++) {
    if (inputs[i].data == NULL || inputs[i].size != executable->sizes[executable->inputs[i]]) {
      return fail(error, BANTAM_DRIVER_INVALID, "an input is NULL or not of the tensor's size");
    }
  }
  for (size_t i = 0; i < outputs_count; i++) {
    if (outputs[i].data == NULL || outputs[i].size != executable->sizes[executable->outputs[i]]) {
      return fail(error, BANTAM_DRIVER_INVALID, "an output is NULL or not of the tensor's size");
    }
  }
  for (size_t i = 0; i < inputs_count; i++) memcpy(executable->values[executable->inputs[i]], inputs[i].data, inputs[i].size);
  for (size_t i = 0; i < executable->steps_count; i++) {
    const step_t *step = &executable->steps[i];
    int8_t **values = executable->values;
    if (step->code == ADD) {
      add(step, values[step->operands[0]], values[step->operands[1]], values[step->result]);
    } else {
      relu(step, values[step->operands[0]], values[step->result]);
    }
  }
  for (size_t i = 0; i < outputs_count; i++) memcpy(outputs[i].data, executable->values[executable->outputs[i]], outputs[i].size);
  return BANTAM_DRIVER_OK;
}

/* ---- The table ---- */

static const bantam_driver table = {
    sizeof(bantam_driver), "example driver in C", "1.0", open_driver, close_driver, error_free, info, devices, supports, compile,
    executable_free, run, NULL, /* submit */
    NULL,                       /* wait */
    NULL,                       /* cancel */
    NULL,                       /* cost */
};

bantam_driver_status bantam_driver_get(uint32_t version, uint32_t *theirs, const bantam_driver **driver) {
  if (theirs == NULL || driver == NULL) return BANTAM_DRIVER_INVALID;
  *theirs = BANTAM_DRIVER_VERSION;
  if (version != BANTAM_DRIVER_VERSION) return BANTAM_DRIVER_VERSION_MISMATCH;
  *driver = &table;
  return BANTAM_DRIVER_OK;
}
