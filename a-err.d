err.o: shared/err.h shared/banned.h
shared/banned.h:
