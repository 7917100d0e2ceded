/* What the sample loop needs from the place it runs in: a host process or a bare simulated core. */
#ifndef INTAGLIO_HARNESS_H
#define INTAGLIO_HARNESS_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of known pattern before and after the arena: a write there is reported. */
#define HARNESS_GUARD_BYTES 256u
#define HARNESS_GUARD_PATTERN 0xC5u

/* Working memory starts as garbage, so that a read before the first write shows in the outputs. */
#define HARNESS_GARBAGE 0xA5u

/* The stream that comes back: records of four words (kind, a, b, payload bytes), then the payload. */
enum harness_record {
    HARNESS_TENSOR = 1,   /* a: 0 input, 1 output; b: index; payload: dtype, bytes, rank, shape */
    HARNESS_TRACE = 2,    /* a: layer; b: output of the layer; payload: its bytes */
    HARNESS_OUTPUT = 3,   /* a: index; payload: its bytes */
    HARNESS_DONE = 4,     /* a: status of invoke; b: stack bytes that it used, 0 where not measured */
    HARNESS_OVERRUN = 5,  /* a: 0 before, 1 after the arena; b: distance in bytes */
    HARNESS_MISMATCH = 6, /* a: input index; b: bytes or dtype expected */
    HARNESS_FAULT = 7     /* a: program counter; b: fault status register */
};

void harness_read(void *to, uint32_t bytes);
void harness_write(const void *from, uint32_t bytes);
_Noreturn void harness_exit(int status);

/* `bytes` of memory aligned to 8, with HARNESS_GUARD_BYTES writable bytes on each side. */
uint8_t *harness_arena(uint32_t bytes);
/* Closes and opens the guards around the arena to the library, where the place can enforce that. */
void harness_seal(uint8_t *arena, uint32_t bytes, int sealed);
/* Runs `invoke`, and stores the stack that it used. */
int harness_invoke(int (*invoke)(void *arena), void *arena, uint32_t *stack);

void harness_record(uint32_t kind, uint32_t a, uint32_t b, const void *data, uint32_t bytes);
void harness_trace(int layer, int output, const void *data, uint32_t bytes);
void harness_main(void);

#endif
