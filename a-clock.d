clock.o: shared/clock.h shared/banned.h
shared/banned.h:
