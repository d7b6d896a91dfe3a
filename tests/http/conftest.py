import pytest

from shop import Shop
from stack import Stack


@pytest.fixture(scope="session")
def stack():
    stack = Stack()
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


def pytest_collection_modifyitems(items):
    """What the other tests left in the logs is looked at in the end."""
    items.sort(key=lambda item: item.path.name == "test_log.py")


def pytest_runtest_setup():
    for stack in Stack.running:
        stack.mark_logs()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    report = (yield).get_result()
    if report.failed:
        for stack in Stack.running:
            report.sections.append(("log of the services", stack.logs_since_mark()))
