"""What cuts across the services: tests/security/owasp names which item of the
OWASP lists each of these answers."""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sqlite3
import ssl
import stat
import subprocess
import time

import pytest

from shop import Shop
from stack import ROOT, Stack, eventually

RULES = re.findall(r'\{ "(\w+)", "([A-Z]+) (\S+)", "([a-z ]+)" \}',
    (ROOT / "tests/handlers/test_rules.c").read_text())
OWASP = ROOT / "tests/security/owasp"
NO_ID = 987654321    # of nothing


# ---- the table ----

def rows():
    lines = OWASP.read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


def numbered(chapter, **sections):
    return [f"{chapter}.{section[1:]}.{n}" for section, items in sections.items() for n in items]


ITEMS = (
    [f"API{n}" for n in range(1, 11)]
    + numbered("V2", _1=range(1, 13), _2=range(1, 4), _3=range(1, 4), _4=range(1, 6),
        _5=range(1, 8), _6=range(1, 4), _7=range(1, 7), _8=range(1, 8), _9=range(1, 4),
        _10=range(1, 5))
    + numbered("V3", _1=[1], _2=range(1, 5), _3=range(1, 5), _4=range(1, 6), _5=range(1, 4),
        _7=[1])
    + numbered("V4", _1=[1, 2, 3, 5], _2=[1, 2], _3=range(1, 4)))


def test_every_item_of_the_lists_is_answered_once():
    assert [row[0] for row in rows()] == ITEMS
    for row in rows():
        assert len(row) == 3 and all(row), row
        assert re.fullmatch(r"(\S*test_\S+)( \S*test_\S+)*(; .+)?"
            r"|(not applicable|not done|elsewhere): .+", row[2]), row


def named_tests():
    return {word for row in rows() for word in row[2].split(";")[0].split() if "test_" in word}


def every_test():
    names = set()
    for path in ROOT.glob("tests/http/test_*.py"):
        found = re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)
        names |= {f"{path.name}::{name}" for name in found}
    for path in ROOT.glob("tests/**/test_*.c"):
        text = path.read_text()
        names |= {name for name in re.findall(r"^\t+\w+\((test_\w+)\),$", text, re.M)
            if re.search(rf"^{name}\(void \*\*state\)", text, re.M)}
    return names


def test_every_named_test_exists():
    assert len(named_tests()) > 50
    missing = named_tests() - every_test()
    assert not missing, missing


# ---- objects and functions of others ----

class Things:
    """What there is of everything, and whose: Ann's, where it is somebody's."""

    def __init__(self, http, service):
        self.http, self.service, self.ann = http, service, http.new_user()
        self.product = http.new_product()
        cart = f"/user/{self.ann.id}/cart/"
        wanted = {"product_id": self.product["id"]}
        self.of_ann("POST", cart, wanted, expect=201)
        self.invoice = self.of_ann("POST", cart + "checkout", {}, expect=201).json
        self.held = service.post("/product/reservations", {"lines": [{**wanted, "quantity": 1}]},
            expect=201).json
        self.item = self.of_ann("POST", cart, wanted, expect=201).json
        self.session, = self.of_ann("GET", "/session/", expect=200).json["items"]
        self.mail = eventually(lambda: service.get(f"/send_email/?to={self.ann.email}",
            expect=200).json["items"])[0]
        self.entry = http.post("/log", {"action": "test.security"}, expect=201).json

    def of_ann(self, method, path, body=None, **kw):
        return self.http.request(method, path, body, token=self.ann.token, **kw)

    def id_of(self, pattern):
        if "/reservations/" in pattern:
            return self.held["id"]
        things = {"session": self.session, "send_email": self.mail, "product": self.product,
            "user": self.item, "invoices": self.invoice, "log": self.entry}
        return things[pattern.split("/")[1]]["id"]

    def path(self, pattern, uid=None, id=None):
        return (pattern.replace("{uid}", str(uid or self.ann.id))
            .replace("{id}", str(id or ("{id}" in pattern and self.id_of(pattern)))))

    def body(self, method, pattern):
        """A good one, so that nothing but the caller is at fault."""
        if method in ("GET", "DELETE"):
            return None
        return {"/user/{uid}": {"name": "Mallory"}, "/user/{uid}/cart/{id}": {"quantity": 7},
            "/user/{uid}/cart": {"product_id": self.product["id"]},
            "/invoices/{id}/pay": {"method": "sandbox", "token": "tok_ok"}}.get(pattern, {})

    def state(self):
        """All of it that somebody else could have changed."""
        mine = (f"/user/{self.ann.id}", f"/user/{self.ann.id}/cart", "/invoices", "/session")
        all_ = ("/product/{id}", "/product/reservations/{id}", "/send_email/{id}", "/log/{id}")
        return ([self.of_ann("GET", path, expect=200).json for path in mine]
            + [self.service.get(self.path(path), expect=200).json for path in all_])


@pytest.fixture(scope="module")
def things(http, service):
    return Things(http, service)


@pytest.fixture(scope="module")
def bob(http):
    return http.new_user("Bob")


def without_ids(problem):
    """But for what says which request it was and which object was asked for."""
    text = json.dumps({k: v for k, v in problem.items() if k != "instance"}, sort_keys=True)
    return re.sub(r"\b\d{1,9}\b", "N", text)


def ids(rule):
    return " ".join(rule[1:3])


OWNED = [rule for rule in RULES if "{" in rule[2] and {"self", "user"} & set(rule[3].split())]
CLOSED = [rule for rule in RULES if not {"anyone", "self", "user", "internal"}
    & set(rule[3].split())]


def test_the_rules_were_read():
    assert len(RULES) > 40 and len(OWNED) > 10 and len(CLOSED) > 10
    assert {rule[0] for rule in RULES} == {"user", "email", "product", "cart", "payment", "stats"}


@pytest.mark.parametrize("rule", OWNED, ids=ids)
def test_what_is_somebody_elses_is_as_if_it_were_not(http, things, bob, rule):
    _, method, pattern, _ = rule
    body, before = things.body(method, pattern), things.state()
    theirs = http.request(method, things.path(pattern), body, bob.token, expect=404)
    none = http.request(method, things.path(pattern, NO_ID, NO_ID), body, bob.token, expect=404)
    assert without_ids(theirs.json) == without_ids(none.json)
    http.request(method, things.path(pattern), body, expect=401)
    assert things.state() == before


@pytest.mark.parametrize("rule", CLOSED, ids=ids)
def test_customers_do_not_reach_what_is_not_for_them(http, things, bob, rule):
    _, method, pattern, who = rule
    path, body, before = things.path(pattern), things.body(method, pattern), things.state()
    http.request(method, path, body, expect=401)
    http.request(method, path, body, bob.token, expect=403)
    if "admin" not in who:
        http.request(method, path, body, http.admin, expect=403)
    assert things.state() == before


# ---- members that are not the caller's to set ----

SET_BY_US = {"id": 7, "version": 7, "created_at": "2001-01-01T00:00:00Z", "user_id": 1}
ACCOUNT = {"role": "admin", "verified_at": "2001-01-01T00:00:00Z", "email_key": "x",
    "password_hash": "x", "disabled_at": None, "deleted_at": None}
PRODUCT = {"available": 9, "deleted_at": None, "updated_at": None, "reserved": 0}
ITEM = {"price": 1, "currency": "EUR", "line_total": 1, "name": "x", "available": 9}
MONEY = {"total": 1, "amount_paid": 1, "amount_refunded": 1, "status": "paid", "paid_at": None}


def assignments(things):
    """Every route that makes or changes something; a good body; more members."""
    cart, line = f"/user/{things.ann.id}/cart", {"product_id": things.product["id"],
        "description": "Tea", "quantity": 1, "price": 1}
    ann, admin = things.ann.token, things.http.admin
    user, product = f"/user/{things.ann.id}", f"/product/{things.product['id']}"
    letter = {"to": things.ann.email, "subject": "Hello", "text": "Hello"}
    email = things.http.new_email()
    credentials = {"email": things.ann.email, "password": things.ann.password}
    order = {"user_id": things.ann.id, "currency": "EUR", "lines": [line]}
    yield "POST", "/user", None, {"email": email, "password": "nine green pears"}, ACCOUNT
    for method in ("PUT", "PATCH"):
        yield method, user, ann, {"name": "Ann"}, ACCOUNT
        yield method, user, admin, {"name": "Ann"}, ACCOUNT
        yield method, product, admin, {"name": "Tea"}, PRODUCT
        yield method, f"{cart}/{things.item['id']}", ann, {"quantity": 1}, ITEM
    yield "POST", "/product", admin, {"sku": "x", "name": "x", "price": 1, "currency": "EUR"}, \
        PRODUCT
    yield "POST", cart, ann, {"product_id": things.product["id"]}, ITEM
    yield "POST", f"{cart}/checkout", ann, {}, {**MONEY, "lines": [line], "currency": "EUR"}
    yield "POST", "/invoices", admin, order, {k: MONEY[k] for k in MONEY} | {"number": 7}
    yield "POST", f"/invoices/{things.invoice['id']}/pay", ann, \
        {"method": "sandbox", "token": "tok_ok"}, {**MONEY, "amount": 1, "currency": "EUR"}
    yield "POST", "/session", None, credentials, {"role": "admin", "expires_in": 10**9}
    yield "POST", "/session/refresh", None, {"refresh_token": "x"}, {"role": "admin"}
    yield "POST", "/password_reset", None, {"email": email}, {"link": "https://evil.example/"}
    yield "POST", "/send_email", admin, letter, {"from": "boss@shop.example", "status": "sent",
        "attempts": 0, "last_error": None, "sent_at": None, "headers": {}, "bcc": "x@x.example"}
    yield "POST", "/log", ann, {"action": "test.security"}, {"address": "x"}


def test_members_that_are_not_the_callers_to_set_are_faults(http, things):
    before, taken = things.state(), {"/log": {"user_id"}, "/invoices": {"user_id"},
        "/send_email": {"user_id"}}
    for method, path, token, body, more in assignments(things):
        more = {k: v for k, v in {**SET_BY_US, **more}.items() if k not in taken.get(path, ())}
        for member, value in more.items():
            reply = http.request(method, path, {**body, member: value}, token, expect=422)
            assert f"#/{member}" in reply.pointers, (method, path, member, reply)
    assert things.state() == before


def test_a_line_of_an_invoice_has_no_members_but_its_own(http, things):
    line = {"product_id": 1, "description": "Tea", "quantity": 1, "price": 450}
    order = {"user_id": things.ann.id, "currency": "EUR"}
    reply = http.post("/invoices", {**order, "lines": [{**line, "amount": 1}]}, token=http.admin,
        expect=422)
    assert reply.pointers == {"#/lines/0/amount"}


# ---- headers that promise trust, or another method ----

TRUSTED = ("COSTER-PEER", "COSTER_PEER", "Coster-Network", "COSTER_NETWORK", "COSTER-KEY",
    "COSTER_KEY", "X-Coster-Peer", "X-Real-IP", "X-Forwarded-For", "Forwarded", "Client-IP",
    "True-Client-IP", "CF-Connecting-IP", "X-Originating-IP", "X-Forwarded-User", "Remote-User",
    "REMOTE_USER", "REMOTE-ADDR", "X-User-Id", "X-Role", "X-Forwarded-Host", "X-Original-URL",
    "X-Rewrite-URL", "Proxy", "X-Internal", "SCRIPT-NAME", "PATH-INFO", "REQUEST-METHOD")
VALUES = ("service", "internal", "127.0.0.1", "::1", "for=127.0.0.1;by=unix", "1", "admin",
    "/log", "POST")


def test_headers_that_promise_trust_buy_nothing(stack, http, bob):
    key = (stack.state / "keys/coster.key").read_text().strip()
    for value in (*VALUES, key):
        headers = {name: value for name in TRUSTED}
        http.post("/product/reservations", {"lines": []}, headers=headers, expect=401)
        http.post("/product/reservations", {"lines": []}, token=bob.token, headers=headers,
            expect=403)
        http.get("/user/", token=bob.token, headers=headers, expect=403)
        http.get(f"/user/{bob.id}", headers=headers, expect=401)
    for name in TRUSTED:    # one alone, should one of them hide another
        http.delete("/log?user_id=1", headers={name: "service"}, expect=401)


def test_a_client_does_not_choose_its_address(stack, http, bob):
    for name in TRUSTED:
        http.post("/session/", {"email": bob.email, "password": bob.password},
            headers={name: "203.0.113.7"}, expect=201)
    sessions = http.pages("/session/?limit=200", token=bob.token)
    assert {session["address"] for session in sessions} == {"127.0.0.1"}


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
    "X-Method", "REQUEST_METHOD"])
def test_a_header_does_not_change_the_method(http, header):
    product = http.new_product()
    path = f"/product/{product['id']}"
    http.get(path, token=http.admin, headers={header: "DELETE"}, expect=200)
    http.post(path, {}, token=http.admin, headers={header: "DELETE"}, expect=405)
    http.post(f"{path}?_method=DELETE", {}, token=http.admin, expect=405)
    http.get(path, expect=200)


def test_links_in_mails_are_of_the_shop_whatever_the_host(stack, http):
    user = http.new_user()
    http.post("/password_reset/", {"email": user.email}, headers={"Host": "evil.example",
        "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example",
        "Origin": "https://evil.example"}, expect=202)
    own = f"https://127.0.0.1:{stack.https_port}/reset#"

    def texts():
        return "".join(m.get_body(("plain",)).get_content() for m in stack.mails(user.email))
    assert own in eventually(lambda: "/reset#" in texts() and texts())
    assert "evil" not in texts()


def test_pages_of_other_sites_may_read_nothing(http, bob):
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "Authorization"}
    for method, path in (("GET", "/products?limit=1"), ("GET", f"/user/{bob.id}"),
            ("OPTIONS", f"/user/{bob.id}"), ("OPTIONS", "/session/"), ("GET", "/nothing")):
        reply = http.request(method, path, token=bob.token, headers=origin)
        assert not [name for name in reply.headers if name.lower().startswith("access-control")]


# ---- limits ----

@pytest.mark.parametrize("path", ["/user/", "/session/", "/products/", "/send_email/",
    "/invoices", "/log"])
def test_pages_have_200_items_at_most(http, path):
    http.get(f"{path}?limit=200", token=http.admin, expect=200)
    for limit in ("201", "0", "-1", "9" * 30, "", "1e2", "0x10", "50&limit=51"):
        reply = http.get(f"{path}?limit={limit}", token=http.admin)
        assert reply.status in (400, 422) and reply.pointers <= {"?limit"}, (limit, reply)


# ---- what replies tell ----

HOSTILE = ("'", "' OR 1=1 --", "1;DROP TABLE account", '"', "\\", "%s%n", "../../etc/passwd",
    "<script>alert(1)</script>", "${jndi:ldap://x}", "\r\nX: y", "\u0000", "\ud83d\ude00" * 50)
INSIDE = re.compile(r"sqlite|select |insert into|update .* set|constraint|unique|syntax error"
    r"|no such|\.[ch]:\d|/tmp|/var|/etc|/run|/home|\.sock|\.db\b|errno|libfcgi|json-c|libcurl"
    r"|unix:|nginx|coster\.key|stack trace|0x[0-9a-f]{6}", re.I)


def provoke(http, things, token):
    """The replies of every route to what it cannot like."""
    for _, method, pattern, _ in RULES:
        for text in HOSTILE:
            quoted = "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))
            path = things.path(pattern, quoted, quoted).replace("{word}", quoted)
            yield http.request(method, path, token=token)
            path = things.path(pattern, NO_ID, NO_ID).replace("{word}", "abc")
            body = {name: text for name in ("email", "name", "sku", "to", "action", text)}
            yield http.request(method, f"{path}?{quoted}={quoted}&email={quoted}&cursor={quoted}",
                None if method == "GET" else body, token)


def test_errors_tell_nothing_of_the_inside(http, things, forger):
    """Nor is any of them a fault of ours, which Reply.check() sees to."""
    seen = set()
    for reply in provoke(http, things, forger.good(jti="of no session")):
        seen.add(reply.status)
        if reply.status >= 400:
            # The pointers are what was sent; all else is what we say.
            said = [reply.json["title"], reply.json["detail"]] \
                + [error["detail"] for error in reply.json.get("errors", [])]
            assert not INSIDE.search("\n".join(said)), reply
            assert str(things.http.stack.state) not in reply.body.decode(), reply
    assert {403, 404, 422} <= seen and max(seen) < 500, seen


@pytest.mark.parametrize("path", ["/.git/HEAD", "/.well-known/", "/.DS_Store", "/nginx/",
    "/index.html~", "/products/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/html/",
    "/coster-error", "/_health", "/_metrics"])
def test_nothing_but_the_interface_is_served(http, path):
    assert http.get(path).status in (400, 404)


def test_who_is_not_let_in_hears_the_same(stack, http):
    """Whoever has the address, if anybody."""
    user, gone = http.new_user(), http.new_user()
    http.delete(f"/user/{gone.id}", token=gone.token, expect=204)

    def refused(email, password):
        reply = http.post("/session/", {"email": email, "password": password}, expect=401)
        instance = reply.json["instance"].encode()
        headers = {k: v for k, v in reply.headers.items() if k not in ("Date", "X-Request-Id")}
        return reply.body.replace(instance, b""), headers

    wrong = refused(user.email, "not her password")
    for email, password in ((http.new_email(), user.password), (gone.email, gone.password),
            ("admin@shop.example", "not the password")):
        assert refused(email, password) == wrong


# ---- tokens ----

# A route of each service that an administrator's token opens.
GUARDED = ("/user/", "/send_email/", "/product/{id}", "/user/{uid}/cart/", "/invoices", "/log")


def encode(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Signer:
    """Signs with Ed25519 what it is told to, by OpenSSL."""

    def __init__(self, folder, seed):
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "key").write_bytes(bytes.fromhex("302e020100300506032b657004220420") + seed)

    def sign(self, head, claims):
        text = f"{encode(head)}.{encode(claims)}"
        (self.folder / "text").write_text(text)
        done = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER",
            "-inkey", "key", "-in", "text"], cwd=self.folder, check=True, capture_output=True)
        return f"{text}.{encode(done.stdout)}"


class Forger:
    """Has the shop's own key, and an administrator's token to begin from."""

    def __init__(self, stack, folder):
        key = json.loads((stack.state / "keys/signing.jwk").read_text())
        head, claims, _ = stack.admin_token.split(".")
        self.head, self.claims = json.loads(decode(head)), json.loads(decode(claims))
        self.public, self.x = decode(key["x"]), key["x"]
        self.jwks = (stack.state / "keys/jwks.json").read_bytes()
        self.signer = Signer(folder / "own", decode(key["d"]))
        self.stranger = Signer(folder / "stranger", os.urandom(32))

    def good(self, head=None, **claims):
        """Good, but for the members given; one of None is left out."""
        def merged(of, more):
            return {k: v for k, v in {**of, **(more or {})}.items() if v is not None}
        return self.signer.sign(merged(self.head, head), merged(self.claims, claims))

    def hmac(self, key, alg="HS256"):
        text = f"{encode({**self.head, 'alg': alg})}.{encode(self.claims)}"
        return f"{text}.{encode(hmac.new(key, text.encode(), hashlib.sha256).digest())}"

    def bad(self):
        """By what is wrong with them."""
        now, own = int(time.time()), self.good()
        head, claims, signature = own.split(".")
        for alg in ("none", "None", "NONE", ""):
            unsigned = f"{encode({**self.head, 'alg': alg})}.{claims}"
            yield f"alg {alg!r}", f"{unsigned}."
            yield f"alg {alg!r} with a signature", f"{unsigned}.{signature}"
        for name, key in (("bytes", self.public), ("text", self.x.encode()), ("set", self.jwks)):
            yield f"HS256 with the public key's {name}", self.hmac(key)
        yield "EdDSA by HMAC", self.hmac(self.public, "EdDSA")
        for alg in ("ES256", "RS256", "Ed25519", "eddsa", 7, None):
            yield f"alg {alg}", self.good({"alg": alg})
        for kid in ("other", "", None, 7, [self.head["kid"]], "../keys/signing.jwk"):
            yield f"kid {kid}", self.good({"kid": kid})
        yield "crit", self.good({"crit": ["exp"]})
        yield "another key", self.stranger.sign(self.head, self.claims)
        yield "a key of its own", self.stranger.sign({**self.head,
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": self.x}}, self.claims)
        for iss in ("https://other.example", self.claims["iss"] + "/", "", None, 7):
            yield f"iss {iss}", self.good(iss=iss)
        for exp in (now - 1, 0, None, str(now + 600), -1):
            yield f"exp {exp}", self.good(exp=exp)
        yield "not yet", self.good(iat=now + 3600, exp=now + 7200)
        for role in ("service", "nobody", "root", "Admin", None, ["admin"]):
            yield f"role {role}", self.good(role=role)
        for sub in ("0", "-1", "1x", "", "99999999999999999999", 1, None):
            yield f"sub {sub}", self.good(sub=sub)
        yield "claims of another", f"{head}.{encode({**self.claims, 'sub': '2'})}.{signature}"
        yield "signature cut", own[:-2]
        yield "signature longer", own + "AA"
        yield "four parts", own + ".x"
        yield "two parts", f"{head}.{claims}"
        yield "padded", own + "=="


@pytest.fixture(scope="module")
def forger(stack, tmp_path_factory):
    return Forger(stack, tmp_path_factory.mktemp("forger"))


def guarded(things):
    return [(("PATCH", {}) if "product" in path else ("GET", None)) + (things.path(path),)
        for path in GUARDED]


def test_forged_tokens_are_refused_by_every_service(http, things, forger):
    good = forger.good()
    for method, body, path in guarded(things):
        http.request(method, path, body, good, expect=200)
    for what, token in forger.bad():
        for method, body, path in guarded(things):
            reply = http.request(method, path, body, token)
            assert reply.status == 401, (what, path, reply)
            assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"], (what, reply)


def test_a_shop_takes_tokens_of_its_own_address_alone(tmp_path):
    stack = Stack(COSTER_PUBLIC_URL="https://shop.example")
    try:
        http, forger = Shop(stack), Forger(stack, tmp_path)
        things = Things(http, Shop(stack, internal=True))
        assert forger.claims["iss"] == "https://shop.example"
        other = forger.good(iss=f"https://127.0.0.1:{stack.https_port}")
        for method, body, path in guarded(things):
            http.request(method, path, body, forger.good(), expect=200)
            http.request(method, path, body, other, expect=401)
    finally:
        stack.stop()


def test_a_token_counts_in_its_header_alone(http, things, forger):
    """RFC 6750 sections 2.2 and 2.3 have two other places, both open to logs."""
    token = forger.good()
    for method, body, path in guarded(things):
        if path == "/log":
            continue    # open to this address as it is
        for name in ("token", "access_token", "authorization", "bearer", "jwt", "key"):
            http.request(method, f"{path}?{name}={token}", body, expect=401)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        reply = http.request("POST" if body is None else method, path,
            f"access_token={token}".encode(), headers=form)
        assert reply.status in (401, 405, 415), reply
        for name in ("X-Auth-Token", "X-Access-Token", "Token", "Proxy-Authorization"):
            http.request(method, path, body, headers={name: f"Bearer {token}"}, expect=401)
        for scheme in ("Basic", "Token", "JWT", "Bearer:", ""):
            http.request(method, path, body, headers={"Authorization": f"{scheme} {token}"},
                expect=401)


def test_no_reply_shows_a_secret_of_an_account(http, service, things):
    path = f"/user/{things.ann.id}"
    replies = [http.get(path, token=things.ann.token), http.get(path, token=http.admin),
        http.get(path + "/export", token=things.ann.token), service.get(path),
        http.get("/user/", token=http.admin), http.get("/session/", token=things.ann.token)]
    for reply in replies:
        for secret in ("$argon2", '"family"', things.ann.refresh_token, things.ann.password):
            assert reply.status == 200 and secret not in reply.body.decode(), (secret, reply)


def test_each_sign_in_has_tokens_of_its_own(http):
    user = http.new_user()
    sessions = [http.sign_in(user.email, user.password) for _ in range(20)]
    refresh = {session.refresh_token for session in sessions}
    assert len(refresh) == len({session.token for session in sessions}) == 20
    assert all(len(token) * 6 >= 128 for token in refresh)    # bits, in base64url
    claims = [json.loads(decode(session.token.split(".")[1])) for session in sessions]
    assert len({claim["jti"] for claim in claims}) == 20


def test_a_stored_password_is_argon2id_with_a_salt_of_its_own(stack, http):
    password = "seven blue apples in a row"
    emails = [http.new_email() for _ in range(3)]
    for email in emails:
        http.post("/user/", {"email": email, "password": password}, expect=201)
    with sqlite3.connect(f"file:{stack.state}/data/user/user.db?mode=ro", uri=True) as db:
        hashes = [hash for hash, in db.execute("SELECT password FROM account WHERE email IN "
            "(?, ?, ?)", emails)]
    parts = [hash.split("$") for hash in hashes]
    assert len(parts) == 3
    for _, kind, _, cost, salt, _ in parts:
        memory, passes, _ = (int(text.split("=")[1]) for text in cost.split(","))
        assert kind == "argon2id" and memory >= 19456 and passes >= 2    # OWASP's advice
        assert len(salt) >= 22    # of 16 bytes in base64
    assert len({salt for *_, salt, _ in parts}) == 3


# ---- the transport ----

def handshake(stack, version):
    context = ssl.create_default_context(cafile=stack.state / "keys/tls.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")    # so that it is the server that minds
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", stack.https_port), timeout=20) as s, \
            context.wrap_socket(s, server_hostname="127.0.0.1") as tls:
        return tls.version(), tls.cipher()[0]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_is_1_2_or_newer(stack):
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            handshake(stack, version)
    assert handshake(stack, ssl.TLSVersion.TLSv1_3)[0] == "TLSv1.3"
    version, cipher = handshake(stack, ssl.TLSVersion.TLSv1_2)
    assert version == "TLSv1.2" and re.search("^ECDHE-.*(GCM|POLY1305)", cipher)


# ---- other accounts of the machine ----

SOCKETS = [f"{service}-{n}.sock" for service in ("user", "email", "product", "cart", "payment",
    "stats") for n in (1, 2)]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_sockets_keys_and_data_are_closed_to_other_accounts(stack):
    """Whoever runs the tests: by their permissions."""
    assert mode(stack.state) == 0o700
    assert mode(stack.run / "internal") == 0o700
    for name in SOCKETS:
        assert mode(stack.run / name) == 0o600, name
    for name in ("coster.key", "signing.jwk", "nginx-key.conf", "tls.key"):
        assert mode(stack.state / "keys" / name) & 0o077 == 0, name
    for path in (stack.state / "data").glob("*/*"):
        assert mode(path) & 0o077 == 0, path


CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as s:
    try:
        s.connect(sys.argv[1])
    except PermissionError:
        sys.exit(13)
"""


def connect_as_nobody(path):
    """Whether it may, by 0 or 13."""
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        "/usr/bin/python3", "-c", CONNECT, path], cwd="/", timeout=20).returncode


@pytest.mark.skipif(os.getuid() != 0, reason="root alone can become another account to try it; "
    "the permissions themselves are tested all the same")
def test_another_account_cannot_connect(stack):
    """Also where the folders above let it in, as /run/coster does."""
    closed = [stack.run / name for name in SOCKETS] + [stack.run / "internal/nginx.sock"]
    for path in closed:
        assert connect_as_nobody(path) == 13, path
    folders = (stack.state, stack.run)
    try:
        for folder in folders:
            folder.chmod(0o711)
        # nginx's own sockets are open to all: nothing else is in nobody's way.
        assert connect_as_nobody(stack.run / "probe.sock") == 0
        for path in closed:
            assert connect_as_nobody(path) == 13, path
    finally:
        for folder in folders:
            folder.chmod(0o700)
