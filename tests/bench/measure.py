"""What the measurements share: shops that are filled, load on them, what it costs."""

import atexit
import base64
import concurrent.futures
import functools
import os
import pathlib
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "http"))
from shop import Shop
from stack import BUILD, ROOT, SERVICES, Stack, eventually

# What fills a service's tables with so many rows. Names of products: 20 times 50
# pairs of words of which none begins another, so a search for both finds a thousandth
# of them.
FILLS = {
    "product": ["""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO product (sku, name, description, price, currency, category, attributes, stock,
    created_at, updated_at)
SELECT printf('tea-%07d', i), printf('Leaf%02d garden%02d tea, chest %d', i % 20, i / 20 % 50, i),
    'Picked by hand, dried in the shade, packed in tin. Keeps for two years.',
    100 + i * 7919 % 10000, 'EUR', printf('sort-%d', i % 20), '{"weight_g":250}', 1000000000,
    1700000000000 + i, 1700000000000 + i FROM n""", """
INSERT INTO product_search (rowid, name, description, sku, category)
SELECT id, name, description, sku, category FROM product WHERE id <= ?"""],
    "user": ["""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO account (email, email_key, name, role, password, created_at, updated_at)
SELECT printf('u%07d@shop.example', i), printf('u%07d@shop.example', i), printf('User %d', i),
    'customer', '!', 1700000000000 + i, 1700000000000 + i FROM n"""],
    "stats": ["""
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO entry (at, user_id, action, data)
SELECT 1700000000000 + i * 1000, 1 + i * 7919 % 1000, printf('action.%d', i % 20),
    '{"product_id":7,"from":"search"}' FROM n"""],
}


def make_keys(state, build):
    """Those that the stack finds, without which nothing starts; their settings."""
    keys = state / "keys"
    if not keys.exists():
        keys.mkdir()
        (keys / "coster.key").write_text(secrets.token_hex(32) + "\n")
        subprocess.run([build / "coster-user", "keygen", keys], check=True,
            stdout=subprocess.DEVNULL)
    return {"COSTER_KEY_FILE": str(keys / "coster.key"),
        "COSTER_JWKS_FILE": str(keys / "jwks.json"),
        "COSTER_SIGNING_KEY_FILE": str(keys / "signing.jwk")}


def fill(state, service, count, build):
    """The service's database as it makes it itself, then filled at once."""
    path = state / f"data/{service}/{service}.db"
    path.parent.mkdir(parents=True)
    subprocess.run([build / f"coster-{service}", "--check"], check=True,
        env={**os.environ, **make_keys(state, build), "COSTER_DB": str(path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    db = sqlite3.connect(path, isolation_level=None)
    for sql in ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000", "BEGIN"):
        db.execute(sql)
    for sql in FILLS[service]:
        db.execute(sql, [count])
    for sql in ("COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)"):
        db.execute(sql)
    db.close()


@functools.cache
def mail_sink():
    """Where mail goes, while this runs. Each in a file of its own, and synced, would be
    measured as if the shop did that."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        program = subprocess.Popen([BUILD / "tests/bench/mail_sink"], stdin=s)
        atexit.register(program.kill)
        return f"smtp://127.0.0.1:{s.getsockname()[1]}"


def start(rows, root=ROOT, build=BUILD, prepare=None, **settings):
    """A stack with so many rows of each service, whose caps no load reaches."""
    def fill_all(state):
        for service, count in rows.items():
            fill(state, service, count, build)
        if prepare:
            prepare(state)

    return type("Stack", (Stack,), {"root": root})(fill_all, BUILD=build,
        MAIL_URL=mail_sink(), COSTER_TOKEN_SECONDS=86400, COSTER_MAIL_PER_HOUR=1000000,
        COSTER_MAIL_PER_RECIPIENT=1000000, **settings)


def new_customers(stack, count):
    """Each is registered and signed in, and has three products in the cart."""
    shop = Shop(stack)

    def make(_):
        user = shop.new_user()
        for n in range(3):
            shop.post(f"/user/{user.id}/cart/", {"product_id": 100 + n}, token=user.token, expect=201)
        return user

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, range(count)))


def waiting(stack):
    """Messages between the services that are not delivered yet."""
    shop = Shop(stack, internal=True)
    return sum(shop.get(f"/_health/{service}/1", expect=200).json["outbox"]
        for service in ("user", "cart", "payment"))


def settle(stack):
    """Waits until what the load left to do is done: requests, also on workers, and messages."""
    shop = Shop(stack, internal=True)

    def is_idle(service, n):
        page = shop.get(f"/_metrics/{service}/{n}", headers={"Accept": "*/*"}, expect=200)
        return b"\ncoster_in_flight 1\n" in page.body    # which is this one

    for service in SERVICES:
        for n in (1, 2):
            eventually(lambda: is_idle(service, n), 60)
    eventually(lambda: waiting(stack) == 0, 60)


# ---- load --------------------------------------------------------------------

class Result(NamedTuple):
    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int

    @property
    def rate(self):
        return self.requests / self.seconds


class Load:
    """Requests to one port, by wrk. RUN numbers each, so that no two have a sku in common."""

    runs = files = 0
    folder = pathlib.Path(tempfile.mkdtemp(prefix="coster-load."))

    def __init__(self, lines, script="load.lua"):
        Load.files += 1
        self.file, self.script = self.folder / str(Load.files), HERE / script
        self.file.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))

    def run(self, url, connections, seconds):
        Load.runs += 1
        alone = self.script.name == "purchase.lua"    # a thread for each connection
        threads = connections if alone else min(2, connections)
        output = subprocess.run(["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s",
            "--timeout", "30s", "-s", self.script, url, "--", self.file, str(Load.runs)],
            check=True, stdout=subprocess.PIPE, text=True).stdout
        found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output, re.M)
        requests, us, p50, p99, errors = map(int, found.groups())
        return Result(requests, us / 1e6, p50, p99, errors)

    @classmethod
    def clean(cls):
        shutil.rmtree(cls.folder)


def get(path, token=""):
    return Load([("GET", path, token, "")])


def cursor(after):
    """What a list by id gives as next_cursor behind this product."""
    return base64.urlsafe_b64encode(f"id:{after}:".encode()).decode().rstrip("=")


def searches():
    return Load([("GET", f"/products/?q=leaf{n % 20:02}+garden{n % 50:02}", "", "")
        for n in range(100)])


def entries(count):
    entry = '{"action":"product.viewed","data":{"product_id":7,"from":"search"}}'
    return Load([("POST", "/log", "", entry if count == 1 else f"[{','.join([entry] * count)}]")])


def new_products(token):
    return Load([("POST", "/product/", token, '{"sku":"new-@@@@@@@@@@@@","name":"First flush",'
        '"description":"Picked in March.","price":990,"currency":"EUR","category":"tea",'
        '"stock":40,"attributes":{"weight_g":100}}')])


def additions(customers):
    return Load([("POST", f"/user/{u.id}/cart/", u.token, f'{{"product_id":{100 + n}}}')
        for n in range(10) for u in customers])


def carts(customers, tokens=True):
    return Load([("GET", f"/user/{u.id}/cart/", u.token if tokens else "", "")
        for u in customers])


def purchases(customers):
    return Load([(u.id, u.token) for u in customers], "purchase.lua")


def sign_ins(customers):
    return Load([("POST", "/session/", "", f'{{"email":"{u.email}","password":"{u.password}"}}')
        for u in customers])


# ---- what it costs -----------------------------------------------------------

def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def nginx_pids(stack):
    return children(int((stack.run / "nginx.pid").read_text()))


def service_pids(stack):
    return [pid for service in SERVICES for pid in stack.pids(service)]


def cpu_ns(pids):
    """Processor time of all threads of some processes."""
    return sum(int(path.read_text().split()[0])
        for pid in pids for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"))


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: +(\d+)", text, re.M)[1])


def machine():
    """In a line."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal: +(\d+)", pathlib.Path("/proc/meminfo").read_text())[1])
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], stderr=subprocess.PIPE, text=True).stderr
    return (f"{os.cpu_count()} cores ({cpu[1] if cpu else 'unknown'}), {memory / 2**20:.0f} GiB, "
        f"{nginx.split()[-1]}, SQLite {sqlite3.sqlite_version}")
