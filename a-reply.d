reply.o: shared/reply.h shared/banned.h shared/buf.h shared/arena.h \
 shared/err.h
shared/banned.h:
shared/buf.h:
shared/arena.h:
shared/err.h:
