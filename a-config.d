config.o: shared/config.h shared/banned.h shared/err.h
shared/banned.h:
shared/err.h:
