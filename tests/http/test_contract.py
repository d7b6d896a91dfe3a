"""The description of the interface, nginx/html/openapi.json, against the services' tables, and
against what they answer. Every reply to the other tests is held against it too (shop.py)."""

import base64
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import time

import pytest

from contract import FILE, contract, shape
from shop import Shop
from stack import BUILD, SERVICES, Stack, eventually
from test_protocol import BAD_BODIES
from trouble import Down, change

PROSE = {"description", "default", "title"}
PLACES = {
    "uid": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
    "id": {"type": "integer", "minimum": 1, "maximum": 2**53 - 1},
    "word": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"},
}


def read_tables():
    """The routes of all services, by method and path as the file has them."""
    found = {}
    for service in SERVICES:
        text = subprocess.run([BUILD / f"coster-{service}", "contract"], check=True, env={},
            capture_output=True, text=True).stdout
        for route in json.loads(text):
            path = route["path"]
            if path.startswith("/_"):    # of each instance; see nginx/locations/operate.conf
                path += "/{service}/{instance}"
            found[route["method"], path] = {**route, "service": service}
    return found


ROUTES = read_tables()
OPERATIONS = {(method, path): operation for method, path, operation in contract.operations()}


def plain(schema):
    """A schema without its prose, and with what it refers to in place."""
    if isinstance(schema, list):
        return [plain(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = {**contract.resolve(schema), **{k: v for k, v in schema.items() if k != "$ref"}}
    out = {k: plain(v) if k != "properties" else {n: plain(p) for n, p in v.items()}
        for k, v in schema.items() if k not in PROSE}
    if out.get("type") == "object":
        if "properties" not in out:
            return {"type": "object"}    # free for the tables, whatever more is said of it
        out.setdefault("required", [])
    return out


def in_(place, method, path):
    return {p["name"]: p for p in contract.parameters(path, OPERATIONS[method, path])
        if p["in"] == place}


def writes_once(route):
    """Is an Idempotency-Key worth anything here?"""
    return "secret" not in route["flags"] and (route["method"] == "POST"
        or route["method"] != "GET" and "service" in route["flags"])


def implied(route):
    """The statuses that follow from a route's flags; the others are the endpoint's own."""
    flags = set(route["flags"])
    wanted = {401, 412, 422, 429, 503}
    if route["types"]:
        wanted.add(406)
    if route["method"] == "GET":
        wanted.add(304)
    if not (flags & {"anyone"} or (route["method"] == "GET" and "service" in flags
            and flags & {"self", "user"})):
        wanted.add(403)
    if "{" in route["path"] or route["path"].startswith("/_"):
        wanted.add(404)
    if "body" in route:
        wanted |= {400, 413, 415}
    if writes_once(route) and "slow" in flags:
        wanted.add(409)    # the first request with this Idempotency-Key still runs
    return wanted


def test_every_route_is_described_and_nothing_else():
    assert set(OPERATIONS) == set(ROUTES)


@pytest.mark.parametrize("method, path", ROUTES)
def test_a_route_is_described_as_its_tables_are(method, path):
    route, operation = ROUTES[method, path], OPERATIONS[method, path]
    flags = set(route["flags"])
    who = {"anyone", "self", "user", "admin", "service", "internal"} & flags
    assert set(re.findall("`(.+?)`", operation["description"].partition(". ")[0])) == who

    users = [{"bearer": []}, {"cookie": []} if method == "GET" else {"cookie": [], "csrf": []}]
    if "anyone" in who:
        assert operation["security"] in ([], [{}, *users])
    else:
        assert operation["security"] == (users if who & {"self", "user", "admin"} else [])
    assert ("servers" in operation) == (who == {"service"})    # nobody else gets there

    places = in_("path", method, path)
    assert list(places) == re.findall("{(.+?)}", path)
    for name in set(places) & set(PLACES):
        assert plain(places[name]["schema"]) == PLACES[name] and places[name]["required"]

    query = in_("query", method, path)
    assert {name: plain(p["schema"]) for name, p in query.items()} == route["query"]["properties"]
    assert [n for n, p in query.items() if p.get("required")] == route["query"]["required"]

    assert ("requestBody" in operation) == ("body" in route)
    if "body" in route:
        body = operation["requestBody"]
        types = {"application/json"} | ({"application/merge-patch+json"} if method == "PATCH" else set())
        assert set(body["content"]) == types
        want = {"oneOf": [route["body"], route["batch"]]} if "batch" in route else route["body"]
        assert all(plain(c["schema"]) == want for c in body["content"].values())
        assert body["required"] == ("maybe-body" not in flags)


@pytest.mark.parametrize("method, path", ROUTES)
def test_what_an_operation_answers_fits_what_it_takes(method, path):
    route, operation = ROUTES[method, path], OPERATIONS[method, path]
    statuses = {int(s) for s in operation["responses"] if s != "default"}
    assert statuses >= implied(route) and "default" in operation["responses"]
    of_tables = {304, 400, 406, 412, 413, 415}
    assert statuses & of_tables == implied(route) & of_tables
    headers = {"If-Match", "If-None-Match"}
    if writes_once(route):
        headers.add("Idempotency-Key")
    assert set(in_("header", method, path)) == headers
    good = contract.resolve(operation["responses"][str(min(statuses))])
    assert list(good.get("content", {})) == route["types"]
    if method == "GET":
        assert ("ETag" in good["headers"]) == ("tagged" in route["flags"])


def media():
    """Every body in the file: where it is, and what it is."""
    for name, response in contract.closed["components"]["responses"].items():
        for kind, content in response.get("content", {}).items():
            yield f"{name} {kind}", content
    for (method, path), operation in OPERATIONS.items():
        both = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for name, part in both.items():
            if "$ref" not in part:
                for kind, content in part.get("content", {}).items():
                    yield f"{method} {path} {name} {kind}", content


@pytest.mark.parametrize("where, content", media(), ids=lambda v: v if isinstance(v, str) else "")
def test_examples_fit_their_schemas(where, content):
    for example in content.get("examples", {}).values():
        contract.validate(contract.resolve(example)["value"], content["schema"])


def test_everything_in_the_file_is_used():
    text = json.dumps(contract.doc)
    for kind, parts in contract.doc["components"].items():
        if kind != "securitySchemes":
            for name in parts:
                assert f'"#/components/{kind}/{name}"' in text, (kind, name)


# ---- what every operation answers alike --------------------------------------

# Clients may come from elsewhere, and one zone lets a request through in a minute.
EXTRA = """
set_real_ip_from 127.0.0.1;
real_ip_header X-Forwarded-For;
limit_req_zone $coster_client zone=once:1m rate=1r/m;
"""
ELSEWHERE = {"X-Forwarded-For": "192.0.2.7"}


class World:
    """A shop in which every kind of object is there once, and each kind of caller."""

    def __init__(self, stack):
        self.stack = stack
        self.http, self.service = Shop(stack), Shop(stack, internal=True)
        self.ann, self.bob = self.http.new_user(), self.http.new_user()
        uid, token, admin = self.ann.id, self.ann.token, self.http.admin
        product = self.http.new_product()["id"]
        line = {"product_id": product, "quantity": 1}
        made = {
            "/product/reservations": self.service.post("/product/reservations", {"lines": [line]}),
            "/user/{uid}/cart": self.http.post(f"/user/{uid}/cart", line, token=token),
            "/invoices": self.http.post("/invoices", {"user_id": uid, "currency": "EUR",
                "lines": [{**line, "description": "Tea", "price": 450}]}, token=admin),
            "/send_email": self.http.post("/send_email", {"to": self.ann.email, "subject": "Tea",
                "text": "Tea"}, token=admin),
            "/log": self.http.post("/log", {"action": "test"}),
        }
        claims = admin.split(".")[1]
        self.admin_id = json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"]
        self.ids = {"/product": product, "/session": 1,
            **{path: reply.json["id"] for path, reply in made.items()}}

    def path(self, path, **places):
        collection = path.partition("/{id}")[0]
        return path.format(**{"uid": self.ann.id, "id": self.ids.get(collection), "word": "w",
            "service": "user", "instance": 1, **places})

    def ask(self, method, path, by, body=None, headers=None, **kw):
        """by: self, admin, service, other, nobody or elsewhere."""
        shop = self.service if by == "service" else self.http
        token = {"self": self.ann.token, "admin": self.http.admin, "other": self.bob.token,
            "elsewhere": self.bob.token}.get(by)
        headers = {**(headers or {}), **(ELSEWHERE if by == "elsewhere" else {})}
        return shop.request(method, path, body, token, headers, **kw)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    extra = tmp_path_factory.mktemp("nginx") / "extra.conf"
    extra.write_text(EXTRA)
    stack = Stack(NGINX_EXTRA=extra)
    yield World(stack)
    stack.stop()


def friend(route):
    """One who may call it."""
    flags = set(route["flags"])
    return next(by for flag, by in (("anyone", "nobody"), ("self", "self"), ("user", "self"),
        ("admin", "admin"), ("service", "service")) if flag in flags)


def stranger(route):
    """One who is told that he may not."""
    return "elsewhere" if "service" in route["flags"] else "service"


def example(method, path):
    body = OPERATIONS[method, path].get("requestBody")
    if body is None:
        return None
    first, *_ = body["content"]["application/json"]["examples"].values()
    return contract.resolve(first)["value"]


def of_status(status):
    """The operations whose flags imply this status."""
    return pytest.mark.parametrize("method, path",
        [key for key, route in ROUTES.items() if status in implied(route)])


@of_status(400)
@pytest.mark.parametrize("case", ["cut off", "too large", "text"])
def test_a_body_is_json_and_not_too_much(world, method, path, case):
    body, kind, status = BAD_BODIES[case]
    world.ask(method, world.path(path), friend(ROUTES[method, path]), body,
        {"Content-Type": kind}, expect=status)


@of_status(401)
def test_a_token_that_is_none_is_401(world, method, path):
    world.http.request(method, world.path(path), example(method, path), "x", expect=401)


@of_status(403)
def test_who_may_not_is_403(world, method, path):
    if method == "GET":
        world.ask(method, world.path(path), stranger(ROUTES[method, path]), expect=403)
    else:    # a cookie alone
        headers = {"Cookie": f"__Host-coster-token={world.ann.token}"}
        reply = world.ask(method, world.path(path), "nobody", example(method, path), headers,
            expect=403)
        assert reply.json["type"] == "urn:coster:problem:csrf"


@of_status(404)
def test_what_is_not_there_or_is_anothers_is_404(world, method, path):
    by = "other" if "self" in ROUTES[method, path]["flags"] else friend(ROUTES[method, path])
    world.ask(method, world.path(path, id=2**53 - 1, service="nobody"), by, example(method, path),
        expect=404)


@of_status(406)
def test_what_accept_does_not_allow_is_406(world, method, path):
    world.ask(method, world.path(path), friend(ROUTES[method, path]), example(method, path),
        {"Accept": "image/png"}, expect=406)


@of_status(409)
def test_a_request_that_still_runs_is_409(world, method, path):
    """As if another had come with the same key, and had not ended yet."""
    by, at = friend(ROUTES[method, path]), world.path(path)
    body = json.dumps(example(method, path)).encode()
    who = {"nobody": "nobody 0", "service": "service 0", "self": f"customer {world.ann.id}",
        "admin": f"admin {world.admin_id}"}[by]
    secret = (world.stack.state / "keys/coster.key").read_bytes().strip()
    hashed = hashlib.blake2b(body, digest_size=16, key=secret[:64]).digest()
    change(world.stack, ROUTES[method, path]["service"], "INSERT INTO idempotency"
        " (scope, key, fingerprint, head, expires_at) VALUES (?, 'k', ?, 'another', ?)",
        f"{who} {method} {at}", base64.urlsafe_b64encode(hashed).decode().rstrip("="),
        int(time.time() * 1000) + 30_000)
    reply = world.ask(method, at, by, body, {"Idempotency-Key": "k"}, expect=409)
    assert reply.json["type"] == "urn:coster:problem:request-in-progress"


@of_status(304)
def test_what_the_client_has_is_304(world, method, path):
    world.ask(method, world.path(path), friend(ROUTES[method, path]),
        headers={"If-None-Match": "*"}, expect=304)


@of_status(412)
def test_what_has_changed_is_412(world, method, path):
    world.ask(method, world.path(path), friend(ROUTES[method, path]), example(method, path),
        {"If-Match": '"999"'}, expect=412)


@pytest.mark.parametrize("method, path", [("DELETE", "/user/{uid}/cart"),
    *((method, "/user/{uid}/cart/{id}") for method in ("PUT", "PATCH", "DELETE"))])
def test_a_cart_that_is_checked_out_is_409(world, method, path):
    freeze = "UPDATE cart SET checkout_id = ? WHERE user_id = ?"
    change(world.stack, "cart", freeze, "x", world.ann.id)
    reply = world.ask(method, world.path(path), "self", example(method, path), expect=409)
    assert reply.json["type"] == "urn:coster:problem:checkout-in-progress"
    change(world.stack, "cart", freeze, None, world.ann.id)


@of_status(422)
def test_a_parameter_that_is_not_known_is_422(world, method, path):
    reply = world.ask(method, world.path(path) + "?nonsense=1", friend(ROUTES[method, path]),
        example(method, path), expect=422)
    assert "?nonsense" in reply.pointers


def test_while_no_instance_runs_all_is_503(world):
    with Down(world.stack, *SERVICES):
        for (method, path), route in ROUTES.items():
            world.ask(method, world.path(path), friend(route), example(method, path), expect=503)


def refuses(world):
    """On a new connection: old ones lead to nginx as it was."""
    world.http = Shop(world.stack)
    return world.http.get("/products").status == 429


def test_who_asks_too_much_is_told_so(world):
    """The last on this stack: nothing is answered after it."""
    (world.stack.state / "nginx/coster-limits.conf").write_text(
        "limit_req zone=once;\nlimit_req_status 429;\n")
    os.kill(int((world.stack.run / "nginx.pid").read_text()), signal.SIGHUP)
    eventually(lambda: refuses(world))
    for method, path in ROUTES:
        world.ask(method, world.path(path), "nobody", example(method, path), expect=429)


# ---- the check of the replies -------------------------------------------------

def put(member, value):
    return lambda reply: reply.json["items"][0].__setitem__(member, value)


@pytest.mark.parametrize("spoil", [
    put("price", "320"), put("price", -1), put("version", 0), put("currency", "eur"),
    put("stock", 1.5), put("created_at", "yesterday"), put("name", None), put("secret", 1),
    lambda reply: reply.json["items"][0].pop("sku"),
    lambda reply: reply.json.pop("next_cursor"),
    lambda reply: vars(reply).update(json=[]),
    lambda reply: vars(reply).update(status=202),
    lambda reply: vars(reply).update(type="text/html"),
    lambda reply: reply.headers.__delitem__("Cache-Control"),
    lambda reply: reply.headers.__delitem__("X-Request-Id"),
    lambda reply: reply.headers.replace_header("Link", "nowhere"),
])
def test_a_reply_that_is_not_described_is_found(http, spoil):
    path = "/products?limit=1"
    reply = http.get(path, expect=200)
    spoil(reply)
    with pytest.raises(AssertionError):
        contract.check("GET", path, None, reply)


# ---- the file itself, and its page --------------------------------------------

def fetch(stack, path):
    connection = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply, reply.read()


def test_the_file_is_served_as_it_is(stack):
    reply, body = fetch(stack, "/openapi.json")
    assert reply.status == 200 and reply.headers["Content-Type"] == "application/json"
    assert body == FILE.read_bytes()


def test_a_page_shows_it_and_asks_nobody_else(stack):
    reply, page = fetch(stack, "/docs/")
    assert reply.status == 200 and reply.headers["Content-Type"] == "text/html"
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "*" not in policy
    loaded = re.findall(r'(?:src|spec-url)="(.+?)"', page.decode())
    assert set(loaded) == {"openapi-explorer.min.js", "../openapi.json"}
    for name, kind in (("openapi-explorer.min.js", "text/javascript"), ("LICENSE", "text/plain")):
        reply, _ = fetch(stack, f"/docs/{name}")
        assert reply.status == 200 and reply.headers["Content-Type"] == kind
    assert fetch(stack, "/docs")[0].headers["Location"].endswith("/docs/")
    assert fetch(stack, "/docs/../keys/tls.key")[0].status == 404


# ---- after all other tests; conftest.py leaves it out where not all are run ----

def test_every_documented_reply_was_seen():
    described = {(method, path, int(status)) for (method, path), operation in OPERATIONS.items()
        for status in operation["responses"] if status != "default"}
    unseen = sorted(described - contract.seen)
    assert not unseen, "\n".join(["", *map(str, unseen)])


def test_every_example_is_one_that_was_returned():
    """The values are other ones: a reply had these members, in this order. What is the same
    for several operations need not be seen of each."""
    everywhere = {(status, members) for _, _, status, members in contract.shapes}
    unseen = set()
    for (method, path), operation in OPERATIONS.items():
        for status, response in operation["responses"].items():
            if status == "default":
                continue
            for content in contract.resolve(response).get("content", {}).values():
                for name, example in content.get("examples", {}).items():
                    members = shape(contract.resolve(example)["value"])
                    seen = (int(status), members) in everywhere if "$ref" in response else \
                        (method, path, int(status), members) in contract.shapes
                    if not seen:
                        unseen.add((method, path, status, name))
    assert not unseen, "\n".join(["", *map(str, sorted(unseen))])
