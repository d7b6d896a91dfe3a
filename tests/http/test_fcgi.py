"""Connections, load, and instances that come and go, behind nginx."""

import concurrent.futures
import contextlib
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

from shop import Shop
from stack import Stack, Stopped, eventually, is_listening

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


def record(kind, content=b"", request=1):
    """FastCGI 1.0, section 3.3."""
    return struct.pack(">BBHHBx", 1, kind, request, len(content), 0) + content


def ask_instance(stack, service, n, body, **parameters):
    """What nginx does: POST /log, or another request, straight to one instance."""
    parameters = {"COSTER_KEY": (stack.state / "keys/coster.key").read_text().strip(),
        "COSTER_PEER": "public", "COSTER_NETWORK": "internal", "REQUEST_METHOD": "POST",
        "PATH_INFO": "/log", "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)), "HTTP_X_REQUEST_ID": "direct", **parameters}
    pairs = b"".join(struct.pack(">BB", len(k), len(v)) + f"{k}{v}".encode()
        for k, v in parameters.items())
    reply = b""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20)
        s.connect(str(stack.run / f"{service}-{n}.sock"))
        s.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, pairs) + record(4)
            + record(5, body) + record(5))
        while piece := s.recv(65536):
            reply += piece
    return reply


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


@pytest.mark.parametrize("path, size, status", [("/log", 2**20 + 1, 413), ("/nowhere", 1, 404),
    ("/log", 1, 400), ("/products", 1, 405)])
def test_http_2_refuses_in_the_same_form(stack, tmp_path, path, size, status):
    (tmp_path / "body").write_bytes(b" " * size)
    reply = subprocess.run(["curl", "-q", "-sS", "--http2", "-i", "--max-time", "20", "--noproxy",
        "*", "--cacert", stack.state / "keys/tls.crt", "-H", "Content-Type: application/json",
        "--data-binary", f"@{tmp_path}/body", f"https://127.0.0.1:{stack.https_port}{path}"],
        check=True, capture_output=True, text=True).stdout
    assert reply.startswith(f"HTTP/2 {status}")
    assert "content-type: application/problem+json" in reply and "x-request-id: " in reply
    assert f'"status":{status}' in reply


def test_quick_routes_answer_while_every_worker_is_busy(stack, http):
    """Each of the two carts has four workers, half of which may wait for payment, and a
    queue before them."""
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
        replies = [future.result() for future in running]
    for user, reply in zip(buyers, replies):
        if reply.status != 201:    # it was told to come again
            assert reply.status in (409, 503) and reply.headers["Retry-After"], reply
            eventually(lambda: checkout(user).status == 201)
        invoices = http.get(f"/invoices?user_id={user.id}", token=user.token).json["items"]
        assert len(invoices) == 1
    assert reserved() == 16


class Load:
    """Requests on several threads for as long as a block lasts."""

    def __init__(self, function, threads=8):
        self.function, self.replies, self.running = function, [], True
        self.done = [0] * threads    # requests of each thread

    def work(self, thread):
        while self.running:
            self.replies.append(self.function(f"{thread}-{self.done[thread]}"))
            self.done[thread] += 1

    def go_on(self):
        """Until every thread began and ended another request."""
        before = list(self.done)
        eventually(lambda: any(f.done() for f in self.futures)
            or all(now > then + 1 for now, then in zip(self.done, before)))

    def __enter__(self):
        self.pool = concurrent.futures.ThreadPoolExecutor(len(self.done))
        self.futures = [self.pool.submit(self.work, n) for n in range(len(self.done))]
        self.go_on()
        return self

    def __exit__(self, *unused):
        self.running = False
        for future in self.futures:
            future.result()
        self.pool.shutdown()

    def kill(self, stack, service, sig):
        """One instance after the other; a request must not meet both, or it is lost."""
        for n in (1, 2, 1):
            stack.kill(service, n, sig)
            self.go_on()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_statistics_lose_nothing_when_an_instance_ends(stack, http, sig):
    action = f"test.{uuid.uuid4().hex}"

    def ask(name):
        if name.endswith("7"):
            return http.get(f"/log?action={action}&limit=1", expect=200)
        return http.post("/log", {"action": action, "data": {"name": name}}, expect=201)

    with Load(ask) as load:
        load.kill(stack, "stats", sig)
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
        load.kill(stack, "product", sig)
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
        load.kill(stack, "cart", sig)
    taken = [r for r in load.replies if r.status in (200, 201)]
    full = [r for r in load.replies if r.status == 422]    # at 999 pieces
    assert len(taken) + len(full) == len(load.replies)
    counted = sum(http.get(f"/user/{user.id}/cart/", token=user.token).json["items"][0]["quantity"]
        for user in users)
    assert counted == len(taken)


def test_a_request_that_nginx_repeats_is_done_once(stack, http):
    """As when an instance dies between its commit and its reply."""
    action, one, other = f"test.{uuid.uuid4().hex}", uuid.uuid4().hex, uuid.uuid4().hex
    body = f'{{"action":"{action}"}}'.encode()
    replies = [ask_instance(stack, "stats", 1, body, REQUEST_ID=one)]
    stack.kill("stats", 1, signal.SIGKILL)
    replies += [ask_instance(stack, "stats", n, body, REQUEST_ID=one) for n in (2, 1)]
    assert b"Status: 201" in replies[0] and replies == replies[:1] * 3
    assert ask_instance(stack, "stats", 2, body, REQUEST_ID=other) != replies[0]
    assert len(http.get(f"/log?action={action}").json["items"]) == 2


def test_who_does_not_know_the_secret_is_refused(stack):
    for key in ("", "k" * 64):
        reply = ask_instance(stack, "stats", 1, b'{"action":"test.forged"}', COSTER_KEY=key)
        assert b"Status: 403" in reply


def test_an_instance_that_libfcgi_aborts_comes_back():
    """Debian's libfcgi 2.4.2 does, for who can write to a socket: coster(7)."""
    faults = (record(4, b"\xff\xff\xff\xfe" * 2),    # a parameter of 4 GiB: CVE-2025-23016
        record(9, b"\x0e\0FCGI_MAX_CONNS" * 6, request=0) + record(4))    # overruns its answer
    stack = Stack()    # of its own: what libfcgi says of it is in the log
    try:
        http = Shop(stack)
        for fault in faults:
            old = stack.pid("stats", 1)
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(20)
                s.connect(str(stack.run / "stats-1.sock"))
                s.sendall(record(1, struct.pack(">HB5x", 1, 0)) + fault)
                with contextlib.suppress(ConnectionResetError):
                    while s.recv(4096):
                        pass
            for _ in range(20):
                http.get("/log?limit=1", expect=200)
            eventually(lambda: stack.pid("stats", 1) != old)
            eventually(lambda: is_listening(stack.run / "stats-1.sock"))
    finally:
        stack.stop()


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
