"""The mail queue: who may send what to whom, and what becomes of it."""

import uuid

import pytest

from stack import eventually

MEMBERS = {"id", "to", "subject", "status", "attempts", "last_error", "created_at", "sent_at"}
TEXT = {"to": "visitor@elsewhere.example", "subject": "Hello", "text": "How do you do?"}
TEMPLATES = [
    ("welcome", {"name": "Zoë"}, ["Zoë"]),
    ("receipt", {"number": "2026-7", "total": 123456, "currency": "EUR"}, ["2026-7", "1234.56"]),
    ("verification", {"link": "https://shop.example/v?t=1&u=2"}, ["shop.example/v?t=1&u=2"]),
    ("password_reset", {"link": "https://shop.example/r?t=3&u=4"}, ["shop.example/r?t=3&u=4"]),
]


@pytest.fixture(scope="module")
def ann(http):
    return http.new_user()


def sent(http, reply):
    """The message of an accepted request, once it is sent."""
    path = f"/send_email/{reply.json['id']}"

    def look():
        message = http.get(path, token=http.admin, expect=200).json
        return message["status"] == "sent" and message
    return eventually(look)


def plain(message):
    """Its text, whatever thousands are divided by."""
    return message.get_body(("plain",)).get_content().replace(",", "").replace("\u00a0", " ")


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_administrator_writes_to_anybody(stack, http, slash):
    to = f"visitor-{uuid.uuid4().hex}@elsewhere.example"
    text = "Grüße, " + "a rather long line with many words " * 40 + "\n.\nFrom here\n"
    subject = "Grüße ✓ " * 12 + "Ende"
    reply = http.post(f"/send_email{slash}", {"to": to, "subject": subject, "text": text,
        "html": "<p>Grüße</p>"}, token=http.admin, expect=202)
    message = sent(http, reply)
    assert set(message) == MEMBERS and message["to"] == to
    assert message["sent_at"] and message["last_error"] is None and message["attempts"] == 1
    mail, = stack.mails(to)
    assert mail["Subject"] == subject
    assert mail.get_body(("plain",)).get_content().split() == text.split()
    assert "<p>Grüße</p>" in mail.get_body(("html",)).get_content()


@pytest.mark.parametrize("template, variables, words", TEMPLATES)
def test_templates_are_filled_in(stack, http, service, template, variables, words):
    user = http.new_user()
    eventually(lambda: stack.mails(user.email))    # the welcome it gets anyway
    for to in ({"to": user.email}, {"user_id": user.id}):
        body = {**to, "template": template, "vars": variables}
        reply = service.post("/send_email/", body, expect=202)
        assert sent(http, reply)["to"] == user.email
    found = [plain(mail) for mail in stack.mails(user.email)]
    for word in words:
        assert sum(word in text for text in found) >= 2, found


@pytest.mark.parametrize("body, pointer", [
    ({**TEXT, "to": None}, "#/to"),
    ({**TEXT, "to": "nobody"}, "#/to"),
    ({**TEXT, "to": "a@shop.example, b@shop.example"}, "#/to"),
    ({**TEXT, "to": "a@shop.example\r\nBcc: b@shop.example"}, "#/to"),
    ({**TEXT, "subject": "a\r\nBcc: b@shop.example"}, "#/subject"),
    ({**TEXT, "subject": "a\nb"}, "#/subject"),
    ({**TEXT, "subject": 7}, "#/subject"),
    ({**TEXT, "subject": "s" * 2000}, "#/subject"),
    ({**TEXT, "text": "\x07"}, "#/text"),
    ({**TEXT, "nonsense": 1}, "#/nonsense"),
    ({**TEXT, "status": "sent"}, "#/status"),
    ({**TEXT, "user_id": 0}, "#/user_id"),
    ({"to": TEXT["to"], "template": "nonsense", "vars": {}}, "#/template"),
])
def test_faults_of_a_message_are_named(http, body, pointer):
    assert pointer in http.post("/send_email/", body, token=http.admin, expect=422).pointers


@pytest.mark.parametrize("body", [
    {"subject": "Hello", "text": "nobody to read it"},
    {"to": TEXT["to"], "text": "no subject at all"},
    {"to": TEXT["to"], "subject": "no text"},
    {"to": TEXT["to"]},
    {**TEXT, "user_id": 1},
    {**TEXT, "template": "welcome", "vars": {"name": "Ann"}},
    {"to": TEXT["to"], "template": "welcome"},
    {"to": TEXT["to"], "template": "welcome", "vars": {}},
    {"to": TEXT["to"], "template": "welcome", "vars": {"name": "Ann", "nonsense": "x"}},
    {"to": TEXT["to"], "template": "welcome", "vars": {"name": ["Ann"]}},
    {"to": TEXT["to"], "template": "receipt",
        "vars": {"number": "1", "total": "x", "currency": "EUR"}},
])
def test_half_a_message_is_refused(http, body):
    assert http.post("/send_email/", body, token=http.admin, expect=422).pointers


def test_services_write_to_users_only(http, service):
    reply = service.post("/send_email/", {**TEXT, "to": "stranger@elsewhere.example"}, expect=422)
    assert reply.pointers == {"#/to"}
    of_nobody = {"user_id": 999999999, "subject": "s", "text": "t"}
    service.post("/send_email/", of_nobody, expect=410)    # a service knew them once
    reply = http.post("/send_email/", of_nobody, token=http.admin, expect=422)
    assert reply.pointers == {"#/user_id"}


@pytest.mark.parametrize("path", ["/send_email/0", "/send_email/x", "/send_email/999999999",
    "/send_email/1/2"])
def test_unknown_paths_are_404(http, path):
    http.get(path, token=http.admin, expect=404)


def test_customers_and_nobody_may_not(http, ann):
    for method, path in (("POST", "/send_email"), ("GET", "/send_email/"),
            ("GET", "/send_email/1"), ("DELETE", "/send_email/?to=a%40shop.example")):
        body = TEXT if method == "POST" else None
        http.request(method, path, body, expect=401)
        http.request(method, path, body, ann.token, expect=403)


def test_messages_are_listed(http, service):
    to = f"listed-{uuid.uuid4().hex}@elsewhere.example"
    ids = {http.post("/send_email", {**TEXT, "to": to}, token=http.admin, expect=202).json["id"]
        for _ in range(3)}
    eventually(lambda: len(service.get(f"/send_email/?to={to}&status=sent").json["items"]) == 3)
    for limit in (1, 2, 3):
        items = http.pages(f"/send_email?to={to}&limit={limit}", token=http.admin)
        assert {m["id"] for m in items} == ids and len(items) == 3
        assert all(set(m) == MEMBERS for m in items)
    assert service.get(f"/send_email/?to={to}&status=failed", expect=200).json["items"] == []


@pytest.mark.parametrize("query, pointer", [("status=lost", "?status"), ("limit=0", "?limit"),
    ("cursor=x", "?cursor"), ("nonsense=1", "?nonsense")])
def test_faults_of_a_query_are_named(service, query, pointer):
    assert service.get(f"/send_email/?{query}", expect=422).pointers == {pointer}


def test_a_repeated_post_is_sent_once(stack, http):
    to = f"once-{uuid.uuid4().hex}@elsewhere.example"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = [http.post("/send_email/", {**TEXT, "to": to}, token=http.admin, headers=key,
        expect=202) for _ in range(2)]
    assert first.json["id"] == again.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    sent(http, first)
    assert len(stack.mails(to)) == 1


def test_a_person_is_forgotten(http, service, ann):
    to = f"forget-{uuid.uuid4().hex}@elsewhere.example"
    reply = http.post("/send_email/", {**TEXT, "to": to}, token=http.admin, expect=202)
    sent(http, reply)
    service.delete(f"/send_email/?to={to}", expect=204)
    assert service.get(f"/send_email/?to={to}", expect=200).json["items"] == []


def test_a_recipient_gets_so_much_and_no_more(http, service):
    user = http.new_user()
    body = {"to": user.email, "subject": "Hello", "text": "again"}
    statuses = [service.post("/send_email/", body).status for _ in range(60)]
    accepted = statuses.index(429)
    assert accepted > 3 and statuses == [202] * accepted + [429] * (60 - accepted)
