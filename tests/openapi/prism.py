"""For pytest -p prism: the tests' requests go through @stoplight/prism-cli, a proxy that
holds the replies against nginx/html/openapi.json, and a violation fails the test."""

import http.client
import json
import os
import signal
import subprocess

import pytest

import shop
from contract import FILE
from stack import eventually, free_port, is_open

PRISM = "@stoplight/prism-cli@5.14.2"
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}
checked = 0


class Connection(http.client.HTTPConnection):
    """To prism with what it knows; what it does not goes to nginx as ever."""

    def __init__(self, direct, port):
        super().__init__("127.0.0.1", port, timeout=shop.TIMEOUT)
        self.direct, self.last = direct, self

    def request(self, method, target, body=None, headers={}):
        path, query, rest = target.partition("?")
        if method not in METHODS:
            self.last = self.direct
            self.direct.request(method, target, body, headers)
            return
        self.last = self
        target = (path.rstrip("/") or "/") + query + rest    # it knows no slash at the end
        # It closes what is idle for 5 s without a word.
        super().request(method, target, body, {**headers, "Connection": "close"})

    def getresponse(self):
        global checked
        if self.last is self.direct:
            return self.direct.getresponse()
        response = super().getresponse()
        found = json.loads(response.headers["sl-violations"] or "[]")
        checked += not found
        found = [v for v in found if v["location"][0] == "response"]
        assert not found, found
        return response


@pytest.fixture(scope="session", autouse=True)
def prism(stack):
    port = free_port()
    process = subprocess.Popen(["npx", "--yes", PRISM, "proxy", FILE,
        f"http://127.0.0.1:{stack.http_port}", "-h", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, start_new_session=True)
    eventually(lambda: is_open(port), 120)
    connect = shop.Shop.connect
    shop.Shop.connect = lambda self, tls: connect(self, tls) \
        if self.internal or self.stack is not stack else Connection(connect(self, tls), port)
    yield
    shop.Shop.connect = connect
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)
    print(f"\nprism had nothing to say of {checked} requests and their replies")
    assert checked
