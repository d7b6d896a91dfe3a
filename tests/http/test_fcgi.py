"""Connections, load, and instances that come and go, behind nginx."""

import concurrent.futures
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import time
import uuid

import pytest

from stack import Stopped, eventually

CONNECTIONS = 240


@pytest.fixture(scope="module")
def product(http):
    return http.new_product(stock=None)


def together(count, function):
    """function(0), function(1) … on as many threads; their results in order."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, range(count)))


def raw(stack, text=b"", timeout=20):
    """A connection of nginx's plain port on which text is sent."""
    s = socket.create_connection(("127.0.0.1", stack.http_port), timeout=timeout)
    s.sendall(text)
    return s


def read_status(s):
    """Of the reply that s receives next, read to the end of its header."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = s.recv(4096)
        assert piece, head
        head += piece
    return int(head.split()[1])


def sockets_of(pid):
    links = pathlib.Path(f"/proc/{pid}/fd").iterdir()
    return sum(os.readlink(link).startswith("socket:") for link in links)


def test_idle_connections_starve_nobody(stack, http, product):
    """nginx opens hundreds while the service hangs, and keeps them."""
    get = f"GET /product/{product['id']} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with Stopped(stack, "product"):
        clients = [raw(stack, get) for _ in range(CONNECTIONS)]
    assert {read_status(c) for c in clients} == {200}
    for c in clients:
        c.close()
    assert sum(sockets_of(pid) for pid in stack.pids("product")) >= 200
    for _ in range(50):
        with raw(stack, get, timeout=2) as c:
            assert read_status(c) == 200
    assert sum(sockets_of(pid) for pid in stack.pids("product")) >= 200


def test_200_connections_see_no_error(stack, product):
    url = f"http://127.0.0.1:{stack.http_port}/product/{product['id']}"
    output = subprocess.run(["wrk", "-c200", "-t2", "-d3s", url], check=True, timeout=30,
        capture_output=True, text=True).stdout
    assert "Socket errors" not in output and "Non-2xx" not in output, output
    assert float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]) > 100, output


def test_a_chunked_body_is_read_as_any_other(stack, http):
    action = f"test.{uuid.uuid4().hex}"
    body = f'{{"action":"{action}"}}'.encode()
    head = (b"POST /log HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    with raw(stack, head + chunks) as c:
        assert read_status(c) == 201
    with raw(stack, head + b"200000\r\n" + b" " * 0x200000 + b"\r\n0\r\n\r\n") as c:
        assert read_status(c) == 413
    assert len(http.get(f"/log?action={action}").json["items"]) == 1


GET = b"GET /products HTTP/1.1\r\nHost: a\r\n\r\n"
POST = (b"POST /log HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b'Content-Length: 22\r\n\r\n{"action":"test.half"}')


@pytest.mark.parametrize("text", [b"", b"GET", GET[:-2], POST[:-5], POST[:60], POST, GET,
    GET * 20, b"\x16\x03\x01\x00", b"\r\n" * 100])
def test_clients_that_leave_disturb_nobody(stack, http, text):
    before = stack.pids("stats") + stack.pids("product")
    waiting = [raw(stack, text) for _ in range(10)]
    for _ in range(5):
        http.get("/products?limit=1", expect=200)
        http.post("/log", {"action": "test.whole"}, expect=201)
    for c in waiting[:5]:    # with a reset; the others close as usual
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    for c in waiting:
        c.close()
    for _ in range(5):
        http.get("/products?limit=1", expect=200)
        http.post("/log", {"action": "test.whole"}, expect=201)
    assert stack.pids("stats") + stack.pids("product") == before


@pytest.mark.parametrize("text, status", [
    (b"nonsense\r\n\r\n", 400),
    (b"GET /product/1 HTTP/1.1\r\n\r\n", 400),
    (b"GET /product/1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET /products?q=" + b"x" * 100000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"POST /log HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    (b"POST /log HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
])
def test_nginx_refuses_in_the_same_form(stack, text, status):
    with raw(stack, text) as c:
        c.shutdown(socket.SHUT_WR)
        reply = b""
        while piece := c.recv(65536):
            reply += piece
    head, body = reply.split(b"\r\n\r\n", 1)
    assert int(head.split()[1]) == status
    assert b"Content-Type: application/problem+json" in head and b"X-Request-Id: " in head
    assert b'"status":%d' % status in body and b'"instance":"urn:coster:request:' in body


def test_quick_routes_answer_while_every_worker_is_busy(stack, http):
    """Each of the two carts has four workers, which all wait for payment."""
    product = http.new_product(stock=1000)
    idle, *buyers = [http.new_user() for _ in range(17)]
    for user in buyers:
        http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]}, token=user.token,
            expect=201)

    def checkout(user):
        return http.post(f"/user/{user.id}/cart/checkout", {}, token=user.token,
            headers={"Idempotency-Key": f"checkout-{user.id}"})

    def reserved():
        return 1000 - http.get(f"/product/{product['id']}").json["available"]

    with concurrent.futures.ThreadPoolExecutor(len(buyers)) as pool:
        with Stopped(stack, "payment"):
            running = [pool.submit(checkout, user) for user in buyers]
            eventually(lambda: reserved() >= 8)
            for _ in range(20):
                http.request("GET", f"/user/{idle.id}/cart/", token=idle.token, expect=200)
                http.request("DELETE", f"/user/{idle.id}/cart/", token=idle.token, expect=204)
            assert not any(future.done() for future in running)
        replies = [future.result() for future in running]
    for user, reply in zip(buyers, replies):
        if reply.status != 201:    # it was told to come again
            assert reply.status in (409, 503) and reply.headers["Retry-After"], reply
            eventually(lambda: checkout(user).status == 201)
        invoices = http.get(f"/invoices?user_id={user.id}", token=user.token).json["items"]
        assert len(invoices) == 1
    assert reserved() == 16


class Load:
    """Requests on several threads for as long as a block lasts, and a little
    longer than they need to notice."""

    def __init__(self, function, threads=8):
        self.function, self.threads = function, threads
        self.replies, self.running = [], True

    def work(self, thread):
        n = 0
        while self.running or n < 20:
            self.replies.append(self.function(f"{thread}-{n}"))
            n += 1

    def __enter__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(self.threads)
        self.futures = [self.pool.submit(self.work, n) for n in range(self.threads)]
        eventually(lambda: len(self.replies) > 20)
        return self

    def __exit__(self, *unused):
        seen = len(self.replies)
        eventually(lambda: len(self.replies) > seen + 100)
        self.running = False
        self.pool.shutdown()
        for future in self.futures:
            future.result()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_statistics_lose_nothing_when_an_instance_ends(stack, http, sig):
    action = f"test.{uuid.uuid4().hex}"

    def ask(name):
        if name.endswith("7"):
            return http.get(f"/log?action={action}&limit=1", expect=200)
        return http.post("/log", {"action": action, "data": {"name": name}}, expect=201)

    with Load(ask) as load:
        for n in (1, 2, 1):
            stack.kill("stats", n, sig)
    written = [r.json["id"] for r in load.replies if r.status == 201]
    items = http.pages(f"/log?action={action}&limit=200")
    assert sorted(i["id"] for i in items) == sorted(written)
    assert len({i["data"]["name"] for i in items}) == len(items)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_the_catalog_loses_nothing_when_an_instance_ends(stack, http, product, sig):
    category = uuid.uuid4().hex

    def ask(name):
        if name.endswith("7"):
            return http.get(f"/product/{product['id']}", expect=200)
        return http.post("/product", {"sku": f"{category}-{name}", "name": name, "price": 1,
            "currency": "EUR", "category": category}, token=http.admin, expect=201)

    with Load(ask) as load:
        for n in (1, 2):
            stack.kill("product", n, sig)
    written = [r.json["id"] for r in load.replies if r.status == 201]
    items = http.pages(f"/products?category={category}&limit=200")
    assert sorted(i["id"] for i in items) == sorted(written)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_cart_counts_each_addition_once(stack, http, product, sig):
    """These run on worker threads and call another service."""
    users = [http.new_user() for _ in range(4)]

    def ask(name):
        user = users[int(name[0])]
        return http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]},
            token=user.token)

    with Load(ask, threads=4) as load:
        stack.kill("cart", 1, sig)
        stack.kill("cart", 2, sig)
    taken = [r for r in load.replies if r.status in (200, 201)]
    full = [r for r in load.replies if r.status == 422]    # at 999 pieces
    assert len(taken) + len(full) == len(load.replies)
    counted = sum(http.get(f"/user/{user.id}/cart/", token=user.token).json["items"][0]["quantity"]
        for user in users)
    assert counted == len(taken)


def test_no_instance_at_all_is_503(stack, http):
    old = stack.pids("stats")
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    statuses = []
    while 503 not in statuses:
        statuses.append(http.get("/log?limit=1").status)
        assert time.monotonic() < deadline and set(statuses) <= {200, 503}
    http.get("/products?limit=1", expect=200)    # the others do not care
    eventually(lambda: http.get("/log?limit=1").status == 200)
    eventually(lambda: not set(old) & set(stack.pids("stats")))


def test_requests_are_traced_through_the_services(stack, http, product):
    user, trace = http.new_user(), f"trace-{uuid.uuid4().hex}"
    reply = http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]}, token=user.token,
        headers={"X-Request-Id": trace}, expect=201)
    assert reply.headers["X-Request-Id"] == trace
    for service in ("cart", "product"):
        eventually(lambda: any(f"request={trace}" in line for line in stack.log(service)))
    for bad in ("x" * 65, "a b", "a\"b", "ünï"):
        reply = http.get("/products?limit=1", headers={"X-Request-Id": bad.encode()})
        assert reply.headers["X-Request-Id"] != bad
