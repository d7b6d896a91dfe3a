"""HTTP itself (RFC 9110), of every route there is: what the programs list of
themselves says which, and each property is held against all that have it."""

import json
import re
import socket
import subprocess
from typing import NamedTuple

import pytest

from shop import CORS_ORIGIN, MIB
from stack import BUILD, SERVICES
from test_security import Things

PRIVATE, BRIEFLY = "private, no-store", "public, max-age=5"
CACHED = {"/product/{id}": BRIEFLY, "/products": BRIEFLY,
    "/.well-known/jwks.json": "public, max-age=300"}
FILES = {"/.well-known/jwks.json"}    # which have no slash behind them


class Route(NamedTuple):
    method: str
    pattern: str
    flags: frozenset    # who may call it, and how it answers
    types: tuple        # of the reply
    query: frozenset    # the parameters it knows
    body: bool          # it reads one

    def __str__(self):
        return f"{self.method} {self.pattern}"


def read_routes():
    """Those that are for users: an instance's health and metrics are elsewhere."""
    for service in SERVICES:
        said = subprocess.run([BUILD / f"coster-{service}", "contract"], check=True, timeout=20,
            capture_output=True).stdout
        for r in json.loads(said):
            if not r["path"].startswith("/_"):
                yield Route(r["method"], r["path"], frozenset(r["flags"]), tuple(r["types"]),
                    frozenset(r["query"]["properties"]), "body" in r)


ROUTES = list(read_routes())
PATTERNS = sorted({route.pattern for route in ROUTES})
READS = [r for r in ROUTES if r.method == "GET"]
WRITES = [r for r in ROUTES if r.method != "GET"]
LISTS = [r for r in READS if "cursor" in r.query]
BODIES = [r for r in ROUTES if r.body]


def every(routes):
    return pytest.mark.parametrize("route", routes, ids=str)


class World(Things):
    """Everything there is, and who may ask for it."""

    def __init__(self, http, service):
        super().__init__(http, service)
        self.of_ann("POST", f"/user/{self.ann.id}/cart/",
            {"product_id": http.new_product(name="x" * 200, description="y" * 4000)["id"]},
            expect=201)

    def at(self, pattern):
        return self.path(pattern).replace("{word}", "abc")

    def call(self, route, path=None, body=None, method=None, **kw):
        """As somebody who may."""
        if route.flags & {"anyone", "self", "user"}:
            shop, token = self.http, self.ann.token
        elif "admin" in route.flags:
            shop, token = self.http, self.http.admin
        else:
            shop, token = self.service, None
        return shop.request(method or route.method, path or self.at(route.pattern), body, token,
            **kw)

    def good(self, route):
        return self.body(route.method, route.pattern)


@pytest.fixture(scope="module")
def world(http, service):
    return World(http, service)


def test_the_programs_tell_their_routes():
    assert len(ROUTES) > 45 and len(READS) > 15 and len(LISTS) == 6 and len(BODIES) > 18


# ---- methods ----

@pytest.mark.parametrize("pattern", PATTERNS)
def test_methods_are_those_of_the_table(http, service, world, pattern):
    methods = " ".join(r.method for r in ROUTES if r.pattern == pattern)
    for shop in (http, service):
        shop.check_methods(world.at(pattern), methods, slash=pattern not in FILES)


@every(READS)
def test_head_is_get_without_its_body(world, route):
    ours = {"Date", "X-Request-Id", "Connection", "Transfer-Encoding"}    # of the message itself
    for accept in ("*/*", *route.types):
        get = world.call(route, headers={"Accept": accept})
        head = world.call(route, method="HEAD", headers={"Accept": accept})
        assert head.status == get.status == 200 and head.body == b"" != get.body
        assert ([(k, v) for k, v in head.headers.items() if k not in ours]
            == [(k, v) for k, v in get.headers.items() if k not in ours])


# ---- what may be kept, and told apart ----

@every(READS)
def test_caches_keep_what_is_everybodys(world, route):
    reply = world.call(route, expect=200)
    assert reply.headers["Cache-Control"] == CACHED.get(route.pattern, PRIVATE)
    vary = reply.headers["Vary"].split(", ")
    assert vary == ["Accept-Encoding", "Origin"] + ["Accept"] * (len(route.types) > 1)


@every(READS)
def test_large_replies_are_compressed(world, route):
    headers = {"Accept-Encoding": "gzip"}
    plain, small = (world.call(route, headers={"Accept-Encoding": e}, expect=200)
        for e in ("gzip;q=0", "gzip"))
    assert plain.headers["Content-Encoding"] is None
    large = len(plain.body) >= 2048 or plain.headers["Content-Length"] is None
    assert small.headers["Content-Encoding"] == ("gzip" if large else None)
    assert small.headers["Vary"] == plain.headers["Vary"]
    if plain.headers["ETag"]:
        assert small.headers["ETag"] == "W/" * large + plain.headers["ETag"]
        headers["If-None-Match"] = small.headers["ETag"]
        world.call(route, headers=headers, expect=304)


# ---- conditions ----

@every([r for r in READS if "tagged" in r.flags])
def test_reads_are_conditional(world, route):
    got = world.call(route, expect=200)
    tag = got.headers["ETag"]
    assert re.fullmatch(r'"[0-9]+"', tag)
    for method in ("GET", "HEAD"):
        for field in (tag, f"W/{tag}", f'"x", {tag}', f'"a,b",W/{tag} , "9"', "*"):
            reply = world.call(route, method=method, headers={"If-None-Match": field}, expect=304)
            for name in ("ETag", "Cache-Control", "Vary"):
                assert reply.headers[name] == got.headers[name]
            world.call(route, method=method, headers={"If-Match": field}, expect=200)
        for field in ('"x"', 'W/"x"', tag.strip('"'), tag[:-1], f'"x{tag}', "nonsense", "*, *"):
            world.call(route, method=method, headers={"If-None-Match": field}, expect=200)
            world.call(route, method=method, headers={"If-Match": field}, expect=412)
    both = {"If-Match": '"x"', "If-None-Match": tag}
    world.call(route, headers=both, expect=412)


@every([r for r in READS if "tagged" not in r.flags])
def test_what_has_no_version_matches_no_tag(world, route):
    assert world.call(route, expect=200).headers["ETag"] is None
    world.call(route, headers={"If-Match": '"1"'}, expect=412)
    world.call(route, headers={"If-Match": "*"}, expect=200)
    world.call(route, headers={"If-None-Match": '"1"'}, expect=200)
    world.call(route, headers={"If-None-Match": "*"}, expect=304)


def tag_of(world, route):
    """Of what a path names, or of what it is a part of: a cart, an invoice."""
    pattern = re.sub("/(checkout|pay|void|refund)$", "", route.pattern)
    read = next(r for r in READS if r.pattern == pattern)
    return world.call(read, expect=200).headers["ETag"]


@every(WRITES)
def test_a_write_whose_condition_fails_does_nothing(world, route):
    before, body = world.state(), world.good(route)
    tag = tag_of(world, route) if "tagged" in route.flags else None
    fails = [{"If-Match": '"x"'}, {"If-Match": 'W/"0"'}, {"If-None-Match": "*"}]
    if tag:
        fails += [{"If-None-Match": tag}, {"If-None-Match": f'"x", W/{tag}'},
            {"If-Match": tag, "If-None-Match": tag}]
    for headers in fails:
        assert world.call(route, body=body, headers=headers).status == 412, headers
    assert world.state() == before


# ---- negotiation ----

@every(READS)
def test_accept_chooses_among_the_types(world, route):
    first, cases = route.types[0], {}
    for fields in ("{0}", "{0};q=0.001", "text/html;q=1,{0};q=0.5", "*/*;q=0,{0}", "{0};v=1"):
        cases |= {fields.format(kind): kind for kind in route.types}
    for field in ("", "*/*", "text/html, */*;q=0.1", first.upper(), first.split("/")[0] + "/*"):
        cases[field] = first
    for field, kind in cases.items():
        assert world.call(route, headers={"Accept": field}, expect=200).type == kind, field


UNACCEPTABLE = ("text/html", "image/*, application/xml;q=0.9", "*/*;q=0", "*/*;q=0.000",
    "application/problem+json", "nonsense", "*", "application/json;q=0, application/x-ndjson;q=0,"
    " text/csv;q=0, */*", "*/*;q=2", "*/*;q=nan", "*/*;q=-1")


@every([r for r in ROUTES if r.types])
def test_what_cannot_be_replied_is_not_done(world, route):
    before, body = world.state(), world.good(route)
    for field in UNACCEPTABLE:
        assert world.call(route, body=body, headers={"Accept": field}).status == 406, field
    assert world.state() == before


@every([r for r in ROUTES if not r.types])
def test_a_reply_without_a_body_is_accepted_by_all(world, route):
    """The condition fails later than Accept would."""
    reply = world.call(route, body=world.good(route),
        headers={"Accept": "image/png", "If-Match": '"x"'})
    assert reply.status == 412, reply


# ---- paths and queries ----

@every([r for r in ROUTES if not r.query])
def test_a_query_that_nothing_reads_is_a_fault(world, route):
    before, body, path = world.state(), world.good(route), world.at(route.pattern)
    for query, pointers in {"nonsense=1": {"?nonsense"}, "a": {"?a"}, "limit=1&limit=1": {"?limit"},
            "%ff=1": {"?"}, "a=%zz": {"?"}, "a=%00": {"?"}, "%61%20b=1": {"?a b"}}.items():
        assert world.call(route, f"{path}?{query}", body, expect=422).pointers == pointers
    assert world.state() == before
    assert world.call(route, f"{path}?", body, headers={"If-Match": '"x"'}).status == 412


REPEATED = {"/log/summary": "group_by=day", "DELETE /send_email": "to=a@b.example",
    "DELETE /log": "user_id=7"}


@every([r for r in ROUTES if r.query])
def test_unknown_and_repeated_parameters_are_faults(world, route):
    path, known = world.at(route.pattern), REPEATED.get(str(route),
        REPEATED.get(route.pattern, "limit=1"))
    name = known.split("=")[0]
    for query, pointers in {f"{known}&nonsense=1": {"?nonsense"}, f"{known}&{known}": {f"?{name}"},
            f"{known}&%ff=1": {"?"}, f"{known}&b=%80": {"?"}, f"{known}&c=%00": {"?"},
            f"{name}=": {f"?{name}"}, f"{name}=9007199254740993": {f"?{name}"},
            f"{known}&{'n' * 5000}": {"?" + "n" * 100}}.items():
        assert world.call(route, f"{path}?{query}", expect=422).pointers == pointers, query


@pytest.mark.parametrize("pattern", PATTERNS)
def test_paths_are_read_decoded(http, world, pattern):
    path = world.at(pattern)
    coded = "/".join("".join(f"%{ord(c):02X}" for c in part) for part in path.split("/"))
    slashes = () if path in FILES else (path + "/", path + "//", path + "%2F")
    for same in (path, coded, coded.lower(), "/." + path, "/x/.." + path,
            path.replace("/", "//"), *slashes):
        http.request("OPTIONS", same, expect=204)
    for bad, status in {"%00": 400, "%": 400, "%zz": 400, "%ff": 404, "%0a": 404, "%20": 404,
            ";x=1": 404, "%3Fa": 404, "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc": 400}.items():
        reply = http.request("OPTIONS", path + bad)
        assert reply.status == status, (bad, reply)


# ---- bodies ----

# Bodies that no endpoint takes: what is sent, as what, and the status.
BAD_BODIES = {
    "none": (b"", "application/json", 400),
    "cut off": (b'{"a":', "application/json", 400),
    "two": (b"{} {}", "application/json", 400),
    "duplicate member": (b'{"a":1,"a":1}', "application/json", 400),
    "single quotes": (b"{'a':1}", "application/json", 400),
    "NaN": (b'{"a":NaN}', "application/json", 400),
    "not UTF-8": (b'{"a":"\xff"}', "application/json", 400),
    "lone surrogate": (b'{"a":"\\ud800"}', "application/json", 400),
    "beyond 2^53": (b'{"a":9007199254740993}', "application/json", 400),
    "NUL": (b'{"a":"\0"}', "application/json", 400),
    "escaped NUL": (b'{"a":"\\u0000"}', "application/json", 400),
    "half a pair": (b'{"a":"\\udc00\\ud800"}', "application/json", 400),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "application/json", 400),
    "byte order mark": (b'\xef\xbb\xbf{}', "application/json", 400),
    "comment": (b'{/**/}', "application/json", 400),
    "comma": (b'{"a":1,}', "application/json", 400),
    "deep member": (b'{"a":' * 17 + b"1" + b"}" * 17, "application/json", 400),
    "too many": (b"[" + b"{}," * 5000 + b"{}]", "application/json", 400),
    "too deep": (b"[" * 100 + b"]" * 100, "application/json", 400),
    "too large": (b" " * (MIB + 1), "application/json", 413),
    "text": (b"{}", "text/plain", 415),
    "form": (b"a=1", "application/x-www-form-urlencoded", 415),
    "no type": (b"{}", "", 415),
    "a number": (b"7", "application/json", 422),
    "unknown member": (b'{"nonsense":1}', "application/json", 422),
    "huge name": (b'{"' + b"n" * 10000 + b'":1}', "application/json", 422),
    "escaped name": (b'{"\\u0061/~\\ud83d\\ude00":1}', "application/json", 422),
}

@every(BODIES)
def test_bodies_that_no_endpoint_takes(world, route):
    before, path = world.state(), world.at(route.pattern)
    for case, (body, kind, status) in BAD_BODIES.items():
        if case == "none" and "maybe-body" in route.flags:
            continue
        reply = world.call(route, body=body, headers={"Content-Type": kind})
        assert reply.status == status, (case, reply)
        assert status != 422 or reply.pointers, (case, reply)
    assert world.state() == before, path


def ask(stack, text, body=b"", wait=b"\r\n\r\n"):
    """What comes before the body is sent, and what comes then."""
    with socket.create_connection(("127.0.0.1", stack.http_port), timeout=20) as s:
        s.sendall(text)
        before = b""
        while wait and wait not in before:
            piece = s.recv(65536)
            assert piece, before
            before += piece
        s.sendall(body)
        after = b""
        while piece := s.recv(65536):
            after += piece
    return before, after


@every(BODIES)
def test_who_expects_100_continue_gets_it(stack, world, route):
    head = (f"{route.method} {world.at(route.pattern)} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: 1\r\n")
    before, after = ask(stack, f"{head}Expect: 100-continue\r\n\r\n".encode(), b"{")
    assert before == b"HTTP/1.1 100 Continue\r\n\r\n"
    known = re.match(rb"HTTP/1.1 (400|401) ", after)
    assert known, after
    _, other = ask(stack, f"{head}Expect: miracles\r\n\r\n".encode(), b"{", wait=b"")
    assert other.startswith(known[0])    # an expectation that is not known is none


# ---- links ----

@every(LISTS)
def test_links_lead_through_a_list(world, route):
    path, seen = world.at(route.pattern), []
    whole = world.call(route, path + "?limit=3", expect=200).json["items"]
    link = f"{path}?limit=1"
    while link and len(seen) < len(whole):
        reply = world.call(route, link, expect=200)
        seen += reply.json["items"]
        link = re.fullmatch('<(.+)>; rel="next"', reply.headers["Link"] or "")
        assert bool(link) == bool(reply.json["next_cursor"])
        link = link and link[1]
    assert seen == whole != []


def made(http, service, world):
    """Each route that answers 201, asked for something new."""
    ann = http.new_user()
    cart = f"/user/{ann.id}/cart/"
    line = {"product_id": world.product["id"], "quantity": 1}
    invoice = {"user_id": ann.id, "currency": "EUR", "lines": [
        {**line, "description": "Tea", "price": 1}]}
    sold = {"sku": http.new_email(), "name": "Tea", "price": 1, "currency": "EUR"}
    yield http.post("/user/", {"email": http.new_email(), "password": "seven blue apples"})
    yield http.post("/session/", {"email": ann.email, "password": ann.password})
    yield http.post("/product/", sold, token=http.admin)
    yield service.post("/product/reservations", {"lines": [line]})
    yield http.post(cart, {"product_id": world.product["id"]}, token=ann.token)
    yield http.post(cart + "checkout", {}, token=ann.token)
    yield service.post("/invoices", invoice)
    yield http.post("/log", {"action": "test.made"})
    yield http.post("/log", [{"action": "test.made"}])


def test_location_names_what_was_made(http, service, world):
    for reply in made(http, service, world):
        assert reply.status == 201, reply
        location = reply.headers["Location"]
        methods = http.request("OPTIONS", location, expect=204).headers["Allow"].split(", ")
        if "GET" in methods:
            shop, token = (service, None) if "reservations" in location else (http, http.admin)
            assert shop.get(location, token=token, expect=200).json["id"] \
                == int(location.rsplit("/", 1)[1])
        else:
            assert re.fullmatch(r"/session/\d+", location)    # which can only be ended


# ---- pages of other origins ----

@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_preflight_is_answered_from_the_table(http, world, pattern):
    ask = {"Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, content-type"}
    for origin in (CORS_ORIGIN, "https://evil.example", "null", CORS_ORIGIN + ".evil.example"):
        reply = http.request("OPTIONS", world.at(pattern), headers={"Origin": origin, **ask},
            expect=204)
        allowed = {k: v for k, v in reply.headers.items() if k.startswith("Access-Control-Allow")}
        if origin != CORS_ORIGIN:
            assert not allowed
            continue
        assert allowed.pop("Access-Control-Allow-Origin") == CORS_ORIGIN
        assert allowed.pop("Access-Control-Allow-Methods") == reply.headers["Allow"]
        assert {"Authorization", "Content-Type", "Idempotency-Key", "If-Match"} \
            <= set(allowed.pop("Access-Control-Allow-Headers").split(", "))
        assert not allowed    # credentials above all


@every(ROUTES)
def test_pages_of_a_configured_origin_may_read(world, route):
    """Errors too: no request here may change anything."""
    headers = {"Origin": CORS_ORIGIN, "If-Match": '"x"'}
    reply = world.call(route, body=world.good(route), headers=headers, expect=412)
    assert reply.headers["Access-Control-Allow-Origin"] == CORS_ORIGIN
    assert {"ETag", "Link", "Location", "Retry-After", "X-Request-Id"} \
        <= set(reply.headers["Access-Control-Expose-Headers"].split(", "))
    assert reply.headers["Access-Control-Allow-Credentials"] is None
    for origin in ("https://evil.example", "null"):
        reply = world.call(route, body=world.good(route), headers={**headers, "Origin": origin})
        assert not any(name.startswith("Access-Control") for name in reply.headers)


def test_nginxs_own_errors_can_be_read_too(http):
    for path, method, body in (("/nowhere", "GET", None), ("/", "POST", b""),
            ("/log", "POST", b" " * (2**20 + 1))):
        reply = http.request(method, path, body, headers={"Origin": CORS_ORIGIN})
        assert reply.status in (404, 405, 413)
        assert reply.headers["Access-Control-Allow-Origin"] == CORS_ORIGIN
        assert "X-Request-Id" in reply.headers["Access-Control-Expose-Headers"]
        reply = http.request(method, path, body, headers={"Origin": "https://evil.example"})
        assert not any(name.startswith("Access-Control") for name in reply.headers)
