"""Somebody registers, buys and pays: all services together, with mail going
into a Maildir and to an SMTP server."""

import email.utils
import time
from typing import Callable, NamedTuple

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

from shop import Shop
from stack import Stack, Stopped, eventually, free_port, parse_mail


class Place(NamedTuple):
    """A running shop, and how to see the mail it sends to an address."""
    stack: Stack
    http: Shop
    mails: Callable


@pytest.fixture(scope="module")
def with_maildir(stack, http):
    return Place(stack, http, stack.mails)


@pytest.fixture(scope="module")
def with_smtp(tmp_path_factory):
    box = tmp_path_factory.mktemp("relay") / "box"
    relay = Controller(Mailbox(str(box)), hostname="127.0.0.1", port=free_port())
    relay.start()
    stack = Stack(MAIL_URL=f"smtp://127.0.0.1:{relay.port}", LIMITS="on")

    def mails(to):
        found = [parse_mail(path) for path in box.glob("new/*")]
        return [m for m in found if m["X-RcptTo"] == to]    # of the envelope

    yield Place(stack, Shop(stack), mails)
    stack.stop()
    relay.stop()


@pytest.fixture(scope="module", params=["maildir", "smtp"])
def place(request):
    return request.getfixturevalue(f"with_{request.param}")


def texts(message):
    """Its two alternatives."""
    assert message.get_content_type() == "multipart/alternative"
    plain, html = message.iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    return plain.get_content(), html.get_content()


def about(messages, words):
    """Those that have the words in both alternatives, whatever thousands are divided by."""
    return [m for m in messages if all(words in text.replace(",", "").replace("\u00a0", "")
        for text in texts(m))]


def check_mail(message, to):
    assert not message.defects
    assert message["To"].addresses[0].addr_spec == to and len(message["To"].addresses) == 1
    assert message["From"].addresses[0].addr_spec
    sent = email.utils.parsedate_to_datetime(message["Date"])
    assert abs(sent.timestamp() - time.time()) < 120
    assert message["Message-ID"].startswith("<") and message["Message-ID"].endswith(">")
    assert message["Auto-Submitted"] == "auto-generated"
    for name in ("Subject", "To", "From", "Date", "Message-ID", "Auto-Submitted"):
        assert len(message.get_all(name)) == 1
    for text in texts(message):
        assert text.strip()


def check_once_each(messages):
    for header in ("Subject", "Message-ID"):
        assert len({m[header] for m in messages}) == len(messages)


def register(http):
    address, password = http.new_email(), "nine green pears from here"
    user = http.post("/user/", {"email": address, "password": password, "name": "Zoë Müller"},
        expect=201).json
    session = http.post("/session/", {"email": address, "password": password}, expect=201).json
    assert session["user_id"] == user["id"]
    return user, session["token"]


def buy(http, user, token, product, quantity):
    """From the list of products to a paid invoice."""
    seen = http.get(f"/products/?q={product['sku']}", expect=200).json["items"]
    assert [p["id"] for p in seen] == [product["id"]]
    cart = f"/user/{user['id']}/cart/"
    http.post(cart, {"product_id": seen[0]["id"], "quantity": quantity}, token=token, expect=201)
    subtotal = http.get(cart, token=token, expect=200).json["subtotal"]
    assert subtotal == quantity * product["price"]
    invoice = http.post(cart + "checkout", {}, token=token, expect=201).json
    assert invoice["status"] == "open" and invoice["total"] == subtotal
    paid = http.post(f"/invoices/{invoice['id']}/pay", {"method": "sandbox", "token": "tok_ok"},
        token=token, expect=200).json
    assert paid["status"] == "paid" and paid["amount_paid"] == subtotal
    return paid


def paid_entries(http, user):
    path = f"/log?user_id={user['id']}&action=invoice.paid"
    return http.get(path, token=http.admin, expect=200).json["items"]


def test_a_purchase(place):
    http, mails = place.http, place.mails
    product = http.new_product(name="Willow basket", price=123450, stock=3)
    user, token = register(http)
    welcome, = eventually(lambda: about(mails(user["email"]), "Zoë Müller"))
    check_mail(welcome, user["email"])

    invoice = buy(http, user, token, product, 2)

    receipt, = eventually(lambda: about(mails(user["email"]), "2469.00"))
    check_mail(receipt, user["email"])
    assert about([receipt], str(invoice["number"]))
    entry, = eventually(lambda: paid_entries(http, user))
    assert entry["data"] == {"invoice_id": invoice["id"], "total": 246900, "currency": "EUR"}

    def sold():
        now = http.get(f"/product/{product['id']}").json
        return (now["stock"], now["available"]) == (1, 1)
    eventually(sold)
    assert http.get(f"/user/{user['id']}/cart/", token=token).json["items"] == []
    check_once_each(mails(user["email"]))
    assert len(paid_entries(http, user)) == 1


def test_subjects_are_in_any_language(place):
    http = place.http
    to = "visitor.of.all@elsewhere.example"
    subject = "Grüße – 你好 🍏 " + "und noch ein Wort " * 8 + "Ende"
    text = "Grüße,\n\nFrom one line\n.\nto another.\n"
    http.post("/send_email/", {"to": to, "subject": subject, "text": text,
        "html": "<p>Grüße 你好</p>"}, token=http.admin, expect=202)
    mail, = eventually(lambda: place.mails(to))
    check_mail(mail, to)
    assert mail["Subject"] == subject
    plain, html = texts(mail)
    assert plain.replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")
    assert "<p>Grüße 你好</p>" in html


def test_the_shop_sells_while_mail_and_statistics_hang(stack, http):
    product = http.new_product(stock=1)
    with Stopped(stack, "email", "stats"):
        user, token = register(http)
        buy(http, user, token, product, 1)
        assert stack.mails(user["email"]) == []
    for words in ("Zoë Müller", "4.50"):
        eventually(lambda: about(stack.mails(user["email"]), words), 20)
    check_once_each(stack.mails(user["email"]))
    eventually(lambda: paid_entries(http, user), 20)
    assert len(paid_entries(http, user)) == 1


def test_a_cart_is_read_while_others_hang(stack, http):
    product = http.new_product()
    user = http.new_user()
    cart = f"/user/{user.id}/cart/"
    http.post(cart, {"product_id": product["id"]}, token=user.token, expect=201)
    with Stopped(stack, "user", "payment", "stats", "email"):
        assert http.get(cart, token=user.token, expect=200).json["subtotal"] == product["price"]
        http.get("/products/", expect=200)


def test_who_tries_many_passwords_is_told_to_wait(with_smtp):
    http = with_smtp.http
    statuses = [http.post("/session/", {}).status for _ in range(40)]
    assert set(statuses) == {422, 429} and statuses[0] == 422
    http.get("/products/", expect=200)    # this is counted by itself
