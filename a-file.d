file.o: shared/file.h shared/banned.h shared/arena.h shared/err.h
shared/banned.h:
shared/arena.h:
shared/err.h:
