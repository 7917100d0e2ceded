#include "hal.h"
#include "watchdog.h"

void watchdog_start(void) {
}

void hal_watchdog_feed(void) {
}
