// Runs a kernel in OpenCL C on the CPU: the threads of a block one by one, each up to its next
// barrier. What needs more than barriers to be right, such as lockstep, goes wrong here.
// KERNEL is its name, ARGUMENTS what it is called with, SOURCE the file that has it.

#include <stdlib.h>
#include <tgmath.h>
#include <ucontext.h>

#define __kernel
#define __global
#define __local static
#define CLK_LOCAL_MEM_FENCE 0
#define cl_khr_fp16 1
#define convert_int(x) ((int)(x))
#define convert_half(x) ((half)(x))
#define convert_float(x) ((float)(x))
#define max fmax

enum { STACK = 1 << 16 };
typedef _Float16 half;

static ucontext_t scheduler, *threads;
static int now, group[2];

static int get_local_id(int axis) { return axis ? 0 : now; }
static int get_group_id(int axis) { return group[axis]; }
static void barrier(int fence) {
  (void)fence;
  swapcontext(&threads[now], &scheduler);
}

#include SOURCE

static void **given;
static int *is_over;

static void thread(void) {
  KERNEL(ARGUMENTS);
  is_over[now] = 1;
}

static int step(int index) {
  now = index;
  if (!is_over[now]) swapcontext(&scheduler, &threads[now]);
  return !is_over[index];
}

void run(int width, int height, int count, int is_reversed, void **arguments) {
  char *stacks = malloc((size_t)count * STACK);
  threads = malloc(sizeof(ucontext_t) * count);
  is_over = malloc(sizeof(int) * count);
  given = arguments;
  for (group[1] = 0; group[1] < height; group[1]++)
    for (group[0] = 0; group[0] < width; group[0]++) {
      for (int i = 0; i < count; i++) {
        getcontext(&threads[i]);
        threads[i].uc_stack.ss_sp = stacks + (size_t)i * STACK;
        threads[i].uc_stack.ss_size = STACK;
        threads[i].uc_link = &scheduler;
        is_over[i] = 0;
        makecontext(&threads[i], thread, 0);
      }
      for (int running = count; running;) {
        running = 0;
        for (int i = 0; i < count; i++) running += step(is_reversed ? count - 1 - i : i);
      }
    }
  free(is_over);
  free(threads);
  free(stacks);
}
