log.o: shared/log.h shared/banned.h
shared/banned.h:
