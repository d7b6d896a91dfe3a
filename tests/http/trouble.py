"""Services that are down, hang or are slow, and a look at what that did."""

import contextlib
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import threading
import time
import uuid

from stack import BUILD, SERVICES, Stopped, eventually, is_listening, parse_mail

OUTBOXES = ("user", "cart", "payment")
ASAN = "asan" in BUILD.name


def run(stack, service, *arguments, expect=0):
    """A command of a program, on the database that its instances use; its output."""
    settings = {"COSTER_DB": stack.state / f"data/{service}/{service}.db",
        "COSTER_INTERNAL_SOCKET": stack.run / "internal/nginx.sock"}
    done = subprocess.run([BUILD / f"coster-{service}", *arguments], timeout=60,
        capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], **{k: str(v) for k, v in settings.items()}})
    assert done.returncode == expect, done
    return done.stdout


def rows(stack, service, sql, *values):
    path = stack.state / f"data/{service}/{service}.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as db:
        return db.execute(sql, values).fetchall()


def number(stack, service, sql, *values):
    return rows(stack, service, sql, *values)[0][0]


def put_messages(stack, service, messages, **columns):
    """Messages to /log, by subject and action, past the service that they are of."""
    columns = {"method": "POST", "path": "/log", "receiver": "log", "due_at": 1, "created_at": 1,
        **columns}
    names = ", ".join(columns)
    path = stack.state / f"data/{service}/{service}.db"
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db, db:
        db.executemany(f"INSERT INTO outbox (subject, body, key, waits, {names}) VALUES (?, ?, ?,"
            " EXISTS (SELECT 1 FROM outbox WHERE subject = ? AND dead_at IS NULL),"
            f" {', '.join('?' * len(columns))})",
            [(subject, json.dumps({"action": action}), uuid.uuid4().hex, subject,
                *columns.values()) for subject, action in messages])


def is_calm(stack):
    """Every message is delivered, no mail, payment or checkout is under way, and what
    has expired is void."""
    return (all(number(stack, s, "SELECT count(*) FROM outbox WHERE dead_at IS NULL") == 0
            for s in OUTBOXES)
        and number(stack, "email", "SELECT count(*) FROM mail WHERE status = 'queued'") == 0
        and number(stack, "payment", "SELECT (SELECT count(*) FROM attempt WHERE ended_at IS NULL)"
            " + (SELECT count(*) FROM refund WHERE ended_at IS NULL) + (SELECT count(*) FROM invoice"
            " WHERE status = 'open' AND (expires_at < unixepoch() * 1000 OR created_at <"
            " unixepoch() * 1000 - 60000 AND id > (SELECT last FROM extension)))") == 0
        and number(stack, "cart",
            "SELECT count(*) FROM checkout WHERE state NOT IN ('done', 'undone')") == 0)


def calm(stack, seconds=60):
    try:
        eventually(lambda: is_calm(stack), seconds)
    except AssertionError:
        raise AssertionError(unrest(stack)) from None


def unrest(stack):
    """What goes on yet."""
    return {(s, sql): rows(stack, s, sql) for s, sql in (
        *((s, "SELECT * FROM outbox WHERE dead_at IS NULL LIMIT 5") for s in OUTBOXES),
        ("email", "SELECT * FROM mail WHERE status = 'queued' LIMIT 5"),
        ("cart", "SELECT * FROM checkout WHERE state NOT IN ('done', 'undone') LIMIT 5"),
        ("payment", "SELECT 'attempt', id, status, due_at FROM attempt WHERE ended_at IS NULL"
            " UNION ALL SELECT 'refund', id, status, due_at FROM refund WHERE ended_at IS NULL"))}


def change(stack, service, sql, *values):
    """Something that time would have done."""
    path = stack.state / f"data/{service}/{service}.db"
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as db, db:
        db.execute(sql, values)


def end_leases(stack):
    """What a dead instance was at need not wait until it surely is dead."""
    for service in SERVICES:
        change(stack, service, "DELETE FROM idempotency WHERE status IS NULL")
        change(stack, service, "UPDATE outbox SET due_at = 0 WHERE dead_at IS NULL")
    change(stack, "email", "UPDATE mail SET due_at = 0 WHERE status = 'queued'")
    change(stack, "cart", "UPDATE checkout SET leased_until = 0 WHERE leased_until IS NOT NULL")
    for table in ("attempt", "refund"):
        change(stack, "payment", f"UPDATE {table} SET due_at = 0 WHERE ended_at IS NULL")


# What an invoice of each status has come to in product.
RESERVATIONS = {"open": "held", "paid": "committed", "refunded": "committed", "void": "released"}


def check_books(stack, stocks):
    """All doctors are content, but for what was sold and not there, and the services agree
    with each other. stocks: how many of each product there were at first."""
    for service in SERVICES:
        if service != "payment":
            run(stack, service, "doctor")
    check_shortfalls(stack)
    invoices = rows(stack, "payment", "SELECT id, status, reservation_id FROM invoice")
    held = dict(rows(stack, "product", "SELECT id, status FROM reservation"))
    for invoice, status, reservation in invoices:
        if reservation is not None:
            assert held.pop(reservation) == RESERVATIONS[status], (invoice, status)
    assert set(held.values()) <= {"released"}, held    # no goods are kept for nobody
    check_stock(stack, stocks)
    paid = sorted(id for id, status, _ in invoices if status in ("paid", "refunded"))
    told = rows(stack, "stats", "SELECT json_extract(data, '$.invoice_id') FROM entry"
        " WHERE action = 'invoice.paid'")
    assert sorted(id for id, in told) == paid
    assert number(stack, "payment", "SELECT count(*) FROM sandbox_charge"
        " WHERE succeeded AND refund_of IS NULL") == number(stack, "payment",
        "SELECT count(*) FROM attempt WHERE status = 'succeeded' AND gateway = 'sandbox'")
    done = rows(stack, "cart", "SELECT invoice_id FROM checkout WHERE state = 'done'")
    assert {id for id, in done} <= {id for id, _, _ in invoices}
    check_mails(stack)


def check_shortfalls(stack):
    """The doctor names the invoices that were paid and are short of goods, and no other."""
    short = {id for id, in rows(stack, "product", "SELECT id FROM reservation WHERE shortfall > 0")}
    short = {id for id, reservation in rows(stack, "payment", "SELECT id, reservation_id"
        " FROM invoice WHERE status = 'paid' AND amount_refunded = 0") if reservation in short}
    said = run(stack, "payment", "doctor", expect=1 if short else 0)
    told = re.findall("^BREACH  what was paid for was there, or something is paid back: not so of (.+)$",
        said, re.M)
    assert set(map(int, told)) == short and said.count("BREACH") == len(short), said
    return short


def check_stock(stack, stocks):
    """What is gone was sold; what was sold and is not gone is a shortfall that was told."""
    missing = number(stack, "product", "SELECT coalesce(sum(shortfall), 0) FROM reservation")
    for product, stock in stocks.items():
        sold, left = rows(stack, "product", "SELECT (SELECT coalesce(sum(l.quantity), 0) FROM"
            " reservation_line l JOIN reservation r ON r.id = l.reservation_id"
            " WHERE r.status = 'committed' AND l.product_id = p.id), stock FROM product p"
            " WHERE id = ?", product)[0]
        missing -= sold - (stock - left)
        assert stock - left <= sold, product
    assert missing == 0


def check_mails(stack):
    """Each mail has been sent once, or if twice with the same Message-ID; none was lost."""
    sent = dict(rows(stack, "email", "SELECT key, recipient FROM mail WHERE status = 'sent'"))
    found = {}
    for path in (stack.state / "mail").glob("new/*"):
        mail = parse_mail(path)
        found.setdefault(mail["Message-ID"], set()).add(str(mail["To"]))
    erased = number(stack, "email", "SELECT count(*) FROM mail WHERE last_error = 'erased'")
    assert 0 <= len(found) - len(sent) <= erased, (len(found), len(sent), erased)
    assert all(len(to) == 1 for to in found.values())


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_stopped(pid):
    """Each of its threads is, or will be when the disk has answered it."""
    return all(stat.read_text().rpartition(")")[2].split()[0] in "TD"
        for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"))


class Down(Stopped):
    """No instance of some services runs while this lasts, and nobody starts one."""

    def __enter__(self):
        self.supervisors = []
        for service in self.services:
            pids = self.stack.pids(service)
            self.supervisors += [parent(pid) for pid in pids]
            for pid in self.supervisors[-2:]:
                os.kill(pid, signal.SIGSTOP)
            eventually(lambda: all(map(is_stopped, self.supervisors)))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    def __exit__(self, *unused):
        for pid in self.supervisors:
            os.kill(pid, signal.SIGCONT)
        for service in self.services:
            for n in (1, 2):
                path = self.stack.run / f"{service}-{n}.sock"
                eventually(lambda: is_listening(path))


class Clients:
    """Threads that each run write() from a number on, until over is set, while a
    with-block lasts."""

    def __init__(self, numbers):
        self.over, self.acknowledged, self.failed = threading.Event(), [], []
        self.threads = [threading.Thread(target=self.write, args=[n]) for n in numbers]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.over.set()
        for thread in self.threads:
            thread.join()


class Slow(Stopped):
    """Some services work for a moment, and then not for a while."""

    def __init__(self, stack, *services, work=0.02, rest=0.4):
        super().__init__(stack, *services)
        self.work, self.rest, self.over = work, rest, threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self.turn)
        self.thread.start()

    def turn(self):
        while not self.over.is_set():
            super().__enter__()
            self.over.wait(self.rest)
            super().__exit__()
            time.sleep(self.work)

    def __exit__(self, *unused):
        self.over.set()
        self.thread.join()


class Healthy(Stopped):
    """Nothing is wrong: to see that a test would have passed anyway."""

    def __enter__(self):
        pass

    def __exit__(self, *unused):
        pass


def cpu_ms(stack):
    """What all instances have used so far."""
    ticks = 0
    for service in SERVICES:
        for pid in stack.pids(service):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def wakeups(stack):
    """How often a thread of any instance has gone to sleep so far."""
    return sum(int(status.read_text().partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        for service in SERVICES for pid in stack.pids(service)
        for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"))
