/* The sample loop on a simulated Cortex-M: vector table, semihosting files `in.bin` and `out.bin`. */
#include "harness.h"
#include INTAGLIO_HEADER

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { OPEN_READ_BINARY = 1, OPEN_WRITE_BINARY = 5, APPLICATION_EXIT = 0x20026 };

#define STACK_PATTERN 0xDEADBEEFu
#define MAIN_STACK_WORDS 1024u

uint32_t main_stack[MAIN_STACK_WORDS] __attribute__((aligned(8)));
/* `invoke` runs on a stack of its own, painted before each call: what it used is what it overwrote. */
static uint32_t invoke_stack[HARNESS_STACK_BYTES / 4u] __attribute__((aligned(8), section(".stack")));
static uint64_t arena_block[(INTAGLIO_ARENA_BYTES + 2u * HARNESS_GUARD_BYTES + 7u) / 8u];

static uintptr_t input_file;
static uintptr_t output_file;

static uintptr_t semihost(uintptr_t operation, const void *block) {
    register uintptr_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uintptr_t open_file(const char *name, uintptr_t length, uintptr_t mode) {
    const uintptr_t block[3] = {(uintptr_t)name, mode, length};
    return semihost(SYS_OPEN, block);
}

void harness_read(void *to, uint32_t bytes) {
    const uintptr_t block[3] = {input_file, (uintptr_t)to, bytes};
    if (bytes != 0 && semihost(SYS_READ, block) != 0) {
        harness_exit(2);
    }
}

void harness_write(const void *from, uint32_t bytes) {
    const uintptr_t block[3] = {output_file, (uintptr_t)from, bytes};
    if (semihost(SYS_WRITE, block) != 0) {
        harness_exit(3);
    }
}

_Noreturn void harness_exit(int status) {
    const uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)status};
    for (;;) {
        semihost(SYS_EXIT_EXTENDED, block);
    }
}

uint8_t *harness_arena(uint32_t bytes) {
    if (bytes > INTAGLIO_ARENA_BYTES) {
        harness_exit(4);
    }
    return (uint8_t *)arena_block + HARNESS_GUARD_BYTES;
}

void harness_seal(uint8_t *arena, uint32_t bytes, int sealed) {
    (void)arena;
    (void)bytes;
    (void)sealed;
}

/* Calls invoke(arena) on the stack that ends at `top`. The instruction after the call is where the
   counting plugin stops. Armv6-M instructions only. */
int harness_call_on(void *arena, int (*invoke)(void *arena), uint32_t *top);
__asm__(".syntax unified\n"
        ".pushsection .text.harness_call_on, \"ax\"\n"
        ".align 2\n"
        ".global harness_call_on\n"
        ".global harness_returned\n"
        ".thumb_func\n"
        ".type harness_call_on, %function\n"
        "harness_call_on:\n"
        "    push {r4, lr}\n"
        "    mov r4, sp\n"
        "    mov sp, r2\n"
        "    blx r1\n"
        "harness_returned:\n"
        "    mov sp, r4\n"
        "    pop {r4, pc}\n"
        ".size harness_call_on, . - harness_call_on\n"
        ".popsection\n");

int harness_invoke(int (*invoke)(void *arena), void *arena, uint32_t *stack) {
    const uint32_t words = HARNESS_STACK_BYTES / 4u;
    volatile uint32_t *painted = invoke_stack;
    for (uint32_t i = 0; i < words; i++) {
        painted[i] = STACK_PATTERN;
    }
    const int status = harness_call_on(arena, invoke, invoke_stack + words);
    uint32_t untouched = 0;
    while (untouched < words && painted[untouched] == STACK_PATTERN) {
        untouched++;
    }
    *stack = 4u * (words - untouched);
    return status;
}

void harness_reset(void) {
#if defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: full access to CP10 and CP11 */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    input_file = open_file("in.bin", 6, OPEN_READ_BINARY);
    output_file = open_file("out.bin", 7, OPEN_WRITE_BINARY);
    harness_main();
}

void harness_fault_frame(const uint32_t *frame);
void harness_fault_frame(const uint32_t *frame) {
    harness_record(HARNESS_FAULT, frame[6], *(volatile uint32_t *)0xE000ED28u, NULL, 0);
    harness_exit(0);
}

void harness_fault(void);
__asm__(".pushsection .text.harness_fault, \"ax\"\n"
        ".global harness_fault\n"
        ".thumb_func\n"
        ".type harness_fault, %function\n"
        "harness_fault:\n"
        "    mov r0, sp\n"
        "    ldr r1, =main_stack + 4096\n"
        "    mov sp, r1\n"
        "    ldr r1, =harness_fault_frame\n"
        "    bx r1\n"
        "    .ltorg\n"
        ".popsection\n");

const uintptr_t harness_vectors[16] __attribute__((section(".vectors"), used)) = {
    (uintptr_t)(main_stack + MAIN_STACK_WORDS),
    (uintptr_t)harness_reset,
    (uintptr_t)harness_fault,
    (uintptr_t)harness_fault,
    (uintptr_t)harness_fault,
    (uintptr_t)harness_fault,
    (uintptr_t)harness_fault,
};
