"""nginx behind another proxy on the same host: who asks is the proxy's client,
for the limits, for COSTER_NETWORK and for the services. The tests play the proxy."""

import re
import socket
import threading

import pytest

from shop import Shop
from stack import Stack, Stopped, eventually

# As nginx/coster-http.conf advises.
REAL_IP = """
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
"""
SIGN_IN, WRITE, READ = ("POST", "/session/"), ("POST", "/log"), ("GET", "/products?limit=1")
BURST = {SIGN_IN: 20, WRITE: 100, READ: 400}    # of nginx/coster-limits.conf


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The stack of this file, with limits, as the proxy reaches it."""
    extra = tmp_path_factory.mktemp("nginx") / "realip.conf"
    extra.write_text(REAL_IP)
    stack = Stack(LIMITS="on", NGINX_EXTRA=extra)
    yield Shop(stack)
    stack.stop()


def of(client):
    return {"X-Forwarded-For": client}


def ask(shop, client, kind, body=b"{}"):
    """One request, which is wrong where it would cost something."""
    method, path = kind
    return shop.request(method, path, None if method == "GET" else body, headers=of(client))


def flood(shop, client, kind, count):
    """The statuses of so many at once, one behind the other on a connection."""
    method, path = kind
    body = "" if method == "GET" else "{}"
    one = (f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {client}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
    last = one + f"Connection: close\r\n\r\n{body}"
    text = (one + f"\r\n{body}") * (count - 1) + last
    received = b""
    with socket.create_connection(("127.0.0.1", shop.stack.http_port), timeout=20) as s:
        sender = threading.Thread(target=s.sendall, args=[text.encode()])
        sender.start()
        while piece := s.recv(65536):
            received += piece
        sender.join()
    statuses = [int(n) for n in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
    assert len(statuses) == count
    return statuses


def exhaust(shop, client, kind):
    """Until nginx says that it is enough."""
    eventually(lambda: 429 in flood(shop, client, kind, 900), 20)


def limited(shop, client, kind):
    return ask(shop, client, kind).status == 429


# ---- who it is ----

@pytest.mark.parametrize("client", ["203.0.113.1", "2001:db8::1", "127.0.0.1, 203.0.113.1",
    "::1, 2001:db8::1", "203.0.113.1:4711", "::ffff:203.0.113.1"])
def test_clients_of_the_proxy_are_no_internal_network(behind, client):
    """The proxy puts whom it sees behind what the client itself claims."""
    for path in ("/log", "/log/summary", "/_health/user/1", "/_metrics/user/1"):
        behind.get(path, headers=of(client), expect=401)
    behind.post("/log", {"action": "test.realip", "user_id": 1}, headers=of(client), expect=422)


def test_the_proxys_own_requests_are_internal(behind):
    for headers in ({}, of("127.0.0.1"), of("::1")):
        behind.get("/log", headers=headers, expect=200)


def test_only_the_proxy_speaks_for_others(behind):
    other = Shop(behind.stack, source="127.0.0.2")
    other.get("/log", headers=of("203.0.113.2"), expect=200)


def test_services_see_the_client(behind):
    email, password = behind.new_email(), "seven blue apples"
    behind.post("/user/", {"email": email, "password": password}, headers=of("203.0.113.3"),
        expect=201)
    session = behind.post("/session/", {"email": email, "password": password},
        headers=of("2001:db8:3::7"), expect=201).json
    listed, = behind.get("/session/", token=session["token"], headers=of("203.0.113.3")).json[
        "items"]
    assert listed["address"] == "2001:db8:3::7"


# ---- limits ----

def test_the_limit_is_told_as_other_errors_are(behind):
    exhaust(behind, "198.51.100.1", SIGN_IN)
    refused = ask(behind, "198.51.100.1", SIGN_IN)
    assert refused.status == 429 and "address" in refused.json["detail"]


def test_sign_in_writes_and_reads_are_counted_apart(behind):
    for n, kind in enumerate(BURST):
        client = f"198.51.100.{21 + n}"
        exhaust(behind, client, kind)
        for other in set(BURST) - {kind}:
            assert not limited(behind, client, other), (kind, other)


@pytest.mark.parametrize("kind", [SIGN_IN, WRITE], ids=" ".join)
def test_a_burst_is_served(behind, kind):
    client = f"198.51.100.{31 + list(BURST).index(kind)}"
    burst = BURST[kind] + 1
    statuses = flood(behind, client, kind, burst)
    assert statuses == [422] * burst


@pytest.mark.parametrize("path", ["/session", "/session/", "/session/refresh", "/password_reset",
    "/password_reset/abc", "/user", "/user/"])
def test_what_hashes_or_mails_counts_as_signing_in(behind, path):
    client = f"2001:db8:40:{len(path):x}{ord(path[1]):x}::1"
    exhaust(behind, client, SIGN_IN)
    assert ask(behind, client, ("POST", path)).status == 429


def test_limits_are_each_clients_own(behind):
    """A whole /64 of IPv6 is one; IPv4 is not, mapped into IPv6 or plain."""
    for worn, same, others in (
            ("203.0.113.50", "203.0.113.50", ["203.0.113.51", "::ffff:203.0.113.50"]),
            ("2001:db8:0:50::1", "2001:db8:0:50:ffff:ffff:ffff:ffff",
                ["2001:db8:0:51::1", "2001:db8:1:50::1", "203.0.113.52"]),
            ("::ffff:203.0.113.53", "::ffff:203.0.113.53",
                ["::ffff:203.0.113.54", "::ffff:203.0.114.53"]),
            ("2001:db8:0:a0a:a0a:a0a:a0a:a0a", "2001:db8:0:a0a::", ["2001:db8:0:a0b::"])):
        exhaust(behind, worn, SIGN_IN)
        assert limited(behind, same, SIGN_IN), same
        for other in others:
            assert not limited(behind, other, SIGN_IN), other


def test_services_are_not_limited(behind):
    service = Shop(behind.stack, internal=True)
    statuses = {service.request("POST", "/session/", b"{}").status for _ in range(60)}
    assert statuses == {422}


def test_a_client_has_so_many_requests_at_once(behind):
    """100, that is; another client is not in its way."""
    def send(client, count):
        sockets = [socket.create_connection(("127.0.0.1", behind.stack.http_port), timeout=30)
            for _ in range(count)]
        for s in sockets:
            s.sendall(f"GET /products?limit=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                f"X-Forwarded-For: {client}\r\n\r\n".encode())
        return sockets

    def status(s):
        with s:
            return int(s.recv(4096).split()[1])

    with Stopped(behind.stack, "product"):
        hers, his = send("203.0.113.60", 130), send("203.0.113.61", 10)
        refused = []
        eventually(lambda: refused.extend(s for s in hers if s not in refused and is_readable(s))
            or len(refused) == 30)
    assert [status(s) for s in refused] == [429] * 30
    assert [status(s) for s in hers if s not in refused] == [200] * 100
    assert [status(s) for s in his] == [200] * 10


def is_readable(s):
    s.setblocking(False)
    try:
        return bool(s.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        s.settimeout(30)
