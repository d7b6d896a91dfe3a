"""A backup becomes the database again: whole, while instances run, and without an
id given twice."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import time

import pytest

from shop import Shop
from stack import BUILD, SERVICES, Stack, eventually
from test_start import DATAERR, IOERR, NOINPUT, each_service, keys, program    # noqa: F401
from trouble import Clients, calm, number, rows, run


def sql(path, text):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        return db.execute(text).fetchall()


def left_in(folder):
    return {p.name for p in folder.iterdir() if ".db" in p.name}


def kept(folder):
    """The newest."""
    return max(p for p in folder.iterdir() if ".before-" in p.name)


# ---- the command alone -------------------------------------------------------

@each_service
def test_what_was_backed_up_is_there_again(program):    # noqa: F811
    program.check("--check")
    sql(program.db, "INSERT INTO idempotency (scope, key, expires_at) VALUES ('a', 'then', 9e15)")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    before = copy.read_bytes()
    sql(program.db, "UPDATE idempotency SET key = 'now'")
    output = program.check("restore", copy).stdout
    assert sql(program.db, "SELECT key FROM idempotency") == [("then",)]
    assert copy.read_bytes() == before
    old = kept(program.folder)
    assert str(old) in output and old.stat().st_mode & 0o777 == 0o600
    assert sql(old, "SELECT key FROM idempotency") == [("now",)]
    assert left_in(program.folder) == {program.db.name, "copy.db", old.name}
    program.check("--check")
    assert "BREACH" not in program.check("doctor").stdout


@pytest.mark.parametrize("program", ["payment"], indirect=True)
def test_messages_that_are_not_sent_are_kept(program):    # noqa: F811
    """Also one with the id of another, which was sent since the copy was made."""
    def put(id, key):
        sql(program.db, "INSERT INTO outbox (id, subject, method, path, key, due_at, created_at)"
            f" VALUES ({id}, 's', 'POST', '/log', '{key}', 9e15, 0)")

    program.check("--check")
    put(2, "first")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "DELETE FROM outbox")
    put(1, "second")
    put(2, "third")
    program.check("restore", copy)
    assert sql(program.db, "SELECT key FROM outbox ORDER BY id") == [("first",), ("second",), ("third",)]


@pytest.mark.parametrize("program", ["email"], indirect=True)
def test_mails_that_were_accepted_are_kept(program):    # noqa: F811
    """And what was sent since the copy was made is not sent again."""
    program.check("--check")
    sql(program.db, "INSERT INTO mail (id, key, checked, recipient, subject, text, due_at,"
        " created_at) VALUES (1, 'sent', 1, 'a@b.example', 's', 't', 1, 1),"
        " (2, 'waits', 1, 'a@b.example', 's', 't', 1, 1), (3, 'other', 1, 'a@b.example', 's', 't', 1, 1)")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "UPDATE mail SET status = 'sent', text = NULL, sent_at = 2, version = 2"
        " WHERE id = 1")
    sql(program.db, "UPDATE mail SET key = 'anothers', version = 2 WHERE id = 3")
    sql(program.db, "INSERT INTO mail (id, key, checked, recipient, subject, text, due_at,"
        " created_at) VALUES (4, 'new', 1, 'a@b.example', 's', 't', 1, 1)")
    program.check("restore", copy)
    assert sql(program.db, "SELECT key, status, text FROM mail ORDER BY id") == [
        ("sent", "sent", None), ("waits", "queued", "t"), ("other", "queued", "t"),
        ("new", "queued", "t")]


@each_service
def test_where_there_is_no_database(program):    # noqa: F811
    program.check("--check")
    copy = program.folder / "copy.db"
    program.db.rename(copy)
    assert "kept" not in program.check("restore", copy).stdout
    assert left_in(program.folder) == {program.db.name, "copy.db"}
    program.check("--check")


def damage(path):
    """Garbage in an index: found by whoever looks at all of it, and else by nobody."""
    for n in range(20):
        sql(path, f"INSERT INTO idempotency (scope, key, expires_at) VALUES ('{n}', 'k', {n})")
    root, = sql(path, "SELECT rootpage FROM sqlite_schema WHERE name = 'idempotency_by_expiry'")[0]
    with open(path, "r+b") as f:
        f.seek((root - 1) * 4096 + 2048)
        f.write(b"\xff" * 2048)


@each_service
def test_the_copy_of_a_damaged_database_is_told(program):    # noqa: F811
    program.check("--check")
    damage(program.db)
    copy = program.folder / "copy.db"
    done = program.run("backup", copy)
    assert done.returncode == DATAERR and "BREACH" in done.stdout, done
    assert "the database is damaged, and so is its copy" in done.stderr


def refer_to_nothing(path):
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
        db.execute("CREATE TABLE other (id INTEGER REFERENCES one (id))")
        db.execute("INSERT INTO other VALUES (7)")


BAD = {
    "not there": (lambda path: path.unlink(), NOINPUT, "No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), IOERR, "cannot be written"),
    "empty": (lambda path: path.write_bytes(b""), DATAERR, "not of this service"),
    "text": (lambda path: path.write_bytes(b"nonsense, " * 1000), DATAERR, "no database"),
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-8192]), DATAERR, ""),
    "damaged": (damage, DATAERR, "damaged"),
    "inconsistent": (refer_to_nothing, DATAERR, "damaged"),
    "another service's": (lambda path: sql(path,
        "UPDATE migration SET component = 'other' WHERE component <> 'shared'"), DATAERR,
        "not of this service"),
    "newer": (lambda path: sql(path, "INSERT INTO migration SELECT component, 999, 0"
        " FROM migration WHERE component <> 'shared' LIMIT 1"), DATAERR, "newer"),
    "in use": (lambda path: path.with_name(path.name + "-wal").write_bytes(b"x"), DATAERR,
        "in use"),
}


@each_service
@pytest.mark.parametrize("fault", BAD)
def test_what_is_no_good_backup_is_refused(program, fault):    # noqa: F811
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "INSERT INTO idempotency (scope, key, expires_at) VALUES ('a', 'now', 9e15)")
    spoil, status, why = BAD[fault]
    spoil(copy)
    files = left_in(program.folder)
    done = program.run("restore", copy)
    assert done.returncode == status and why in done.stderr, done
    assert "restored" not in done.stdout
    assert sql(program.db, "SELECT key FROM idempotency") == [("now",)]
    assert left_in(program.folder) == files


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_a_database_that_is_of_no_use_is_not_touched(program):    # noqa: F811
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    program.db.write_bytes(b"nonsense, " * 1000)
    assert "move it away" in program.run("restore", copy).stderr
    assert program.db.read_bytes().startswith(b"nonsense")
    program.db.rename(program.folder / "away")
    program.check("restore", copy)
    program.check("--check")


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_a_damaged_database_is_healed(program):    # noqa: F811
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    damage(program.db)
    assert program.run("doctor").returncode == 1
    program.check("restore", copy)
    program.check("doctor")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system to fill")
@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_a_full_disk_leaves_all_as_it_was(program, tmp_path):    # noqa: F811
    """And no fuller with each try."""
    copy, small = program.folder / "copy.db", program.folder / "small"
    small.mkdir()
    program.check("--check")
    sql(program.db, "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8000)"
        " INSERT INTO entry (at, action, data) SELECT 1, 'then', json_object('x', printf('%.*c', 1000, 'x'))"
        " FROM n")
    program.check("backup", copy)
    sql(program.db, "UPDATE entry SET action = 'now'")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=36m", "tmpfs", small], check=True)
    try:
        database = small / "stats.db"
        program.check("backup", database)
        program.settings["COSTER_DB"] = program.db = database
        for _ in range(2):
            done = program.run("restore", copy)
            assert done.returncode == IOERR and "nothing was restored" in done.stderr, done
            assert [p.name for p in small.iterdir() if ".before-" in p.name] == []
            assert sql(database, "SELECT DISTINCT action FROM entry") == [("now",)]
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_who_was_forgotten_since_is_known(program):    # noqa: F811
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "INSERT INTO forgotten VALUES (7, 1700000000000)")
    assert "may be given again" not in program.check("restore", copy).stderr
    assert sql(program.db, "SELECT user_id FROM forgotten") == [(7,)]


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_a_database_that_is_newer_gives_way(program):    # noqa: F811
    """The way back from an upgrade."""
    program.check("--check")
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "INSERT INTO migration VALUES ('stats', 999, 0)")
    program.check("--check", expect=DATAERR)
    program.check("restore", copy)
    program.check("--check")


@pytest.mark.parametrize("program", ["stats"], indirect=True)
def test_killed_at_any_time_it_is_one_or_the_other(program):    # noqa: F811
    program.check("--check")
    fill = ("INSERT INTO entry (at, action, data) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL"
        " SELECT i + 1 FROM n WHERE i < 20000) SELECT i, '{}', '{{}}' FROM n")
    sql(program.db, fill.format("then"))
    copy = program.folder / "copy.db"
    program.check("backup", copy)
    sql(program.db, "UPDATE entry SET action = 'now'")
    began = time.monotonic()
    program.check("restore", copy)
    whole = time.monotonic() - began
    found = set()
    for i in range(20):
        sql(program.db, "UPDATE entry SET action = 'now'")
        process = subprocess.Popen([BUILD / program.name, "restore", copy],
            env=program.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * (i + 1) / 20)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        assert sql(program.db, "PRAGMA integrity_check") == [("ok",)]
        seen = sql(program.db, "SELECT action, count(*) FROM entry GROUP BY action")
        assert seen in ([("then", 20000)], [("now", 20000)]), seen
        found.add(seen[0][0])
    assert "now" in found    # it was killed before its end, sometimes


# ---- in a shop that runs -----------------------------------------------------

@pytest.fixture(scope="module")
def stack():
    stack = Stack(COSTER_GATEWAYS="manual,sandbox")
    yield stack
    stack.stop()


class Loggers(Clients):
    """Clients that log numbers."""

    def __init__(self, stack, count=4):
        super().__init__([i * 10**6 for i in range(count)])
        self.stack = stack

    def write(self, n):
        http = Shop(self.stack)
        while not self.over.is_set():
            reply = http.post("/log", {"action": "n", "data": {"n": n}})
            (self.acknowledged if reply.status == 201 else self.failed).append(n)
            if http.get("/log?action=n&limit=1").status != 200:
                self.failed.append("read")
            n += 1


def test_under_load_nothing_is_between(stack, tmp_path):
    """Every write that was acknowledged is in the database that is, or in one that was
    kept; the requests go on."""
    http, copy = Shop(stack), tmp_path / "copy.db"
    http.post("/log", [{"action": "old", "data": {"n": n}} for n in range(1000)], expect=201)
    run(stack, "stats", "backup", copy)
    with Loggers(stack) as writers:
        for _ in range(5):
            had = len(writers.acknowledged)
            while len(writers.acknowledged) < had + 100:
                time.sleep(0.01)
            run(stack, "stats", "restore", copy)
    assert not writers.failed
    databases = [*(stack.state / "data/stats").glob("*.before-*"), stack.state / "data/stats/stats.db"]
    assert len(databases) == 6
    found = [n for path in databases for n, in
        sql(path, "SELECT json_extract(data, '$.n') FROM entry WHERE action = 'n'")]
    assert sorted(set(found)) == sorted(writers.acknowledged)
    assert number(stack, "stats", "SELECT count(*) FROM entry WHERE action = 'old'") == 1000
    run(stack, "stats", "doctor")
    for path in databases[:-1]:
        path.unlink()


def buy(http, user, product):
    http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]}, token=user.token, expect=201)
    return http.post(f"/user/{user.id}/cart/checkout", {}, token=user.token, expect=201).json


def test_no_id_is_given_twice(stack, tmp_path):
    """Also: sessions that were are over, and lost invoices are void."""
    http = Shop(stack)
    product = http.new_product(stock=100)
    ann = http.new_user("Ann")
    first = buy(http, ann, product)
    calm(stack)
    for service in SERVICES:
        run(stack, service, "backup", tmp_path / service)
    bob, later = http.new_user("Bob"), http.new_product(stock=100)
    second = buy(http, bob, later)
    calm(stack)
    http.post(f"/user/{ann.id}/cart/", {"product_id": later["id"]}, token=ann.token, expect=201)
    had_items = number(stack, "cart", "SELECT last_item_id FROM cart WHERE user_id = ?", ann.id)
    highest = {s: number(stack, s, f"SELECT max(id) FROM {table}") for s, table in (
        ("user", "session"), ("email", "mail"), ("product", "reservation"), ("stats", "entry"))}
    for service in SERVICES:
        run(stack, service, "restore", tmp_path / service)
    assert http.get(f"/user/{ann.id}", token=ann.token).status == 401
    assert http.post("/session/refresh", {"refresh_token": ann.refresh_token}).status == 401
    ann = ann._replace(token=http.post("/session/", {"email": ann.email, "password": ann.password},
        expect=201).json["token"])
    eve, newest = http.new_user("Eve"), http.new_product(stock=100)
    assert eve.id > bob.id and newest["id"] > later["id"]
    assert http.get(f"/product/{later['id']}").status == 404
    http.post(f"/user/{ann.id}/cart/", {"product_id": newest["id"]}, token=ann.token, expect=201)
    has_items = number(stack, "cart", "SELECT last_item_id FROM cart WHERE user_id = ?", ann.id)
    assert has_items > had_items
    third = buy(http, eve, newest)
    assert third["id"] > second["id"] and third["number"] == second["number"] + 1
    eventually(lambda: number(stack, "payment", "SELECT status = 'void' FROM invoice WHERE id = ?",
        second["id"]))
    calm(stack)
    for service, table in (("user", "session"), ("email", "mail"), ("product", "reservation"),
            ("stats", "entry")):
        assert rows(stack, service, f"SELECT count(*) FROM {table} WHERE id > ?",
            highest[service])[0][0] > 0
    assert rows(stack, "payment", "SELECT number, status FROM invoice WHERE id IN (?, ?)",
        first["id"], second["id"]) == [(first["number"], "open"), (second["number"], "void")]
    for service in SERVICES:
        run(stack, service, "doctor")


def test_no_version_is_given_twice(stack, tmp_path):
    """Else a client's copy of what was changed since would be taken for the newest."""
    http = Shop(stack)
    product, ann = http.new_product(price=100), http.new_user("Ann")
    cart, said = f"/user/{ann.id}/cart", lambda reply: (reply.headers["ETag"], reply.json)
    http.post(cart, {"product_id": product["id"]}, token=ann.token, expect=201)
    of = {f"/product/{product['id']}": http.admin, f"{cart}/1": ann.token}
    for service in ("user", "product", "cart"):
        run(stack, service, "backup", tmp_path / service)

    def change(n):
        http.patch(f"/product/{product['id']}", {"name": f"Tea {n}"}, token=http.admin, expect=200)
        http.patch(f"{cart}/1", {"quantity": n}, token=ann.token, expect=200)
        return {path: said(http.get(path, token=token, expect=200)) for path, token in of.items()}

    before = change(2)
    for service in ("product", "cart"):
        run(stack, service, "restore", tmp_path / service)
    restored = {path: said(http.get(path, token=token, expect=200)) for path, token in of.items()}
    after = change(3)
    for path, token in of.items():
        tags = [s[path][0] for s in (before, restored, after)]
        assert len(set(tags)) == 3, tags
        http.get(path, token=token, headers={"If-None-Match": tags[0]}, expect=200)
    http.patch(f"/user/{ann.id}", {"name": "Anna"}, token=ann.token, expect=200)
    tag = http.get(f"/user/{ann.id}", token=ann.token, expect=200).headers["ETag"]
    run(stack, "user", "restore", tmp_path / "user")
    token = http.post("/session/", {"email": ann.email, "password": ann.password},
        expect=201).json["token"]
    http.patch(f"/user/{ann.id}", {"name": "Anne"}, token=token, headers={"If-Match": tag},
        expect=412)


def test_money_that_was_moved_since_the_copy_stays_moved(stack, tmp_path):
    """And what has ended stays so; what was bought since and not paid is given back."""
    http = Shop(stack)
    product, ann = http.new_product(stock=10), http.new_user("Ann")

    def act(invoice, what, user=None, expect=200):
        body = {"method": "sandbox", "token": "tok_ok"} if what == "pay" else {}
        return http.post(f"/invoices/{invoice['id']}/{what}", body,
            token=user.token if user else http.admin, expect=expect)

    def status(invoice):
        return http.get(f"/invoices/{invoice['id']}", token=ann.token, expect=200).json["status"]

    paid, refunded, void = (buy(http, ann, product) for _ in range(3))
    act(refunded, "pay", ann)
    calm(stack)
    run(stack, "payment", "backup", tmp_path / "payment")
    act(paid, "pay", ann)
    act(refunded, "refund")
    act(void, "void")
    later, lost = buy(http, ann, product), buy(http, ann, product)
    act(later, "pay", ann)
    calm(stack)
    run(stack, "payment", "restore", tmp_path / "payment")
    assert [status(i) for i in (paid, refunded, void, later)] == ["paid", "refunded", "void", "paid"]
    for invoice in (paid, refunded, later):
        act(invoice, "pay", ann, expect=409)
    act(refunded, "refund", expect=409)
    act(later, "refund")
    eventually(lambda: status(lost) == "void", 20)
    calm(stack)
    assert http.get(f"/product/{product['id']}", expect=200).json["available"] == 7
    for service in SERVICES:
        run(stack, service, "doctor")


def test_a_copy_made_after_a_restore_can_be_restored(stack, tmp_path):
    http = Shop(stack)
    ann = http.new_user("Ann")

    def sign_in():
        http.post("/session/", {"email": ann.email, "password": ann.password}, expect=201)
        return number(stack, "user", "SELECT max(id) FROM session")

    for copy in (tmp_path / "first", tmp_path / "second"):
        run(stack, "user", "backup", copy)
        highest = sign_in()
        run(stack, "user", "restore", copy)
    assert sign_in() > highest


def test_one_service_alone_and_what_the_doctors_tell(stack, tmp_path):
    http = Shop(stack)
    for service in ("product", "payment", "user"):
        run(stack, service, "backup", tmp_path / service)
    ann, product = http.new_user("Ann"), http.new_product(stock=10)
    http.post(f"/user/{ann.id}/cart/", {"product_id": product["id"]}, token=ann.token, expect=201)
    invoice = http.post(f"/user/{ann.id}/cart/checkout", {}, token=ann.token, expect=201).json
    http.post(f"/invoices/{invoice['id']}/pay", {"method": "sandbox", "token": "tok_ok"},
        token=ann.token, expect=200)
    http.post(f"/user/{ann.id}/cart/", {"product_id": product["id"]}, token=ann.token, expect=201)
    calm(stack)
    for service in ("cart", "payment"):
        run(stack, service, "doctor")
    run(stack, "product", "restore", tmp_path / "product")
    assert f"not so of {invoice['id']}\n" in run(stack, "payment", "doctor", expect=1)
    run(stack, "user", "restore", tmp_path / "user")
    assert f"user knows whose a cart is: not so of {ann.id}\n" in run(stack, "cart", "doctor",
        expect=1)
    lost = kept(stack.state / "data/product")
    run(stack, "product", "restore", lost)    # what was kept is a backup, too
    run(stack, "payment", "doctor")
