"""What the shop is to do, in memory: written from the interface alone (design,
section 8), not from the services. Each method takes one call, answers what its
reply must be, and changes what is there as the shop is to change it. What the
shop chooses itself, an id or a time, is learnt from its reply."""

import re
import time
from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

BEYOND = 2**53
SAME_MOMENT = 10    # seconds in which two tabs may send one refresh token


class Who(NamedTuple):
    """Who asks; a user is looked up by id."""
    role: str = "nobody"
    id: int = 0


ADMIN, NOBODY = Who("admin", 1), Who()    # the administrator is the first user


class Want(NamedTuple):
    """A reply: its status, the members that are known, what a problem names; and
    what to learn from it."""
    status: int
    known: Any = None
    pointers: frozenset = frozenset()
    type: str = ""
    learn: Callable = lambda reply: None


def no(status, type="", known=None):
    return Want(status, known, type=type)


# ---- which values a member may have ----

def text(least, most, newlines=False):
    bad = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]" if newlines else r"[\x00-\x1f\x7f]"
    return lambda v: type(v) is str and least <= len(v) <= most and not re.search(bad, v)


def whole(least=0, most=BEYOND - 1):
    return lambda v: type(v) is int and least <= v <= most


def or_null(rule):
    return lambda v: v is None or rule(v)


def an_object(v):
    return type(v) is dict


def matches(pattern):
    return lambda v: type(v) is str and re.fullmatch(pattern, v) is not None


TIME = matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
EMAIL = matches(r"[a-z0-9.]+@[a-z.]+\.[a-z]+")
ACTION = matches(r"[a-z0-9_.-]{1,100}")
PRODUCT = {"sku": text(1, 64), "name": text(1, 200), "description": text(0, 10000, True),
    "price": whole(0, 10**12), "currency": matches("[A-Z]{3}"), "attributes": an_object,
    "category": or_null(text(1, 100)), "stock": or_null(whole(0, 10**9))}
NEEDED = {"sku", "name", "price", "currency"}
ITEM = {"product_id": whole(1), "quantity": whole(1, 999)}
PAYMENT = {"method": text(0, 200), "token": or_null(text(1, 200))}
USER = {"email": EMAIL, "password": text(8, 128), "name": or_null(text(1, 200))}
ENTRY = {"action": ACTION, "data": an_object, "user_id": whole(1), "at": TIME}
LINE = {"product_id": whole(1), "description": text(1, 200), "quantity": whole(1, 10**6),
    "price": whole()}
INVOICE = {"user_id": whole(1), "currency": matches("[A-Z]{3}"),
    "lines": lambda v: type(v) is list and 1 <= len(v) <= 200}
MAIL = {"to": EMAIL, "subject": text(1, 200), "text": text(1, 200000, True)}


def faults(body, table, needed=(), base="#"):
    found = {f"{base}/{k}" for k, v in body.items() if k not in table or not table[k](v)}
    return frozenset(found | {f"{base}/{k}" for k in needed if k not in body})


def invalid(pointers):
    return Want(422, pointers=frozenset(pointers))


# ---- what there is ----

@dataclass
class Product:
    members: dict
    reserved: int = 0
    deleted: bool = False
    version: int = 1
    id: int = 0

    def __getattr__(self, name):
        return self.__dict__["members"][name]

    @property
    def available(self):
        return None if self.stock is None else max(0, self.stock - self.reserved)

    def shown(self):
        return {**self.members, "id": self.id, "available": self.available,
            "version": self.version}

    def words(self):
        all_ = f"{self.name} {self.description} {self.sku} {self.category or ''}"
        return re.findall(r"\w+", all_.lower())

    def move(self, stock=0, reserved=0):
        self.reserved += reserved
        if self.stock is not None:
            self.members["stock"] = max(0, self.stock + stock)
        self.version += 1


@dataclass
class Item:
    product_id: int
    quantity: int
    seen: dict
    id: int = 0

    def shown(self):
        return {**self.seen, "id": self.id, "product_id": self.product_id,
            "quantity": self.quantity, "line_total": self.seen["price"] * self.quantity}


@dataclass
class User:
    email: str
    password: str
    name: str
    id: int = 0
    version: int = 1
    cart: dict = field(default_factory=dict)
    sessions: list = field(default_factory=list)
    deleted: bool = False

    def shown(self):
        return {"id": self.id, "email": self.email, "name": self.name, "role": "customer",
            "version": self.version}


@dataclass
class Invoice:
    members: dict
    held: bool    # it is of a checkout, for which stock is set aside
    id: int = 0
    version: int = 1

    def shown(self):
        return {**self.members, "id": self.id, "version": self.version}


class Model:
    def __init__(self):
        self.products, self.users, self.invoices, self.entries, self.mails = {}, {}, {}, {}, {}
        self.moved = set()    # products that change a moment later, and users that are forgotten
        self.left = set()
        self.registered = []
        self.paid = []

    def put(self, table, thing):
        """It gets the id of the reply, higher than all before."""
        def learn(reply):
            thing.id = reply["id"]
            assert thing.id > max(table, default=0), reply
            table[thing.id] = thing
        return learn

    @staticmethod
    def refused(who, *roles, owner=None):
        """Who may not do it hears: sign in; not yours, so not there; not you."""
        if who.role in roles or "anyone" in roles or (owner and who.id == owner):
            return None
        if who.role == "nobody":
            return no(401)
        return no(404 if owner else 403)

    @staticmethod
    def stale(tag, version):
        return tag is not None and tag not in ("*", f'"{version}"', f'W/"{version}"')

    # ---- products ----

    def sku_is_used(self, body, but=None):
        return any(p.sku == body.get("sku") and not p.deleted and p is not but
            for p in self.products.values())

    def post_product(self, who, body):
        if wrong := self.refused(who, "admin"):
            return wrong
        if wrong := faults(body, PRODUCT, NEEDED):
            return invalid(wrong)
        if self.sku_is_used(body):
            return no(409, "sku-in-use")
        p = Product({"description": "", "category": None, "attributes": {}, "stock": None, **body})
        known = {k: v for k, v in p.shown().items() if k != "id"}
        return Want(201, {**known, "deleted_at": None}, learn=self.put(self.products, p))

    def get_product(self, who, id, tag):
        p = self.products.get(id)
        if p is None:
            return no(404)
        if p.deleted and who.role != "admin":
            return no(410)
        return no(304) if tag and not self.stale(tag, p.version) else Want(200, p.shown())

    def change_product(self, who, id, body, tag):
        p = self.products.get(id)
        if wrong := self.refused(who, "admin"):
            return wrong
        if p is None:
            return no(404)
        if self.stale(tag, p.version):
            return no(412)
        if wrong := faults(body, PRODUCT):
            return invalid(wrong)
        if not p.deleted and self.sku_is_used(body, p):
            return no(409, "sku-in-use")
        p.members |= body
        p.version += 1
        return Want(200, p.shown())

    def delete_product(self, who, id, tag):
        p = self.products.get(id)
        if wrong := self.refused(who, "admin"):
            return wrong
        if p is None:
            return no(404)
        if self.stale(tag, p.version):
            return no(412)
        p.version += not p.deleted
        p.deleted = True
        return no(204)

    def list_products(self, q):
        words = re.findall(r"\w+", q.get("q", "").lower())
        found = [p for p in self.products.values() if not p.deleted
            and q.get("category") in (None, p.category)
            and q.get("min_price", 0) <= p.price <= q.get("max_price", BEYOND)
            and (not q.get("in_stock") or p.stock is None or p.available > 0)
            and ("ids" not in q or p.id in q["ids"])
            and all(any(have.startswith(word) for have in p.words()) for word in words)]
        key, down = {"name": (lambda p: (p.name, p.id), False),
            "price": (lambda p: (p.price, p.id), False),
            "-price": (lambda p: (p.price, p.id), True),
            "newest": (lambda p: p.id, True)}.get(q.get("sort"), (lambda p: p.id, False))
        return [p.shown() for p in sorted(found, key=key, reverse=down)]

    # ---- carts ----

    def see(self, item, product, own):
        """A product that is gone keeps its price, with none available; and its price is what
        the customer saw, whoever looks."""
        if product.deleted:
            item.seen["available"] = 0
        else:
            what = ("name", "price", "available") if own else ("name", "available")
            item.seen |= {k: getattr(product, k) for k in what}

    def look(self, who, uid, items):
        """Only the customer sees what product says now; others see what that one saw."""
        if who.id == uid:
            for item in items:
                self.see(item, self.products[item.product_id], True)

    def post_item(self, who, uid, body):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        if wrong := faults(body, ITEM, {"product_id"}):
            return invalid(wrong)
        user, p = self.users[uid], self.products.get(body["product_id"])
        if p is None or p.deleted:
            return invalid({"#/product_id"})
        if any(item.seen["currency"] != p.currency for item in user.cart.values()):
            return no(409, "currency-mismatch")
        item = next((i for i in user.cart.values() if i.product_id == p.id), None)
        quantity = body.get("quantity", 1) + (item.quantity if item else 0)
        if quantity > 999:
            return invalid({"#/quantity"})
        if item:
            item.quantity = quantity
            self.see(item, p, who.id == uid)
            return Want(200, item.shown())
        item = Item(p.id, quantity, {"currency": p.currency})
        self.see(item, p, True)
        known = {k: v for k, v in item.shown().items() if k != "id"}
        return Want(201, known, learn=self.put(user.cart, item))

    def get_cart(self, who, uid):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        user = self.users[uid]
        self.look(who, uid, user.cart.values())
        items = [item.shown() for item in user.cart.values()]
        return Want(200, {"items": items, "count": len(items),
            "subtotal": sum(i["line_total"] for i in items),
            "currency": items[0]["currency"] if items else None})

    def get_item(self, who, uid, id):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        item = self.users[uid].cart.get(id)
        if item is None:
            return no(404)
        self.look(who, uid, [item])
        return Want(200, item.shown())

    def change_item(self, who, uid, id, body):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        item = self.users[uid].cart.get(id)
        if item is None:
            return no(404)
        if wrong := faults(body, {"quantity": ITEM["quantity"]}):
            return invalid(wrong)
        item.quantity = body.get("quantity", item.quantity)
        return Want(200, item.shown())

    def delete_item(self, who, uid, id):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        return no(204) if self.users[uid].cart.pop(id, None) else no(404)

    def empty_cart(self, who, uid):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        self.users[uid].cart = {}
        return no(204)

    def refusal(self, item):
        p = self.products[item.product_id]
        if not p.deleted and p.price > item.seen["price"]:
            return "price-changed"
        if p.deleted or (p.stock is not None and p.stock - p.reserved < item.quantity):
            return "out-of-stock"
        return None

    def checkout(self, who, uid):
        if wrong := self.refused(who, "admin", owner=uid):
            return wrong
        user = self.users[uid]
        items = list(user.cart.values())
        if not items:
            return no(409, "cart-empty")
        refused = [{"item_id": i.id, "product_id": i.product_id, "reason": self.refusal(i)}
            for i in items if self.refusal(i)]
        if refused:
            first = sorted({line["reason"] for line in refused})[-1]
            return no(409, first, {"lines": refused})
        for item in items:
            self.products[item.product_id].move(reserved=item.quantity)
        user.cart = {}
        return self.make_invoice(uid, items[0].seen["currency"], [{"product_id": i.product_id,
            "description": i.seen["name"], "quantity": i.quantity, "price": i.seen["price"]}
            for i in items], held=True)

    # ---- invoices ----

    def make_invoice(self, uid, currency, lines, held):
        lines = [{**n, "amount": n["quantity"] * n["price"]} for n in lines]
        v = Invoice({"user_id": uid, "number": len(self.invoices) + 1, "status": "open",
            "currency": currency, "lines": lines, "total": sum(n["amount"] for n in lines),
            "amount_paid": 0, "amount_refunded": 0}, held)
        return Want(201, dict(v.members, version=1), learn=self.put(self.invoices, v))

    def post_invoice(self, who, body):
        if wrong := self.refused(who, "admin"):
            return wrong
        wrong = faults(body, INVOICE, {"user_id", "currency", "lines"})
        for n, line in enumerate(body["lines"]):
            wrong |= faults(line, LINE, set(LINE), f"#/lines/{n}")
        if wrong:
            return invalid(wrong)
        return self.make_invoice(body["user_id"], body["currency"], body["lines"], held=False)

    def find_invoice(self, who, id):
        v = self.invoices.get(id)
        if who.role == "nobody":
            return None, no(401)
        if v is None or who.role == "customer" and v.members["user_id"] != who.id:
            return None, no(404)
        return v, None

    def get_invoice(self, who, id):
        v, wrong = self.find_invoice(who, id)
        return wrong or Want(200, v.shown())

    def change_invoice(self, v, status, stock=0, **members):
        """Goods that were set aside are sold, or are free again."""
        v.members |= {"status": status, **members}
        v.version += 1
        for line in v.members["lines"] if stock is not None and v.held else ():
            self.products[line["product_id"]].move(stock * line["quantity"], -line["quantity"])
            self.moved.add(line["product_id"])
        return Want(200, v.shown())

    def pay(self, who, id, body, tag):
        if who.role == "nobody":
            return no(401)
        if wrong := faults(body, PAYMENT, {"method"}):
            return invalid(wrong)
        v, wrong = self.find_invoice(who, id)
        if wrong:
            return wrong
        if body["method"] not in ("sandbox", "manual"):
            return invalid({"#/method"})
        if body["method"] == "manual" and who.role != "admin":
            return no(403)
        if self.stale(tag, v.version):
            return no(412)
        if v.members["status"] != "open":
            return no(409, f"invoice-{v.members['status']}")
        if body["method"] == "sandbox" and body.get("token") != "tok_ok":
            return no(402)
        self.paid.append(v)
        return self.change_invoice(v, "paid", stock=-1, amount_paid=v.members["total"])

    def void(self, who, id, tag):
        if wrong := self.refused(who, "admin"):
            return wrong
        v, wrong = self.find_invoice(who, id)
        if wrong:
            return wrong
        if self.stale(tag, v.version):
            return no(412)
        if v.members["status"] != "open":
            return no(409, f"invoice-{v.members['status']}")
        return self.change_invoice(v, "void")

    def refund(self, who, id, body, tag):
        if wrong := self.refused(who, "admin"):
            return wrong
        if wrong := faults(body, {"amount": whole(1)}):
            return invalid(wrong)
        v, wrong = self.find_invoice(who, id)
        if wrong:
            return wrong
        if self.stale(tag, v.version):
            return no(412)
        if v.members["status"] != "paid":
            return no(409, f"invoice-{v.members['status']}")
        left = v.members["amount_paid"] - v.members["amount_refunded"]
        if left == 0:
            return no(409, "nothing-to-refund")
        amount = body.get("amount", left)
        if amount > left:
            return invalid({"#/amount"})
        return self.change_invoice(v, "refunded" if amount == left else "paid", stock=None,
            amount_refunded=v.members["amount_refunded"] + amount)

    def list_invoices(self, who, q):
        return [v.shown() for v in reversed(self.invoices.values())
            if (who.role == "admin" or v.members["user_id"] == who.id)
            and q.get("user_id") in (None, v.members["user_id"])
            and q.get("status") in (None, v.members["status"])]

    # ---- the record ----

    def entry_faults(self, who, body, base):
        wrong = faults(body, ENTRY, {"action"}, base)
        mine = who.role != "customer" or body.get("user_id") in (None, who.id)
        return wrong if mine else wrong | {f"{base}/user_id"}

    def post_log(self, who, body):
        """Tests are in the internal network, which may speak for anybody."""
        many = body if isinstance(body, list) else [body]
        bases = [f"#/{n}" for n in range(len(many))] if many is body else ["#"]
        wrong = frozenset().union(*(self.entry_faults(who, entry, base)
            for entry, base in zip(many, bases)))
        if many is body and not 1 <= len(body) <= 1000:
            wrong |= {"#"}
        if wrong:
            return invalid(wrong)
        made = [{"user_id": who.id or None, "data": {}, **entry} for entry in many]

        def learn(reply):
            for n, entry in enumerate(made):
                id = reply["first_id"] + n if many is body else reply["id"]
                self.entries[id] = {"at": reply.get("at"), **entry, "id": id}
            if many is body:
                assert reply["last_id"] == id
        return Want(201, {"count": len(made)} if many is body else made[0], learn=learn)

    def list_log(self, q):
        return [e for e in sorted(self.entries.values(), key=lambda e: (e["at"], e["id"]))
            if q.get("action") in (None, e["action"])
            and q.get("user_id") in (None, e["user_id"])
            and q.get("from", "") <= e["at"] < q.get("to", "9")]

    # ---- users and their sessions ----

    def address_is_used(self, email):
        return any(u.email == email.lower() and not u.deleted for u in self.users.values())

    def register(self, who, body):
        if wrong := faults(body, USER, {"email", "password"}):
            return invalid(wrong)
        if self.address_is_used(body["email"]):
            return no(409, "email-in-use")
        user = User(body["email"], body["password"], body.get("name"))
        self.registered.append(user)
        known = {k: v for k, v in user.shown().items() if k != "id"}
        return Want(201, known, learn=self.put(self.users, user))

    def sign_in(self, user):
        def learn(reply):
            user.sessions.append(reply)
        return Want(201, {"user_id": user.id, "token_type": "Bearer"}, learn=learn)

    def get_user(self, who, id):
        if wrong := self.refused(who, "admin", owner=id):
            return wrong
        user = self.users.get(id)
        return no(404) if user is None or user.deleted else Want(200, user.shown())

    def change_user(self, who, id, body, tag):
        if wrong := self.refused(who, "admin", owner=id):
            return wrong
        user = self.users.get(id)
        if user is None or user.deleted:
            return no(404)
        if self.stale(tag, user.version):
            return no(412)
        if wrong := faults(body, USER):
            return invalid(wrong)
        if "password" in body and who.id == id:
            return invalid({"#/current_password"})
        user.name = body.get("name", user.name)
        user.version += 1
        return Want(200, user.shown())

    def delete_user(self, who, id):
        if wrong := self.refused(who, "admin", owner=id):
            return wrong
        user = self.users.get(id)
        if user is None or user.deleted:
            return no(404)
        user.deleted, user.sessions, user.cart = True, [], {}
        for e in self.entries.values():
            if e["user_id"] == id:
                e |= {"user_id": None, "data": {}}
        self.left.add(id)
        return no(204)

    def list_users(self, email):
        return [u.shown() for u in self.users.values() if not u.deleted and u.email == email]

    def refresh(self, user, token):
        """The newest token of a session is good once. The one before it is only refused
        for a moment, since another tab may have sent it; after that, and older, it ends
        the session."""
        session = next((s for s in user.sessions if token in s.get("used", ())
            or token == s["refresh_token"]), None)
        if session is None:
            return no(401)
        if token != session["refresh_token"]:
            ago = time.monotonic() - session["refreshed"]
            if token == session["used"][-1] and ago < SAME_MOMENT:
                return no(409, "refreshed-already")
            user.sessions.remove(session)
            return no(401)

        def learn(reply):
            session.update(token=reply["token"], refresh_token=reply["refresh_token"],
                used=[*session.get("used", ()), token], refreshed=time.monotonic())
        return Want(200, {"user_id": user.id}, learn=learn)

    # ---- mail ----

    def post_mail(self, who, body):
        if wrong := self.refused(who, "admin"):
            return wrong
        if wrong := faults(body, MAIL) or faults({}, MAIL, set(MAIL) - set(body)):
            return invalid(wrong)

        def learn(reply):
            self.mails[reply["id"]] = known | {"id": reply["id"]}
        known = {"to": body["to"], "subject": body["subject"]}
        return Want(202, known, learn=learn)
