/* A libedgetpu without a chip, laid out like the one of 2020: tensors 104 bytes apart, registrations of 64 bytes by value, one
 * claim for each operator, its context under number 2. The "chip" adds one to what it is given. */
#ifndef TENSOR_BYTES
#define TENSOR_BYTES 104
#endif
#include "layout.h"

#ifndef FAULT
#define FAULT ""
#endif
#ifndef VERSION
#define VERSION "BuildLabel(COMPILER=0,DATE=redacted,TIME=redacted,CL_NUMBER=317268237), RuntimeVersion(13)"
#endif

/* What tests set and read. */
EXPORT int fake_devices = 2, fake_fails = 0, fake_open = 0, fake_created = 0, fake_level = 0, fake_freed_kernels = 0;
EXPORT char fake_options[256], fake_path[256];

typedef struct { int bus; const char *path; } device;
typedef struct { const char *name, *value; } option;
typedef struct { delegate base; void *member_of_the_subclass; } made_delegate;

static bool has(const char *fault) { return strcmp(FAULT, fault) == 0; }

EXPORT device *edgetpu_list_devices(size_t *count) {
  static const device all[] = {{1, "/sys/bus/usb/devices/9-1"}, {1, "/sys/bus/usb/devices/9-2"}, {0, "/dev/apex_7"}, {5, "/new"}};
  device *list;
  *count = (size_t)fake_devices;
  if (fake_devices == 0) return NULL;
  list = malloc(sizeof all);
  memcpy(list, all, sizeof all);
  return list;
}
EXPORT void edgetpu_free_devices(device *list) { free(list); }
EXPORT void edgetpu_verbosity(int level) { fake_level = level; }
EXPORT const char *edgetpu_version(void) { return VERSION; }

static tensor *at(context *c, int index) { return (tensor *)((char *)c->tensors + (size_t)index * TENSOR_BYTES); }

static bool is_right(context *c, const tensor *t) {
  if (t->type == UINT8 || t->type == INT8 || (t->type == INT16 && t->is_variable)) return true;
  c->report(c, "Unsupported data type in custom op handler: %d", t->type);
  return false;
}

static void *init(context *c, const char *buffer, size_t length) {
  const params *p = (const params *)buffer;
  node *original;
  registration *what;
  if (length != 0 || p->nodes->size != 1) abort();
  c->get_node(c, p->nodes->data[0], &original, &what);
  return calloc(1, 1);
}
static void release(context *c, void *data) {
  (void)c;
  free(data);
  fake_freed_kernels++;
}
static int prepare(context *c, node *n) {
  int i;
  if (c->get_external(c, 2) == NULL) return FAILED;
  for (i = 0; i < n->inputs->size; i++)
    if (!is_right(c, at(c, n->inputs->data[i]))) return FAILED;
  for (i = 0; i < n->outputs->size; i++)
    if (!is_right(c, at(c, n->outputs->data[i]))) return FAILED;
  return has("prepare") ? FAILED : OK;
}
/* A variable is what the chip kept: it counts the runs, and counts in the result. */
static int invoke(context *c, node *n) {
  const tensor *x = at(c, n->inputs->data[0]);
  int kept = 0, i;
  size_t k;
  if (has("aborts")) abort();
  if (fake_fails > 0) {
    fake_fails--;
    c->report(c, "transfer failed: %s", "no such device");
    return FAILED;
  }
  for (i = 1; i < n->inputs->size; i++) {
    tensor *state = at(c, n->inputs->data[i]);
    if (!state->is_variable) continue;
    if (state->type == INT16) kept += ((int16_t *)state->data)[0]++;
    else kept += ((int8_t *)state->data)[0]++;
  }
  for (i = 0; i < n->outputs->size; i++) {
    tensor *y = at(c, n->outputs->data[i]);
    for (k = 0; k < y->bytes; k++) ((uint8_t *)y->data)[k] = (uint8_t)(((uint8_t *)x->data)[k % x->bytes] + 1 + kept);
  }
  return OK;
}
static int look(context *c, delegate *d) {
  registration kernel = {init, release, prepare, invoke, NULL, 0, "EdgeTpuDelegateForCustomOp", 1};
  ints *plan;
  int i, status = OK;
  c->set_external(c, 2, d->data);
  if (c->get_plan(c, &plan) != OK) return FAILED;
  plan = array(plan->size, plan->data);
  for (i = 0; i < plan->size && status == OK; i++) {
    node *n;
    registration *what;
    ints *one = array(1, &plan->data[i]);
    status = c->get_node(c, plan->data[i], &n, &what);
    if (status == OK && what->custom_name != NULL && strcmp(what->custom_name, "edgetpu-custom-op") == 0)
      status = c->replace(c, kernel, one, d);
    free(one);
  }
  free(plan);
  return status;
}

EXPORT delegate *edgetpu_create_delegate(int bus, const char *path, const option *options, size_t count) {
  made_delegate *made;
  size_t i;
  (void)bus;
  if (count > 0 && path == NULL) abort();
  fake_options[0] = 0;
  for (i = 0; i < count; i++) {
    strcat(strcat(fake_options, options[i].name), "=");
    strcat(strcat(fake_options, options[i].value), ";");
  }
  if (has("null")) return NULL;
  snprintf(fake_path, sizeof fake_path, "%s", path ? path : "any");
  made = calloc(1, sizeof *made);
  made->base.data = made;
  made->base.prepare = look;
  made->base.flags = 1;
  made->member_of_the_subclass = made;
  fake_open++, fake_created++;
  return &made->base;
}
#ifndef WITHOUT_FREE
EXPORT void edgetpu_free_delegate(delegate *d) {
  fake_open--;
  free(d);
}
#endif
