"""Everything at the same instant on both instances: one key, one cart, one invoice,
one stock. Whatever wins, nothing is lost and nothing is done twice.

FAULTS=full runs the crowd for two minutes and kills instances meanwhile."""

import collections
import itertools
import os
import random
import signal
import threading
import time
import uuid

import pytest

from shop import Shop
from stack import SERVICES, Stack, eventually
from trouble import calm, change, check_books, check_shortfalls, end_leases, number, rows

FULL_RUN = os.environ.get("FAULTS") == "full"
SECONDS = 120 if FULL_RUN else 8
PAY = {"method": "sandbox", "token": "tok_ok"}
AT_ONCE, ROUNDS = 8, 6


class World:
    def __init__(self, stack):
        self.stack, self.http = stack, Shop(stack)
        self.service = Shop(stack, internal=True)
        self.stocks = {}

    def product(self, **members):
        product = self.http.new_product(**members)
        self.stocks[product["id"]] = product["stock"]
        return product

    def full_cart(self):
        user = self.http.new_user()
        self.http.post(f"/user/{user.id}/cart/", {"product_id": self.product()["id"]},
            token=user.token, expect=201)
        return user

    def invoice(self):
        user = self.full_cart()
        return user, self.http.post(f"/user/{user.id}/cart/checkout", {}, token=user.token,
            expect=201).json["id"]

    def paid(self):
        user, invoice = self.invoice()
        self.http.post(f"/invoices/{invoice}/pay", PAY, token=user.token, expect=200)
        return invoice


@pytest.fixture(scope="module")
def world():
    stack = Stack(WRITERS="all", COSTER_MAIL_PER_HOUR=100000, COSTER_MAIL_PER_RECIPIENT=100000)
    yield World(stack)
    stack.stop()


def at_once(acts):
    """What each answers, all begun at the same instant."""
    start, replies = threading.Barrier(len(acts)), []

    def run(act):
        start.wait()
        replies.append(act())

    threads = [threading.Thread(target=run, args=[act]) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == len(acts)
    return replies


# ---- one key: what is asked for, and how many of it there are then ----

def one_log(w):
    action = f"test.{uuid.uuid4().hex}"
    return ("/log", {"action": action}, None,
        lambda: number(w.stack, "stats", "SELECT count(*) FROM entry WHERE action = ?", action))


def one_product(w):
    sku = uuid.uuid4().hex
    return ("/product", {"sku": sku, "name": "Tea", "price": 1, "currency": "EUR"}, w.http.admin,
        lambda: number(w.stack, "product", "SELECT count(*) FROM product WHERE sku = ?", sku))


def one_user(w):
    address = w.http.new_email()
    return ("/user/", {"email": address, "password": "nine green pears from here"}, None,
        lambda: number(w.stack, "user", "SELECT count(*) FROM account WHERE email = ?", address))


def one_item(w):
    user = w.http.new_user()
    return (f"/user/{user.id}/cart/", {"product_id": w.product()["id"]}, user.token,
        lambda: number(w.stack, "cart", "SELECT sum(quantity) FROM cart_item WHERE user_id = ?",
            user.id))


def one_checkout(w):
    user = w.full_cart()
    return (f"/user/{user.id}/cart/checkout", {}, user.token,
        lambda: number(w.stack, "payment", "SELECT count(*) FROM invoice WHERE user_id = ?",
            user.id))


def one_payment(w):
    user, invoice = w.invoice()
    return (f"/invoices/{invoice}/pay", PAY, user.token,
        lambda: number(w.stack, "payment", "SELECT count(*) FROM sandbox_charge JOIN attempt"
            " USING (key) WHERE invoice_id = ?", invoice))


def one_refund(w):
    invoice = w.paid()
    return (f"/invoices/{invoice}/refund", {"amount": 1}, w.http.admin,
        lambda: number(w.stack, "payment", "SELECT amount_refunded FROM invoice WHERE id = ?",
            invoice))


def one_mail(w):
    user = w.http.new_user()
    return ("/send_email/", {"user_id": user.id, "subject": "Hello", "text": "Hello"},
        w.http.admin, lambda: number(w.stack, "email",
            "SELECT count(*) FROM mail WHERE user_id = ? AND subject = 'Hello'", user.id))


@pytest.mark.parametrize("prepare", [one_log, one_product, one_user, one_item, one_checkout,
    one_payment, one_refund, one_mail])
def test_one_key_at_the_same_instant(world, prepare):
    statuses = collections.Counter()
    for _ in range(ROUNDS):
        path, body, token, count = prepare(world)
        key = {"Idempotency-Key": uuid.uuid4().hex}

        def ask():
            return world.http.post(path, body, token=token, headers=key)

        replies = at_once([ask] * AT_ONCE)
        statuses.update(reply.status for reply in replies)
        done = [reply for reply in replies if reply.status < 300]
        assert done and all(reply.json == done[0].json for reply in done), replies
        assert all(reply.json["type"] == "urn:coster:problem:request-in-progress"
            and reply.headers["Retry-After"] for reply in replies if reply.status >= 300), replies
        again = ask()
        assert again.json == done[0].json and again.headers["Idempotent-Replayed"] == "true"
        assert count() == 1
    print(f"\n{ROUNDS} times {AT_ONCE}: {dict(statuses)}")


def test_both_instances_had_a_part(world):
    """In the races above; else they were none."""
    for service in SERVICES:
        for n in (1, 2):
            lines = (world.stack.state / f"log/{service}-{n}.log").read_text()
            assert lines.count("method=POST") > ROUNDS, (service, n)


# ---- one invoice, and different things that are to become of it ----

def test_paid_and_void_at_the_same_instant(world):
    for _ in range(ROUNDS):
        user, invoice = world.invoice()
        replies = at_once([lambda: world.http.post(f"/invoices/{invoice}/pay", PAY,
            token=user.token)] * 2 + [lambda: world.http.post(f"/invoices/{invoice}/void", {},
            token=world.http.admin)] * 2)
        assert {reply.status for reply in replies} == {200, 409}, replies
        # Void may come between an attempt and its outcome; the money that came wins.
        status = world.http.get(f"/invoices/{invoice}", token=user.token).json["status"]
        paid = sum(reply.json.get("status") == "paid" for reply in replies)
        assert (status, paid) in (("paid", 1), ("void", 0)), replies
    calm(world.stack)
    check_books(world.stack, world.stocks)


def test_refunds_at_the_same_instant_are_no_more_than_was_paid(world):
    for _ in range(ROUNDS):
        invoice = world.paid()
        replies = at_once([lambda: world.http.post(f"/invoices/{invoice}/refund", {},
            token=world.http.admin)] * 3 + [lambda: world.http.post(f"/invoices/{invoice}/refund",
            {"amount": 400}, token=world.http.admin)] * 3)
        assert {reply.status for reply in replies} <= {200, 409, 422}, replies
        given = number(world.stack, "payment", "SELECT sum(amount) FROM refund"
            " WHERE invoice_id = ? AND status = 'succeeded'", invoice)
        assert 400 <= given <= 450
    calm(world.stack)
    check_books(world.stack, world.stocks)


def test_the_last_piece_is_sold_once(world):
    for _ in range(ROUNDS):
        product = world.product(stock=1)
        users = [world.http.new_user() for _ in range(4)]
        for user in users:
            world.http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]},
                token=user.token, expect=201)
        replies = at_once([lambda user=user: world.http.post(f"/user/{user.id}/cart/checkout", {},
            token=user.token) for user in users])
        assert sorted(reply.status for reply in replies) == [201, 409, 409, 409], replies
    calm(world.stack)
    check_books(world.stack, world.stocks)


def test_paid_after_the_last_piece_went_to_another(world):
    """The reservation was over: the money is kept, and what is missing is told."""
    product, late, quick = world.product(stock=1), world.http.new_user(), world.http.new_user()

    def check_out(user):
        cart = f"/user/{user.id}/cart/"
        world.http.post(cart, {"product_id": product["id"]}, token=user.token, expect=201)
        return world.http.post(f"{cart}checkout", {}, token=user.token, expect=201).json["id"]

    def pay(user, invoice):
        world.http.post(f"/invoices/{invoice}/pay", PAY, token=user.token, expect=200)
        calm(world.stack)

    first = check_out(late)
    calm(world.stack)
    held = number(world.stack, "payment", "SELECT reservation_id FROM invoice WHERE id = ?", first)
    change(world.stack, "product", "UPDATE reservation SET expires_at = unixepoch() * 1000 - 1"
        " WHERE id = ?", held)    # not so long ago that it is pruned
    eventually(lambda: world.http.get(f"/product/{product['id']}").json["available"] == 1)
    pay(quick, check_out(quick))
    pay(late, first)
    reservation = world.service.get(f"/product/reservations/{held}", expect=200).json
    assert (reservation["status"], reservation["shortfall"]) == ("committed", 1)
    assert any(f'event="sold more than there is" reservation={held} missing=1' in line
        for line in world.stack.log("product"))
    assert first in check_shortfalls(world.stack)
    world.http.post(f"/invoices/{first}/refund", {}, token=world.http.admin, expect=200)
    calm(world.stack)
    assert first not in check_shortfalls(world.stack)
    check_books(world.stack, world.stocks)


# ---- a crowd that does everything to everything ----

class Crowd:
    """Few customers, each with many hands, and few products, of which there is little."""

    def __init__(self, world):
        self.w, self.over = world, threading.Event()
        self.users = [world.http.new_user() for _ in range(6)]
        self.products = [world.product(stock=40) for _ in range(6)]
        self.statuses, self.failed = collections.Counter(), []

    def ask(self, method, path, body=None, token=None):
        key = {"Idempotency-Key": uuid.uuid4().hex} if method == "POST" else {}
        reply = self.w.http.request(method, path, body, token, key)
        self.statuses[f"{method} {path.rpartition('/')[2].strip('0123456789')} "
            f"{reply.status}"] += 1
        assert reply.status < 500 or reply.status == 503, reply
        if method == "POST" and reply.status < 300 and random.random() < 0.2:
            again = self.w.http.request(method, path, body, token, key)
            assert again.json == reply.json, (reply, again)
        return reply

    def invoice(self, token, status):
        found = self.w.http.get(f"/invoices?status={status}&limit=20", token=token)
        items = found.json["items"] if found.status == 200 else []
        return random.choice(items)["id"] if items else 1

    def checkout(self, cart, token):
        """Who cannot have it looks at the cart, or takes another."""
        if self.ask("POST", f"{cart}checkout", {}, token).status == 409:
            self.ask(random.choice(["GET", "DELETE"]), cart, None, token)

    def customer(self):
        user, product = random.choice(self.users), random.choice(self.products)
        cart, token = f"/user/{user.id}/cart/", user.token
        random.choice([
            lambda: self.ask("POST", cart, {"product_id": product["id"],
                "quantity": random.randint(1, 3)}, token),
            lambda: self.ask("POST", cart, {"product_id": product["id"]}, token),
            lambda: self.ask("PATCH", f"{cart}{random.randint(1, 9)}", {"quantity": 2}, token),
            lambda: self.ask("DELETE", f"{cart}{random.randint(1, 9)}", None, token),
            lambda: self.checkout(cart, token),
            lambda: self.checkout(cart, token),
            lambda: self.ask("POST", f"/invoices/{self.invoice(token, 'open')}/pay",
                {**PAY, "token": random.choice(["tok_ok", "tok_decline", "tok_timeout"])}, token),
            lambda: self.ask("POST", f"/invoices/{self.invoice(token, 'open')}/pay", PAY, token),
        ])()

    def administrator(self):
        token, product = self.w.http.admin, random.choice(self.products)
        random.choice([
            lambda: self.ask("POST", f"/invoices/{self.invoice(token, 'open')}/void", {}, token),
            lambda: self.ask("POST", f"/invoices/{self.invoice(token, 'paid')}/refund",
                random.choice([{}, {"amount": 100}]), token),
            lambda: self.ask("PATCH", f"/product/{product['id']}",
                {"price": random.randint(440, 460)}, token),
            lambda: change(self.w.stack, "payment", "UPDATE invoice SET expires_at = 1 WHERE id ="
                " (SELECT max(id) FROM invoice WHERE status = 'open')"),
        ])()
        time.sleep(0.1)

    def clock(self):
        """A jump of it, or a holder that is slow: all leases are over at once."""
        end_leases(self.w.stack)
        time.sleep(random.random())

    def shopkeeper(self):
        """A product goes in the middle of it all, and another comes."""
        n = random.randrange(len(self.products))
        self.ask("DELETE", f"/product/{self.products[n]['id']}", None, self.w.http.admin)
        self.products[n] = self.w.product(stock=40)
        time.sleep(1)

    def killer(self):
        time.sleep(random.random())
        self.w.stack.kill(random.choice(SERVICES), random.choice((1, 2)), signal.SIGKILL)

    def keep_on(self, act):
        try:
            while not self.over.is_set():
                act()
        except BaseException as e:    # of a thread, of which nobody would hear
            self.failed.append(e)
            self.over.set()

    def run(self, seconds):
        acts = [self.customer] * 6 + [self.administrator, self.clock, self.shopkeeper]
        acts += [self.killer] if FULL_RUN else []
        threads = [threading.Thread(target=self.keep_on, args=[act]) for act in acts]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join()
        for what in sorted(self.statuses):
            print(f"{self.statuses[what]:6} {what}")
        if self.failed:
            raise self.failed[0]


def test_a_crowd_loses_nothing_and_does_nothing_twice(world):
    print()
    crowd = Crowd(world)
    crowd.run(SECONDS)
    end_leases(world.stack)
    calm(world.stack, 90)
    check_books(world.stack, world.stocks)
    sold = rows(world.stack, "payment", "SELECT status, count(*) FROM invoice GROUP BY status")
    print(dict(sold))
    assert {"paid", "void", "refunded"} <= {status for status, _ in sold}
