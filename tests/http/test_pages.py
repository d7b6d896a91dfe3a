"""The pages that the links in mails lead to: what a browser is given, and that what
their scripts send is what the shop takes."""

import base64
import hashlib
import http.client
import re

import pytest

from stack import eventually


def page(stack, path):
    connection = http.client.HTTPConnection("127.0.0.1", stack.http_port, timeout=20)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply, reply.read().decode()


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@pytest.mark.parametrize("path", ["/verify", "/reset"])
def test_a_page_runs_its_own_script_and_asks_no_other_host(stack, path):
    reply, text = page(stack, path)
    assert reply.status == 200 and reply.headers["Content-Type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in re.search(
        'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].split(";"))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        inside, = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        assert policy[f"{tag}-src"] == f"'{digest(inside)}'"
    assert "//" not in re.sub(r"^ *//.*$", "", text, flags=re.M)
    assert not re.search(r"innerHTML|document\.write|eval|\son\w+=", text)
    assert '<meta name="referrer" content="no-referrer">' in text


def mailed_link(stack, email, path):
    """The path and the fragment of the link in the newest mail with such a one."""
    def find():
        texts = [m.get_body(("plain",)).get_content() for m in stack.mails(email)]
        return [t for text in texts for t in re.findall(rf"https?://[^/\s]+({path})#(\S+)", text)]
    return eventually(find)[-1]


def sent_by(stack, path, token, password=None):
    """Where its script sends what, with a token and what was typed in."""
    _, text = page(stack, path)
    where, prefix_only, body = re.search(
        r'fetch\("([\w/]+)"( \+ encodeURIComponent\(token\))?, \{ method: "POST".*?'
        r'body: JSON\.stringify\((\{.*?\})\)', text, re.S).groups()
    values = {"{ token }": {"token": token},
        '{ password: form.querySelector("input").value }': {"password": password}}
    assert '"Content-Type": "application/json"' in text
    return "/" + where + (token if prefix_only else ""), values[body]


def test_the_link_in_the_mail_confirms_an_address(stack, http):
    user = http.new_user()
    path, token = mailed_link(stack, user.email, "/verify")
    http.post(*sent_by(stack, path, token), expect=204)
    assert http.get(f"/user/{user.id}", token=user.token).json["verified_at"]
    assert http.post(*sent_by(stack, path, token)).status == 422    # used up, as the page says


def test_the_link_in_the_mail_makes_a_new_password(stack, http):
    user, new = http.new_user(), "ten yellow plums"
    http.post("/password_reset", {"email": user.email}, expect=202)
    path, token = mailed_link(stack, user.email, "/reset")
    refused = http.post(*sent_by(stack, path, token, "password123"), expect=422)
    assert refused.pointers == {"#/password"}    # which the page looks for
    assert '"#/password"' in page(stack, path)[1]
    http.post(*sent_by(stack, path, token, new), expect=204)
    http.sign_in(user.email, new)
    assert http.post(*sent_by(stack, path, token, new)).status == 404
