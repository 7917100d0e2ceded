/* The sample loop as a process: `program MODEL IN OUT`, the index of a linked model and two files. */
#include "harness.h"
#include INTAGLIO_HEADER

#include <stdio.h>
#include <stdlib.h>

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

const struct intaglio_model *harness_model;

static FILE *input_file;
static FILE *output_file;

void harness_read(void *to, uint32_t bytes) {
    if (fread(to, 1, bytes, input_file) != bytes) {
        fputs("harness: the input file ends too early\n", stderr);
        exit(2);
    }
}

void harness_write(const void *from, uint32_t bytes) {
    if (fwrite(from, 1, bytes, output_file) != bytes) {
        perror("harness: output file");
        exit(2);
    }
}

_Noreturn void harness_exit(int status) {
    if (fclose(output_file) != 0) {
        perror("harness: output file");
        status = 2;
    }
    exit(status);
}

uint8_t *harness_arena(uint32_t bytes) {
    uint8_t *block = malloc(bytes + 2u * HARNESS_GUARD_BYTES);
    if (block == NULL) {
        fputs("harness: no memory for the arena\n", stderr);
        exit(2);
    }
    return block + HARNESS_GUARD_BYTES;
}

void harness_seal(uint8_t *arena, uint32_t bytes, int sealed) {
    if (sealed) {
        ASAN_POISON_MEMORY_REGION(arena - HARNESS_GUARD_BYTES, HARNESS_GUARD_BYTES);
        ASAN_POISON_MEMORY_REGION(arena + bytes, HARNESS_GUARD_BYTES);
    } else {
        ASAN_UNPOISON_MEMORY_REGION(arena - HARNESS_GUARD_BYTES, HARNESS_GUARD_BYTES);
        ASAN_UNPOISON_MEMORY_REGION(arena + bytes, HARNESS_GUARD_BYTES);
    }
}

int harness_invoke(int (*invoke)(void *arena), void *arena, uint32_t *stack) {
    *stack = 0;
    return invoke(arena);
}

int main(int argc, char **argv) {
    static const struct intaglio_model *const models[] = {HARNESS_MODELS};
    if (argc != 4) {
        fputs("harness: program MODEL IN OUT\n", stderr);
        return 2;
    }
    harness_model = models[strtoul(argv[1], NULL, 10)];
    input_file = fopen(argv[2], "rb");
    output_file = fopen(argv[3], "wb");
    if (input_file == NULL || output_file == NULL) {
        perror("harness: file");
        return 2;
    }
    harness_main();
}
