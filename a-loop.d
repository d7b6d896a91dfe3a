loop.o: shared/loop.h shared/banned.h shared/app.h shared/config.h \
 shared/err.h shared/db.h shared/arena.h shared/route.h shared/token.h
shared/banned.h:
shared/app.h:
shared/config.h:
shared/err.h:
shared/db.h:
shared/arena.h:
shared/route.h:
shared/token.h:
