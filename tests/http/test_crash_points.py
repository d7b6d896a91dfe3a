"""Every point of every operation of several steps at which a process may die: it
does, once, and the shop is as if it had not. Needs programs of the kind crash
(make BUILD=build/crash), which list their points themselves."""

import subprocess
import uuid

import pytest

from shop import Shop
from stack import BUILD, SERVICES, Stack, eventually, is_listening
from trouble import Down, calm, change, check_books, end_leases, number

if BUILD.name != "crash":
    pytest.skip("the programs have no crash points", allow_module_level=True)


def points(service):
    return subprocess.run([BUILD / f"coster-{service}", "crash-points"], check=True,
        capture_output=True, text=True, env={}).stdout.split()


PAY = {"method": "sandbox", "token": "tok_ok"}


class World:
    """A shop, and what customers do in it. None of them may see an error."""

    def __init__(self, stack, folder):
        self.stack, self.folder = stack, folder
        self.http, self.service = Shop(stack), Shop(stack, internal=True)
        self.stocks = {}

    def product(self, **members):
        product = self.http.new_product(**members)
        self.stocks[product["id"]] = product["stock"]
        return product

    def full_cart(self, quantity=2, **members):
        user = self.http.new_user()
        self.http.post(f"/user/{user.id}/cart/", {"product_id": self.product(**members)["id"],
            "quantity": quantity}, token=user.token, expect=201)
        return user

    def invoice(self, user=None):
        """Of a cart that was checked out."""
        user = user or self.full_cart()
        return user, self.write(f"/user/{user.id}/cart/checkout", {}, user, 201)

    def paid(self):
        user, invoice = self.invoice()
        return self.write(f"/invoices/{invoice['id']}/pay", PAY, user, 200)

    def write(self, path, body, user, status):
        """Twice with the same key: the second time changes nothing."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        token = user and (user if isinstance(user, str) else user.token)
        replies = [self.http.post(path, body, token=token, headers=key, expect=status)
            for _ in range(2)]
        if status < 400:
            assert replies[0].json == replies[1].json
        return replies[0].json

    def arm(self, service, point):
        for n in (1, 2):    # a request that meets two dead ones is lost
            eventually(lambda: is_listening(self.stack.run / f"{service}-{n}.sock"))
        self.file = self.folder / f"coster-{service}"
        self.file.write_text(point)

    def went_off(self):
        eventually(lambda: not self.file.exists(), 15)


# ---- what brings a process to a point; each is armed where the story says so ----

def checkout(w, arm):
    user = w.full_cart()
    arm()
    _, invoice = w.invoice(user)
    w.went_off()
    mine = w.http.get("/invoices", token=user.token, expect=200).json["items"]
    assert [i["id"] for i in mine] == [invoice["id"]]
    assert w.http.get(f"/user/{user.id}/cart/", token=user.token).json["items"] == []


def checkout_of_too_many(w, arm):
    user = w.full_cart(quantity=5, stock=1)
    arm()
    problem = w.write(f"/user/{user.id}/cart/checkout", {}, user, 409)
    assert problem["type"].endswith(":out-of-stock")
    w.went_off()
    cart = w.http.get(f"/user/{user.id}/cart/", token=user.token, expect=200).json
    assert cart["count"] == 1
    w.http.delete(f"/user/{user.id}/cart/", token=user.token, expect=204)    # not frozen


def checkout_that_took_too_long(w, arm):
    """Payment is away until it is too late: the goods are given back."""
    user = w.full_cart()
    with Down(w.stack, "payment"):
        w.http.post(f"/user/{user.id}/cart/checkout", {}, token=user.token, expect=503)
        change(w.stack, "cart", "UPDATE checkout SET created_at = created_at - 1200000"
            " WHERE user_id = ?", user.id)
        arm()
    w.went_off()
    end_leases(w.stack)
    calm(w.stack)
    assert number(w.stack, "cart", "SELECT state FROM checkout WHERE user_id = ?", user.id) \
        == "undone"


def change_of_a_cart(w, arm):
    user = w.full_cart()
    item, = w.http.get(f"/user/{user.id}/cart/", token=user.token).json["items"]
    path = f"/user/{user.id}/cart/{item['id']}"
    arm()
    w.http.patch(path, {"quantity": 7}, token=user.token, expect=200)
    w.went_off()
    assert w.http.get(path, token=user.token).json["quantity"] == 7


def payment(w, arm):
    user, invoice = w.invoice()
    arm()
    paid = w.write(f"/invoices/{invoice['id']}/pay", PAY, user, 200)
    assert paid["status"] == "paid" and paid["amount_paid"] == invoice["total"]
    w.went_off()


def payment_not_known_yet(w, arm):
    user, invoice = w.invoice()
    arm()
    w.write(f"/invoices/{invoice['id']}/pay", {**PAY, "token": "tok_timeout"}, user, 202)
    w.went_off()
    eventually(lambda: w.http.get(f"/invoices/{invoice['id']}", token=user.token).json["status"]
        == "paid", 30)


def refund(w, arm):
    invoice = w.paid()
    arm()
    back = w.write(f"/invoices/{invoice['id']}/refund", {"amount": 1}, w.http.admin, 200)
    assert back["amount_refunded"] == 1
    w.went_off()


def invoice_that_nobody_pays(w, arm):
    _, invoice = w.invoice()
    arm()
    change(w.stack, "payment", "UPDATE invoice SET expires_at = 1 WHERE id = ?", invoice["id"])
    w.went_off()
    eventually(lambda: w.http.get(f"/invoices/{invoice['id']}", token=w.http.admin).json["status"]
        == "void", 15)


def invoice_made(w, arm):
    user = w.http.new_user()
    arm()
    w.service.post("/invoices", {"user_id": user.id, "currency": "EUR", "lines": [
        {"product_id": 1, "description": "Tea", "quantity": 1, "price": 450}]}, expect=201)
    w.went_off()
    assert len(w.http.get("/invoices", token=user.token).json["items"]) == 1


def product_made(w, arm):
    category = uuid.uuid4().hex
    arm()
    w.product(category=category)
    w.went_off()
    assert len(w.http.get(f"/products?category={category}").json["items"]) == 1


def reservation_that_expires(w, arm):
    """One instance outlives the other's death. Who starts later keeps it for minutes."""
    for n in (1, 2):
        eventually(lambda: w.service.get(f"/_health/product/{n}").status == 200)
    product = w.product()
    made = w.service.post("/product/reservations", {"expires_in": 1,
        "lines": [{"product_id": product["id"], "quantity": 3}]}, expect=201).json
    arm()
    w.went_off()
    eventually(lambda: w.service.get(f"/product/reservations/{made['id']}").json["status"]
        == "released", 15)


def mail(w, arm):
    user = w.http.new_user()
    calm(w.stack)

    def sent():
        return {m["Message-ID"] for m in w.stack.mails(user.email) if m["Subject"] == "Hello"}

    arm()
    w.write("/send_email/", {"user_id": user.id, "subject": "Hello", "text": "Hello"},
        w.http.admin, 202)
    w.went_off()
    end_leases(w.stack)
    eventually(sent)
    calm(w.stack)
    assert len(sent()) == 1


def mails_forgotten(w, arm):
    arm()
    w.service.delete("/send_email/?to=nobody@elsewhere.example", expect=204)
    w.went_off()


def registration(w, arm):
    address = w.http.new_email()
    arm()
    w.write("/user/", {"email": address, "password": "nine green pears from here"}, None, 201)
    w.went_off()
    end_leases(w.stack)
    w.http.sign_in(address, "nine green pears from here")
    calm(w.stack)
    kinds = [(m["Subject"], m["Message-ID"]) for m in w.stack.mails(address)]
    assert len(set(kinds)) == len({subject for subject, _ in kinds}) > 0


def change_of_a_user(w, arm):
    user = w.http.new_user()
    calm(w.stack)
    arm()
    w.http.patch(f"/user/{user.id}", {"name": "Zoë"}, token=user.token, expect=200)
    w.went_off()
    assert w.http.get(f"/user/{user.id}", token=user.token).json["name"] == "Zoë"


def entry_made(w, arm):
    action = f"test.{uuid.uuid4().hex}"
    arm()
    w.write("/log", {"action": action}, None, 201)
    w.went_off()
    assert len(w.http.get(f"/log?action={action}").json["items"]) == 1


def person_forgotten(w, arm):
    user = w.http.new_user()
    w.http.post("/log", {"action": "test.seen"}, token=user.token, expect=201)
    calm(w.stack)
    arm()
    w.service.delete(f"/log?user_id={user.id}", expect=204)
    w.went_off()
    assert w.http.get(f"/log?user_id={user.id}").json["items"] == []


STORIES = {
    "user": {"after-claim": registration, "before-commit": registration,
        "after-commit": registration, "before-turn-commit": change_of_a_user,
        "after-turn-commit": change_of_a_user, "before-delivery": registration,
        "after-delivery": registration},
    "email": {"before-commit": mails_forgotten, "before-turn-commit": mail,
        "after-turn-commit": mail, "before-mail": mail, "after-mail": mail},
    "product": {"before-commit": product_made, "before-turn-commit": product_made,
        "after-turn-commit": product_made, "while-selling": payment,
        "before-expiry": reservation_that_expires},
    "cart": {"after-claim": checkout, "before-commit": checkout, "after-commit": checkout,
        "before-turn-commit": change_of_a_cart, "after-turn-commit": change_of_a_cart,
        "after-freeze": checkout, "after-reserve": checkout, "after-invoice": checkout,
        "after-step": checkout, "after-step:2": checkout, "after-undo": checkout_of_too_many,
        "before-delivery": checkout_that_took_too_long,
        "after-delivery": checkout_that_took_too_long},
    "payment": {"after-claim": payment, "before-commit": payment, "after-commit": payment,
        "before-turn-commit": invoice_made, "after-turn-commit": invoice_made,
        "before-charge": payment, "after-charge": payment, "after-ask": payment_not_known_yet,
        "before-refund": refund, "after-refund": refund,
        "before-expiry": invoice_that_nobody_pays, "before-delivery": payment,
        "after-delivery": payment, "after-delivery:2": payment, "after-delivery:3": payment},
    "stats": {"before-commit": entry_made, "after-commit": person_forgotten,
        "before-turn-commit": entry_made, "after-turn-commit": entry_made},
}
# Points of the library that a program has and never comes to.
NEVER = {
    "email": {"before-delivery", "after-delivery",    # no outbox, nor a write on a worker
        "after-claim", "after-commit"},
    "product": {"before-delivery", "after-delivery", "after-claim", "after-commit"},    # nor worker
    "stats": {"before-delivery", "after-delivery", "after-claim"},    # no POST on one
}
CASES = [(s, point) for s in SERVICES for point in STORIES[s]]


@pytest.mark.parametrize("service", SERVICES)
def test_every_point_has_a_story(service):
    told = {point.partition(":")[0] for point in STORIES[service]} | NEVER.get(service, set())
    assert sorted(points(service)) == sorted(told)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    stack = Stack(COSTER_CRASH_POINT=folder)
    yield World(stack, folder)
    stack.stop()


@pytest.mark.parametrize("service, point", CASES, ids=["-".join(c) for c in CASES])
def test_a_death_is_made_good(world, service, point):
    calm(world.stack)
    deaths = sum("ended with status 137" in line for line in world.stack.log(service))
    STORIES[service][point](world, lambda: world.arm(service, point))
    eventually(lambda: sum("ended with status 137" in line for line in world.stack.log(service))
        > deaths)
    end_leases(world.stack)
    calm(world.stack)
    check_books(world.stack, world.stocks)
