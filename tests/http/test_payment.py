"""Invoices: made, paid, declined, void, refunded."""

import threading
import uuid

import pytest

from stack import eventually

MEMBERS = {"id", "number", "user_id", "status", "currency", "lines", "total", "amount_paid",
    "amount_refunded", "created_at", "paid_at", "expires_at", "version"}
LINE = {"product_id": 1, "description": "Apples", "quantity": 3, "price": 320}
OK = {"method": "sandbox", "token": "tok_ok"}


@pytest.fixture(scope="module")
def ann(http):
    return http.new_user()


@pytest.fixture(scope="module")
def bob(http):
    return http.new_user("Bob")


@pytest.fixture
def invoice(service, ann):
    """Ann's, of 9.60 EUR, to be paid."""
    return make(service, ann).json


def make(shop, user, *lines, expect=201, **kw):
    return shop.post("/invoices", {"user_id": user.id, "currency": "EUR",
        "lines": list(lines) or [LINE]}, expect=expect, **kw)


def path(invoice, action=""):
    return f"/invoices/{invoice['id']}{action}"


def numbers(invoices):
    return sorted(int("".join(filter(str.isdigit, str(i["number"])))) for i in invoices)


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_invoice_is_made_and_read(http, service, ann, slash):
    other = {"product_id": 2, "description": "Pears – reife", "quantity": 1, "price": 410}
    made = service.post(f"/invoices{slash}", {"user_id": ann.id, "currency": "EUR",
        "lines": [LINE, other]}, expect=201)
    invoice = made.json
    assert set(invoice) >= MEMBERS
    assert made.headers["Location"] == path(invoice)
    assert (invoice["status"], invoice["total"], invoice["amount_paid"],
        invoice["amount_refunded"], invoice["paid_at"]) == ("open", 3 * 320 + 410, 0, 0, None)
    assert invoice["lines"] == [{**LINE, "amount": 960}, {**other, "amount": 410}]
    for shop, token in ((http, ann.token), (http, http.admin), (service, None)):
        read = shop.get(path(invoice) + slash, token=token, expect=200)
        assert read.json == invoice and read.headers["ETag"] == f'"{invoice["version"]}"'
    make(http, ann, token=http.admin)


@pytest.mark.parametrize("change, pointer", [
    ({"user_id": None}, "#/user_id"), ({"user_id": 0}, "#/user_id"),
    ({"currency": "eur"}, "#/currency"), ({"lines": []}, "#/lines"), ({"lines": {}}, "#/lines"),
    ({"lines": [{**LINE, "quantity": 0}]}, "#/lines/0/quantity"),
    ({"lines": [LINE, {**LINE, "price": -1}]}, "#/lines/1/price"),
    ({"lines": [{**LINE, "price": "320"}]}, "#/lines/0/price"),
    ({"lines": [{**LINE, "amount": 960}]}, "#/lines/0/amount"),
    ({"number": 7}, "#/number"), ({"status": "paid"}, "#/status"), ({"total": 1}, "#/total"),
])
def test_faults_of_an_invoice_are_named(service, ann, change, pointer):
    body = {"user_id": ann.id, "currency": "EUR", "lines": [LINE], **change}
    assert service.post("/invoices", body, expect=422).pointers == {pointer}


def test_a_sum_beyond_all_numbers_is_refused(service, ann):
    make(service, ann, *[{**LINE, "quantity": 1000, "price": 9 * 10**12}] * 2, expect=422)


def test_required_members_are_named(service):
    assert service.post("/invoices", {}, expect=422).pointers == \
        {"#/user_id", "#/currency", "#/lines"}


@pytest.mark.parametrize("unknown", ["/invoices/0", "/invoices/x", "/invoices/999999999",
    "/invoices/1/nonsense", "/invoices/1/pay/1"])
def test_unknown_paths_are_404(http, unknown):
    http.get(unknown, token=http.admin, expect=404)


@pytest.mark.parametrize("action", ["/pay", "/void", "/refund"])
def test_actions_on_no_invoice_are_404(http, action):
    body = OK if action == "/pay" else {}
    http.post(f"/invoices/999999999{action}", body, token=http.admin, expect=404)


def test_an_invoice_is_its_owners(http, service, ann, bob, invoice):
    http.get(path(invoice), expect=401)
    http.get(path(invoice), token=bob.token, expect=404)
    http.post(path(invoice, "/pay"), OK, expect=401)
    http.post(path(invoice, "/pay"), OK, token=bob.token, expect=404)
    for action in ("/void", "/refund"):
        http.post(path(invoice, action), {}, expect=401)
        http.post(path(invoice, action), {}, token=ann.token, expect=403)
    make(http, ann, token=ann.token, expect=403)
    make(http, ann, expect=401)


def test_invoices_are_listed(http, service, bob, ann):
    user = http.new_user()
    ids = [make(service, user).json["id"] for _ in range(3)]
    http.post(f"/invoices/{ids[1]}/pay", OK, token=user.token, expect=200)
    mine = f"/invoices?user_id={user.id}"
    for shop, token in ((http, user.token), (http, http.admin), (service, None)):
        for limit in (1, 2, 3):
            items = shop.pages(f"{mine}&limit={limit}", token=token)
            assert sorted(i["id"] for i in items) == ids
        paid = shop.get(f"{mine}&status=paid", token=token, expect=200).json["items"]
        assert [i["id"] for i in paid] == [ids[1]]
    assert sorted(i["id"] for i in http.get("/invoices/", token=user.token).json["items"]) == ids
    http.get(mine, expect=401)
    assert http.get(mine, token=bob.token, expect=200).json["items"] == []
    http.request("HEAD", mine, token=user.token, expect=200)


@pytest.mark.parametrize("query, pointer", [("status=lost", "?status"), ("user_id=x", "?user_id"),
    ("limit=0", "?limit"), ("cursor=x", "?cursor"), ("nonsense=1", "?nonsense")])
def test_faults_of_a_query_are_named(http, query, pointer):
    assert http.get(f"/invoices?{query}", token=http.admin, expect=422).pointers == {pointer}


def test_an_invoice_is_paid_once(http, ann, invoice):
    paid = http.post(path(invoice, "/pay"), OK, token=ann.token, expect=200).json
    assert paid == {**invoice, "status": "paid", "amount_paid": 960, "paid_at": paid["paid_at"],
        "version": paid["version"]}
    assert paid["paid_at"] and paid["version"] > invoice["version"]
    http.post(path(invoice, "/pay/"), OK, token=ann.token, expect=409)
    http.post(path(invoice, "/void"), {}, token=http.admin, expect=409)


def test_payments_at_once_charge_once(http, ann, invoice):
    replies = []

    def pay():
        replies.append(http.post(path(invoice, "/pay"), OK, token=ann.token))

    threads = [threading.Thread(target=pay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.status for r in replies) == [200, 409, 409, 409], replies
    assert http.get(path(invoice), token=ann.token).json["amount_paid"] == 960


def test_a_repeated_payment_gets_the_first_answer(http, ann, invoice):
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = [http.post(path(invoice, "/pay"), OK, token=ann.token, headers=key, expect=200)
        for _ in range(2)]
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("token", ["tok_decline", "tok_nonsense"])
def test_a_declined_payment_leaves_the_invoice_open(http, ann, invoice, token):
    http.post(path(invoice, "/pay"), {"method": "sandbox", "token": token}, token=ann.token,
        expect=402)
    assert http.get(path(invoice), token=ann.token).json["status"] == "open"
    http.post(path(invoice, "/pay"), OK, token=ann.token, expect=200)


def test_a_gateway_that_does_not_answer_is_asked_again(http, ann, invoice):
    reply = http.post(path(invoice, "/pay"), {"method": "sandbox", "token": "tok_timeout"},
        token=ann.token, expect=202)
    assert reply.headers["Retry-After"]
    paid = eventually(lambda: (i := http.get(path(invoice), token=ann.token).json)["status"]
        == "paid" and i, 30)
    assert paid["amount_paid"] == 960


@pytest.mark.parametrize("body, pointer", [
    ({}, "#/method"), ({"method": "gold"}, "#/method"), ({"method": 7}, "#/method"),
    ({**OK, "amount": 1}, "#/amount"), ({**OK, "token": 7}, "#/token"),
])
def test_faults_of_a_payment_are_named(http, ann, invoice, body, pointer):
    reply = http.post(path(invoice, "/pay"), body, token=ann.token, expect=422)
    assert reply.pointers == {pointer}


def test_a_bank_transfer_is_recorded_by_an_administrator(http, ann, invoice):
    http.post(path(invoice, "/pay"), {"method": "manual"}, token=ann.token, expect=403)
    http.post(path(invoice, "/pay"), {"method": "manual"}, token=http.admin, expect=200)


def test_a_void_invoice_is_not_paid(http, ann, invoice):
    http.post(path(invoice, "/void"), {}, token=http.admin, expect=200)
    http.post(path(invoice, "/void/"), {}, token=http.admin, expect=409)
    assert http.get(path(invoice), token=ann.token).json["status"] == "void"
    http.post(path(invoice, "/pay"), OK, token=ann.token, expect=409)
    http.post(path(invoice, "/refund"), {}, token=http.admin, expect=409)


def test_a_payment_is_given_back_in_parts(http, ann, invoice):
    def refund(body, **kw):
        return http.post(path(invoice, "/refund"), body, token=http.admin, **kw)

    refund({}, expect=409)    # nothing is paid yet
    http.post(path(invoice, "/pay"), OK, token=ann.token, expect=200)
    for bad in (0, -1, "1", 1.5):
        assert refund({"amount": bad}, expect=422).pointers == {"#/amount"}
    assert refund({"amount": 961}, expect=422).pointers == {"#/amount"}
    part = refund({"amount": 100}, expect=200).json
    assert (part["status"], part["amount_refunded"]) == ("paid", 100)
    assert refund({"amount": 861}, expect=422).pointers == {"#/amount"}
    rest = refund({}, expect=200).json
    assert (rest["status"], rest["amount_refunded"], rest["amount_paid"]) == \
        ("refunded", 960, 960)
    refund({}, expect=409)


def test_a_refund_that_is_not_answered_is_asked_about(http, ann, invoice):
    pay = {"method": "sandbox", "token": "tok_refund_timeout"}
    http.post(path(invoice, "/pay"), pay, token=ann.token, expect=200)
    reply = http.post(path(invoice, "/refund"), {}, token=http.admin, expect=202)
    assert int(reply.headers["Retry-After"]) >= 1 and reply.json["amount_refunded"] == 0
    eventually(lambda: http.get(path(invoice), token=ann.token).json["status"] == "refunded", 20)


def test_numbers_have_no_gaps(http, service, ann):
    """Whatever is made at the same time, or refused in between."""
    made = []

    def several():
        for i in range(5):
            made.append(make(service, ann).json)
            make(service, ann, {**LINE, "quantity": 0}, expect=422)

    threads = [threading.Thread(target=several) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = numbers(made)
    assert len(found) == 20 and found == list(range(found[0], found[0] + 20))
