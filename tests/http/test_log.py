"""What the services log: whole lines of logfmt, and nobody's secrets. Runs last,
so it sees what all the other tests left."""

import re
import uuid

import pytest

from stack import SERVICES, eventually

PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\\x00-\x1f]|\\["\\]|\\x[0-9a-f]{2})*"|[^\s"=\\]+)(?: |$)')


def parse(line):
    """A line of logfmt as a dict; fails when it is not that."""
    pairs, at = {}, 0
    while at < len(line):
        match = PAIR.match(line, at)
        assert match and match[1] not in pairs, line
        pairs[match[1]] = match[2].strip('"')
        at = match.end()
    return pairs


def lines(stack, service):
    """But for what tests/stack and its bash write there."""
    return [parse(line) for line in stack.log(service) if not re.match(r"\S*stack: ", line)]


@pytest.fixture(scope="module", autouse=True)
def traffic(stack, http, service):
    """A little of everything, for when this file runs alone."""
    user, product = http.new_user(), http.new_product()
    http.post("/session/", {"email": user.email, "password": "not the password at all"})
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=200)
    http.patch(f"/user/{user.id}", {"password": "a new password, much longer",
        "current_password": user.password}, token=user.token, expect=200)
    http.post("/send_email/", {"to": user.email, "subject": "Hello",
        "text": "a body that is in no log"}, token=http.admin, expect=202)
    cart = f"/user/{user.id}/cart/"
    http.post(cart, {"product_id": product["id"]}, token=user.token, expect=201)
    invoice = http.post(cart + "checkout", {}, token=user.token, expect=201).json
    http.post(f"/invoices/{invoice['id']}/pay", {"method": "sandbox",
        "token": "a token that no gateway knows"}, token=user.token, expect=402)
    eventually(lambda: len(stack.mails(user.email)) >= 2)


@pytest.mark.parametrize("name", SERVICES)
def test_every_line_is_logfmt(stack, name):
    found = lines(stack, name)
    assert {pairs["instance"] for pairs in found} == {"1", "2"}
    for pairs in found:
        assert {"at", "level", "service", "instance", "event"} <= set(pairs), pairs
        assert pairs["service"] == name
        assert pairs["level"] in ("debug", "info", "audit", "warn", "error")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", pairs["at"])


@pytest.mark.parametrize("name", SERVICES)
def test_every_request_has_a_line(stack, name):
    requests = [pairs for pairs in lines(stack, name) if pairs["event"] == "request"]
    assert requests
    for pairs in requests:
        assert {"request", "method", "route", "status", "us"} <= set(pairs), pairs
        assert re.fullmatch("[A-Z]+", pairs["method"]), pairs
        assert re.fullmatch("-|/[a-z_/.{}-]+", pairs["route"]), pairs
        assert re.fullmatch("[A-Za-z0-9._-]+", pairs["request"]), pairs
        assert 200 <= int(pairs["status"]) < 600 and int(pairs["us"]) >= 0


@pytest.mark.parametrize("method, path, route, status", [
    ("GET", "/products?limit=1", "/products", 200),
    ("GET", "/product/999999999", "/product/{id}", 404),
    ("GET", "/product/a%0Ab%22%20c=d", "-", 404),
    ("A" * 2000, "/products", "-", 405),
], ids=["good", "no product", "no route", "long method"])
def test_a_request_is_found_by_its_id(stack, http, method, path, route, status):
    trace = uuid.uuid4().hex
    http.request(method, path, headers={"X-Request-Id": trace}, expect=status)
    pairs, = eventually(lambda: [p for p in lines(stack, "product") if p.get("request") == trace])
    assert (pairs["route"], pairs["status"]) == (route, str(status))
    assert method.startswith(pairs["method"])    # the beginning is enough


def test_no_secret_is_in_any_log(stack):
    assert len(stack.secrets) > 5
    for path in (stack.state / "log").iterdir():
        text = path.read_text(errors="replace")
        found = [secret for secret in stack.secrets if secret in text]
        assert not found, f"{path.name} has {found}"
        assert "tok_ok" not in text and "Bearer" not in text


def test_no_fault_was_logged(stack):
    """Nothing that the tests did is a fault of a program."""
    for name in SERVICES:
        faults = [pairs for pairs in lines(stack, name) if pairs["level"] == "error"]
        assert not faults, faults
