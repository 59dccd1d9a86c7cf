// malloc for a module with one thread whose memory only grows.
//
// The heap is one run of blocks from __heap_base to the end of memory. A block knows its own size
// and that of the block before it, so a freed one joins its neighbours at once. Free blocks are
// listed by size class; the smallest class with one that fits gives it, and the rest stays free.
// Memory grows by what is missing behind a free last block: tensors of hundreds of megabytes take
// the place they need.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// The glue in JavaScript keeps views of the memory, which end with each growth.
__attribute__((import_module("env"), import_name("emscripten_notify_memory_growth"))) void
memory_has_grown(int32_t memory);

extern unsigned char __heap_base;

typedef struct block {
  uint32_t size;    // of the whole block, a multiple of 16; the lowest bit is set while it is used
  uint32_t before;  // size of the block before, 0 for the first
  struct block* next;  // of its class, while it is free; from here on the caller's while it is used
  struct block* previous;
} block;

enum {
  HEADER = 8,  // blocks begin 8 bytes after a multiple of 16, so that what they hold is aligned
  UNIT = 16,
  PAGE = 65536,
  GROWTH = 1 << 20,  // at least: each growth makes new views in JavaScript
  EXACT = 16,        // classes of one size each, below 256 bytes
  CLASSES = EXACT + 24 * 8,
};
#define LARGEST 0xfff00000u

static block* lists[CLASSES];
static uint64_t has_blocks[(CLASSES + 63) / 64];
static block* end;  // the empty used block that ends the heap, once there is one

static uint32_t size_of(const block* b) { return b->size & ~1u; }
static int is_used(const block* b) { return b->size & 1; }
static block* at(block* b, uintptr_t distance) { return (block*)((uintptr_t)b + distance); }
static block* block_before(block* b) { return (block*)((uintptr_t)b - b->before); }
static void* inside(block* b) { return (char*)b + HEADER; }
static block* around(void* memory) { return (block*)((char*)memory - HEADER); }

// The class of a size: of its own below 256 bytes, one in eight of each power of two above.
static int class_of(uint32_t size) {
  if (size < 256) return size / UNIT;
  int power = 31 - __builtin_clz(size);
  return EXACT + (power - 8) * 8 + (size >> (power - 3) & 7);
}

static void set_size(block* b, uint32_t size, int used) {
  b->size = size | used;
  at(b, size)->before = size;
}

static void enlist(block* b) {
  int class = class_of(size_of(b));
  b->previous = NULL;
  b->next = lists[class];
  if (b->next) b->next->previous = b;
  lists[class] = b;
  has_blocks[class / 64] |= 1ull << class % 64;
}

static void delist(block* b) {
  int class = class_of(size_of(b));
  if (b->next) b->next->previous = b->previous;
  if (b->previous) {
    b->previous->next = b->next;
  } else if (!(lists[class] = b->next)) {
    has_blocks[class / 64] &= ~(1ull << class % 64);
  }
}

// Free a block that is in no list, together with its free neighbours.
static void release(block* b) {
  uint32_t size = size_of(b);
  block* next = at(b, size);
  if (!is_used(next)) {
    delist(next);
    size += size_of(next);
  }
  if (b->before && !is_used(block_before(b))) {
    b = block_before(b);
    delist(b);
    size += size_of(b);
  }
  set_size(b, size, 0);
  enlist(b);
}

// Free what a used block has beyond `size`.
static void trim(block* b, uint32_t size) {
  uint32_t rest = size_of(b) - size;
  if (rest == 0) return;
  set_size(b, size, 1);
  set_size(at(b, size), rest, 1);
  release(at(b, size));
}

// A free block of at least `size` bytes, NULL if there is none.
static block* find(uint32_t size) {
  int class = class_of(size);
  for (block* b = lists[class]; b; b = b->next) {
    if (size_of(b) >= size) return b;
  }
  for (int word = ++class / 64; word < (int)(sizeof(has_blocks) / sizeof(*has_blocks)); ++word) {
    uint64_t found = has_blocks[word];
    if (word == class / 64) found &= ~0ull << class % 64;
    if (found) return lists[word * 64 + __builtin_ctzll(found)];
  }
  return NULL;
}

static void begin_heap(void) {
  uintptr_t first = ((uintptr_t)&__heap_base + UNIT - 1) / UNIT * UNIT + HEADER;
  uintptr_t last = __builtin_wasm_memory_size(0) * PAGE - HEADER;
  if (last < first) {  // the linker left no room between data and the end of memory
    if (__builtin_wasm_memory_grow(0, 1) == SIZE_MAX) return;
    last += PAGE;
  }
  end = (block*)first;
  end->before = 0;
  if (last > first) {
    set_size(end, last - first, 0);
    enlist(end);
    end = (block*)last;
  }
  end->size = 1;
}

// Make room for a block of `size` bytes at the end; 0 if the host refuses.
static int grow(uint32_t size) {
  block* last = end->before ? block_before(end) : NULL;
  uint32_t missing = last && !is_used(last) ? size - size_of(last) : size;
  uint32_t bytes = missing < GROWTH ? GROWTH : missing;
  uint32_t pages = bytes / PAGE + (bytes % PAGE != 0);
  if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) {
    pages = missing / PAGE + (missing % PAGE != 0);
    if (__builtin_wasm_memory_grow(0, pages) == SIZE_MAX) return 0;
  }
  memory_has_grown(0);
  block* added = end;
  end = at(end, (uintptr_t)pages * PAGE);
  end->size = 1;
  set_size(added, pages * PAGE, 1);
  release(added);
  return 1;
}

// A used block of `size` bytes whose inside is aligned to `alignment`, a power of two above 16.
static void* take(size_t size, size_t alignment) {
  if (size > LARGEST - alignment) {
    errno = ENOMEM;
    return NULL;
  }
  uint32_t needed = (size + HEADER + UNIT - 1) / UNIT * UNIT;
  uint32_t sought = needed + (alignment > UNIT ? alignment : 0);
  if (!end) begin_heap();
  block* b = end ? find(sought) : NULL;
  if (!b && end && grow(sought)) b = find(sought);
  if (!b) {
    errno = ENOMEM;
    return NULL;
  }
  delist(b);
  uint32_t gap = -(uintptr_t)inside(b) & (alignment - 1);
  set_size(b, size_of(b), 1);
  if (gap) {
    uint32_t rest = size_of(b) - gap;
    set_size(b, gap, 1);
    set_size(at(b, gap), rest, 1);
    release(b);
    b = at(b, gap);
  }
  trim(b, needed);
  return inside(b);
}

void* malloc(size_t size) { return take(size, UNIT); }

void free(void* memory) {
  if (memory) release(around(memory));
}

void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
  void* memory = malloc(bytes);
  if (memory) memset(memory, 0, bytes);
  return memory;
}

size_t malloc_usable_size(void* memory) { return memory ? size_of(around(memory)) - HEADER : 0; }

void* realloc(void* memory, size_t size) {
  if (!memory) return malloc(size);
  size_t held = malloc_usable_size(memory);
  if (size <= held) {
    trim(around(memory), (size + HEADER + UNIT - 1) / UNIT * UNIT);
    return memory;
  }
  void* moved = malloc(size);
  if (!moved) return NULL;
  memcpy(moved, memory, held);
  free(memory);
  return moved;
}

void* aligned_alloc(size_t alignment, size_t size) {
  return take(size, alignment < UNIT ? UNIT : alignment);
}

void* memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = aligned_alloc(alignment, size);
  return *memory ? 0 : ENOMEM;
}
