"""Random calls, good and bad, by several users, against the running shop and
against the model of it: every reply is compared, and in the end all lists.

    make test-model CALLS=100000 SEED=7

does the same calls again that a failure names."""

import os
import random
import re
import time

import pytest

from model import ADMIN, NOBODY, SAME_MOMENT, Model, Who
from shop import Shop
from stack import Stack, eventually

CALLS = int(os.environ.get("CALLS") or 1000)
SEED = int(os.environ.get("SEED") or time.time_ns() % 10**9)
USERS = 6    # at a time: passwords take long
FRUIT = ("Apple", "Pear", "Quince", "Medlar", "Plum", "zürich", "Æble")
CATEGORIES = ("fruit", "things", "paper", None)
ACTIONS = ("test.look", "test.buy", "test-leave")

# Good values and bad ones of each member; None of a bad list is JSON's null.
PRODUCT_VALUES = {
    "sku": (lambda r: f"sku-{r.randrange(300)}", ["", "s" * 65, "a\nb", 7, None]),
    "name": (lambda r: f"{r.choice(FRUIT)} {r.choice(FRUIT)}", ["", "n" * 201, "a\tb", None, []]),
    "description": (lambda r: f"{r.choice(FRUIT)}\n\t✓ {r.randrange(9)}", ["d" * 10001, "\x01", 1]),
    "price": (lambda r: r.choice((0, 1, r.randrange(1000), 10**6)),
        [-1, 10**12 + 1, 1.5, "1", True, None]),
    "currency": (lambda r: "EUR" if r.random() < 0.95 else "USD", ["eur", "EURO", "", 7]),
    "category": (lambda r: r.choice(CATEGORIES), ["", "c" * 101, {}]),
    "attributes": (lambda r: {"n": r.randrange(9), "deep": [{"x": [1.5, None, "é"]}]},
        [None, [], "x"]),
    "stock": (lambda r: r.choice((None, 0, r.randrange(40), 10**9)), [-1, 10**9 + 1, 0.5, "3"]),
}
ITEM_VALUES = {"quantity": (lambda r: r.choice((1, 1, 2, 5, 400)), [0, -1, 1000, "1", 1.0, None])}
PAYMENT_VALUES = {
    "method": (lambda r: r.choice(("sandbox", "sandbox", "sandbox", "manual", "gold")), [7, None]),
    "token": (lambda r: r.choice(("tok_ok", "tok_ok", "tok_ok", "tok_decline", None)), ["", 7])}
ENTRY_VALUES = {
    "action": (lambda r: r.choice(ACTIONS), ["", "A", "a b", "a" * 101, 1]),
    "data": (lambda r: {"n": r.randrange(99), "s": 'é"\\'}, [[], None, 1]),
    "at": (lambda r: f"2026-{r.randrange(1, 11):02}-{r.randrange(1, 29):02}T"
        f"{r.randrange(24):02}:00:00.{r.randrange(1000):03}Z", ["2026-02-30T00:00:00Z", 7, ""])}
USER_VALUES = {"name": (lambda r: r.choice((None, "Ann", "Zoë")), ["", "x" * 201, "a\x01b", 7])}
LINE = {"product_id": (lambda r: r.randrange(1, 99), [0, "1"]),
    "description": (lambda r: r.choice(FRUIT), ["", None]),
    "quantity": (lambda r: r.randrange(1, 20), [0, 10**6 + 1]),
    "price": (lambda r: r.randrange(5000), [-1, 0.5])}


def same(known, got):
    """got has all that is known, in the order that is known."""
    if isinstance(known, dict):
        return isinstance(got, dict) and all(k in got and same(v, got[k])
            for k, v in known.items())
    if isinstance(known, list):
        return isinstance(got, list) and len(known) == len(got) and all(map(same, known, got))
    return type(known) is type(got) and known == got


class Run:
    def __init__(self, stack, seed):
        self.stack, self.http = stack, Shop(stack)
        self.r, self.model = random.Random(seed), Model()
        self.last, self.count, self.statuses = [], {}, {}

    # ---- asking ----

    def token(self, who):
        if who.role == "customer":
            sessions = self.model.users[who.id].sessions
            return sessions[-1]["token"] if sessions else None
        return self.http.admin if who == ADMIN else None

    def ask(self, want, method, path, who=NOBODY, body=None, tag=None, token=None):
        """tag goes with If-None-Match to a GET, with If-Match to all else."""
        headers = {}
        if tag:
            headers["If-None-Match" if method == "GET" else "If-Match"] = tag
        path += self.r.choice(("", "/"))
        self.last = self.last[-9:] + [f"{method} {path} {who} {str(body)[:300]} {headers}"]
        reply = self.http.request(method, path, body, token or self.token(who), headers,
            tls=False)
        self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
        problem = reply.json if reply.status >= 400 else {}
        assert (reply.status == want.status
            and (want.known is None or same(want.known, reply.json))
            and want.pointers == {e["pointer"] for e in problem.get("errors", [])}
            and (not want.type or problem["type"] == f"urn:coster:problem:{want.type}")), \
            f"the model wants {want}, the shop replies {reply}"
        if method == "GET" and reply.status == 200 and "version" in (want.known or {}):
            assert reply.headers["ETag"] == f'"{want.known["version"]}"'
        want.learn(reply.json)
        self.settle()
        return reply

    def settle(self):
        """What goes through an outbox arrives a moment later, and only then."""
        for id in self.model.moved:
            eventually(lambda: same(self.model.products[id].shown(),
                self.http.get(f"/product/{id}", token=self.http.admin, tls=False).json))
        for id in self.model.left:
            eventually(lambda: self.http.get(f"/user/{id}/cart", token=self.http.admin,
                tls=False).json["items"] == [])
            eventually(lambda: not self.http.get(f"/log?user_id={id}", tls=False).json["items"])
        self.model.moved, self.model.left = set(), set()

    def walk(self, want, path, who=NOBODY, pages=3, limit=None):
        """Some pages of a list are what the model has there."""
        seen, limit = [], limit or self.r.choice((1, 7, 50, 200))
        link = f"{path}{'&' if '?' in path else '?'}limit={limit}"
        while link and pages:
            reply = self.ask_plainly(link, who)
            assert len(reply.json["items"]) in (limit, len(want) - len(seen)), reply
            seen += reply.json["items"]
            link = re.fullmatch('<(.+)>; rel="next"', reply.headers["Link"] or "")
            link, pages = link and link[1], pages - 1
        assert same(want[:len(seen)] if link else want, seen), (path, want[:len(seen)], seen)

    def ask_plainly(self, path, who):
        self.last = self.last[-9:] + [f"GET {path} {who}"]
        return self.http.get(path, token=self.token(who), tls=False, expect=200)

    # ---- choosing ----

    def one(self, things, or_else=987654321):
        """The newer the likelier."""
        things = list(things)
        if not things or self.r.random() < 0.02:
            return or_else
        return things[-1 - min(int(self.r.expovariate(0.1)), len(things) - 1)]

    def customer(self):
        return Who("customer", self.r.choice([u.id for u in self.living()]))

    def living(self):
        return [u for u in self.model.users.values() if u.sessions]

    def anyone(self, most):
        """Mostly the one who may."""
        r = self.r.random()
        return most if r < 0.85 else self.customer() if r < 0.92 else \
            ADMIN if r < 0.96 else NOBODY

    def body(self, values, needed=(), some=0.5):
        r = self.r
        body = {k: good(r) for k, (good, _) in values.items()
            if k in needed or r.random() < some}
        for _ in range(r.choice((0,) * 8 + (1, 1, 2))):
            name = r.choice(list(values))
            kind = r.random()
            if kind < 0.7:
                body[name] = r.choice(values[name][1])
            elif kind < 0.9:
                body.pop(name, None)
            else:
                body[r.choice(("id", "version", "nonsense"))] = 1
        return body

    def tag(self, version):
        return self.r.choice((None,) * 8 + ("*", f'"{version}"', f'W/"{version}"', '"0"'))

    # ---- calls ----

    def product(self):
        m, r = self.model, self.r
        who, id = self.anyone(ADMIN), self.one(m.products)
        tag = self.tag(m.products[id].version if id in m.products else 1)
        path, kind = f"/product/{id}", r.random()
        if kind < 0.35 or not m.products:
            body = self.body(PRODUCT_VALUES, ("sku", "name", "price", "currency"))
            self.ask(m.post_product(who, body), "POST", "/product", who, body)
        elif kind < 0.7:
            self.ask(m.get_product(who, id, tag), "GET", path, who, tag=tag)
        elif kind < 0.95:
            body = self.body({k: v for k, v in PRODUCT_VALUES.items() if k != "currency"}, (), 0.2)
            self.ask(m.change_product(who, id, body, tag), r.choice(("PUT", "PATCH")), path, who,
                body, tag)
        else:
            self.ask(m.delete_product(who, id, tag), "DELETE", path, who, tag=tag)

    def products(self):
        r = self.r
        query = {k: v for k, v in {"category": r.choice(CATEGORIES), "min_price": r.randrange(900),
            "max_price": r.randrange(900), "in_stock": True, "q": r.choice(FRUIT)[:3],
            "sort": r.choice(("id", "name", "price", "-price", "newest"))}.items()
            if v is not None and r.random() < 0.3}
        if r.random() < 0.1 and "q" not in query:
            query["ids"] = [self.one(self.model.products) for _ in range(5)]
        text = "&".join(f"{k}={self.as_text(v)}" for k, v in query.items())
        self.walk(self.model.list_products(query), f"/products?{text}", self.anyone(NOBODY))

    @staticmethod
    def as_text(v):
        if isinstance(v, list):
            return ",".join(map(str, v))
        return "true" if v is True else "".join(c if c.isascii() else "".join(
            f"%{b:02x}" for b in c.encode()) for c in str(v))

    def cart(self):
        m, r = self.model, self.r
        owner = self.customer()
        who, path, kind = self.anyone(owner), f"/user/{owner.id}/cart", r.random()
        id = self.one(m.users[owner.id].cart)
        if kind < 0.4:
            body = {"product_id": self.one(p.id for p in m.products.values() if not p.deleted),
                **self.body(ITEM_VALUES)}
            self.ask(m.post_item(who, owner.id, body), "POST", path, who, body)
        elif kind < 0.55:
            self.ask(m.get_cart(who, owner.id), "GET", path, who)
        elif kind < 0.65:
            self.ask(m.get_item(who, owner.id, id), "GET", f"{path}/{id}", who)
        elif kind < 0.8:
            body = self.body(ITEM_VALUES)
            self.ask(m.change_item(who, owner.id, id, body), r.choice(("PUT", "PATCH")),
                f"{path}/{id}", who, body)
        elif kind < 0.87:
            self.ask(m.delete_item(who, owner.id, id), "DELETE", f"{path}/{id}", who)
        elif kind < 0.88:
            self.ask(m.empty_cart(who, owner.id), "DELETE", path, who)
        else:
            self.ask(m.checkout(who, owner.id), "POST", f"{path}/checkout", who, {})

    def invoice(self):
        m, r = self.model, self.r
        id, kind = self.one(m.invoices), r.random()
        v = m.invoices.get(id)
        tag, path = self.tag(v.version if v else 1), f"/invoices/{id}"
        mine = [u.id for u in self.living() if v and u.id == v.members["user_id"]]
        owner = self.anyone(Who("customer", mine[0]) if mine else ADMIN)
        if kind < 0.1:
            who = self.anyone(ADMIN)
            body = {"user_id": self.customer().id, "currency": "EUR",
                "lines": [self.body(LINE, LINE) for _ in range(r.randrange(1, 4))]}
            self.ask(m.post_invoice(who, body), "POST", "/invoices", who, body)
        elif kind < 0.3:
            self.ask(m.get_invoice(owner, id), "GET", path, owner)
        elif kind < 0.6:
            body = self.body(PAYMENT_VALUES, ("method", "token"))
            self.ask(m.pay(owner, id, body, tag), "POST", f"{path}/pay", owner, body, tag)
        elif kind < 0.7:
            who = self.anyone(ADMIN)
            self.ask(m.void(who, id, tag), "POST", f"{path}/void", who, {}, tag)
        elif kind < 0.85:
            who = self.anyone(ADMIN)
            body = r.choice(({}, {"amount": r.choice((1, 100, 10**9, 0, "1"))}))
            self.ask(m.refund(who, id, body, tag), "POST", f"{path}/refund", who, body, tag)
        else:
            who = r.choice((ADMIN, self.customer()))
            query = {k: v for k, v in {"status": r.choice(("open", "paid", "void", "refunded")),
                "user_id": self.customer().id}.items() if r.random() < 0.4}
            self.walk(m.list_invoices(who, query), "/invoices?" + "&".join(
                f"{k}={v}" for k, v in query.items()), who)

    def log(self):
        m, r = self.model, self.r
        who = self.anyone(self.customer())
        if r.random() < 0.3:
            query = {"action": r.choice(ACTIONS), **{k: v for k, v in {
                "user_id": self.customer().id, "from": ENTRY_VALUES["at"][0](r),
                "to": ENTRY_VALUES["at"][0](r)}.items() if r.random() < 0.4}}
            if query.get("from", "") <= query.get("to", "9"):
                self.walk(m.list_log(query), "/log?" + "&".join(
                    f"{k}={v}" for k, v in query.items()), who)
            return
        values = ENTRY_VALUES | {"user_id": (lambda r: self.customer().id, [0, "1"])}
        if r.random() < 0.7:
            body = self.body(values, ("action",), 0.3)
        else:
            body = [self.body(values, ("action", "at"), 0.3) for _ in range(r.randrange(6))]
            body = [{**e, "at": e.get("at", "2026-01-01T00:00:00.000Z")} for e in body]
        self.ask(m.post_log(who, body), "POST", "/log", who, body)

    def user(self):
        m, r = self.model, self.r
        user = m.users[self.customer().id]
        owner, kind = Who("customer", user.id), r.random()
        who, path, tag = self.anyone(owner), f"/user/{user.id}", self.tag(user.version)
        if kind < 0.4:
            self.ask(m.get_user(who, user.id), "GET", path, who)
        elif kind < 0.7:
            body = self.body(USER_VALUES | {"password": (lambda r: "eight pears", ["x", 7])}, (),
                0.3)
            if who.role != "admin":    # an administrator's word would be hashed
                self.ask(m.change_user(who, user.id, body, tag), "PATCH", path, who, body, tag)
        elif kind < 0.8:
            email = r.choice((user.email, "nobody@shop.example"))
            self.ask_users(email)
        else:
            ids = [s["id"] for s in self.ask_plainly("/session", owner).json["items"]]
            assert len(ids) == len(user.sessions) and ids == sorted(ids)

    def ask_users(self, email):
        reply = self.ask_plainly(f"/user?email={email}", ADMIN)
        assert same(self.model.list_users(email), reply.json["items"]), reply

    def session(self):
        """The newest token of a session is good once, an older one refused or its end."""
        m, r = self.model, self.r
        user = m.users[self.customer().id]
        newest = r.choice(user.sessions)
        old = newest.get("used", [])
        if abs(time.monotonic() - newest.get("refreshed", 0) - SAME_MOMENT) < 1:
            old = old[:-1]    # either may come now
        token = r.choice(old) if old and r.random() < 0.1 and len(user.sessions) > 1 else \
            r.choice((newest["refresh_token"], newest["refresh_token"], "x" * 56))
        self.ask(m.refresh(user, token), "POST", "/session/refresh", body={"refresh_token": token})

    def people(self):
        """Passwords are hashed: seldom."""
        m, r, living = self.model, self.r, self.living()
        if len(living) >= USERS:
            user = r.choice(living)
            token, who = user.sessions[-1]["token"], r.choice((ADMIN, Who("customer", user.id)))
            kept = self.token(who)
            self.ask(m.delete_user(who, user.id), "DELETE", f"/user/{user.id}", who, token=kept)
            self.http.get(f"/user/{user.id}", token=token, expect=401)
            self.ask(m.get_user(ADMIN, user.id), "GET", f"/user/{user.id}", ADMIN)
            return
        email = f"{r.choice(('ann', 'bob', 'eve'))}{r.randrange(9)}@shop.example"
        body = self.body({"email": (lambda r: email, ["", "nobody", "a b@c.d", 7]),
            "password": (lambda r: "seven blue apples", ["short", "", 7, None]), **USER_VALUES},
            ("email", "password"))
        reply = self.ask(m.register(NOBODY, body), "POST", "/user", body=body)
        if reply.status == 201:
            self.enter(m.users[reply.json["id"]])

    def enter(self, user):
        body = {"email": user.email.upper(), "password": user.password}
        self.ask(self.model.sign_in(user), "POST", "/session", body=body)

    def mail(self):
        who, r = self.anyone(ADMIN), self.r
        body = self.body({"to": (lambda r: f"guest{r.randrange(50)}@elsewhere.example",
                ["", "x", "a@b.c\r\nBcc: d@e.f"]),
            "subject": (lambda r: r.choice(FRUIT), ["", "a\r\nBcc: x", 7]),
            "text": (lambda r: "Dear\n\nguest", ["", None])}, ("to", "subject", "text"))
        self.ask(self.model.post_mail(who, body), "POST", "/send_email", who, body)

    # ---- all of it ----

    WEIGHTS = {"product": 25, "products": 6, "cart": 35, "invoice": 20, "log": 12, "user": 4,
        "session": 1, "people": 0.15, "mail": 0.5}

    def start(self):
        """What the stack made is deleted: the model begins with nothing."""
        for p in self.ask_plainly("/products", NOBODY).json["items"]:
            self.http.delete(f"/product/{p['id']}", token=self.http.admin, expect=204)
        for n in range(3):
            body = {"email": f"user{n}@shop.example", "password": "seven blue apples"}
            reply = self.ask(self.model.register(NOBODY, body), "POST", "/user", body=body)
            self.enter(self.model.users[reply.json["id"]])
        for _ in range(2):
            self.enter(self.model.users[reply.json["id"]])

    def step(self):
        if len(self.living()) < 3:
            name = "people"
        else:
            name, = self.r.choices(list(self.WEIGHTS), self.WEIGHTS.values())
        self.count[name] = self.count.get(name, 0) + 1
        getattr(self, name)()

    def compare_all(self):
        m, every = self.model, {"pages": -1, "limit": 200}
        for sort in ("id", "name", "price", "-price", "newest"):
            self.walk(m.list_products({"sort": sort}), f"/products?sort={sort}", **every)
        self.walk(m.list_invoices(ADMIN, {}), "/invoices?", ADMIN, **every)
        for user in self.living():
            who = Who("customer", user.id)
            self.ask(m.get_cart(who, user.id), "GET", f"/user/{user.id}/cart", who)
            self.walk(m.list_invoices(who, {}), "/invoices?", who, **every)
        for action in ACTIONS:
            self.walk(m.list_log({"action": action}), f"/log?action={action}", **every)
        users = [u for u in self.all("/user?", ADMIN) if u["role"] == "customer"]
        assert same([u.shown() for u in m.users.values() if not u.deleted], users)
        mails = {v["id"]: v for v in self.all("/send_email?", ADMIN)}
        assert all(same(v, mails[id]) for id, v in m.mails.items())
        for action, things in (("user.registered", m.registered), ("invoice.paid", m.paid)):
            eventually(lambda: len(self.all(f"/log?action={action}", ADMIN)) == len(things))

    def all(self, path, who):
        return self.http.pages(f"{path}&limit=200".replace("?&", "?"), token=self.token(who))


@pytest.fixture(scope="module")
def own_stack():
    stack = Stack(WRITERS="all", COSTER_CART_FRESH_SECONDS=0, COSTER_TOKEN_SECONDS=86400,
        COSTER_MAIL_PER_HOUR=1000000, COSTER_MAIL_PER_RECIPIENT=1000000)
    yield stack
    stack.stop()


def test_the_shop_does_what_the_model_does(own_stack):
    print(f"SEED={SEED} CALLS={CALLS}")
    run, started, n = Run(own_stack, SEED), time.monotonic(), 0
    try:
        run.start()
        for n in range(CALLS):
            run.step()
        run.compare_all()
    except BaseException as e:
        e.add_note(f"SEED={SEED} CALLS={CALLS}, at call {n}. The last were:\n"
            + "\n".join(run.last))
        raise
    print(f"{CALLS} calls in {time.monotonic() - started:.0f} s: {run.count}, {run.statuses}")
    seldom = {402, 410} if CALLS < 20000 else set()
    assert {200, 201, 204, 304, 401, 402, 403, 404, 409, 410, 412, 422} - seldom \
        <= set(run.statuses)
