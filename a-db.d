db.o: shared/db.h shared/banned.h shared/arena.h shared/err.h
shared/banned.h:
shared/arena.h:
shared/err.h:
