"""More than the shop can take: what is too much hears 503 at once, memory stays
bounded, nothing acknowledged is missing, and a moment later all is as before."""

import asyncio
import collections
import contextlib
import http.client
import io
import json
import pathlib
import resource
import socket
import sqlite3
import subprocess
import time

import pytest

from shop import MIB, Reply, Shop
from stack import Stack, Stopped, eventually
from trouble import ASAN, calm, number, rows

if ASAN:
    pytest.skip("what is measured is the programs as they are shipped", allow_module_level=True)

PASSWORD = "nine green pears from here"
QUEUE, BACKLOG = 256, 1024    # of an instance; the second is spawn-fcgi's
BODIES = 64    # MiB of those that wait
HASHING, OTHER = 4 * 19, 40    # MiB: four workers hash, and all else
KEPT = OTHER + BODIES    # MiB: the allocator may keep what bodies of 1 MiB had


@pytest.fixture(scope="module")
def stack():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stack = Stack(COSTER_MAIL_PER_HOUR=100000)
    yield stack
    stack.stop()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def shop(stack):
    return Shop(stack)


class Received:
    """A reply, as http.client wants to read it."""

    def __init__(self, data):
        self.data = data

    def makefile(self, mode):
        return io.BytesIO(self.data)


async def post(stack, path, body):
    """By a connection of its own: the reply, which is as all must be, and its time."""
    start = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.http_port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    response = http.client.HTTPResponse(Received(await asyncio.wait_for(reader.read(), 60)))
    writer.close()
    response.begin()
    reply = Reply(response, "POST")
    reply.check()
    return reply, time.monotonic() - start


def all_at_once(stack, path, bodies, soon):
    """The replies by their status; what is refused hears so in less than so many seconds."""
    async def gather():
        return await asyncio.gather(*(post(stack, path, body) for body in bodies))

    found, slowest = collections.defaultdict(list), 0
    for reply, seconds in asyncio.run(gather()):
        found[reply.status].append(reply)
        if reply.status == 503:
            slowest = max(slowest, seconds)
    print(f"\n{len(bodies)} at once: { {s: len(r) for s, r in found.items()} },"
        f" the refusals within {slowest:.2f} s")
    assert found.keys() == {201, 503} and slowest < soon
    return found


def memory(stack, service, kind):
    """MiB of the larger instance. VmHWM is the most it ever had."""
    def of(pid):
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(text.partition(f"\n{kind}:")[2].split()[0]) / 1024
    return max(of(pid) for pid in stack.pids(service))


class Bounded:
    """What an instance of the service may have, at most, until this is over."""

    def __init__(self, stack, service, most=OTHER):
        self.stack, self.service, self.most = stack, service, most

    def __enter__(self):
        self.before = memory(self.stack, self.service, "VmRSS")

    def __exit__(self, *failed):
        peak, after = (memory(self.stack, self.service, kind) for kind in ("VmHWM", "VmRSS"))
        print(f"{self.service} had {self.before:.0f} MiB, {peak:.0f} at most, {after:.0f} after")
        assert any(failed) or (peak < self.most and after < KEPT)


def check_normal(stack, shop):
    """Within seconds all is answered at once again."""
    admin = {"email": "admin@shop.example",
        "password": (stack.state / "admin.password").read_text().strip()}

    def is_quick(ask):
        start = time.monotonic()
        return ask().status < 300 and time.monotonic() - start < 0.5

    start = time.monotonic()
    for ask in (lambda: shop.get("/products?limit=3"), lambda: shop.get("/log?limit=3"),
            lambda: shop.post("/log", {"action": "test.normal"}),
            lambda: shop.post("/session/", admin)):
        eventually(lambda: is_quick(ask), 5)
    print(f"normal again after {time.monotonic() - start:.2f} s")


@pytest.mark.parametrize("size, soon", [(100, 3), (MIB - 1, 20)])
def test_more_sign_ups_than_can_be_hashed(stack, shop, size, soon):
    """Eight workers hash; behind them 512 requests may wait, with bodies of 128 MiB."""
    bodies = [json.dumps({"email": shop.new_email(), "password": PASSWORD}).encode().ljust(size)
        for _ in range(800)]
    waiting = min(QUEUE * size / MIB, BODIES)
    with Bounded(stack, "user", HASHING + OTHER + 2 * (waiting + 4 * size / MIB)):
        found = all_at_once(stack, "/user/", bodies, soon)
    assert len(found[201]) >= 2 * waiting * MIB / size
    check_normal(stack, shop)
    made = {id for id, in rows(stack, "user", "SELECT id FROM account")}
    assert {reply.json["id"] for reply in found[201]} <= made
    calm(stack)


def test_a_full_backlog(stack, shop):
    """Both instances hang, and nginx has nowhere to put more."""
    bodies = [json.dumps({"action": f"test.backlog.{n}"}).encode()
        for n in range(2 * BACKLOG + 400)]

    async def while_they_hang():
        running = [asyncio.create_task(post(stack, "/log", body)) for body in bodies]
        deadline = time.monotonic() + 15
        with Stopped(stack, "stats"):
            while (refused := sum(task.done() for task in running)) <= 300:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
        return refused, [reply.status for reply, _ in await asyncio.gather(*running)]

    with Bounded(stack, "stats"):
        refused, statuses = asyncio.run(while_they_hang())
    taken = statuses.count(201)
    print(f"\n{len(bodies)} to two that hang: {refused} refused at once, {taken} served in the end")
    assert statuses.count(503) >= refused and taken == len(bodies) - statuses.count(503)
    check_normal(stack, shop)
    assert number(stack, "stats", "SELECT count(*) FROM entry"
        " WHERE action LIKE 'test.backlog.%'") == taken


def test_as_many_quick_requests_as_it_can_take(stack, shop):
    """Reads and writes as fast as they are answered, over 400 connections."""
    script = stack.state / "write.lua"
    script.write_text("""wrk.method = "POST"
        wrk.headers["Content-Type"] = "application/json"
        wrk.body = '{"action":"test.flood"}'""")
    url = f"http://127.0.0.1:{stack.http_port}"
    floods = [[f"{url}/products?limit=3"], ["-s", str(script), f"{url}/log"]]
    with Bounded(stack, "product"), Bounded(stack, "stats"):
        running = [subprocess.Popen(["wrk", "-t1", "-c200", "-d4s", "--timeout", "5s", *flood],
            stdout=subprocess.PIPE, text=True) for flood in floods]
        outputs = [process.communicate(timeout=60)[0] for process in running]
    for output in outputs:
        print(output)
        assert "Non-2xx" not in output and "Socket errors" not in output
    check_normal(stack, shop)
    acknowledged = int(outputs[1].partition(" requests in ")[0].split()[-1])
    assert number(stack, "stats", "SELECT count(*) FROM entry WHERE action = 'test.flood'") \
        >= acknowledged > 1000


class Readers:
    """Clients that ask for a page again and again and read nothing, until this is over."""

    def __init__(self, stack, count, path, fields="", once=False):
        self.address, self.count = ("127.0.0.1", stack.http_port), count
        request = f"GET {path} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n".encode()
        self.request = request if once else request * 16

    def __enter__(self):
        self.sockets = []
        for _ in range(self.count):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(self.address)
            s.sendall(self.request)
            self.sockets.append(s)
        return self

    def __exit__(self, *failed):
        for s in self.sockets:
            s.close()


def test_who_reads_slowly_holds_up_nobody(stack, shop):
    """Nor are long pages longer than anybody wants to keep."""
    for n in range(60):
        product = shop.new_product(name=f"Fat {n}", category="fat", description="d" * 10000,
            attributes={"long": "x" * 50000})
    first = shop.get("/products?category=fat&limit=200", expect=200)
    assert MIB < len(first.body) < MIB + 100000 and first.json["next_cursor"]
    assert len(shop.pages("/products?category=fat&limit=200")) == 60
    with Readers(stack, 20, "/products?category=fat&limit=200"):
        time.sleep(1)
        for _ in range(50):
            start = time.monotonic()
            shop.get(f"/product/{product['id']}", expect=200)
            assert time.monotonic() - start < 1
    check_normal(stack, shop)


def test_who_takes_in_a_long_file_slowly_holds_half_of_the_workers(stack, shop):
    """Two of the four of each instance: the others are there for what is slow besides. One
    too many is asked to come again, before it has got anything."""
    path = stack.state / "data/stats/stats.db"
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db, db:
        db.execute("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)"
            " INSERT INTO entry (at, action, data) SELECT 1700000000000, 'test.long',"
            " json_object('x', printf('%.*c', 7000, 'x')) FROM n")    # more than nginx keeps
    answers = []
    with Readers(stack, 8, "/log?action=test.long", once=True,
            fields=f"Accept: text/csv\r\nAuthorization: Bearer {shop.admin}\r\n") as readers:
        for s in readers.sockets:
            s.settimeout(20)
            answers.append(s.recv(12))
        assert sorted(answers) == [b"HTTP/1.1 200"] * 4 + [b"HTTP/1.1 503"] * 4
        start = time.monotonic()
        for _ in range(8):    # on workers
            shop.get("/log/summary?group_by=day", token=shop.admin, expect=200)
        assert time.monotonic() - start < 2
    check_normal(stack, shop)
    eventually(lambda: shop.request("GET", "/log?action=test.long&limit=200", token=shop.admin,
        headers={"Accept": "text/csv"}).status == 200, 60)
