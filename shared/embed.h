/*
 * A file of the source tree as a string in the program.
 *
 *     EMBED(schema, "handlers/cart/schema.sql");
 */
#ifndef COSTER_EMBED_H
#define COSTER_EMBED_H

#define EMBED(name, path)                                                      \
	extern const char name[];                                              \
	__asm__(".section .rodata\n"                                           \
		".global " #name "\n" #name ":\n"                              \
		".incbin \"" path "\"\n"                                       \
		".byte 0\n"                                                    \
		".previous\n")

#endif
