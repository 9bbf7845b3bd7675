/* The example driver with one thing wrong, chosen by FAULT. It is what the loader and the conformance suite must see through. */
#define bantam_driver_get sound_get
#include "driver.c"
#undef bantam_driver_get

#include <stdio.h>
#include <unistd.h>

static bantam_driver broken;
static bool is_late;

static bantam_driver_status null_instance(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  (void)o, (void)n, (void)i, (void)e;
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status any_option(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  (void)n;
  return open_driver(o, 0, i, e);
}
static bantam_driver_status silent_option(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  (void)e;
  return open_driver(o, n, i, NULL);
}
static bantam_driver_status leaky_open(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  if (fopen("/dev/null", "r") == NULL) return fail(e, BANTAM_DRIVER_FAILED, "no file");
  return open_driver(o, n, i, e);
}
static bantam_driver_status fail_open(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  (void)o, (void)n, (void)i;
  return fail(e, BANTAM_DRIVER_FAILED, "the chip does not answer");
}
static bantam_driver_status long_info(bantam_driver_instance *i, bantam_driver_info *n, char **e) {
  bantam_driver_status status = info(i, n, e);
  if (n != NULL) memset((char *)n + sizeof *n - 8, 1, 16), n->alignment = 1, n->min_ops = 1;
  return status;
}
static bantam_driver_status bad_alignment(bantam_driver_instance *i, bantam_driver_info *n, char **e) {
  bantam_driver_status status = info(i, n, e);
  n->alignment = 3;
  return status;
}
static bantam_driver_status trusting_info(bantam_driver_instance *i, bantam_driver_info *n, char **e) {
  (void)e, (void)i;
  memset(n, 0, sizeof *n);
  n->size = sizeof *n, n->alignment = 1, n->min_ops = 1;
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status give_devices(const char *first, const char *second, bantam_driver_on_device f, void *u) {
  bantam_driver_device a = {sizeof a, first, "one"}, b = {sizeof b, second, "two"};
  f(u, &a);
  f(u, &b);
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status twin_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)e;
  return give_devices("cpu:0", "cpu:0", f, u);
}
static bantam_driver_status null_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)e;
  return give_devices("cpu:0", NULL, f, u);
}
static bantam_driver_status latin_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)e;
  return give_devices("cpu:0", "caf\xe9", f, u);
}
static bantam_driver_status short_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)e;
  bantam_driver_device a = {8, "cpu:0", "one"};
  f(u, &a);
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status restless_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)e;
  is_late = !is_late;
  return is_late ? give_devices("cpu:0", "cpu:1", f, u) : give_devices("cpu:1", "cpu:0", f, u);
}
static bantam_driver_status crash_devices(bantam_driver_instance *i, bantam_driver_on_device f, void *u, char **e) {
  (void)i, (void)f, (void)u, (void)e;
  abort();
}
static bantam_driver_on_verdict real;
static void drop_one(void *user, const bantam_driver_verdict *v) {
  if (v->op != 0) real(user, v);
}
static void give_twice(void *user, const bantam_driver_verdict *v) {
  real(user, v);
  real(user, v);
}
static void far_away(void *user, const bantam_driver_verdict *v) {
  bantam_driver_verdict w = *v;
  w.op += 1000;
  real(user, &w);
}
static void strange(void *user, const bantam_driver_verdict *v) {
  bantam_driver_verdict w = *v;
  w.verdict = 9;
  real(user, &w);
}
static void no_reason(void *user, const bantam_driver_verdict *v) {
  bantam_driver_verdict w = *v;
  w.reason = NULL;
  real(user, &w);
}
static void all_good(void *user, const bantam_driver_verdict *v) {
  bantam_driver_verdict w = *v;
  w.verdict = BANTAM_DRIVER_SUPPORTED;
  real(user, &w);
}
static void moody(void *user, const bantam_driver_verdict *v) {
  bantam_driver_verdict w = *v;
  is_late = !is_late;
  if (is_late) w.verdict = BANTAM_DRIVER_UNKNOWN;
  real(user, &w);
}
#define SUPPORTS(name)                                                                                                            \
  static bantam_driver_status supports_##name(bantam_driver_instance *i, const void *m, size_t n, uint32_t s,                      \
                                              bantam_driver_on_verdict f, void *u, char **e) {                                     \
    real = f;                                                                                                                      \
    return supports(i, m, n, s, f == NULL ? NULL : name, u, e);                                                                    \
  }
SUPPORTS(drop_one)
SUPPORTS(give_twice)
SUPPORTS(far_away)
SUPPORTS(strange)
SUPPORTS(no_reason)
SUPPORTS(all_good)
SUPPORTS(moody)
static bantam_driver_status supports_blindly(bantam_driver_instance *i, const void *m, size_t n, uint32_t s,
                                             bantam_driver_on_verdict f, void *u, char **e) {
  (void)n;
  return supports(i, m, (size_t)1 << 40, s, f, u, e);
}
static bantam_driver_status supports_nothing(bantam_driver_instance *i, const void *m, size_t n, uint32_t s,
                                             bantam_driver_on_verdict f, void *u, char **e) {
  return n < 600 ? BANTAM_DRIVER_OK : supports(i, m, n, s, f, u, e);
}
#define COMPILE(name)                                                                                                             \
  static bantam_driver_status compile_##name(bantam_driver_instance *i, const char *d, const void *m, size_t n,                    \
                                             bantam_driver_executable **x, char **e)
COMPILE(any_device) {
  (void)d;
  return compile(i, NULL, m, n, x, e);
}
COMPILE(nothing) {
  (void)i, (void)d, (void)m, (void)n, (void)x, (void)e;
  return BANTAM_DRIVER_OK;
}
COMPILE(silent) {
  (void)e;
  return compile(i, d, m, n, x, NULL);
}
COMPILE(latin) {
  bantam_driver_status status = compile(i, d, m, n, x, e);
  if (status != BANTAM_DRIVER_OK && e != NULL && *e != NULL) (*e)[0] = (char)0xe9;
  return status;
}
COMPILE(needs_error) {
  if (e == NULL) abort();
  return compile(i, d, m, n, x, e);
}
COMPILE(blindly) {
  (void)n;
  return compile(i, d, m, (size_t)1 << 40, x, e);
}
COMPILE(never) {
  (void)i, (void)d, (void)m, (void)n, (void)x;
  return fail(e, BANTAM_DRIVER_REFUSED, "never");
}
COMPILE(strange_status) {
  (void)i, (void)d, (void)m, (void)n, (void)x, (void)e;
  return 42;
}
static char *volatile leaked;
COMPILE(leaky) {
  leaked = malloc(1 << 16);
  for (int i = 0; leaked != NULL && i < 1 << 16; i += 4096) leaked[i] = 1;
  return compile(i, d, m, n, x, e);
}
static bantam_driver_executable *only;
COMPILE(shared) {
  bantam_driver_status status = compile(i, d, m, n, x, e);
  if (status == BANTAM_DRIVER_OK) only = *x;
  return status;
}
#define RUN(name)                                                                                                                 \
  static bantam_driver_status run_##name(bantam_driver_executable *x, const bantam_driver_input *a, size_t n,                      \
                                         const bantam_driver_output *b, size_t m, char **e)
RUN(shared) { return only != NULL && x != NULL ? run(only, a, n, b, m, e) : run(x, a, n, b, m, e); }
RUN(off_by_one) {
  bantam_driver_status status = run(x, a, n, b, m, e);
  if (status == BANTAM_DRIVER_OK && b[0].size > 0) ((uint8_t *)b[0].data)[b[0].size - 1] ^= 1;
  return status;
}
RUN(uneven) {
  bantam_driver_status status = run(x, a, n, b, m, e);
  is_late = !is_late;
  if (status == BANTAM_DRIVER_OK && is_late) ((uint8_t *)b[0].data)[0] ^= 1;
  return status;
}
RUN(accumulates) {
  uint8_t before = m > 0 && b != NULL && b[0].data != NULL ? *(uint8_t *)b[0].data : 0;
  bantam_driver_status status = run(x, a, n, b, m, e);
  if (status == BANTAM_DRIVER_OK) ((uint8_t *)b[0].data)[0] |= before & 1;
  return status;
}
RUN(overruns) {
  bantam_driver_status status = run(x, a, n, b, m, e);
  if (status == BANTAM_DRIVER_OK) ((uint8_t *)b[0].data)[b[0].size] = 0;
  return status;
}
RUN(spoils_input) {
  bantam_driver_status status = run(x, a, n, b, m, e);
  if (status == BANTAM_DRIVER_OK) *(uint8_t *)(uintptr_t)a[0].data ^= 1;
  return status;
}
RUN(aligned) {
  if (n > 0 && a != NULL && a[0].data != NULL && (uintptr_t)a[0].data % 2 != 0) return fail(e, BANTAM_DRIVER_FAILED, "an odd address");
  return run(x, a, n, b, m, e);
}
RUN(trusting) {
  if (x != NULL && n > 0 && a != NULL && a[0].data != NULL && m > 0 && b != NULL && b[0].data != NULL) return BANTAM_DRIVER_OK;
  return run(x, a, n, b, m, e);
}
static bantam_driver_executable *volatile current;
RUN(races) {
  current = x;
  usleep(200);
  return run(current, a, n, b, m, e);
}
static int instances_count;
static bantam_driver_status only_open(const bantam_driver_option *o, size_t n, bantam_driver_instance **i, char **e) {
  if (instances_count > 0) return fail(e, BANTAM_DRIVER_FAILED, "it is open already");
  bantam_driver_status status = open_driver(o, n, i, e);
  if (status == BANTAM_DRIVER_OK) instances_count++;
  return status;
}
static void only_close(bantam_driver_instance *i) {
  if (i != NULL) instances_count--;
  close_driver(i);
}
RUN(dies) {
  (void)x, (void)a, (void)n, (void)b, (void)m, (void)e;
  abort();
}
RUN(segfaults) {
  (void)a, (void)n, (void)b, (void)m, (void)e, (void)x;
  *(volatile int *)16 = 1;
  return 0;
}
RUN(hangs) {
  (void)x, (void)a, (void)n, (void)b, (void)m, (void)e;
  for (;;) pause();
  return BANTAM_DRIVER_OK;
}
RUN(exits) {
  (void)x, (void)a, (void)n, (void)b, (void)m, (void)e;
  printf("goodbye\n");
  exit(3);
}
RUN(prints) {
  printf("{\"this\": \"is not for standard output\"}\n");
  fflush(stdout);
  return run(x, a, n, b, m, e);
}
RUN(fails) {
  (void)x, (void)a, (void)n, (void)b, (void)m;
  return fail(e, BANTAM_DRIVER_FAILED, "the chip is too hot");
}
RUN(lost) {
  (void)x, (void)a, (void)n, (void)b, (void)m;
  return fail(e, BANTAM_DRIVER_DEVICE_LOST, "somebody pulled the plug");
}
static bantam_driver_status wait_for(bantam_driver_executable *x, uint32_t t, char **e) {
  (void)x, (void)t, (void)e;
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status submit_nothing(bantam_driver_executable *x, const bantam_driver_input *a, size_t n,
                                           const bantam_driver_output *b, size_t m, char **e) {
  (void)x, (void)a, (void)n, (void)b, (void)m, (void)e;
  return BANTAM_DRIVER_OK;
}
static bantam_driver_status wait_checked(bantam_driver_executable *x, uint32_t t, char **e) {
  (void)x, (void)t;
  is_late = !is_late;
  return is_late ? fail(e, BANTAM_DRIVER_INVALID, "nothing was submitted") : BANTAM_DRIVER_OK;
}
static bool is_cancelled;
static void cancel_next(bantam_driver_executable *x) {
  (void)x;
  is_cancelled = true;
}
RUN(cancelled_before) {
  if (is_cancelled) {
    is_cancelled = false;
    return fail(e, BANTAM_DRIVER_CANCELLED, "cancelled");
  }
  return run(x, a, n, b, m, e);
}
static bantam_driver_status cost_of(bantam_driver_executable *x, bantam_driver_on_cost f, void *u, char **e) {
  (void)x, (void)e;
  bantam_driver_cost cost = {sizeof cost, "joules", NAN};
  f(u, &cost);
  return BANTAM_DRIVER_OK;
}

#define IS(name) (strcmp(FAULT, name) == 0)

bantam_driver_status bantam_driver_get(uint32_t version, uint32_t *theirs, const bantam_driver **driver) {
  if (IS("ancient")) {
    *theirs = 0;
    return BANTAM_DRIVER_VERSION_MISMATCH;
  }
  if (IS("newer")) {
    *theirs = 7;
    return BANTAM_DRIVER_VERSION_MISMATCH;
  }
  if (IS("any-version") && driver != NULL && theirs != NULL) version = BANTAM_DRIVER_VERSION;
  bantam_driver_status status = sound_get(version, theirs, driver);
  if (status != BANTAM_DRIVER_OK) return status;
  broken = **driver;
  *driver = &broken;
  if (IS("no-table")) *driver = NULL;
  if (IS("short-table")) broken.size = 40;
  if (IS("no-name")) broken.name = NULL;
  if (IS("latin-name")) broken.name = "caf\xe9";
  if (IS("no-compile")) broken.compile = NULL, broken.run = NULL;
  if (IS("wait-alone")) broken.wait = wait_for;
  if (IS("failing-get")) return BANTAM_DRIVER_FAILED;
  if (IS("null-instance")) broken.open = null_instance;
  if (IS("any-option")) broken.open = any_option;
  if (IS("silent-option")) broken.open = silent_option;
  if (IS("leaky-open")) broken.open = leaky_open;
  if (IS("fail-open")) broken.open = fail_open;
  if (IS("long-info")) broken.info = long_info;
  if (IS("bad-alignment")) broken.info = bad_alignment;
  if (IS("trusting-info")) broken.info = trusting_info;
  if (IS("twin-devices")) broken.devices = twin_devices;
  if (IS("null-devices")) broken.devices = null_devices;
  if (IS("latin-devices")) broken.devices = latin_devices;
  if (IS("short-devices")) broken.devices = short_devices;
  if (IS("restless-devices")) broken.devices = restless_devices;
  if (IS("crash-devices")) broken.devices = crash_devices;
  if (IS("verdict-missing")) broken.supports = supports_drop_one;
  if (IS("verdict-twice")) broken.supports = supports_give_twice;
  if (IS("verdict-far")) broken.supports = supports_far_away;
  if (IS("verdict-strange")) broken.supports = supports_strange;
  if (IS("verdict-no-reason")) broken.supports = supports_no_reason;
  if (IS("supports-all")) broken.supports = supports_all_good;
  if (IS("moody")) broken.supports = supports_moody;
  if (IS("supports-blindly")) broken.supports = supports_blindly;
  if (IS("supports-nothing")) broken.supports = supports_nothing;
  if (IS("any-device")) broken.compile = compile_any_device;
  if (IS("compile-nothing")) broken.compile = compile_nothing;
  if (IS("compile-silent")) broken.compile = compile_silent;
  if (IS("compile-latin")) broken.compile = compile_latin;
  if (IS("needs-error")) broken.compile = compile_needs_error;
  if (IS("compile-blindly")) broken.compile = compile_blindly;
  if (IS("compile-never")) broken.compile = compile_never;
  if (IS("strange-status")) broken.compile = compile_strange_status;
  if (IS("leaky")) broken.compile = compile_leaky;
  if (IS("shared-state")) broken.compile = compile_shared, broken.run = run_shared;
  if (IS("off-by-one")) broken.run = run_off_by_one;
  if (IS("uneven")) broken.run = run_uneven;
  if (IS("accumulates")) broken.run = run_accumulates;
  if (IS("overruns")) broken.run = run_overruns;
  if (IS("spoils-input")) broken.run = run_spoils_input;
  if (IS("aligned")) broken.run = run_aligned;
  if (IS("trusting")) broken.run = run_trusting;
  if (IS("races")) broken.run = run_races;
  if (IS("one-instance")) broken.open = only_open, broken.close = only_close;
  if (IS("dies")) broken.run = run_dies;
  if (IS("segfaults")) broken.run = run_segfaults;
  if (IS("hangs")) broken.run = run_hangs;
  if (IS("exits")) broken.run = run_exits;
  if (IS("prints")) broken.run = run_prints;
  if (IS("fails")) broken.run = run_fails;
  if (IS("lost")) broken.run = run_lost;
  if (IS("submit-nothing")) broken.submit = submit_nothing, broken.wait = wait_checked;
  if (IS("cancel-next")) broken.cancel = cancel_next, broken.run = run_cancelled_before;
  if (IS("nan-cost")) broken.cost = cost_of;
  return status;
}
