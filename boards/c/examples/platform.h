/* What the example takes from its platform. */
#ifndef PLATFORM_H
#define PLATFORM_H

/* As printf, with %s and %u alone. */
void print(const char *format, ...);

#endif
