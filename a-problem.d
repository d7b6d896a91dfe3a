problem.o: shared/problem.h shared/banned.h shared/err.h
shared/banned.h:
shared/err.h:
