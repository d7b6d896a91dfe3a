json.o: shared/json.h shared/banned.h shared/buf.h shared/arena.h \
 shared/err.h
shared/banned.h:
shared/buf.h:
shared/arena.h:
shared/err.h:
