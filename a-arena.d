arena.o: shared/arena.h shared/banned.h
shared/banned.h:
