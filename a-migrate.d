migrate.o: shared/migrate.h shared/banned.h shared/db.h shared/arena.h \
 shared/err.h
shared/banned.h:
shared/db.h:
shared/arena.h:
shared/err.h:
