/* QEMU's mps2-an386, a Cortex-M4F, as a platform: start-up, and printing by semihosting. No C library. */

#include "platform.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];
int main(void);

static int semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void put(char character) {
    semihosting(0x03, &character); /* SYS_WRITEC */
}

void print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
        } else if (*++format == 's') {
            for (const char *text = va_arg(arguments, const char *); *text; text++) put(*text);
        } else {
            unsigned value = va_arg(arguments, unsigned);
            char digits[10];
            int count = 0;
            do digits[count++] = (char)('0' + value % 10);
            while (value /= 10);
            while (count) put(digits[--count]);
        }
    }
    va_end(arguments);
}

static void leave(int code) {
    const uint32_t argument[2] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
    semihosting(0x20, argument);                            /* SYS_EXIT_EXTENDED */
    for (;;) {
    }
}

void reset(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* CPACR: the floating-point unit on */
    __asm__ volatile("dsb\n isb");
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++) *to = *from++;
    for (uint32_t *to = bss_start; to < bss_end; to++) *to = 0;
    leave(main());
}

static void fault(void) {
    print("a fault\n");
    leave(2);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_top, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault,
};
