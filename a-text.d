text.o: shared/text.h shared/banned.h shared/arena.h
shared/banned.h:
shared/arena.h:
