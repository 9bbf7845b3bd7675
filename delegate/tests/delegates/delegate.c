/* A delegate for TFLite as others write them, and one with something wrong, chosen by FAULT. It adds and multiplies floats of one
 * shape, all operators of a partition in one kernel. */
#include "layout.h"

#ifndef FAULT
#define FAULT ""
#endif
enum { ADD = 0, FULLY_CONNECTED = 9, MUL = 18 };

EXPORT int open_delegates = 0, open_kernels = 0, partitions = 0;

typedef struct { int count; int nodes[64]; ints *taken; } kernel;

static bool has(const char *fault) { return strcmp(FAULT, fault) == 0; }

static void run_node(context *c, const node *n, int code) {
  const tensor *a = &c->tensors[n->inputs->data[0]], *b = &c->tensors[n->inputs->data[1]];
  tensor *y = &c->tensors[n->outputs->data[0]];
  const int activation = *(const int *)n->builtin_data;
  size_t i;
  for (i = 0; i < y->bytes / sizeof(float); i++) {
    float p = ((float *)a->data)[i], q = ((float *)b->data)[i], r = code == ADD ? p + q : p * q;
    ((float *)y->data)[i] = activation == 1 && r < 0 ? 0 : r;
  }
}
static registration own;
static void *init(context *c, const char *buffer, size_t length) {
  const params *p = (const params *)buffer;
  kernel *k = calloc(1, sizeof *k);
  (void)length;
  k->count = p->nodes->size;
  memcpy(k->nodes, p->nodes->data, sizeof(int) * (size_t)k->count);
  open_kernels++;
  if (has("nested") && k->nodes[0] == 0) {
    const int next = 2;
    ints *one = array(1, &next);
    c->replace(c, own, one, p->delegate);
    free(one);
  }
  return k;
}
static void release(context *c, void *data) {
  (void)c;
  free(data);
  open_kernels--;
}
static int prepare(context *c, node *n) {
  (void)c, (void)n;
  return has("kernel-prepare") ? FAILED : OK;
}
static int invoke(context *c, node *n) {
  kernel *k = n->user_data;
  tensor *y = &c->tensors[n->outputs->data[0]];
  int i;
  for (i = 0; i < k->count; i++) {
    node *one;
    registration *what;
    if (c->get_node(c, k->nodes[i], &one, &what) != OK) return FAILED;
    run_node(c, one, what->builtin_code);
  }
  if (has("plan-each-run")) {
    ints *plan;
    return c->get_plan(c, &plan);
  }
  if (has("wipes-data")) y->data = NULL;
  if (has("shrinks-bytes")) y->bytes = 1;
  if (has("grows-output")) {
    const int dims[] = {2, 1000};
    return c->resize(c, y, array(2, dims));
  }
  return OK;
}
static registration own = {init, release, prepare, invoke, NULL, 0, "fixture", 1};

static int resize(context *c, int index, int rank, const int *dims) {
  return c->resize(c, &c->tensors[index], array(rank, dims));
}
static int claim(context *c, delegate *d, int size, const int *nodes) {
  ints *list = array(size, nodes);
  int status = c->replace(c, own, list, d);
  free(list);
  return status;
}
/* What the delegate sees of a FULLY_CONNECTED, as an error message. */
static int describe(context *c, const node *n) {
  const tensor *w = &c->tensors[n->inputs->data[1]];
  const int *data = n->builtin_data;
  c->report(c, "w %s type %d constant %d axis %d scales %d: %g %g; one scale %g; activation %d; first bytes %d %d", w->name, w->type,
            w->allocation == CONSTANT, w->quantization->axis, w->quantization->scale->size, (double)w->quantization->scale->data[0],
            (double)w->quantization->scale->data[1], (double)w->scale, data[0], ((int8_t *)w->data)[0], ((int8_t *)w->data)[1]);
  return FAILED;
}
static int look(context *c, delegate *d) {
  ints *plan, *wanted;
  int i, found, first = -1;
  const int zero = 0, far = 1000, negative = -5, twice[] = {0, 0}, one = 1, none = 0;
  if (has("behind")) return ((volatile int *)c->behind)[146];
  if (has("null-replace")) return c->replace(c, own, NULL, d);
  if (has("far-node")) return claim(c, d, 1, &far);
  if (has("negative-node")) return claim(c, d, 1, &negative);
  if (has("huge-count")) {
    ints *list = array(1, &zero);
    list->size = 0x7fffffff;
    found = c->replace(c, own, list, d);
    free(list);
    return found;
  }
  if (has("negative-count")) {
    ints *list = array(1, &zero);
    list->size = -1;
    found = c->replace(c, own, list, d);
    free(list);
    return found;
  }
  if (has("replace-twice")) return claim(c, d, 1, &zero) == OK ? claim(c, d, 1, &zero) : OK;
  if (has("same-node-twice")) return claim(c, d, 2, twice);
  if (has("replace-kernel")) return claim(c, d, 1, &zero) == OK ? claim(c, d, 1, &(int){4}) : OK;
  if (has("nothing")) return claim(c, d, 0, &none);
  if (has("resize-null")) return c->resize(c, &c->tensors[1], NULL);
  if (has("resize-negative")) return resize(c, 1, 2, (int[]){-1, 5});
  if (has("resize-huge")) return resize(c, 1, 3, (int[]){65536, 65536, 65536});
  if (has("resize-far")) {
    const int dims[] = {1};
    tensor mine;
    memset(&mine, 0, sizeof mine);
    return c->resize(c, &mine, array(1, dims));
  }
  if (has("resize-between")) return c->resize(c, (tensor *)((char *)c->tensors + 8), array(1, &one));
  if (has("resize-constant")) {
    for (i = 0; i < (int)c->tensors_size; i++)
      if (c->tensors[i].allocation == CONSTANT) return resize(c, i, 1, &one);
    return OK;
  }
  if (has("resize-ranks")) {
    ints *many = calloc(1, sizeof(int) * 2);
    many->size = 1 << 20;
    return c->resize(c, &c->tensors[1], many);
  }
  if (has("add-negative")) return c->add_tensors(c, -1, &first);
  if (has("add-many")) return c->add_tensors(c, 0x7fffffff, &first);
  if (has("add-some")) {
    if (c->add_tensors(c, 3, &first) != OK || first + 3 != (int)c->tensors_size) return FAILED;
    c->tensors[first].type = FLOAT32;
    if (resize(c, first, 2, (int[]){4, 5}) != OK || c->tensors[first].bytes != 80) return FAILED;
    memset(c->tensors[first].data, 7, 80);
  }
  if (has("null-plan")) return c->get_plan(c, NULL);
  if (has("null-node")) return c->get_node(c, 0, NULL, NULL);
  if (has("null-preview")) {
    wanted = array(1, &zero);
    found = c->preview(c, wanted, NULL, NULL);
    free(wanted);
    return found;
  }
  if (has("far-external")) {
    c->set_external(c, 99, d), c->set_external(c, -1, d);
    if (c->get_external(c, 99) != NULL || c->get_external(c, -1) != NULL) return FAILED;
  }
  if (has("no-functions")) own = (registration){NULL, NULL, NULL, NULL, NULL, 0, NULL, 1};
  if (has("fails")) {
    c->report(c, "no %s for %d", "chip", 7);
    return FAILED;
  }
  if (has("aborts")) abort();
  if (c->get_plan(c, &plan) != OK) return FAILED;
  wanted = array(plan->size, plan->data);
  found = 0;
  for (i = 0; i < plan->size; i++) {
    node *n;
    registration *what;
    params *previewed;
    (void)previewed;
    if (c->get_node(c, plan->data[i], &n, &what) != OK) return FAILED;
    if (what->builtin_code == FULLY_CONNECTED && has("describe")) return describe(c, n);
    if (what->builtin_code == ADD || what->builtin_code == MUL) wanted->data[found++] = plan->data[i];
  }
  wanted->size = found;
  if (has("nested")) wanted->size = 1;
  {
    params *each;
    int count;
    if (c->preview(c, wanted, &each, &count) != OK) return FAILED;
    partitions = count;
  }
  found = c->replace(c, own, wanted, d);
  free(wanted);
  return found;
}

EXPORT delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  delegate *made;
  if (has("refuses") || (count > 0 && strcmp(keys[0], "device") != 0)) {
    report(count > 0 ? values[0] : "no chip");
    return NULL;
  }
  made = calloc(1, sizeof *made);
  made->prepare = has("opaque") ? NULL : look;
  made->flags = 1;
  open_delegates++;
  return made;
}
EXPORT void tflite_plugin_destroy_delegate(delegate *d) {
  open_delegates--;
  free(d);
}
