/* A PJRT plugin for a GPU that is not there: it is the CPU plugin, but writes down each program that it is asked to compile, and
 * refuses it. Go-xla takes a plugin with "cuda" in its path for a CUDA one and builds programs for CUDA; so this library's file is called
 * that, and what it writes down is the program as it would go to a GPU. See compile.py.
 *
 *   cc -shared -fPIC -I "$(go list -m -f '{{.Dir}}' github.com/gomlx/go-xla)/pjrt" -o capture_cuda.so capture.c
 *
 * CAPTURE_PLUGIN names the CPU plugin, CAPTURE_OUT the folder to write to, CAPTURE_DEVICES the number of devices there are.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pjrt_c_api.h"

static PJRT_Api api;                 /* the CPU plugin's, but for two functions */
static PJRT_Client_Create* create;   /* the CPU plugin's own */
static PJRT_Client_Compile* compile;

/* Go-xla gives a CUDA plugin options that a CPU one does not know. */
static PJRT_Error* Create(PJRT_Client_Create_Args* args) {
  const char* n = getenv("CAPTURE_DEVICES");
  PJRT_NamedValue devices = {.struct_size = PJRT_NamedValue_STRUCT_SIZE, .name = "cpu_device_count", .name_size = strlen("cpu_device_count"),
                             .type = PJRT_NamedValue_kInt64, .int64_value = n ? atoi(n) : 1, .value_size = 1};
  PJRT_Client_Create_Args own = *args;
  own.create_options = &devices;
  own.num_options = 1;
  PJRT_Error* error = create(&own);
  args->client = own.client;
  return error;
}

static void Write(const char* folder, int n, const char* suffix, const char* data, size_t size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%d.%s", folder, n, suffix);
  FILE* f = fopen(path, "wb");
  if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
    perror(path);
    exit(1);
  }
}

static PJRT_Error* Compile(PJRT_Client_Compile_Args* args) {
  static int n;
  const char* folder = getenv("CAPTURE_OUT");
  Write(folder, n, "mlir", args->program->code, args->program->code_size);
  Write(folder, n, "options", args->compile_options, args->compile_options_size);
  n++;
  PJRT_Program nothing = *args->program; /* an error can only be made by the plugin itself: of a program that is none */
  nothing.code = "captured";
  nothing.code_size = strlen(nothing.code);
  args->program = &nothing;
  return compile(args);
}

const PJRT_Api* GetPjrtApi(void) {
  const char* path = getenv("CAPTURE_PLUGIN");
  void* plugin = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
  const PJRT_Api* (*get)(void) = plugin ? (const PJRT_Api* (*)(void))dlsym(plugin, "GetPjrtApi") : NULL;
  if (!get) {
    fprintf(stderr, "capture: CAPTURE_PLUGIN=%s: %s\n", path ? path : "", path ? dlerror() : "name the CPU plugin");
    return NULL;
  }
  const PJRT_Api* real = get();
  memcpy(&api, real, real->struct_size < sizeof api ? real->struct_size : sizeof api);
  create = api.PJRT_Client_Create;
  compile = api.PJRT_Client_Compile;
  api.PJRT_Client_Create = Create;
  api.PJRT_Client_Compile = Compile;
  return &api;
}
