"""kill -9, again and again, under load of every kind: nobody notices. FAULTS=full
makes it long."""

import os
import random
import signal
import time

import pytest

from load import Crowd
from stack import SERVICES, Stack, eventually

KILLS = 200 if os.environ.get("FAULTS") == "full" else 12


@pytest.fixture(scope="module")
def stack():
    stack = Stack(COSTER_MAIL_PER_HOUR=100000, COSTER_MAIL_PER_RECIPIENT=100000)
    yield stack
    stack.stop()


def test_nobody_notices_that_instances_are_killed(stack):
    chance = random.Random(1)
    with Crowd(stack) as crowd:
        start = time.monotonic()
        for n in range(KILLS):
            # A request that is repeated must not meet a second dead instance.
            stack.kill(SERVICES[n % len(SERVICES)], chance.choice((1, 2)), signal.SIGKILL)
            if n % len(SERVICES) == len(SERVICES) - 1:
                crowd.go_on()
            if (n + 1) % 20 == 0:
                print(f"\n{n + 1} kill -9", end="", flush=True)
        seconds = time.monotonic() - start
        eventually(lambda: all(crowd.acknowledged.values()) or crowd.faults, 60)
    crowd.check()
    print(f"\n{KILLS} kill -9 in {seconds:.0f} s, {crowd.report()}; nothing lost, nothing twice")
