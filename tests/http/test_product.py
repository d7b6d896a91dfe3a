"""The catalog and its reservations."""

import pytest

from stack import eventually

MEMBERS = {"id", "sku", "name", "description", "price", "currency", "category", "attributes",
    "stock", "available", "created_at", "updated_at", "deleted_at", "version"}
TEA = {"sku": "tea", "name": "Tea", "price": 450, "currency": "EUR"}


@pytest.fixture(scope="module")
def product(http):
    return http.new_product()


@pytest.fixture(scope="module")
def customer(http):
    return http.new_user().token


def hold(service, *lines, expect=201, **members):
    lines = [{"product_id": i, "quantity": n} for i, n in lines]
    return service.post("/product/reservations", {"lines": lines, **members}, expect=expect)


@pytest.mark.parametrize("slash", ["", "/"])
def test_product_is_made_and_read(http, slash):
    made = http.post(f"/product{slash}", {**TEA, "sku": f"tea{slash}", "stock": 3,
        "attributes": {"leaf": ["green", {"at": 1.5}]}, "description": "Zürich\n\t✓"},
        token=http.admin, expect=201)
    assert set(made.json) == MEMBERS
    assert made.headers["Location"] == f"/product/{made.json['id']}"
    read = http.get(f"/product/{made.json['id']}{slash}", expect=200)
    assert read.json == made.json and read.headers["ETag"] == '"1"'
    assert read.json["attributes"] == {"leaf": ["green", {"at": 1.5}]}
    assert (read.json["stock"], read.json["available"], read.json["deleted_at"]) == (3, 3, None)


@pytest.mark.parametrize("change, pointers", [
    ({"sku": None}, {"#/sku"}),
    ({"sku": ""}, {"#/sku"}),
    ({"sku": "s" * 65}, {"#/sku"}),
    ({"name": 7}, {"#/name"}),
    ({"name": "a\nb"}, {"#/name"}),
    ({"price": -1}, {"#/price"}),
    ({"price": 1.5}, {"#/price"}),
    ({"price": "1"}, {"#/price"}),
    ({"price": True}, {"#/price"}),
    ({"currency": "eur"}, {"#/currency"}),
    ({"stock": -1}, {"#/stock"}),
    ({"attributes": []}, {"#/attributes"}),
    ({"id": 7}, {"#/id"}),
    ({"available": 7}, {"#/available"}),
    ({"version": 7}, {"#/version"}),
    ({"price": -1, "name": 7, "color/of~it": "red"}, {"#/price", "#/name", "#/color~1of~0it"}),
])
def test_every_fault_of_a_product_is_named(http, product, change, pointers):
    reply = http.post("/product/", {**TEA, "sku": "faulty", **change}, token=http.admin,
        expect=422)
    assert reply.pointers == pointers
    reply = http.patch(f"/product/{product['id']}", change, token=http.admin, expect=422)
    assert reply.pointers == pointers


def test_required_members_are_named(http):
    reply = http.post("/product/", {}, token=http.admin, expect=422)
    assert reply.pointers == {"#/sku", "#/name", "#/price", "#/currency"}


@pytest.mark.parametrize("path", ["/product/0", "/product/-1", "/product/1e3", "/product/x",
    "/product/9007199254740993", "/product/99999999999999999999", "/product/999999999",
    "/product/1/2", "/products/1", "/product/reservations/x"])
def test_unknown_paths_are_404(http, service, path):
    for shop in (http, service):
        shop.get(path, expect=404)


@pytest.mark.parametrize("path", ["/product/{id}", "/product/{id}/", "/products", "/products/"])
def test_head_is_get_without_the_body(http, product, path):
    path = path.format(**product)
    head, get = http.request("HEAD", path, expect=200), http.get(path, expect=200)
    for field in ("Content-Type", "Content-Length", "ETag", "Link"):
        assert head.headers[field] == get.headers[field]
    http.request("HEAD", "/product/999999999", expect=404)


@pytest.mark.parametrize("method, path", [("POST", "/product"), ("PUT", "/product/{id}"),
    ("PATCH", "/product/{id}"), ("DELETE", "/product/{id}")])
def test_only_administrators_change_products(http, service, product, customer, method, path):
    path = path.format(**product)
    http.request(method, path, TEA, expect=401)
    http.request(method, path, TEA, token="nonsense", expect=401)
    http.request(method, path, TEA, token=customer, expect=403)
    service.request(method, path, TEA, expect=403)


def test_only_services_reserve(http, product, customer):
    body = {"lines": [{"product_id": product["id"], "quantity": 1}]}
    http.post("/product/reservations", body, expect=401)
    http.post("/product/reservations", body, token=customer, expect=403)
    http.post("/product/reservations", body, token=http.admin, expect=403)


def test_put_and_patch_change_what_is_given(http):
    product = http.new_product(category="tea", stock=5)
    path = f"/product/{product['id']}"
    changed = http.patch(path, {"price": 500, "stock": None}, token=http.admin, expect=200)
    assert changed.json == {**product, "price": 500, "stock": None, "available": None,
        "version": 2, "updated_at": changed.json["updated_at"]}
    assert changed.headers["ETag"] == '"2"'
    changed = http.put(path + "/", {"category": None}, token=http.admin, expect=200)
    assert (changed.json["category"], changed.json["price"]) == (None, 500)
    http.request("PATCH", path, b'{"name":"Merged"}', http.admin,
        {"Content-Type": "application/merge-patch+json; charset=utf-8"}, expect=200)
    put = http.request("PUT", path, b'{"name":"Merged"}', http.admin,
        {"Content-Type": "application/merge-patch+json"}, expect=415)
    assert (put.headers["Accept"], put.headers["Accept-Patch"]) == ("application/json", None)
    patched = http.request("PATCH", path, b'name=Merged', http.admin,
        {"Content-Type": "application/x-www-form-urlencoded"}, expect=415)
    assert patched.headers["Accept"] is None
    assert patched.headers["Accept-Patch"] == "application/json, application/merge-patch+json"


@pytest.mark.parametrize("media_type, attributes", [
    ("application/merge-patch+json", {"size": {"w": 5, "h": 2}}),
    ("application/json", {"color": None, "size": {"w": 5}}),
])
def test_a_merge_patch_merges_attributes(http, media_type, attributes):
    product = http.new_product(attributes={"color": "red", "size": {"w": 1, "h": 2}})
    path = f"/product/{product['id']}"
    http.request("PATCH", path, b'{"attributes":{"color":null,"size":{"w":5}}}', http.admin,
        {"Content-Type": media_type}, expect=200)
    assert http.get(path).json["attributes"] == attributes


def test_versions_are_compared(http):
    path = f"/product/{http.new_product()['id']}"

    def get(tag):
        return http.get(path, headers={"If-None-Match": tag}).status

    def patch(tag):
        return http.patch(path, {"price": 1}, token=http.admin, headers={"If-Match": tag}).status

    assert [get(tag) for tag in ('"1"', 'W/"1"', '"7", "1"', "*", '"2"', "1")] == \
        [304, 304, 304, 304, 200, 200]
    assert [patch(tag) for tag in ('"2"', '"1"', '"1"', 'W/"2"', "*")] == \
        [412, 200, 412, 200, 200]
    http.delete(path, token=http.admin, headers={"If-Match": '"1"'}, expect=412)


def test_a_large_product_is_compressed_and_its_weak_tag_is_good(http):
    path = f"/product/{http.new_product(description='tea ' * 2000)['id']}"
    reply = http.get(path, headers={"Accept-Encoding": "gzip"}, expect=200)
    assert reply.headers["Content-Encoding"] == "gzip" and reply.headers["ETag"] == 'W/"1"'
    assert len(reply.json["description"]) == 8000
    http.get(path, headers={"If-None-Match": 'W/"1"', "Accept-Encoding": "gzip"}, expect=304)
    http.patch(path, {"price": 1}, token=http.admin, headers={"If-Match": 'W/"1"'}, expect=200)


def test_plain_http_shows_the_same(http, product):
    path = f"/product/{product['id']}"
    assert http.get(path, tls=False, expect=200).json == http.get(path).json


def test_a_sku_is_used_once(http):
    product = http.new_product()
    other = http.new_product()
    reply = http.post("/product", {**TEA, "sku": product["sku"]}, token=http.admin, expect=409)
    assert reply.json["type"] == "urn:coster:problem:sku-in-use"
    for method in ("PUT", "PATCH"):
        http.request(method, f"/product/{other['id']}", {"sku": product["sku"]}, http.admin,
            expect=409)
    http.delete(f"/product/{product['id']}", token=http.admin, expect=204)
    http.patch(f"/product/{other['id']}", {"sku": product["sku"]}, token=http.admin, expect=200)


def test_a_deleted_product_is_gone(http):
    path = f"/product/{http.new_product(category='gone')['id']}"
    http.delete(path, token=http.admin, expect=204)
    http.delete(path + "/", token=http.admin, expect=204)
    http.get(path, expect=410)
    assert http.get(path, token=http.admin, expect=200).json["deleted_at"]
    assert http.get("/products?category=gone", expect=200).json["items"] == []


def test_a_post_with_the_same_key_is_done_once(http):
    key = {"Idempotency-Key": "once-and-only-once"}
    body = {**TEA, "sku": "keyed"}
    first = http.post("/product", body, token=http.admin, headers=key, expect=201)
    again = http.post("/product", body, token=http.admin, headers=key, expect=201)
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    other = http.post("/product", {**body, "price": 1}, token=http.admin, headers=key, expect=422)
    assert other.json["type"] == "urn:coster:problem:idempotency-key-reused"
    for bad in ("x" * 256, "with space"):
        http.post("/product", body, token=http.admin, headers={"Idempotency-Key": bad},
            expect=422)


@pytest.fixture(scope="module")
def shelf(http):
    """Five products of one category by price, the last of them sold out."""
    rows = [("Mint", 300, 5), ("Assam", 400, 5), ("Rooibos", 400, 5), ("Earl Grey", 500, None),
        ("Oolong", 900, 0)]
    return [http.new_product(name=name, price=price, stock=stock, category="shelf",
        description="hand-picked") for name, price, stock in rows]


@pytest.mark.parametrize("query, names", [
    ("", "Mint Assam Rooibos Earl+Grey Oolong"),
    ("sort=id", "Mint Assam Rooibos Earl+Grey Oolong"),
    ("sort=newest", "Oolong Earl+Grey Rooibos Assam Mint"),
    ("sort=name", "Assam Earl+Grey Mint Oolong Rooibos"),
    ("sort=price", "Mint Assam Rooibos Earl+Grey Oolong"),
    ("sort=-price", "Oolong Earl+Grey Rooibos Assam Mint"),
    ("min_price=400&max_price=500", "Assam Rooibos Earl+Grey"),
    ("in_stock=true", "Mint Assam Rooibos Earl+Grey"),
    ("q=rooi", "Rooibos"),
    ("q=grey%20EARL", "Earl+Grey"),
    ("q=hand-picked&sort=name", "Assam Earl+Grey Mint Oolong Rooibos"),
    ("q=NOT%20%22", ""),
    ("q=nowhere", ""),
])
def test_products_are_listed(http, shelf, query, names):
    names = [name.replace("+", " ") for name in names.split()]
    for path in (f"/products?category=shelf&{query}", f"/products/?{query}&category=shelf"):
        reply = http.get(path, expect=200)
        assert [p["name"] for p in reply.json["items"]] == names
        for size in (1, 2):
            pages = http.pages(f"{path}&limit={size}")
            assert [p["name"] for p in pages] == names


def test_products_are_listed_by_id(http, shelf):
    first, second = shelf[0]["id"], shelf[3]["id"]
    path = f"/products/?ids={second},999999999,{first}&limit=200"
    items = http.get(path, expect=200).json["items"]
    assert [p["id"] for p in items] == [first, second]


def test_a_service_that_asks_by_id_gets_offers(service, shelf):
    product = shelf[0]
    items = service.get(f"/products/?ids={product['id']}", expect=200).json["items"]
    assert items == [{k: product[k] for k in ("id", "name", "price", "currency", "available")}]


@pytest.mark.parametrize("query, pointer", [
    ("limit=0", "?limit"), ("limit=201", "?limit"), ("limit=x", "?limit"), ("limit=", "?limit"),
    ("limit=1&limit=2", "?limit"), ("cursor=x", "?cursor"), ("cursor=aWQ6MQ", "?cursor"),
    ("sort=color", "?sort"), ("ids=1,x", "?ids"), ("ids=1&q=tea", "?ids"), ("q=", "?q"),
    ("q=%20%22", "?q"), ("in_stock=1", "?in_stock"), ("min_price=-1", "?min_price"),
    ("nonsense=1", "?nonsense"), ("q=%ff", "?"),
])
def test_faults_of_a_query_are_named(http, query, pointer):
    assert http.get(f"/products?{query}", expect=422).pointers == {pointer}


def test_a_cursor_is_of_its_order_only(http, shelf):
    cursor = http.get("/products?category=shelf&sort=name&limit=1").json["next_cursor"]
    reply = http.get(f"/products?sort=price&cursor={cursor}", expect=422)
    assert reply.pointers == {"?cursor"}


def available(http, product):
    return http.get(f"/product/{product['id']}", expect=200).json["available"]


def test_a_reservation_holds_and_releases_stock(http, service):
    product = http.new_product(stock=5)
    made = hold(service, (product["id"], 2), (product["id"], 1))
    path = f"/product/reservations/{made.json['id']}"
    assert made.headers["Location"] == path and made.json["status"] == "held"
    assert made.json["lines"] == [{"product_id": product["id"], "quantity": 3}]
    assert available(http, product) == 2
    later = "2030-01-01T00:00:00.000Z"
    reply = service.patch(path, {"expires_at": later}, expect=200)
    assert reply.json["expires_at"] == later
    service.delete(path, expect=204)
    service.delete(path, expect=204)
    assert available(http, product) == 5
    service.patch(path, {"expires_at": later}, expect=410)
    assert service.get(path + "/", expect=200).json["status"] == "released"


def test_a_committed_reservation_is_sold(http, service):
    product = http.new_product(stock=5)
    path = f"/product/reservations/{hold(service, (product['id'], 3)).json['id']}"
    for _ in range(2):
        assert service.post(path + "/commit", {}, expect=200).json["status"] == "committed"
    service.delete(path, expect=409)
    service.patch(path, {"expires_at": "2030-01-01T00:00:00Z"}, expect=410)
    product = http.get(f"/product/{product['id']}").json
    assert (product["stock"], product["available"]) == (2, 2)


def test_a_reservation_expires(http, service):
    product = http.new_product(stock=1)
    hold(service, (product["id"], 1), expires_in=1)
    assert available(http, product) == 0
    eventually(lambda: available(http, product) == 1, 15)


def test_all_lines_are_held_or_none(http, service):
    plenty, few = http.new_product(stock=9), http.new_product(stock=1)
    reply = hold(service, (plenty["id"], 2), (few["id"], 2), (999999999, 1), expect=409)
    assert reply.json["type"] == "urn:coster:problem:out-of-stock"
    assert [(n["product_id"], n["reason"], n["available"]) for n in reply.json["lines"]] == \
        [(few["id"], "out-of-stock", 1), (999999999, "out-of-stock", 0)]
    assert available(http, plenty) == 9


def test_a_price_that_rose_is_told(http, service):
    product = http.new_product(price=450)
    line = {"product_id": product["id"], "quantity": 1, "currency": "EUR"}
    reply = service.post("/product/reservations", {"lines": [{**line, "price": 449}]}, expect=409)
    assert reply.json["type"] == "urn:coster:problem:price-changed"
    assert reply.json["lines"] == [{"product_id": product["id"], "reason": "price-changed",
        "price": 450, "available": 1000}]
    service.post("/product/reservations", {"lines": [{**line, "price": 451}]}, expect=201)


@pytest.mark.parametrize("body, pointer", [
    ({}, "#/lines"), ({"lines": []}, "#/lines"), ({"lines": [7]}, "#/lines/0"),
    ({"lines": [{"product_id": 1}]}, "#/lines/0/quantity"),
    ({"lines": [{"product_id": 1, "quantity": 0}]}, "#/lines/0/quantity"),
    ({"lines": [{"product_id": 1, "quantity": 1, "note": ""}]}, "#/lines/0/note"),
    ({"lines": [{"product_id": 1, "quantity": 1}] * 201}, "#/lines"),
    ({"lines": [{"product_id": 1, "quantity": 1}], "expires_in": 0}, "#/expires_in"),
])
def test_faults_of_a_reservation_are_named(service, body, pointer):
    assert service.post("/product/reservations", body, expect=422).pointers == {pointer}
