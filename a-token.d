token.o: shared/token.h shared/banned.h shared/arena.h shared/err.h
shared/banned.h:
shared/arena.h:
shared/err.h:
