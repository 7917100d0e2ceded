/* Vector table, start-up, and what happens at a fault. */
#include "board.h"
#include "hal.h"
#include "mmio.h"

extern uint32_t ld_stack_top[], ld_stack_bottom[];
extern uint32_t ld_data_from[], ld_data_start[], ld_data_end[], ld_bss_start[], ld_bss_end[];

int main(void);
void hal_serial_irq(void);
void hal_time_irq(void);
void reset_handler(void);
void fault_handler(void);
void fault_record(const uint32_t *frame, uint32_t exc_return);
void default_handler(void);

#define PAINT 0xA5A5A5A5u
/* What reaches the fault handler besides faults is the watchdog's warning: as the NMI, or as an interrupt. */
#define EXCEPTION_NMI 2u
#define EXCEPTION_IRQ 16u
#define FAULT_MAGIC 0x46415531u

/* Kept over a reset: start-up does not clear it. */
static struct {
    uint32_t magic;
    struct hal_fault fault;
} last __attribute__((section(".noinit")));

typedef void (*vector)(void);

/* clang-format off */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector system[15];
    vector irq[HAL_IRQ_COUNT];
} vectors = {
    ld_stack_top,
    {
        reset_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
        0, 0, 0, default_handler, default_handler, 0, default_handler, HAL_SYSTICK_HANDLER,
    },
    {
        [HAL_SERIAL_IRQ] = hal_serial_irq,
#ifdef HAL_TIME_IRQ
        [HAL_TIME_IRQ] = hal_time_irq,
#endif
#ifdef HAL_WATCHDOG_IRQ
        [HAL_WATCHDOG_IRQ] = fault_handler,
#endif
    },
};
/* clang-format on */

__attribute__((naked, noreturn)) void reset_handler(void) {
    /* The stack is painted before anything is on it. */
    __asm__ volatile("ldr r0, =ld_stack_bottom\n"
                     "ldr r1, =ld_stack_top\n"
                     "ldr r2, =0xA5A5A5A5\n"
                     "1: str r2, [r0]\n"
                     "adds r0, #4\n"
                     "cmp r0, r1\n"
                     "bcc 1b\n"
                     "bl start_c\n"
                     ".ltorg\n");
}

void start_c(void);

__attribute__((used)) void start_c(void) {
#ifdef HAL_MVE
    REG(0xE000ED88u) |= 0xF00000u; /* CPACR: the vector extension shares the coprocessor's enable */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
#ifdef HAL_VTOR
    REG(0xE000ED08u) = (uint32_t)(uintptr_t)&vectors;
#endif
    for (uint32_t *from = ld_data_from, *to = ld_data_start; to < ld_data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = ld_bss_start; to < ld_bss_end;) {
        *to++ = 0u;
    }
    (void)main();
    hal_reset();
}

/* A stack that has overflowed is of no use to the handler: it starts at the top again. */
__attribute__((naked)) void fault_handler(void) {
    __asm__ volatile("mov r1, lr\n"
                     "mrs r0, msp\n"
                     "ldr r2, =ld_stack_top\n"
                     "mov sp, r2\n"
                     "ldr r2, =fault_record\n"
                     "bx r2\n"
                     ".ltorg\n");
}

__attribute__((used)) void fault_record(const uint32_t *frame, uint32_t exc_return) {
    struct hal_fault *f = &last.fault;
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    *f = (struct hal_fault){
        .kind =
            exception == EXCEPTION_NMI || exception >= EXCEPTION_IRQ ? HAL_FAULT_WATCHDOG : HAL_FAULT_HARD,
        .sp = (uint32_t)(uintptr_t)frame,
        .exc_return = exc_return,
    };
    if (frame >= ld_stack_bottom && frame + 8 <= ld_stack_top) {
        f->r0 = frame[0];
        f->r1 = frame[1];
        f->r2 = frame[2];
        f->r3 = frame[3];
        f->r12 = frame[4];
        f->lr = frame[5];
        f->pc = frame[6];
        f->xpsr = frame[7];
        f->sp += 32u;
    }
#if HAL_FAULT_REGISTERS
    f->cfsr = REG(0xE000ED28u);
    f->hfsr = REG(0xE000ED2Cu);
    f->mmfar = REG(0xE000ED34u);
    f->bfar = REG(0xE000ED38u);
#endif
    last.magic = FAULT_MAGIC;
    hal_reset();
}

void default_handler(void) {
    hal_panic();
}

_Noreturn void hal_panic(void) {
    last.fault =
        (struct hal_fault){.kind = HAL_FAULT_PANIC, .pc = (uint32_t)(uintptr_t)__builtin_return_address(0)};
    last.magic = FAULT_MAGIC;
    hal_reset();
}

bool hal_fault_take(struct hal_fault *fault) {
    if (last.magic != FAULT_MAGIC) {
        return false;
    }
    last.magic = 0u;
    *fault = last.fault;
    return true;
}

_Noreturn void hal_reset(void) {
    __asm__ volatile("dsb" ::: "memory");
    REG(0xE000ED0Cu) = 0x05FA0004u; /* AIRCR.SYSRESETREQ */
    for (;;) {
    }
}

uint32_t hal_stack_peak(void) {
    const uint32_t *p = ld_stack_bottom;
    while (p < ld_stack_top && *p == PAINT) {
        p++;
    }
    return (uint32_t)((uintptr_t)ld_stack_top - (uintptr_t)p);
}
