"""What the measurements share: shops that are filled, load on them, what it costs."""

import base64
import concurrent.futures
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "http"))
from shop import Shop
from stack import BUILD, ROOT, SERVICES, Stack, eventually

# Names of products: 20 times 50 pairs of words of which none begins another, so a
# search for both finds a thousandth of them.
FILL_PRODUCTS = """
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO product (sku, name, description, price, currency, category, attributes, stock,
    created_at, updated_at)
SELECT printf('tea-%07d', i), printf('Leaf%02d garden%02d tea, chest %d', i % 20, i / 20 % 50, i),
    'Picked by hand, dried in the shade, packed in tin. Keeps for two years.',
    100 + i * 7919 % 10000, 'EUR', printf('sort-%d', i % 20), '{"weight_g":250}', 1000000000,
    1700000000000 + i, 1700000000000 + i FROM n"""
FILL_SEARCH = """
INSERT INTO product_search (rowid, name, description, sku, category)
SELECT id, name, description, sku, category FROM product"""


def fill_products(state, count, build=BUILD):
    """The catalog's database as the service itself makes it, then filled at once."""
    path = state / "data/product/product.db"
    path.parent.mkdir(parents=True)
    subprocess.run([build / "coster-product", "backup", path.with_suffix(".first")], check=True,
        env={**os.environ, "COSTER_DB": str(path)}, stderr=subprocess.DEVNULL)
    path.with_suffix(".first").unlink()
    db = sqlite3.connect(path, isolation_level=None)
    for sql in ("PRAGMA synchronous = OFF", "PRAGMA cache_size = -200000", "BEGIN"):
        db.execute(sql)
    db.execute(FILL_PRODUCTS, [count])
    for sql in (FILL_SEARCH, "COMMIT", "PRAGMA wal_checkpoint(TRUNCATE)"):
        db.execute(sql)
    db.close()


def start(products, root=ROOT, build=BUILD, prepare=None, **settings):
    """A stack with so many products, whose caps no load reaches."""
    def fill(state):
        fill_products(state, products, build)
        if prepare:
            prepare(state)

    stack = type("Stack", (Stack,), {"root": root})(fill, BUILD=build,
        COSTER_TOKEN_SECONDS=86400, COSTER_MAIL_PER_HOUR=1000000,
        COSTER_MAIL_PER_RECIPIENT=1000000, **settings)
    stack.products = products
    return stack


def new_customers(stack, count):
    """Each is registered and signed in, and has three products in the cart."""
    shop = Shop(stack)

    def make(_):
        user = shop.new_user()
        for n in range(3):
            shop.post(f"/user/{user.id}/cart/", {"product_id": 5000 + n}, token=user.token, expect=201)
        return user

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        return list(pool.map(make, range(count)))


def waiting(stack):
    """Messages between the services that are not delivered yet."""
    shop = Shop(stack, internal=True)
    return sum(shop.get(f"/_health/{service}/1", expect=200).json["outbox"]
        for service in ("user", "cart", "payment"))


def settle(stack):
    """Waits until what the load left to do is done: requests, which an instance takes in
    order, and messages."""
    shop = Shop(stack, internal=True)
    for service in SERVICES:
        for n in (1, 2):
            shop.get(f"/_health/{service}/{n}", expect=200)
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


def cursor(after):
    """What a list by id gives as next_cursor behind this product."""
    return base64.urlsafe_b64encode(f"id:{after}:".encode()).decode().rstrip("=")


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
        f"Linux {os.uname().release}, {nginx.split()[-1]}, SQLite {sqlite3.sqlite_version}")
