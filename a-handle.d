handle.o: shared/handle.h shared/banned.h shared/req.h shared/app.h \
 shared/config.h shared/err.h shared/db.h shared/arena.h shared/route.h \
 shared/token.h shared/field.h shared/reply.h shared/buf.h
shared/banned.h:
shared/req.h:
shared/app.h:
shared/config.h:
shared/err.h:
shared/db.h:
shared/arena.h:
shared/route.h:
shared/token.h:
shared/field.h:
shared/reply.h:
shared/buf.h:
