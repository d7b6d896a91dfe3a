"""Carts, and the checkout that makes an invoice of one."""

import threading
import uuid

import pytest

from shop import Shop
from stack import Stack, eventually

MEMBERS = {"id", "product_id", "quantity", "name", "price", "currency", "line_total",
    "available", "added_at"}


@pytest.fixture(scope="module")
def product(http):
    return http.new_product(price=450)


@pytest.fixture(scope="module")
def bob(http):
    return http.new_user("Bob")


class Cart:
    """A customer's, through its own token."""

    def __init__(self, http, user):
        self.http, self.user, self.path = http, user, f"/user/{user.id}/cart/"

    def request(self, method, path="", body=None, **kw):
        kw.setdefault("token", self.user.token)
        return self.http.request(method, self.path + path, body, **kw)

    def add(self, product, quantity=1, **kw):
        return self.request("POST", "", {"product_id": product["id"], "quantity": quantity}, **kw)

    def read(self):
        return self.request("GET", expect=200).json

    def checkout(self, **kw):
        return self.request("POST", "checkout", {}, **kw)


@pytest.fixture
def cart(http):
    return Cart(http, http.new_user())


@pytest.fixture(scope="module")
def fresh():
    """A shop whose carts ask product whenever they may; from outside and from inside."""
    stack = Stack(COSTER_CART_FRESH_SECONDS=0)
    yield Shop(stack), Shop(stack, internal=True)
    stack.stop()


@pytest.fixture(scope="module")
def old_cart(http, product):
    """One for all that changes nothing."""
    cart = Cart(http, http.new_user())
    cart.item = cart.add(product, 2, expect=201).json
    return cart


def available(http, product):
    return http.get(f"/product/{product['id']}", expect=200).json["available"]


def test_products_are_added_and_counted(http, cart, product):
    other = http.new_product(price=1850)
    path = cart.path.rstrip("/")
    empty = {"items": [], "count": 0, "subtotal": 0, "currency": None}
    assert empty.items() <= cart.read().items()
    made = http.post(path, {"product_id": product["id"]}, token=cart.user.token, expect=201)
    item = made.json
    assert set(item) == MEMBERS
    assert made.headers["Location"] == cart.path + str(item["id"])
    assert {k: item[k] for k in ("product_id", "quantity", "name", "price", "currency",
        "line_total", "available")} == {"product_id": product["id"], "quantity": 1,
        "name": product["name"], "price": 450, "currency": "EUR", "line_total": 450,
        "available": 1000}
    more = cart.add(product, 2, expect=200).json
    assert (more["id"], more["quantity"], more["line_total"]) == (item["id"], 3, 1350)
    cart.add(other, 2, expect=201)
    seen = http.get(path, token=cart.user.token, expect=200).json
    assert [i["product_id"] for i in seen["items"]] == [product["id"], other["id"]]
    assert seen["subtotal"] == 3 * 450 + 2 * 1850 and seen["currency"] == "EUR"
    assert seen["count"] == 2


def test_an_item_is_read_changed_and_removed(cart, product):
    item = cart.add(product, 2, expect=201).json
    one = str(item["id"])
    for path in (one, one + "/"):
        read = cart.request("GET", path, expect=200)
        assert read.json["quantity"] == 2 and read.headers["ETag"]
        cart.request("HEAD", path, expect=200)
    assert cart.request("PUT", one, {"quantity": 7}, expect=200).json["line_total"] == 7 * 450
    assert cart.request("PATCH", one + "/", {"quantity": 5}, expect=200).json["quantity"] == 5
    cart.request("DELETE", one, expect=204)
    cart.request("GET", one, expect=404)
    cart.request("DELETE", one, expect=404)
    assert cart.read()["items"] == []


def test_an_item_has_versions(cart, product):
    one = str(cart.add(product, expect=201).json["id"])
    tag = cart.request("GET", one).headers["ETag"]
    cart.request("GET", one, headers={"If-None-Match": tag}, expect=304)
    cart.request("PATCH", one, {"quantity": 2}, headers={"If-Match": tag}, expect=200)
    cart.request("PATCH", one, {"quantity": 3}, headers={"If-Match": tag}, expect=412)


def test_a_cart_is_emptied(cart, product):
    cart.add(product, expect=201)
    cart.request("DELETE", expect=204)
    cart.request("DELETE", expect=204)
    assert cart.read()["items"] == []


@pytest.mark.parametrize("body, pointer", [
    ({}, "#/product_id"),
    ({"product_id": "1"}, "#/product_id"),
    ({"product_id": 0}, "#/product_id"),
    ({"product_id": 999999999}, "#/product_id"),
    ({"quantity": 0}, "#/quantity"),
    ({"quantity": 1000}, "#/quantity"),
    ({"quantity": 1.5}, "#/quantity"),
    ({"quantity": "1"}, "#/quantity"),
    ({"quantity": None}, "#/quantity"),
    ({"price": 1}, "#/price"),
    ({"id": 1}, "#/id"),
])
def test_faults_of_an_item_are_named(old_cart, product, body, pointer):
    if pointer != "#/product_id":
        body = {"product_id": product["id"], **body}
    assert old_cart.request("POST", "", body, expect=422).pointers == {pointer}


@pytest.mark.parametrize("body, pointer", [({"quantity": 0}, "#/quantity"),
    ({"quantity": 1000}, "#/quantity"), ({"product_id": 1}, "#/product_id"),
    ({"name": "x"}, "#/name")])
def test_faults_of_a_change_are_named(old_cart, body, pointer):
    reply = old_cart.request("PATCH", str(old_cart.item["id"]), body, expect=422)
    assert reply.pointers == {pointer}


def test_a_deleted_product_cannot_be_added(http, old_cart):
    product = http.new_product()
    http.delete(f"/product/{product['id']}", token=http.admin, expect=204)
    assert old_cart.add(product, expect=422).pointers == {"#/product_id"}


def test_a_line_has_a_limit(cart, product):
    cart.add(product, 999, expect=201)
    assert cart.add(product, 1, expect=422).pointers == {"#/quantity"}
    assert cart.read()["items"][0]["quantity"] == 999


def test_a_cart_is_its_owners_and_administrators(http, old_cart, bob):
    item = str(old_cart.item["id"])
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "checkout"), ("GET", item),
            ("DELETE", item)):
        body = {} if method == "POST" else None
        http.request(method, old_cart.path + path, body, expect=401)
        http.request(method, old_cart.path + path, body, bob.token, expect=404)
    http.get(old_cart.path + item, token=http.admin, expect=200)
    # an item through somebody else's path
    http.get(f"/user/{bob.id}/cart/{item}", token=bob.token, expect=404)
    http.patch(f"/user/{bob.id}/cart/{item}", {"quantity": 9}, token=bob.token, expect=404)
    assert http.get(old_cart.path, token=http.admin, expect=200).json["count"]


@pytest.mark.parametrize("path", ["/user/x/cart/", "/user/0/cart", "/user/1/cart/x",
    "/user/1/cart/0", "/user/1/cart/999999999", "/user/1/cart/1/2", "/user/1/carts"])
def test_unknown_paths_are_404(http, path):
    http.get(path, token=http.admin, expect=404)


def test_two_currencies_do_not_mix(http, cart, product):
    cart.add(product, expect=201)
    reply = cart.add(http.new_product(currency="USD"), expect=409)
    assert reply.json["type"] == "urn:coster:problem:currency-mismatch"


def test_checkout_makes_an_invoice_of_the_cart(http, cart):
    product, other = http.new_product(price=450, stock=5), http.new_product(price=1850)
    cart.add(product, 2, expect=201)
    cart.add(other, expect=201)
    reply = cart.checkout(expect=201)
    invoice = reply.json
    assert reply.headers["Location"] == f"/invoices/{invoice['id']}"
    assert (invoice["status"], invoice["user_id"], invoice["total"], invoice["currency"]) == \
        ("open", cart.user.id, 2 * 450 + 1850, "EUR")
    assert [(n["product_id"], n["quantity"], n["price"], n["amount"]) for n in invoice["lines"]] \
        == [(product["id"], 2, 450, 900), (other["id"], 1, 1850, 1850)]
    assert http.get(reply.headers["Location"], token=cart.user.token, expect=200).json == invoice
    assert cart.read()["items"] == []
    assert available(http, product) == 3


def test_an_empty_cart_is_not_checked_out(cart):
    assert cart.checkout(expect=409).json["type"] == "urn:coster:problem:cart-empty"


def test_a_repeated_checkout_makes_one_invoice(http, cart, product):
    cart.add(product, expect=201)
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (cart.checkout(headers=key, expect=201) for _ in range(2))
    assert first.json == again.json and again.headers["Idempotent-Replayed"] == "true"
    invoices = http.get(f"/invoices?user_id={cart.user.id}", token=cart.user.token).json["items"]
    assert len(invoices) == 1


def test_checkouts_at_once_make_one_invoice(http, cart):
    product = http.new_product(stock=100)
    cart.add(product, expect=201)
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(cart.checkout())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 4 and any(r.status == 201 for r in replies), replies
    assert all(r.status in (201, 409) for r in replies), replies
    assert len({r.json["id"] for r in replies if r.status == 201}) == 1
    invoices = http.get(f"/invoices?user_id={cart.user.id}", token=cart.user.token).json["items"]
    assert len(invoices) == 1
    eventually(lambda: available(http, product) == 99)


def test_a_shortage_is_told_and_nothing_is_held(http, cart):
    plenty, few = http.new_product(stock=9), http.new_product(stock=1)
    cart.add(plenty, 2, expect=201)
    cart.add(few, 2)
    reply = cart.checkout(expect=409)
    assert reply.json["type"] == "urn:coster:problem:out-of-stock"
    assert [n["product_id"] for n in reply.json["lines"]] == [few["id"]]
    assert len(cart.read()["items"]) == 2
    eventually(lambda: available(http, plenty) == 9)
    few_id, = (str(i["id"]) for i in cart.read()["items"] if i["product_id"] == few["id"])
    cart.request("PATCH", few_id, {"quantity": 1}, expect=200)
    cart.checkout(expect=201)


def test_a_price_that_rose_is_told(http, cart):
    product = http.new_product(price=450)
    cart.add(product, expect=201)
    cart.read()
    http.patch(f"/product/{product['id']}", {"price": 500}, token=http.admin, expect=200)
    reply = cart.checkout(expect=409)
    assert reply.json["type"] == "urn:coster:problem:price-changed"
    assert [n["product_id"] for n in reply.json["lines"]] == [product["id"]]
    assert cart.read()["items"][0]["price"] == 500    # now it is seen
    assert cart.checkout(expect=201).json["total"] == 500


@pytest.mark.parametrize("who, path, method", [
    ("admin", "", "GET"), ("service", "", "GET"), ("customer", "", "HEAD"),
    ("admin", "{dear}", "GET"), ("customer", "{cheap}", "GET"), ("customer", "{dear}", "HEAD"),
])
def test_a_price_that_the_customer_did_not_see_is_not_charged(fresh, who, path, method):
    http, service = fresh
    cart, prices = Cart(http, http.new_user()), {"cheap": 100, "dear": 200}
    products = {name: http.new_product(price=price) for name, price in prices.items()}
    items = {name: cart.add(p, expect=201).json["id"] for name, p in products.items()}
    cart.read()
    http.patch(f"/product/{products['dear']['id']}", {"price": 900}, token=http.admin, expect=200)
    token = {"admin": http.admin, "customer": cart.user.token, "service": None}[who]
    where = service if who == "service" else http
    reply = where.request(method, cart.path + path.format(**items), token=token, expect=200)
    if method == "GET" and not path:
        assert reply.json["subtotal"] == 300
    assert cart.checkout(expect=409).json["type"] == "urn:coster:problem:price-changed"
    assert cart.request("GET", str(items["dear"]), expect=200).json["price"] == 900
    assert cart.checkout(expect=201).json["total"] == 1000


def test_a_cart_holds_products_with_much_to_say(http, cart):
    """Together they are more than one service reads of another."""
    much = {"pictures": [{"n": n} for n in range(2000)]}
    products = [http.new_product(price=100, attributes=much) for _ in range(3)]
    for product in products:
        cart.add(product, expect=201)
    dear = products[0]
    http.patch(f"/product/{dear['id']}", {"price": 150}, token=http.admin, expect=200)
    cart.checkout(expect=409)
    assert cart.read()["subtotal"] == 350
    assert cart.checkout(expect=201).json["total"] == 350


def test_a_void_invoice_gives_the_stock_back(http, cart):
    product = http.new_product(stock=5)
    cart.add(product, 5, expect=201)
    invoice = cart.checkout(expect=201).json
    assert available(http, product) == 0
    http.post(f"/invoices/{invoice['id']}/void", {}, token=http.admin, expect=200)
    eventually(lambda: available(http, product) == 5)
