// What the web runtime has instead of an operating system: no files, no environment, no exceptions.
#include <stdint.h>
#include <stdlib.h>

void __wasm_call_ctors(void);

// Called once, before anything else, by whoever has instantiated the module (the reactor ABI).
void _initialize(void) { __wasm_call_ctors(); }

// Nothing catches exceptions, as with emscripten's default: TVM has logged the message by now.
void* __cxa_allocate_exception(size_t size) { return malloc(size); }
void __cxa_free_exception(void* exception) { free(exception); }
_Noreturn void __cxa_throw(void* exception, void* type, void (*destroy)(void*)) { abort(); }

// The one thread never ends.
int __cxa_thread_atexit(void (*destroy)(void*), void* object, void* module) { return 0; }

enum { BADF = 8, NOTCAPABLE = 76 };  // WASI preview 1, `errno`

#define WASI(name) __imported_wasi_snapshot_preview1_##name

// Instead of imports: the module asks its host for `fd_write`, `clock_time_get` and `proc_exit`.
int WASI(environ_sizes_get)(int32_t count, int32_t size) {
  *(uint32_t*)count = *(uint32_t*)size = 0;
  return 0;
}
int WASI(environ_get)(int32_t list, int32_t texts) { return 0; }
int WASI(fd_close)(int32_t fd) { return BADF; }
int WASI(fd_read)(int32_t fd, int32_t pieces, int32_t count, int32_t done) { return BADF; }
int WASI(fd_seek)(int32_t fd, int64_t offset, int32_t whence, int32_t at) { return BADF; }
int WASI(fd_fdstat_get)(int32_t fd, int32_t status) { return BADF; }
int WASI(fd_fdstat_set_flags)(int32_t fd, int32_t flags) { return BADF; }
int WASI(fd_prestat_get)(int32_t fd, int32_t status) { return BADF; }
int WASI(fd_prestat_dir_name)(int32_t fd, int32_t name, int32_t size) { return BADF; }
int WASI(path_open)(int32_t fd, int32_t look, int32_t path, int32_t size, int32_t how,
                    int64_t rights, int64_t inherited, int32_t flags, int32_t out) {
  return NOTCAPABLE;
}
