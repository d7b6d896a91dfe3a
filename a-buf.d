buf.o: shared/buf.h shared/banned.h shared/arena.h
shared/banned.h:
shared/arena.h:
