/* The desktop as a platform. */

#include "platform.h"

#include <stdarg.h>
#include <stdio.h>

void print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}
