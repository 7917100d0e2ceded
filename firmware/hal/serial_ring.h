/* The ring between the receive interrupt and hal_serial_read; its driver includes this. */
#ifndef INTAGLIO_SERIAL_RING_H
#define INTAGLIO_SERIAL_RING_H

#include <stdint.h>

/* From the receive interrupt: one byte, dropped and counted when the ring is full. */
void serial_ring_put(uint8_t byte);

/* From the receive interrupt: the peripheral itself has lost bytes. */
void serial_ring_lost(uint32_t bytes);

/* What a driver implements; serial_write returns when the transmitter has taken the byte. */
void serial_start(void);
void serial_write(uint8_t byte);

#endif
