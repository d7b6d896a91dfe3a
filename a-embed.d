embed.o: shared/embed.h shared/banned.h
shared/banned.h:
