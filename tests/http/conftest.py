import pathlib

import pytest

from shop import CORS_ORIGIN, Shop
from stack import Stack


@pytest.fixture(scope="session")
def stack():
    stack = Stack(CORS_ORIGIN=CORS_ORIGIN)
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def http(stack):
    """The shop as everybody sees it."""
    return Shop(stack)


@pytest.fixture(scope="session")
def service(stack):
    """The shop as its own services see it, by the internal listener."""
    return Shop(stack, internal=True)


# What the other tests left is looked at in the end; of the replies, when all were run.
LAST = ["test_log.py", "test_every_documented_reply_was_seen",
    "test_every_example_is_one_that_was_returned"]
OWN_RUNS = {"test_crash_points.py", "test_kill.py", "test_disk.py"}    # see tests/run
ALL = {p.name for p in pathlib.Path(__file__).parent.glob("test_*.py")} - OWN_RUNS


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: max([i + 1 for i, name in enumerate(LAST)
        if name in (item.path.name, item.name)], default=0))
    if not ALL <= {item.path.name for item in items}:
        left_out = [item for item in items if item.name in LAST]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_setup():
    for stack in Stack.running:
        stack.mark_logs()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    report = (yield).get_result()
    if report.failed:
        for stack in Stack.running:
            report.sections.append(("log of the services", stack.logs_since_mark()))
