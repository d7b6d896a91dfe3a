field.o: shared/field.h shared/banned.h shared/arena.h shared/err.h
shared/banned.h:
shared/arena.h:
shared/err.h:
