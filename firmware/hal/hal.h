/* What the agent needs of a microcontroller. One driver per peripheral IP stands behind each group of
 * functions; which of them is linked, and on which addresses it works, is the board's data. Nothing here
 * allocates, and nothing here computes in floating point. */
#ifndef INTAGLIO_HAL_H
#define INTAGLIO_HAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Facts of the board that the firmware was built for. */
struct hal_board {
    const char *name;   /* as `intaglio build --board` spells it */
    const char *core;   /* cortex-m0 ... */
    uint32_t baud;      /* of the serial line, 8N1 */
    uint32_t rx_window; /* bytes that the host may have sent and that hal_serial_read has not returned yet */
    uint32_t clock_hz;  /* of the core */
};

extern const struct hal_board hal_board;

enum hal_fault_kind {
    HAL_FAULT_HARD = 1,     /* HardFault, and what escalates to it */
    HAL_FAULT_WATCHDOG = 2, /* the watchdog's warning interrupt: nothing fed it for a whole period */
    HAL_FAULT_PANIC = 3     /* hal_panic */
};

/* The registers at the fault. Those that the core does not have (Armv6-M: cfsr, hfsr, mmfar, bfar) are 0; so
 * are r0 to xpsr when the stack pointer was outside RAM and there was no frame to read. */
struct hal_fault {
    uint32_t kind; /* enum hal_fault_kind */
    uint32_t r0, r1, r2, r3, r12, lr, pc, xpsr;
    uint32_t sp; /* before the exception */
    uint32_t exc_return;
    uint32_t cfsr, hfsr, mmfar, bfar;
};

/* Brings up clock, time, serial line and watchdog. Called once, before anything else here. */
void hal_init(void);

/* Copies what the receive interrupt has put in the ring, at most `room` bytes; returns how many. Never
 * blocks. */
size_t hal_serial_read(uint8_t *to, size_t room);

/* Returns when all bytes have been handed to the transmitter. Reception goes on meanwhile. */
void hal_serial_write(const uint8_t *from, size_t length);

/* Bytes that reception has lost since boot: by an overrun of the peripheral, or a host that overran
 * rx_window. */
uint32_t hal_serial_lost(void);

/* Microseconds since hal_init; never goes back. */
uint64_t hal_time_us(void);

/* Free-running cycle counter; 0 for ever where the core has none. */
uint32_t hal_cycles(void);

/* Most bytes of stack ever used: start-up paints the stack. */
uint32_t hal_stack_peak(void);

/* Sleeps until the next interrupt; returns at once when received bytes wait to be read. */
void hal_idle(void);

/* Call it whenever work has been done; a board that is not fed for its watchdog's period resets. */
void hal_watchdog_feed(void);

_Noreturn void hal_reset(void);

/* Writes the chip's unique id, at most `room` bytes; returns how many, 0 where the chip has none. */
size_t hal_unique_id(uint8_t *to, size_t room);

/* The fault that ended the last boot: true once, then forgotten. */
bool hal_fault_take(struct hal_fault *fault);

/* Records the caller's address as a HAL_FAULT_PANIC and resets. */
_Noreturn void hal_panic(void);

#endif
