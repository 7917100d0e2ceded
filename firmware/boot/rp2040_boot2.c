/* Second stage for the RP2040 (data sheet, 2.8.1.3 and 4.10). The boot ROM copies the first 256 bytes of
 * flash to the top of SRAM, checks their CRC-32 and calls them. This one maps the flash for execution in
 * place with the serial read command 03h, which every SPI NOR flash knows, and enters the program behind it.
 * It is position independent, without data and without calls, since it does not run where it is linked. */
#include "mmio.h"

#define SSI 0x18000000u
#define CTRLR0 REG(SSI + 0x00u)
#define SSIENR REG(SSI + 0x08u)
#define BAUDR REG(SSI + 0x14u)
#define SPI_CTRLR0 REG(SSI + 0xF4u)

#define PROGRAM 0x10000100u
#define VTOR REG(0xE000ED08u)

/* Standard SPI frames of 32 bits, EEPROM-read mode: send command and address, then read. */
#define CTRLR0_READ ((31u << 16) | (3u << 8))
/* Command 03h in 8 bits, 24 bits of address (in units of 4), all on one line. */
#define SPI_CTRLR0_READ ((0x03u << 24) | (2u << 8) | (6u << 2))
/* Of 125 MHz: 31 MHz, below the 50 MHz that 03h allows. */
#define DIVIDER 4u

__attribute__((section(".boot2"), used, noreturn)) void boot2(void) {
    SSIENR = 0u;
    BAUDR = DIVIDER;
    CTRLR0 = CTRLR0_READ;
    REG(SSI + 0x04u) = 0u; /* CTRLR1: one frame a read */
    SPI_CTRLR0 = SPI_CTRLR0_READ;
    SSIENR = 1u;
    VTOR = PROGRAM;
    __asm__ volatile("ldr r0, [%0]\n\t"
                     "ldr r1, [%0, #4]\n\t"
                     "msr msp, r0\n\t"
                     "bx r1" ::"r"(PROGRAM)
                     : "r0", "r1");
    __builtin_unreachable();
}
