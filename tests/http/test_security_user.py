"""What keeps an account its owner's: cookies, keys, links by mail, throttling,
and what is held of a person."""

import base64
import json
import re
import secrets
import signal
import subprocess

import pytest

from shop import Shop
from stack import BUILD, SERVICES, Stack, Stopped, eventually


def command(stack, *arguments):
    subprocess.run([BUILD / "coster-user", *arguments], check=True, stdout=subprocess.DEVNULL,
        env={"COSTER_DB": str(stack.state / "data/user/user.db"), "COSTER_LOG_LEVEL": "error"})


def restart(stack, *services):
    for service in services:
        for n in (1, 2):
            stack.kill(service, n, signal.SIGTERM)


# ---- cookies ----

class Browser:
    """Signed in by cookies. Sends them all with every request, as browsers do."""

    def __init__(self, http, user):
        self.http, self.cookies, self.csrf = http, {}, None
        self.take(http.post("/session/", {"email": user.email, "password": user.password,
            "cookie": True}, expect=201))

    def take(self, reply):
        for line in reply.headers.get_all("Set-Cookie", []):
            (name, value), *attributes = [part.split("=") for part in line.split("; ")]
            names = {attribute[0]: attribute[-1] for attribute in attributes}
            assert name.startswith("__Host-coster-") and names["Path"] == "/"
            assert names["SameSite"] == "Strict" and {"Secure", "HttpOnly"} <= set(names)
            assert "Domain" not in names
            self.cookies[name] = value
            if value:
                self.http.stack.secrets.add(value)
        if reply.json:
            self.csrf = reply.json["csrf_token"]
            assert not {"token", "refresh_token"} & set(reply.json)
        return reply

    def request(self, method, path, body=None, csrf=True, origin=None, **kw):
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        if csrf:
            headers["X-CSRF-Token"] = self.csrf
        if origin:
            headers["Origin"] = origin
        return self.http.request(method, path, body, headers=headers, **kw)


def test_a_browser_is_signed_in_by_cookies_at_every_service(http):
    user, product = http.new_user(), http.new_product()
    browser = Browser(http, user)
    cart = f"/user/{user.id}/cart/"
    own = f"https://127.0.0.1:{http.stack.https_port}"
    browser.request("GET", f"/user/{user.id}", csrf=False, expect=200)
    browser.request("GET", cart, csrf=False, expect=200)
    wanted = {"product_id": product["id"]}
    for foreign in ({"csrf": False}, {"csrf": False, "origin": own},
            {"origin": "https://evil.example"}, {"origin": "null"}):
        reply = browser.request("POST", cart, wanted, expect=403, **foreign)
        assert reply.json["type"] == "urn:coster:problem:csrf"
    assert browser.request("GET", cart, csrf=False).json["items"] == []
    browser.request("POST", cart, wanted, origin=own, expect=201)
    invoice = browser.request("POST", cart + "checkout", {}, expect=201).json
    browser.request("POST", f"/invoices/{invoice['id']}/pay",
        {"method": "sandbox", "token": "tok_ok"}, expect=200)
    # What anyone may do, a cookie without its token does as nobody.
    action = f"test.cookie.{user.id}"
    browser.request("POST", "/log", {"action": action}, csrf=False, expect=201)
    browser.request("POST", "/log", {"action": action}, expect=201)
    logged = http.get(f"/log?action={action}", token=http.admin).json["items"]
    assert [entry["user_id"] for entry in logged] == [None, user.id]


def test_cookies_are_refreshed_and_cleared(http):
    browser = Browser(http, http.new_user())
    old = dict(browser.cookies)
    browser.request("POST", "/session/refresh", {}, csrf=False, expect=403)
    browser.take(browser.request("POST", "/session/refresh", {}, expect=200))
    assert not set(old.values()) & set(browser.cookies.values())
    browser.request("GET", "/session/", csrf=False, expect=200)
    browser.take(browser.request("DELETE", "/session/", expect=204))
    assert set(browser.cookies) == set(old) and not any(browser.cookies.values())


# ---- a token whose session is over ----

def test_user_refuses_the_token_of_a_session_that_is_over(stack, http):
    user = http.new_user()
    path = f"/user/{user.id}"
    http.delete("/session/", token=user.token, expect=204)
    http.get(path, token=user.token, expect=401)
    user = http.sign_in(user.email, user.password)
    http.get(path, token=user.token, expect=200)
    command(stack, "disable", user.email)
    http.get(path, token=user.token, expect=401)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)
    command(stack, "enable", user.email)
    user = http.sign_in(user.email, user.password)
    http.delete(path, token=user.token, expect=204)
    http.get(path, token=user.token, expect=401)


# ---- keys ----

def kid(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


def test_keys_are_changed_and_nobody_is_signed_out():
    stack = Stack()
    try:
        change_keys(stack, Shop(stack))
    finally:
        stack.stop()


def change_keys(stack, http):
    """The steps of the README."""
    keys, user = stack.state / "keys", http.new_user()
    paths = (f"/user/{user.id}", f"/user/{user.id}/cart/", "/invoices")

    def is_good(token, status=200):
        for path in paths:
            http.get(path, token=token, expect=status)

    first = kid(user.token)
    (keys / "next").mkdir(mode=0o700)
    (keys / "next/jwks.json").write_bytes((keys / "jwks.json").read_bytes())
    command(stack, "keygen", keys / "next")

    # All learn the new public key; user still signs with the old private one.
    (keys / "next/jwks.json").rename(keys / "jwks.json")
    restart(stack, *SERVICES)
    published = [key["kid"] for key in http.get("/.well-known/jwks.json").json["keys"]]
    second, = set(published) - {first}
    assert len(published) == 2
    is_good(user.token)
    assert kid(http.sign_in(user.email, user.password).token) == first

    # Then user signs with the new one, one instance after the other.
    (keys / "next/signing.jwk").rename(keys / "signing.jwk")
    stack.kill("user", 1, signal.SIGTERM)
    for _ in range(6):
        is_good(http.sign_in(user.email, user.password).token)
    stack.kill("user", 2, signal.SIGTERM)
    later = http.sign_in(user.email, user.password)
    assert kid(later.token) == second
    is_good(later.token)
    is_good(user.token)

    # When the tokens of the old one are over, it goes.
    command(stack, "retire-keys", keys)
    restart(stack, *SERVICES)
    is_good(later.token)
    is_good(user.token, 401)
    again = http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=200)
    is_good(again.json["token"])


# ---- links by mail ----

def mailed(stack, email, page):
    """The newest token that came for a page."""
    def find():
        texts = [mail.get_body(("plain",)).get_content() for mail in stack.mails(email)]
        return re.findall(f"/{page}#([A-Za-z0-9_-]{{43}})", "".join(texts))

    found = eventually(find)
    stack.secrets.update(found)
    return found


def test_a_link_is_in_no_log_of_nginx(stack, http):
    """Not of a request that nginx answers itself, either."""
    secret = "notoken" + secrets.token_hex(18)
    reply = http.request("POST", f"/password_reset/{secret}", b"x" * (1 << 21), expect=413)
    assert reply.json["title"] == "Content Too Large"
    http.post(f"/password_reset/{secret}", {"password": "eleven red cherries"}, expect=404)
    http.request("POST", f"/password%5freset/{secret}", b"x" * (1 << 21), expect=413)
    log = stack.state / "log/access.log"
    http.get("/coster-error/secret?/password_reset/x", expect=404)    # nobody hides so
    eventually(lambda: "/coster-error/secret?/password_reset/x" in log.read_text())
    assert secret not in log.read_text()
    assert all(secret not in p.read_text(errors="replace") for p in (stack.state / "log").iterdir())


def test_an_address_is_verified(stack, http):
    user = http.new_user()
    path = f"/user/{user.id}"
    assert http.get(path, token=user.token).json["verified_at"] is None
    token, = mailed(stack, user.email, "verify")
    reply = http.post(path + "/verification", {}, token=user.token, expect=202)
    assert reply.json == {"expires_in": 86400}
    newer, = eventually(lambda: set(mailed(stack, user.email, "verify")) - {token})
    assert http.post("/user/verification", {"token": token}, expect=422).pointers == {"#/token"}
    http.post("/user/verification/", {"token": newer}, expect=204)
    assert http.get(path, token=user.token).json["verified_at"]
    http.post(path + "/verification/", {}, token=user.token, expect=409)
    http.check_methods(path + "/verification", "POST", user.token)
    moved = http.new_email()
    changed = http.patch(path, {"email": moved, "current_password": user.password},
        token=user.token, expect=200)
    assert changed.json["verified_at"] is None
    token, = mailed(stack, moved, "verify")
    http.post("/user/verification", {"token": token}, expect=204)
    assert http.get(path, token=user.token).json["verified_at"]


def test_a_forgotten_password_is_made_anew(stack, http):
    user, new = http.new_user(), "ten yellow plums"
    for email in (user.email, http.new_email()):
        reply = http.post("/password_reset/", {"email": email}, expect=202)
        assert reply.json == {"expires_in": 3600}
    token, = mailed(stack, user.email, "reset")
    path = f"/password_reset/{token}"
    assert http.post(path, {"password": "password123"}, expect=422).pointers == {"#/password"}
    http.post(path, {"password": new}, expect=204)
    http.post(path, {"password": new}, expect=404)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    http.get(f"/user/{user.id}", token=user.token, expect=401)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)
    http.sign_in(user.email, new)
    http.check_methods("/password_reset", "POST")
    http.check_methods(path, "POST")


def test_the_owner_is_told_of_changes(stack, http):
    """A password by its owner, an administrator or a link; an address where it was."""
    user, admin = http.new_user(), stack.admin_token
    path, moved = f"/user/{user.id}", http.new_email()
    subjects = lambda email: sorted(m["Subject"] for m in stack.mails(email))
    told = lambda email, what: sum(s == f"Your {what} was changed" for s in subjects(email))
    http.patch(path, {"password": "ten yellow plums", "current_password": user.password},
        token=user.token, expect=200)
    eventually(lambda: told(user.email, "password") == 1)
    http.patch(path, {"password": "nine yellow plums"}, token=admin, expect=200)
    eventually(lambda: told(user.email, "password") == 2)
    http.post("/password_reset/", {"email": user.email}, expect=202)
    token, = mailed(stack, user.email, "reset")
    http.post(f"/password_reset/{token}", {"password": "six yellow plums"}, expect=204)
    eventually(lambda: told(user.email, "password") == 3)
    http.patch(path, {"email": moved, "password": "five yellow plums"}, token=admin, expect=200)
    eventually(lambda: told(user.email, "address") == 1)
    mailed(stack, moved, "verify")
    assert told(moved, "password") == told(moved, "address") == 0
    http.patch(path, {"name": "Ann"}, token=admin, expect=200)
    assert (told(user.email, "password"), told(user.email, "address")) == (3, 1)
    # the services alone still know whose it was
    assert http.get(f"/user/?email={user.email}", token=admin).json["items"] == []


def test_a_common_password_is_refused(http):
    for password in ("password123", "PassWord123", "sunshine"):
        reply = http.post("/user/", {"email": http.new_email(), "password": password}, expect=422)
        assert reply.pointers == {"#/password"}


# ---- guessing ----

def test_guessing_is_slowed_down_by_both_instances_and_after_a_restart(stack, http):
    stranger, owner = Shop(stack, source="127.0.0.66"), http.new_user()
    wrong = {"email": owner.email, "password": "not her password"}
    for _ in range(10):
        stranger.post("/session/", wrong, expect=401)
    for _ in range(4):    # whichever of the two answers
        assert int(stranger.post("/session/", wrong).headers["Retry-After"] or 0) <= 1
    restart(stack, "user")
    for _ in range(6):    # the wait doubles with each that is let through
        eventually(lambda: stranger.post("/session/", wrong).status == 401, 40)
        if int(stranger.post("/session/", wrong, expect=429).headers["Retry-After"]) > 3:
            break
    stranger.post("/session/", {**wrong, "password": owner.password}, expect=429)
    http.sign_in(owner.email, owner.password)    # from her own address


# ---- what is held of a person ----

@pytest.fixture(scope="module")
def person(stack, http):
    user, product = http.new_user("Zoë"), http.new_product()
    cart = f"/user/{user.id}/cart/"
    http.post(cart, {"product_id": product["id"]}, token=user.token, expect=201)
    invoice = http.post(cart + "checkout", {}, token=user.token, expect=201).json
    http.post(cart, {"product_id": product["id"]}, token=user.token, expect=201)
    for n in range(120):    # more than a page
        http.post("/log", {"action": "test.export", "data": {"n": n}}, token=user.token)
    eventually(lambda: len(stack.mails(user.email)) >= 2)
    return user, product, invoice


def test_who_only_claims_an_address_sees_no_mail_to_it(http):
    """An administrator wrote to somebody who has no account."""
    claimed = http.new_email()
    http.post("/send_email/", {"to": claimed, "subject": "Your test result", "text": "Come in."},
        token=http.admin, expect=202)
    thief = http.new_user()
    http.patch(f"/user/{thief.id}", {"email": claimed, "current_password": thief.password},
        token=thief.token, expect=200)
    reply = http.get(f"/user/{thief.id}/export", token=thief.token, expect=200)
    assert reply.json["mails"] == [] and b"test result" not in reply.body
    http.patch(f"/user/{thief.id}", {"email": http.new_email(),
        "current_password": thief.password}, token=thief.token, expect=200)
    reply = http.get(f"/user/{thief.id}/export", token=thief.token, expect=200)
    assert reply.json["mails"] == [] and claimed in reply.json["former_addresses"]


def test_a_person_gets_all_that_is_held(stack, http, person):
    user, product, invoice = person
    token, = mailed(stack, user.email, "verify")
    http.post("/user/verification", {"token": token}, expect=204)
    reply = http.get(f"/user/{user.id}/export", token=user.token, expect=200)
    assert reply.headers["Content-Disposition"] == f'attachment; filename="user-{user.id}.json"'
    held = reply.json
    assert held["account"] == http.get(f"/user/{user.id}", token=user.token).json
    assert held["sessions"] and held["networks"]
    assert [item["product_id"] for item in held["cart"]["items"]] == [product["id"]]
    assert [i["id"] for i in held["invoices"]] == [invoice["id"]]
    assert {mail["to"] for mail in held["mails"]} == {user.email} and len(held["mails"]) >= 2
    numbers = [e["data"]["n"] for e in held["log"] if e["action"] == "test.export"]
    assert numbers == list(range(120))
    http.get(f"/user/{user.id}/export/", token=http.admin, expect=200)
    http.get(f"/user/{user.id}/export", token=http.new_user().token, expect=404)
    http.check_methods(f"/user/{user.id}/export", "GET", user.token)


def test_an_export_that_would_lack_something_is_503(stack, http, person):
    user, *_ = person
    with Stopped(stack, "stats"):
        http.get(f"/user/{user.id}/export", token=user.token, expect=503)
    http.get(f"/user/{user.id}/export", token=user.token, expect=200)


def test_what_the_law_keeps_does_not_name_the_person(http, service, person):
    user, _, invoice = person
    former, new = user.email, http.new_email()
    http.patch(f"/user/{user.id}", {"email": new, "current_password": user.password},
        token=user.token, expect=200)
    http.delete(f"/user/{user.id}", token=user.token, expect=204)
    for path in (f"/send_email/?to={former}", f"/send_email/?to={new}",
            f"/log?user_id={user.id}"):
        eventually(lambda path=path: service.get(path, expect=200).json["items"] == [])
    eventually(lambda: service.get(f"/user/{user.id}/cart/").json["items"] == [])
    kept = service.get(f"/invoices/{invoice['id']}", expect=200)
    assert kept.json["number"] == invoice["number"] and kept.json["total"] == invoice["total"]
    for word in (former, new, "Zo"):
        assert word.encode() not in kept.body


# ---- roles ----

def test_a_role_that_is_taken_opens_no_other_account(stack, http):
    eve, victim = http.new_user(), http.new_user()
    command(stack, "set-role", eve.email, "admin")
    credentials = {"email": eve.email, "password": eve.password}
    token = http.post("/session/", credentials, expect=201).json["token"]
    http.get(f"/user/{victim.id}", token=token, expect=200)
    command(stack, "set-role", eve.email, "customer")
    http.patch(f"/user/{victim.id}", {"password": "eleven red cherries"}, token=token, expect=401)


# ---- audit ----

def test_an_auditor_finds_who_did_what(stack, http):
    user = http.new_user()
    trace = {"X-Request-Id": f"audit-{user.id}"}
    http.post("/session/", {"email": user.email, "password": "not her password"}, headers=trace,
        expect=401)
    http.patch(f"/user/{user.id}", {"password": "eleven red cherries",
        "current_password": user.password}, token=user.token, headers=trace, expect=200)
    command(stack, "set-role", user.email, "customer")
    http.delete(f"/user/{user.id}", token=http.admin, headers=trace, expect=204)

    def events():
        lines = [line for line in stack.log("user") if "level=audit" in line
            and f"request=audit-{user.id}" in line]
        return {(re.search('event="([^"]*)"', line) or [0, ""])[1] for line in lines}

    eventually(lambda: {"sign-in refused", "password changed", "account deleted"} <= events())
    refused, = [line for line in stack.log("user") if f"request=audit-{user.id}" in line
        and "sign-in refused" in line]
    assert f"user={user.id} " in refused and 'reason="wrong password"' in refused
    assert "address=127.0.0.1" in refused and user.email not in refused
