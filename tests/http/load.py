"""Customers, administrators and services who all use the shop at once, and
remember what they were told."""

import base64
import collections
import contextlib
import hashlib
import itertools
import json
import random
import threading
import time
import uuid

from shop import Shop
from stack import eventually
from trouble import calm, change, check_books, end_leases, rows

PAY = {"method": "sandbox", "token": "tok_ok"}
PASSWORD = "nine green pears from here"
PRICE, STOCK = 450, 10**6
# Not known yet, in progress, not possible now; or a sign-in that was tried too often,
# since it counts as a guess until it has succeeded.
REFUSED = (202, 409, 429, 503, 507)


class Refused(Exception):
    """Of what could be asked for again."""


def session_row(session):
    """As it is in the database: its id, which the token tells, and a hash."""
    claims = session["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    token = hashlib.blake2b(session["refresh_token"].encode(), digest_size=32).digest()
    return int(claims["jti"].split(".")[0]), base64.urlsafe_b64encode(token).decode().rstrip("=")


class Crowd:
    """strict: nobody may ever be refused, and nothing happen that nobody was told of.
    Else a write may be refused; a read still not, unless reads=False."""

    def __init__(self, stack, threads=6, strict=True, reads=True):
        self.stack, self.strict, self.reads = stack, strict, reads
        self.shop = Shop(stack)
        self.products = [self.shop.new_product(price=PRICE, stock=STOCK)["id"] for _ in range(2)]
        self.name = uuid.uuid4().hex[:8]
        self.users = [self.shop.new_user() for _ in range(threads)]
        self.acknowledged = {kind: [] for kind in self.FOUND}
        self.before = {kind: self.found(kind) for kind in self.FOUND}
        self.counts = collections.Counter()
        self.running, self.done, self.faults = True, [0] * threads, []
        self.numbers = itertools.count()

    # ---- what they do; the answer of a write is kept with its kind ----

    def write(self, method, path, body, status, token=None):
        """Half of them with a key: the others, too, must have their effect once."""
        keyed = {"Idempotency-Key": uuid.uuid4().hex} if next(self.numbers) % 2 else {}
        reply = self.shop.request(method, path, body, token, keyed)
        self.counts[reply.status] += 1
        if reply.status in (status if isinstance(status, tuple) else (status,)):
            return reply.json
        assert not self.strict and reply.status in REFUSED, reply
        raise Refused

    def read(self, path, token=None):
        reply = self.shop.get(path, token=token)
        self.counts[reply.status] += 1
        assert reply.status == 200 or (not self.reads and reply.status == 503), reply

    def tell(self, kind, *row):
        self.acknowledged[kind].append(row)

    def new_name(self):
        return f"{self.name}.{next(self.numbers)}"

    def log(self, user):
        action = f"load.{self.new_name()}"
        self.tell("entry", self.write("POST", "/log", {"action": action}, 201)["id"], action)

    def send_mail(self, user):
        to = f"{self.new_name()}@elsewhere.example"
        mail = self.write("POST", "/send_email/", {"to": to, "subject": "Hello", "text": "Hello"},
            202, self.shop.admin)
        self.tell("mail", mail["id"], to)

    def make_product(self):
        sku = self.new_name()
        id = self.write("POST", "/product/", {"sku": sku, "name": "Tea", "price": 1,
            "currency": "EUR", "stock": 5}, 201, self.shop.admin)["id"]
        return id, sku

    def offer(self, user):
        id, sku = self.make_product()
        self.write("PATCH", f"/product/{id}", {"stock": 6}, 200, self.shop.admin)
        self.tell("product", id, sku, 6)

    def withdraw(self, user):
        id, _ = self.make_product()
        self.write("DELETE", f"/product/{id}", None, 204, self.shop.admin)
        self.tell("withdrawn", id)

    def make_account(self):
        address = self.shop.new_email()
        made = self.write("POST", "/user/", {"email": address, "password": PASSWORD}, 201)
        return made["id"], address

    def sign_in(self, address, password):
        return self.write("POST", "/session/", {"email": address, "password": password}, 201)

    def join(self, user):
        id, address = self.make_account()
        self.tell("account", id, address)
        session = self.sign_in(address, PASSWORD)
        self.tell("session", *session_row(session))
        name = self.new_name()
        self.write("PATCH", f"/user/{id}", {"name": name}, 200, session["token"])
        self.tell("name", id, name)

    def leave(self, user):
        id, address = self.make_account()
        session = self.sign_in(address, PASSWORD)
        self.write("DELETE", f"/user/{id}", None, 204, session["token"])
        self.tell("left", id)
        self.tell("ended", session_row(session)[0])

    def come_back(self, user):
        session = self.sign_in(user.email, user.password)
        session = self.write("POST", "/session/refresh",
            {"refresh_token": session["refresh_token"]}, 200)
        self.tell("session", *session_row(session))

    def come_and_go(self, user):
        session = self.sign_in(user.email, user.password)
        id, _ = session_row(session)
        self.write("DELETE", f"/session/{id}", None, 204, session["token"])
        self.tell("ended", id)

    def buy(self, user):
        cart, (product, other) = f"/user/{user.id}/cart/", self.products
        add = lambda id: self.write("POST", cart, {"product_id": id}, (200, 201), user.token)["id"]
        self.write("DELETE", cart, None, 204, user.token)
        item = add(product)
        self.write("DELETE", f"{cart}{add(other)}", None, 204, user.token)
        self.write("PUT", f"{cart}{item}", {"quantity": 2}, 200, user.token)
        assert add(product) == item
        invoice = self.write("POST", cart + "checkout", {}, 201, user.token)
        self.tell("invoice", invoice["id"], invoice["number"], user.id, 3 * PRICE)
        self.write("POST", f"/invoices/{invoice['id']}/pay", PAY, 200, user.token)
        self.tell("paid", invoice["id"])
        if next(self.numbers) % 4 == 0:
            self.write("POST", f"/invoices/{invoice['id']}/refund", {"amount": 1}, 200,
                self.shop.admin)
            self.tell("refund", invoice["id"])

    def look(self, user):
        for path in (f"/product/{self.products[0]}", "/products?limit=5", "/log?limit=1"):
            self.read(path)
        for path in (f"/user/{user.id}", f"/user/{user.id}/cart/", "/invoices?limit=1"):
            self.read(path, user.token)

    ACTS = (log, log, send_mail, offer, withdraw, join, leave, come_back, come_and_go,
        buy, buy, look, look)

    # ---- for as long as a block lasts ----

    def work(self, n):
        chance = random.Random(n)
        try:
            while self.running:
                try:
                    chance.choice(self.ACTS)(self, self.users[n])
                except Refused:
                    time.sleep(0.05)
                self.done[n] += 1
        except BaseException as fault:
            self.faults.append(fault)
            raise

    def __enter__(self):
        self.threads = [threading.Thread(target=self.work, args=(n,))
            for n in range(len(self.done))]
        for thread in self.threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *unused):
        self.running = False
        for thread in self.threads:
            thread.join()
        self.check_faults()

    def check_faults(self):
        if self.faults:
            raise self.faults[0]

    def go_on(self, seconds=30):
        """Until everybody has begun and ended something else."""
        before = list(self.done)
        eventually(lambda: self.faults
            or all(now > then + 1 for now, then in zip(self.done, before)), seconds)
        self.check_faults()

    # ---- and then all that was acknowledged is there, and once ----

    FOUND = {
        "entry": ("stats", "SELECT id, action FROM entry WHERE action LIKE 'load.%'"),
        "mail": ("email", "SELECT id, recipient FROM mail"
            " WHERE recipient LIKE '%@elsewhere.example'"),
        "product": ("product", "SELECT id, sku, stock FROM product"
            " WHERE deleted_at IS NULL AND stock < 10"),
        "withdrawn": ("product", "SELECT id FROM product WHERE deleted_at IS NOT NULL"),
        "account": ("user", "SELECT id, email FROM account WHERE deleted_at IS NULL"),
        "name": ("user", "SELECT id, name FROM account WHERE name IS NOT NULL"),
        "left": ("user", "SELECT id FROM account WHERE deleted_at IS NOT NULL"),
        "session": ("user", "SELECT id, token FROM session WHERE address IS NOT NULL"),
        "ended": ("user", "WITH RECURSIVE all_ids(id) AS (SELECT 1 UNION ALL SELECT id + 1"    # pruned
            " FROM all_ids WHERE id < (SELECT max(id) FROM session)) SELECT id FROM all_ids"
            " EXCEPT SELECT id FROM session WHERE address IS NOT NULL"),
        "invoice": ("payment", "SELECT id, number, user_id, total FROM invoice"),
        "paid": ("payment", "SELECT invoice_id FROM attempt WHERE status = 'succeeded'"),
        "refund": ("payment", "SELECT invoice_id FROM refund WHERE status = 'succeeded'"),
    }

    def found(self, kind):
        return collections.Counter(rows(self.stack, *self.FOUND[kind]))

    def check_rows(self, acknowledged):
        change(self.stack, "user", "DELETE FROM throttle")    # the next may sign in again
        for kind, told in acknowledged.items():
            found = self.found(kind) - self.before[kind]
            missing = [row for row in told if found[row] != 1]
            assert not missing, (kind, missing)
            untold = found - collections.Counter(told)
            assert not (self.strict and untold), (kind, untold)

    def so_far(self):
        return {kind: list(told) for kind, told in self.acknowledged.items()}

    def check(self):
        with contextlib.suppress(AssertionError):
            calm(self.stack, 3)    # who is at something is through with it by then
        end_leases(self.stack)
        calm(self.stack)
        self.check_rows(self.acknowledged)
        for kind in ("entry", "mail"):    # no name twice, also of what nobody was told of
            names = [name for _, name in self.found(kind)]
            assert len(names) == len(set(names)), kind
        check_books(self.stack, {id: STOCK for id in self.products})

    def report(self):
        done = ", ".join(f"{len(told)} of {kind}" for kind, told in self.acknowledged.items())
        return f"{sum(self.done)} acts, acknowledged: {done}; statuses {dict(self.counts)}"
