"""The doctor of each service: finds nothing wrong with a shop that is used, and
everything that the test breaks in a copy of its database."""

import contextlib
import re
import sqlite3
import subprocess
import time

import pytest

from shop import Shop
from stack import BUILD, SERVICES, Stack
from trouble import calm, run

NOW = "CAST(strftime('%s', 'now') AS INTEGER) * 1000"
MESSAGE = ("INSERT INTO outbox (subject, method, path, receiver, key, due_at, created_at, dead_at,"
    " waits) VALUES ('s', 'POST', '/log', 'log', 'k', {due}, 1, {dead}, {waits})")

# What must be so, and how to break it.
COMMON = {
    "the file is whole": None,
    "what a row refers to is there": None,
    "no message to another service was given up":
        MESSAGE.format(due=1, dead=1, waits=0),
    "messages to other services are sent within an hour":
        MESSAGE.format(due=f"{NOW} - 3700000", dead="NULL", waits=0),
    "one message of each subject goes first":
        MESSAGE.format(due=NOW, dead="NULL", waits=1),
    "no request runs for ten minutes":
        f"INSERT INTO idempotency (scope, key, expires_at) VALUES ('s', 'k', {NOW} - 600000)",
}
OWN = {
    "user": {
        "nothing tells of the person of a deleted account":
            "UPDATE account SET deleted_at = 1 WHERE id = 2",
        "every other account has an address and a password":
            "UPDATE account SET password = NULL WHERE id = 2",
        "nobody is signed in to an account that may not be used":
            "UPDATE account SET disabled_at = 1 WHERE id = (SELECT user_id FROM session"
            f" WHERE expires_at > {NOW} + 60000)",
        "no link is good for a deleted account":
            "INSERT OR REPLACE INTO proof (user_id, kind, token, expires_at) SELECT id,"
            " 'password_reset', 't', 1 FROM account WHERE deleted_at IS NOT NULL LIMIT 1",
        "a verified address is nobody's former one":
            "INSERT INTO former_address (email_key, user_id) SELECT email_key, 1 FROM account"
            " WHERE id = 2; UPDATE account SET verified_at = 1 WHERE id = 2",
    },
    "email": {
        "a mail that is sent has a time, and no other":
            "UPDATE mail SET sent_at = NULL WHERE id = 1",
        "what is queued can be sent":
            f"UPDATE mail SET status = 'queued', sent_at = NULL, due_at = {NOW} WHERE id = 1",
        "the text of what is over is forgotten": "UPDATE mail SET text = 't' WHERE id = 1",
        "a mail that failed says why":
            "UPDATE mail SET status = 'failed', sent_at = NULL WHERE id = 1",
        "no two mails have the same Message-ID": "UPDATE mail SET key = 'k'",
        "mails are tried within an hour of when they are due":
            "UPDATE mail SET status = 'queued', sent_at = NULL, text = 't', due_at = 1"
            " WHERE id = 1",
    },
    "product": {
        "what is reserved of a product is what is held":
            "UPDATE product SET reserved = reserved + 1 WHERE id = 1",
        "stock is never below zero": "UPDATE product SET stock = -1 WHERE id = 2",
        "a reservation has lines":
            "INSERT INTO reservation (status, expires_at, created_at) VALUES ('released', 1, 1)",
        "no more is missing of a reservation than it has": "UPDATE reservation SET shortfall = 9",
        "what expires is released within ten minutes":
            "UPDATE reservation SET expires_at = 1 WHERE status = 'held'",
        "all that is sold can be searched for": "DELETE FROM product_search WHERE rowid = 1",
        "nothing else can": "INSERT INTO product_search (rowid, name) VALUES (999999, 'x')",
    },
    "cart": {
        "a cart is frozen by a checkout that runs":
            "UPDATE cart SET checkout_id = (SELECT id FROM checkout WHERE user_id = cart.user_id)",
        "a checkout that runs has frozen its cart":
            f"UPDATE checkout SET state = 'invoice', updated_at = {NOW} WHERE invoice_id = 1",
        "a checkout comes to its end within an hour":
            "UPDATE checkout SET state = 'invoice', created_at = 1 WHERE invoice_id = 1;"
            "UPDATE cart SET checkout_id = (SELECT id FROM checkout WHERE invoice_id = 1)",
        "a checkout that is done has an invoice": "UPDATE checkout SET invoice_id = NULL",
        "no two checkouts have the same invoice or reservation":
            "INSERT INTO checkout (id, user_id, state, lines, reservation_id, invoice_id,"
            " created_at, updated_at) SELECT 'other', user_id, state, lines, reservation_id, 999,"
            " 1, 1 FROM checkout LIMIT 1",
        "a cart is in one currency": "UPDATE cart_item SET currency = 'X' || id",
        "no item has a number that is yet to be given": "UPDATE cart SET last_item_id = 0",
        "payment knows the invoice of a checkout":
            "UPDATE checkout SET invoice_id = 999 WHERE invoice_id = 1",
        "user knows whose a cart is":
            "UPDATE cart_item SET user_id = 999; UPDATE cart SET user_id = 999",
    },
    "payment": {
        "invoices are numbered without gaps": "UPDATE invoice SET number = 999 WHERE id = 1",
        "a total is the sum of its lines": "DELETE FROM invoice_line WHERE invoice_id = 2",
        "a paid invoice has one payment that succeeded":
            "UPDATE attempt SET status = 'declined' WHERE invoice_id = 1",
        "one that is not paid has none":
            "INSERT INTO attempt (invoice_id, gateway, key, amount, status, due_at, created_at)"
            " SELECT id, 'manual', 'k', total, 'succeeded', 1, 1 FROM invoice"
            " WHERE status = 'open' LIMIT 1",
        "what was paid is the total, and has a time":
            "UPDATE invoice SET paid_at = NULL WHERE id = 1",
        "payments are of the whole total": "UPDATE attempt SET amount = 1 WHERE invoice_id = 1",
        "what was refunded is the sum of its refunds":
            "UPDATE invoice SET amount_refunded = 1 WHERE id = 1",
        "refunded is what all was given back of":
            "UPDATE invoice SET status = 'refunded' WHERE id = 1",
        "a payment that is not known is asked about":
            "INSERT INTO attempt (invoice_id, gateway, key, amount, status, due_at, created_at)"
            " SELECT id, 'manual', 'k', total, 'unknown', 1, 1 FROM invoice LIMIT 1",
        "what is not paid at once is kept within ten minutes":
            "UPDATE extension SET last = 0; UPDATE invoice SET created_at = 1"
            " WHERE status = 'open'",
        "a refund that is not known is asked about":
            "INSERT INTO refund (invoice_id, attempt_id, gateway, key, amount, status, due_at,"
            " created_at) SELECT invoice_id, id, 'manual', 'k', 1, 'unknown', 1, 1 FROM attempt",
        "what expires is void within ten minutes":
            "UPDATE invoice SET expires_at = 1 WHERE status = 'open'",
        "product has sold, or keeps, what an invoice is for":
            "UPDATE invoice SET reservation_id = (SELECT reservation_id FROM invoice"
            " WHERE status = 'void') WHERE status = 'open'",
        "what was paid for was there, or something is paid back":
            "UPDATE invoice SET reservation_id = 999 WHERE status = 'paid'",
    },
    "stats": {
        "the data of an entry are an object": "UPDATE entry SET data = '[]' WHERE id = 1",
        "an entry has an action and no person below 1": "UPDATE entry SET user_id = 0",
        "no entry is from more than a day ahead":
            f"UPDATE entry SET at = {NOW} + 90000000 WHERE id = 1",
    },
}
CASES = [(s, what, sql) for s in SERVICES for what, sql in (COMMON | OWN[s]).items()]


@pytest.fixture(scope="module")
def stack():
    """Of its own: what is in its databases is known."""
    stack = Stack()
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def used(stack):
    """Some of everything is in the databases."""
    http = Shop(stack)
    product, user, gone = http.new_product(), http.new_user(), http.new_user("Bob")
    for _ in range(3):
        http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]}, token=user.token,
            expect=201)
        invoice = http.post(f"/user/{user.id}/cart/checkout", {}, token=user.token,
            expect=201).json
        if invoice["id"] == 1:
            http.post("/invoices/1/pay", {"method": "sandbox", "token": "tok_ok"},
                token=user.token, expect=200)
        if invoice["id"] == 3:
            http.post("/invoices/3/void", {}, token=http.admin, expect=200)
    other = http.new_product()
    for p in (product, other):
        http.post(f"/user/{user.id}/cart/", {"product_id": p["id"]}, token=user.token, expect=201)
    http.delete(f"/user/{gone.id}", token=gone.token, expect=204)
    calm(stack)


def doctor(stack, service, path):
    done = subprocess.run([BUILD / f"coster-{service}", "doctor"], capture_output=True, text=True,
        timeout=60, env={"COSTER_DB": str(path),
            "COSTER_INTERNAL_SOCKET": str(stack.run / "internal/nginx.sock")})
    assert done.stderr == "", done
    lines = [re.fullmatch("(ok|BREACH) +([^:]+)(: .+)?", line).groups()
        for line in done.stdout.splitlines()]
    breaches = {what for verdict, what, _ in lines if verdict == "BREACH"}
    assert done.returncode == (1 if breaches else 0), done
    return breaches, {what for verdict, what, _ in lines if verdict == "ok"}


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_wrong(stack, used, service):
    path = stack.state / f"data/{service}/{service}.db"
    breaches, good = doctor(stack, service, path)
    assert not breaches
    assert good == COMMON.keys() | OWN[service].keys(), "the doctor looks at other things"


def damage(path):
    """Garbage in the middle of an index, which no query meets by chance."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        size, = db.execute("PRAGMA page_size").fetchone()
        for n in range(200):
            db.execute("INSERT INTO idempotency (scope, key, expires_at) VALUES (?, ?, ?)",
                (f"scope {n}" * 20, "k", int(time.time()) * 1000 + 900000 + n))
        page, = db.execute("SELECT rootpage FROM sqlite_schema"
            " WHERE name = 'idempotency_by_expiry'").fetchone()
    with open(path, "r+b") as f:
        f.seek((page - 1) * size + size // 2)
        f.write(b"\xff" * 64)


@pytest.mark.parametrize("service, what, sql", CASES, ids=[f"{s}: {w}" for s, w, _ in CASES])
def test_what_is_broken_is_found(stack, used, tmp_path, service, what, sql):
    path = tmp_path / "copy.db"
    run(stack, service, "backup", path)
    if what == "the file is whole":
        damage(path)
    else:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA foreign_keys = OFF")
            db.execute("PRAGMA ignore_check_constraints = ON")
            if what == "what a row refers to is there":
                db.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
                db.execute("CREATE TABLE other (id INTEGER REFERENCES one (id))")
                db.execute("INSERT INTO other VALUES (7)")
            else:
                db.executescript(sql)
    breaches, _ = doctor(stack, service, path)
    assert what in breaches


def test_every_breach_has_a_line(stack, used, tmp_path):
    """Up to a hundred of a kind, and then how many more there are."""
    path = tmp_path / "copy.db"
    run(stack, "stats", "backup", path)
    for rows, lines in ((3, 3), (150, 101)):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM entry")
            db.executemany("INSERT INTO entry (at, action, data) VALUES (1, '', ?)",
                [("{}",)] * rows)
        done = subprocess.run([BUILD / "coster-stats", "doctor"], capture_output=True, text=True,
            timeout=60, env={"COSTER_DB": str(path)})
        found = [line for line in done.stdout.splitlines() if line.startswith("BREACH")]
        assert done.returncode == 1 and len(found) == lines and len(set(found)) == lines
        assert (" 50 more" in found[-1]) == (rows == 150)


def test_a_copy_may_be_late(stack, used, tmp_path):
    """What running services see to is left out; what is in the copy is looked at."""
    path = tmp_path / "copy.db"
    run(stack, "payment", "backup", path)
    environment = {"COSTER_DB": str(path)}    # and nobody there to ask
    look = lambda *arguments: subprocess.run([BUILD / "coster-payment", *arguments], timeout=60,
        capture_output=True, text=True, env=environment)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(OWN["payment"]["what expires is void within ten minutes"])
    assert look("doctor", "copy").returncode == 0
    live = look("doctor")
    assert live.returncode == 1
    assert "unknown product has sold" in live.stdout and "call failed" in live.stderr
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(OWN["payment"]["payments are of the whole total"])
    assert look("doctor", "copy").returncode == 1
