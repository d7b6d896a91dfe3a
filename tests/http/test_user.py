"""Accounts, sessions and the keys of their tokens."""

import base64
import json
import re
import subprocess
import time

import pytest

from stack import eventually

MEMBERS = {"id", "email", "name", "role", "verified_at", "created_at", "updated_at", "version"}
GOOD = {"email": "new@shop.example", "password": "seven blue apples"}


@pytest.fixture(scope="module")
def ann(http):
    return http.new_user()


@pytest.fixture(scope="module")
def bob(http):
    return http.new_user("Bob")


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("slash", ["", "/"])
def test_anybody_registers(http, slash):
    email = http.new_email()
    made = http.post(f"/user{slash}", {"email": email, "password": "seven blue apples",
        "name": "Zoë 🍏"}, expect=201)
    assert MEMBERS <= set(made.json) and "password" not in made.json
    assert (made.json["email"], made.json["name"], made.json["role"]) == \
        (email, "Zoë 🍏", "customer")
    assert made.headers["Location"] == f"/user/{made.json['id']}"
    user = http.sign_in(email, "seven blue apples")
    assert user.id == made.json["id"]
    read = http.get(f"/user/{user.id}{slash}", token=user.token, expect=200)
    assert read.json == made.json and read.headers["ETag"] == '"1"'
    assert "no-store" in read.headers["Cache-Control"]


@pytest.mark.parametrize("change, pointers", [
    ({"email": None}, {"#/email"}),
    ({"email": "nobody"}, {"#/email"}),
    ({"email": "a b@shop.example"}, {"#/email"}),
    ({"email": "a\r\nBcc: b@shop.example"}, {"#/email"}),
    ({"email": "a" * 250 + "@shop.example"}, {"#/email"}),
    ({"password": ""}, {"#/password"}),
    ({"password": "short"}, {"#/password"}),
    ({"password": "p" * 5000}, {"#/password"}),
    ({"password": 12345678}, {"#/password"}),
    ({"name": "a\nb"}, {"#/name"}),
    ({"name": "n" * 1000}, {"#/name"}),
    ({"role": "admin"}, {"#/role"}),
    ({"id": 1}, {"#/id"}),
    ({"email": "nobody", "password": "", "nonsense": 1}, {"#/email", "#/password", "#/nonsense"}),
])
def test_every_fault_of_a_registration_is_named(http, change, pointers):
    assert http.post("/user/", {**GOOD, **change}, expect=422).pointers == pointers


def test_required_members_are_named(http):
    assert http.post("/user/", {}, expect=422).pointers == {"#/email", "#/password"}
    assert http.post("/session/", {}, expect=422).pointers == {"#/email", "#/password"}
    assert http.post("/session/refresh", {}, expect=422).pointers == {"#/refresh_token"}


def test_an_address_is_registered_once(http, ann):
    http.post("/user/", {**GOOD, "email": ann.email}, expect=409)


@pytest.mark.parametrize("path", ["/user/0", "/user/x", "/user/99999999999999999999",
    "/user/999999999", "/user/1/nonsense", "/session/x", "/session/refresh/1"])
def test_unknown_paths_are_404(http, path):
    http.get(path, token=http.admin, expect=404)


def test_a_user_is_shown_to_itself_administrators_and_services(http, service, ann, bob):
    for path in (f"/user/{ann.id}", f"/user/{ann.id}/"):
        http.get(path, token=ann.token, expect=200)
        http.get(path, token=http.admin, expect=200)
        service.get(path, expect=200)
        http.get(path, expect=401)
        http.get(path, token=bob.token, expect=404)
        head = http.request("HEAD", path, token=ann.token, expect=200)
        assert head.headers["ETag"]


def test_users_are_found_by_address(http, service, ann):
    for slash in ("", "/"):
        path = f"/user{slash}?email={ann.email}"
        for reply in (http.get(path, token=http.admin), service.get(path)):
            assert [u["id"] for u in reply.json["items"]] == [ann.id]
            assert MEMBERS <= set(reply.json["items"][0]) and reply.json["next_cursor"] is None
        http.get(path, expect=401)
        http.get(path, token=ann.token, expect=403)
    assert service.get("/user/?email=no%40shop.example", expect=200).json["items"] == []
    assert service.get("/user/?nonsense=1", expect=422).pointers >= {"?nonsense"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_members_that_are_given_are_changed(http, bob, method):
    user = http.new_user()
    path = f"/user/{user.id}"
    before = http.get(path, token=user.token).json
    after = http.request(method, path, {"name": "Anna"}, user.token, expect=200)
    assert after.json == {**before, "name": "Anna", "version": 2,
        "updated_at": after.json["updated_at"]}
    assert after.headers["ETag"] == '"2"'
    http.request(method, path, {"name": "A"}, user.token, {"If-Match": '"1"'}, expect=412)
    assert http.request(method, path, {"role": "admin"}, user.token, expect=422).pointers == \
        {"#/role"}
    assert http.request(method, path, {"email": "no"}, user.token, expect=422).pointers == \
        {"#/email"}
    http.request(method, path, {"name": "A"}, expect=401)
    http.request(method, path, {"name": "A"}, bob.token, expect=404)
    http.request(method, path + "/", {"name": "Ann"}, http.admin, expect=200)
    http.get(path, token=user.token, headers={"If-None-Match": '"3"'}, expect=304)


def test_an_address_is_changed_to_a_free_one(http, bob):
    user, email = http.new_user(), http.new_email()
    path = f"/user/{user.id}"
    taken = {"email": bob.email, "current_password": user.password}
    for method in ("PUT", "PATCH"):
        http.request(method, path, taken, user.token, expect=409)
    http.patch(path, {"email": email, "current_password": user.password}, token=user.token,
        expect=200)
    http.sign_in(email, user.password)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)


def test_a_new_password_needs_the_current_one(http):
    user = http.new_user()
    path, new = f"/user/{user.id}", "nine green pears"
    for current in ({}, {"current_password": "wrong password"}):
        reply = http.patch(path, {"password": new, **current}, token=user.token, expect=422)
        assert reply.pointers == {"#/current_password"}
    http.patch(path, {"password": new, "current_password": user.password}, token=user.token,
        expect=200)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    http.sign_in(user.email, new)
    http.patch(path, {"password": user.password}, token=http.admin, expect=200)
    http.sign_in(user.email, user.password)


def test_a_deleted_user_is_gone_and_its_address_free(http):
    user, other = http.new_user(), http.new_user()
    path = f"/user/{user.id}"
    http.delete(path, expect=401)
    http.delete(path, token=other.token, expect=404)
    http.delete(path, token=user.token, expect=204)
    http.get(path, token=http.admin, expect=404)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    again = http.post("/user/", {"email": user.email, "password": user.password}, expect=201)
    assert again.json["id"] != user.id
    http.delete(f"/user/{other.id}/", token=http.admin, expect=204)


def test_a_deleted_user_is_forgotten_by_all(stack, http, service):
    user, product = http.new_user(), http.new_product()
    eventually(lambda: stack.mails(user.email))
    mails = f"/send_email/?to={user.email}"
    log = f"/log?user_id={user.id}"
    http.post(f"/user/{user.id}/cart/", {"product_id": product["id"]}, token=user.token)
    http.post("/log", {"action": "test.forget"}, token=user.token, expect=201)
    assert service.get(mails).json["items"] and service.get(log).json["items"]
    http.delete(f"/user/{user.id}", token=user.token, expect=204)
    eventually(lambda: not service.get(mails).json["items"])
    eventually(lambda: not service.get(log).json["items"])
    cart = f"/user/{user.id}/cart/"
    eventually(lambda: http.get(cart, token=http.admin, expect=200).json["items"] == [])


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_session_is_a_signed_token(http, ann, slash):
    reply = http.post(f"/session{slash}", {"email": ann.email, "password": ann.password},
        expect=201)
    session = reply.json
    assert set(session) >= {"token", "token_type", "expires_in", "refresh_token", "user_id"}
    assert session["token_type"] == "Bearer" and session["user_id"] == ann.id
    assert "no-store" in reply.headers["Cache-Control"]
    head, claims, _ = session["token"].split(".")
    assert json.loads(decode(head))["alg"] == "EdDSA"
    claims = json.loads(decode(claims))
    assert set(claims) >= {"iss", "sub", "role", "iat", "exp", "jti"}
    assert int(claims["sub"]) == ann.id and claims["role"] == "customer"
    assert claims["exp"] - claims["iat"] == session["expires_in"]
    assert abs(claims["iat"] - time.time()) < 60


def test_others_can_verify_a_token(http, ann, tmp_path):
    """With the published key and OpenSSL."""
    keys = http.get("/.well-known/jwks.json", expect=200).json["keys"]
    assert all(set(key) <= {"kty", "crv", "x", "kid", "use", "alg", "key_ops"} for key in keys)
    head, claims, signature = ann.token.split(".")
    kid = json.loads(decode(head))["kid"]
    public, = [decode(key["x"]) for key in keys if key["kid"] == kid]
    (tmp_path / "key").write_bytes(bytes.fromhex("302a300506032b6570032100") + public)
    (tmp_path / "signature").write_bytes(decode(signature))
    (tmp_path / "text").write_text(f"{head}.{claims}")
    subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-keyform", "DER",
        "-inkey", "key", "-sigfile", "signature", "-in", "text"], cwd=tmp_path, check=True,
        stdout=subprocess.DEVNULL)


def test_a_forged_token_is_refused(http, ann):
    def encode(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head, claims, signature = ann.token.split(".")
    admin = encode({**json.loads(decode(claims)), "role": "admin"})
    none = encode({**json.loads(decode(head)), "alg": "none"})
    hmac = encode({**json.loads(decode(head)), "alg": "HS256"})
    for token in (f"{head}.{admin}.{signature}", f"{none}.{claims}.", f"{none}.{admin}.",
            f"{hmac}.{claims}.{signature}", f"{head}.{claims}.", f"{head}.{claims}", "x" * 3000):
        reply = http.get(f"/user/{ann.id}", token=token, expect=401)
        assert 'error="invalid_token"' in reply.headers["WWW-Authenticate"]


def test_wrong_passwords_and_unknown_addresses_look_alike(http, ann):
    wrong = http.post("/session/", {"email": ann.email, "password": "wrong password!!"},
        expect=401)
    unknown = http.post("/session/", {"email": http.new_email(), "password": ann.password},
        expect=401)
    for member in ("type", "title", "detail"):
        assert wrong.json[member] == unknown.json[member]


def test_a_refresh_token_is_used_once(http):
    user = http.new_user()

    def refresh(token, **kw):
        return http.post("/session/refresh", {"refresh_token": token}, **kw).json

    first = refresh(user.refresh_token, expect=200)
    assert first["user_id"] == user.id and first["refresh_token"] != user.refresh_token
    http.get(f"/user/{user.id}", token=first["token"], expect=200)
    again = refresh(user.refresh_token, expect=409)    # another tab, at the same moment
    assert again["type"] == "urn:coster:problem:refreshed-already"
    second = refresh(first["refresh_token"], expect=200)
    refresh(user.refresh_token, expect=401)
    refresh(second["refresh_token"], expect=401)    # the family is revoked
    refresh("nonsense", expect=401)


@pytest.mark.parametrize("slash", ["", "/"])
def test_signing_out_ends_the_session(http, slash):
    user = http.new_user()
    http.delete(f"/session{slash}", expect=401)
    http.delete(f"/session{slash}", token=user.token, expect=204)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    http.sign_in(user.email, user.password)


def test_sessions_are_listed_and_ended_one_by_one(http):
    user = http.new_user()
    other = http.sign_in(user.email, user.password)
    sessions = http.pages("/session/?limit=1", token=user.token)
    assert len(sessions) == 2 and sum(s["current"] for s in sessions) == 1
    ended, = (s["id"] for s in sessions if not s["current"])
    http.delete(f"/session/{ended}", token=http.new_user().token, expect=404)
    http.delete(f"/session/{ended}", token=user.token, expect=204)
    http.post("/session/refresh", {"refresh_token": other.refresh_token}, expect=401)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=200)


def link_token(stack, email, page):
    """Of the newest link to a page that was mailed to an address."""
    def look():
        mails = sorted(stack.mails(email), key=lambda m: m["Date"].datetime)
        texts = [m.get_body(("plain",)).get_content() for m in mails]
        return re.findall(rf"/{page}#([\w-]+)", "\n".join(texts))
    return eventually(look)[-1]


def test_an_address_is_verified_by_a_mailed_link(stack, http):
    user = http.new_user()
    path = f"/user/{user.id}"
    assert http.get(path, token=user.token).json["verified_at"] is None
    token = link_token(stack, user.email, "verify")
    assert http.post("/user/verification", {"token": "nonsense"}, expect=422).pointers == \
        {"#/token"}
    http.post("/user/verification/", {"token": token}, expect=204)
    assert http.get(path, token=user.token).json["verified_at"]
    http.post("/user/verification", {"token": token}, expect=422)
    http.post(f"{path}/verification", {}, token=user.token, expect=409)


def test_a_forgotten_password_is_replaced_by_a_mailed_link(stack, http):
    user, new = http.new_user(), "nine green pears from the tree"
    for email in (user.email, http.new_email()):    # whoever has it gets the same answer
        http.post("/password_reset/", {"email": email}, expect=202)
    token = link_token(stack, user.email, "reset")
    http.post("/password_reset/nonsense", {"password": new}, expect=404)
    assert http.post(f"/password_reset/{token}", {"password": "short"}, expect=422).pointers == \
        {"#/password"}
    http.post(f"/password_reset/{token}", {"password": new}, expect=204)
    http.post(f"/password_reset/{token}", {"password": new}, expect=404)
    http.post("/session/", {"email": user.email, "password": user.password}, expect=401)
    http.post("/session/refresh", {"refresh_token": user.refresh_token}, expect=401)
    http.sign_in(user.email, new)


def test_guessing_is_slowed_down(http):
    user = http.new_user()

    def guess(n):
        return http.post("/session/", {"email": user.email, "password": f"wrong password {n}"})
    statuses = [guess(n).status for n in range(15)]
    refused = statuses.index(429)
    assert statuses == [401] * refused + [429] * (15 - refused) and refused >= 3


def test_a_user_takes_everything_along(http):
    user = http.new_user()
    path = f"/user/{user.id}/export"
    assert user.email in http.get(path, token=user.token, expect=200).body.decode()
    http.get(path, expect=401)
    http.get(path, token=http.new_user().token, expect=404)


def test_what_a_user_has_logged_does_not_stand_in_the_way(http):
    user = http.new_user()
    deep = {}
    for _ in range(13):
        deep = {"a": deep}
    for data in (deep, {"l": [{}] * 2500}, {"l": [1] * 4000}):
        assert http.post("/log", {"action": "test.export", "data": data}, token=user.token,
            expect=422).pointers == {"#/data"}
    for data in (deep["a"], {"l": [{}] * 17}):
        http.post("/log", [{"action": "test.export", "data": data}] * 100, token=user.token,
            expect=201)
    log = http.get(f"/user/{user.id}/export", token=user.token, expect=200).json["log"]
    assert len([entry for entry in log if entry["action"] == "test.export"]) == 200
