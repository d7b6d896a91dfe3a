"""nginx's cache of the catalog, where it is switched on: how fresh it is, and that
nothing personal is in it."""

import signal
import time

import pytest

from shop import CORS_ORIGIN, Shop
from stack import Stack, eventually
from trouble import Down

TTL = 5    # seconds, of Cache-Control


@pytest.fixture(scope="module")
def cached():
    stack = Stack(MICROCACHE="on", CORS_ORIGIN=CORS_ORIGIN)
    yield Shop(stack)
    stack.stop()


@pytest.fixture(scope="module")
def old(cached):
    """A page that is out of date when the other test has waited for its own."""
    cached.new_product(category="stale")
    return cached.get("/products?category=stale", expect=200).body, time.monotonic()


def kept(shop):
    """The texts of what nginx holds."""
    return [path.read_bytes() for path in (shop.stack.state / "tmp/coster-cache").rglob("*")
        if path.is_file()]


def test_a_change_shows_within_the_time(cached, old):
    product = cached.new_product(category="fresh")
    paths = [f"/product/{product['id']}", f"/product/{product['id']}/", "/products?category=fresh"]
    first = [cached.get(path, expect=200).body for path in paths]
    cached.patch(paths[0], {"price": 1}, token=cached.admin, expect=200)
    changed = time.monotonic()
    assert [cached.get(path).body for path in paths] == first    # or it is no cache
    for path in paths:
        eventually(lambda: b'"price":1,' in cached.get(path).body, TTL + 2)
    assert time.monotonic() - changed < TTL + 1.5


def test_a_copy_is_compared_compressed_and_shown_to_other_origins(cached):
    path = f"/product/{cached.new_product(description='d' * 5000)['id']}"
    first = cached.get(path, expect=200)
    assert cached.get(path, headers={"If-None-Match": '"1"'}, expect=304).headers["ETag"] == '"1"'
    cached.get(path, headers={"If-None-Match": 'W/"1"'}, expect=304)
    cached.get(path, headers={"If-None-Match": '"2"'}, expect=200)
    cached.get(path, headers={"If-Match": '"2"'}, expect=412)
    small = cached.get(path, headers={"Accept-Encoding": "gzip"}, expect=200)
    assert small.headers["Content-Encoding"] == "gzip" and small.body == first.body
    assert first.headers["Access-Control-Allow-Origin"] is None
    for origin, allowed in ((CORS_ORIGIN, CORS_ORIGIN), ("https://evil.example", None)):
        reply = cached.get(path, headers={"Origin": origin}, expect=200)
        assert reply.headers["Access-Control-Allow-Origin"] == allowed
    head = cached.request("HEAD", path, expect=200)
    assert head.headers["Content-Length"] == str(len(first.body))
    cached.get(path, headers={"Accept": "text/html"}, expect=406)
    cached.get(path, headers={"Accept": "application/json;q=0"}, expect=406)
    cached.get(path, headers={"Accept": "text/html,application/json;q=0.9"}, expect=200)
    assert cached.get(path, headers={"X-Request-Id": "mine"}).headers["X-Request-Id"] == "mine"


def test_the_last_copy_is_shown_while_product_is_down(cached, old):
    path, (page, taken) = "/products?category=stale", old
    product = cached.get(path, token=cached.admin, expect=200).json["items"][0]
    time.sleep(max(0, taken + TTL + 1 - time.monotonic()))
    with Down(cached.stack, "product"):
        assert cached.get(path, expect=200).body == page
        cached.get(f"/product/{product['id']}", expect=503)    # nobody has looked at it
        cached.get(path, token=cached.admin, expect=503)
    cached.patch(f"/product/{product['id']}", {"price": 7}, token=cached.admin, expect=200)
    assert b'"price":7,' in cached.get(path, expect=200).body


def test_nothing_personal_is_kept(cached):
    ann = cached.new_user()
    product = cached.new_product(category="private", description="only in a reply to somebody")
    path = f"/product/{product['id']}"
    for token in (cached.admin, ann.token):
        cached.get(path, token=token, expect=200)
        cached.get("/products?category=private", token=token, expect=200)
    cached.get(path, headers={"Cookie": f"a=1; __Host-coster-token={ann.token}"}, expect=200)
    for own in (f"/user/{ann.id}", f"/user/{ann.id}/cart", "/session", "/invoices", "/log",
            "/.well-known/jwks.json"):
        cached.get(own, token=ann.token, expect=200)
        cached.get(own, headers={"Cookie": f"__Host-coster-token={ann.token}"})
        cached.get(own)
    Shop(cached.stack, internal=True).get(path, expect=200)
    assert not any(b"only in a reply" in text or b"Set-Cookie" in text
        or not text.split(b"KEY: ")[1].startswith(b"/product") for text in kept(cached))
    cached.get(path, expect=200)
    assert sum(b"only in a reply" in text for text in kept(cached)) == 1


def test_an_administrator_sees_what_is_there(cached):
    path = f"/product/{cached.new_product()['id']}"
    cached.get(path, expect=200)
    cached.delete(path, token=cached.admin, expect=204)
    cached.get(path, expect=200)    # a customer, for a moment
    assert cached.get(path, token=cached.admin, expect=200).json["deleted_at"]
    cached.get(path + "/", expect=410)    # of which there is no copy


def test_errors_are_not_kept(cached):
    path = "/products?category=later&sort=nonsense"
    cached.get(path, expect=422)
    cached.get("/product/987654321", expect=404)
    assert not any(b"later" in text or b"987654321" in text for text in kept(cached))
