banned.o: shared/banned.h shared/banned.h
shared/banned.h:
