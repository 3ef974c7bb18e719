"""Fetching a site, from a real server on the loopback."""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from ragline.corpus.jsonl import read_documents
from ragline.corpus.site import ATTEMPTS, MAX_WAIT_S, Pace, fetch_site, read_site
from ragline.errors import ConfigError, DataError, ServiceError

HTML = {"Content-Type": "text/html; charset=utf-8"}
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """What the server answers, and what it was asked."""

    url: str = ""
    replies: dict[str, Reply | list[Reply] | Callable[[], Reply]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)

    def page(self, path: str, title: str, text: str = "Words.") -> str:
        body = f"<html><body><main><h1>{title}</h1><p>{text} {'More of them. ' * 8}</p></main></body></html>"
        self.replies[path] = (200, HTML, body.encode())
        return self.url + path

    def sitemap(self, path: str, *urls: str, kind: str = "urlset") -> str:
        entries = "".join(f"<x><loc> {url} </loc><lastmod>2024</lastmod></x>" for url in urls)
        xml = f'<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{kind}>'
        self.replies[path] = (200, {"Content-Type": "application/xml"}, xml.encode())
        return self.url + path

    def robots(self, text: str) -> None:
        self.replies["/robots.txt"] = (200, {"Content-Type": "text/plain"}, text.encode())


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pace(self, delay_s: float = 0.0) -> Pace:
        return Pace(delay_s, self.sleep, lambda: self.now)


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.agents.add(self.headers["User-Agent"])
            reply = served.replies.get(self.path, (404, {}, b"nothing here"))
            if isinstance(reply, list):
                reply = reply.pop(0) if len(reply) > 1 else reply[0]
            status, headers, body = reply() if callable(reply) else reply
            if not status:
                self.connection.close()
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_sitemap_becomes_a_jsonl_file_that_ingest_reads(site: Site, clock: Clock, tmp_path: Path):
    pages = [site.page("/b", "Second"), site.page("/a?x=1", "First"), site.url + "/robots.txt"]
    site.robots("User-agent: *\nDisallow: /private\n")
    path, count, drops = fetch_site(
        site.sitemap("/sitemap.xml", *pages), "handbook", 10, root=tmp_path, pace=clock.pace()
    )
    assert (path.as_posix(), count, drops) == ("data/raw/handbook/pages.jsonl", 3, [])
    host = site.url.removeprefix("http://")
    assert json.loads((tmp_path / path).read_text().split("\n")[0]) == {
        "id": f"{host}/a?x=1",
        "title": "First",
        "source": f"{site.url}/a?x=1",
        "text": f"# First\n\nWords. {'More of them. ' * 7}More of them.\n",
        "format": "markdown",
    }
    documents = list(read_documents(str(path), tmp_path))
    assert [(d.doc_id, d.title) for d in documents] == [
        (f"{host}/a?x=1", "First"),
        (f"{host}/b", "Second"),
        (f"{host}/robots.txt", f"{host}/robots.txt"),
    ]
    assert site.agents == {"ragline"}
    before = (tmp_path / path).read_bytes()
    fetch_site(site.url + "/sitemap.xml", "handbook", 10, root=tmp_path, pace=clock.pace())
    assert (tmp_path / path).read_bytes() == before


def test_nothing_is_written_when_nothing_is_found(site: Site, clock: Clock, tmp_path: Path):
    (tmp_path / "data/raw/old").mkdir(parents=True)
    (tmp_path / "data/raw/old/pages.jsonl").write_text("the last good fetch")
    with pytest.raises(
        DataError, match=r"/gone: expected pages with text, got none \(.*/gone: unreachable status 404\)"
    ):
        fetch_site([site.url + "/gone"], "old", 5, root=tmp_path, pace=clock.pace())
    assert (tmp_path / "data/raw/old/pages.jsonl").read_text() == "the last good fetch"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden"])
def test_name_that_is_no_folder(name: str):
    with pytest.raises(ConfigError, match="fetch: name: expected letters, digits"):
        fetch_site("http://127.0.0.1:1/", name, 1)


def test_a_sitemap_index_is_followed_once_and_packed_ones_are_unpacked(site: Site, clock: Clock):
    site.sitemap("/part.xml", site.page("/a", "A"))
    status, headers, xml = site.replies["/part.xml"]
    site.replies["/part.xml.gz"] = (status, headers, gzip.compress(xml))
    index = site.sitemap("/index.xml", site.url + "/part.xml.gz", site.url + "/index.xml", kind="sitemapindex")
    documents, drops = read_site(index, 10, pace=clock.pace())
    assert [d.title for d in documents] == ["A"] and drops == []
    assert site.asked == ["/robots.txt", "/index.xml", "/part.xml.gz", "/a"]


def test_robots_are_honoured_for_pages_and_for_redirects(site: Site, clock: Clock):
    site.robots("User-agent: other\nDisallow: /\n\nUser-agent: ragline\nDisallow: /private\nCrawl-delay: 7\n")
    site.replies["/door"] = (302, {"Location": "/private/room"}, b"")
    pages = [site.page("/open", "Open"), site.page("/private/room", "Room"), site.url + "/door"]
    documents, drops = read_site(pages, 10, pace=clock.pace(1.0))
    assert [d.title for d in documents] == ["Open"]
    assert [(d.stage, d.item, d.reason) for d in drops] == [
        ("fetch", pages[1], "forbidden by robots.txt"),
        ("fetch", pages[2], "forbidden by robots.txt"),
    ]
    assert "/private/room" not in site.asked
    assert clock.slept == [7, 7]  # before /open and /door: Crawl-delay is longer than our second


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        # `*` stands for any characters, wherever it is.
        ("Disallow: /private/*.html", {"/private/a.txt", "/a.html", "/a.html?x=1"}),
        ("Disallow: /*?", {"/private/a.html", "/private/a.txt", "/a.html"}),
        # `$` is the end of the address; without it a rule is a beginning.
        ("Disallow: /*.html$", {"/private/a.txt", "/a.html?x=1"}),
        ("Disallow: /*.html", {"/private/a.txt"}),
        # The longest rule decides, in whatever order they stand; of two equally long ones the one that allows.
        ("Disallow: /\nAllow: /private/", {"/private/a.html", "/private/a.txt"}),
        ("Allow: /private/\nDisallow: /private/a.h\nDisallow: /a", {"/private/a.txt"}),
        ("Disallow: /a.html\nAllow: /a.html", {"/private/a.html", "/private/a.txt", "/a.html", "/a.html?x=1"}),
    ],
)
def test_robots_rules_are_those_of_rfc_9309(site: Site, clock: Clock, rules: str, allowed: set[str]):
    paths = ["/private/a.html", "/private/a.txt", "/a.html", "/a.html?x=1"]
    site.robots(f"User-agent: *\n{rules}\n")
    documents, drops = read_site([site.page(path, path) for path in paths], 9, pace=clock.pace())
    assert {d.title for d in documents} == set(site.asked) - {"/robots.txt"} == allowed
    assert {d.item.removeprefix(site.url) for d in drops} == set(paths) - allowed
    assert all(d.reason == "forbidden by robots.txt" for d in drops)


@pytest.mark.parametrize(
    ("asked", "slept"),
    [("0.5", 1), ("2.5", 2.5), ("86400", MAX_WAIT_S), ("soon", 1), ("-3", 1), ("inf", 1), ("nan", 1)],
)
def test_a_longer_crawl_delay_than_ours_is_kept_up_to_a_minute(site: Site, clock: Clock, asked: str, slept: float):
    site.robots(f"User-agent: *\nCrawl-delay: {asked}\n")
    read_site([site.page("/a", "A"), site.page("/b", "B")], 2, pace=clock.pace(1.0))
    assert clock.slept == [slept, slept]


def test_a_crawl_delay_for_others_is_not_ours(site: Site, clock: Clock):
    site.robots("User-agent: *\nCrawl-delay: 9\n\nUser-agent: ragline\nDisallow:\n")
    read_site([site.page("/a", "A")], 1, pace=clock.pace(1.0))
    assert clock.slept == [1]


def test_robots_name_sitemaps_anywhere_and_their_rules_hold_on(site: Site, clock: Clock):
    one = site.sitemap("/one.xml", site.page("/a", "A"), site.page("/private", "Private"))
    two = site.sitemap("/two.xml", site.page("/b", "B"))
    away = "http://127.0.0.2:9/x.xml"
    # A Sitemap line belongs to no group: the Disallow after it is still for everybody.
    site.robots(f"Sitemap: {one}\nUser-agent: *\nsitemap: {two}\nDisallow: /private\nSitemap: {away}\n")
    documents, drops = read_site(site.url + "/robots.txt", 9, pace=clock.pace())
    assert [d.title for d in documents] == ["A", "B"]
    assert [(d.item, d.reason) for d in drops] == [
        (away, "other host"),
        (site.url + "/private", "forbidden by robots.txt"),
    ]
    assert site.asked == ["/robots.txt", "/one.xml", "/two.xml", "/a", "/b"]


def test_robots_that_name_no_sitemap(site: Site, clock: Clock):
    site.robots("User-agent: *\nDisallow:\n")
    with pytest.raises(DataError, match=r"/robots\.txt: expected pages with text, got none \(none listed\)"):
        read_site(site.url + "/robots.txt", 5, pace=clock.pace())


@pytest.mark.parametrize("status", [403, 404, 410])
def test_without_robots_all_is_allowed(site: Site, clock: Clock, status: int):
    site.replies["/robots.txt"] = (status, {}, b"User-agent: *\nDisallow: /")
    assert len(read_site([site.page("/a", "A")], 1, pace=clock.pace())[0]) == 1


def test_while_robots_cannot_be_had_nothing_is_fetched(site: Site, clock: Clock):
    site.replies["/robots.txt"] = (503, {}, b"")
    with pytest.raises(ServiceError, match=r"/robots\.txt: expected 200 or 404, got 503; try again later"):
        read_site([site.page("/a", "A")], 1, pace=clock.pace())
    assert set(site.asked) == {"/robots.txt"}


def test_requests_are_spaced(site: Site, clock: Clock):
    read_site([site.page(f"/{n}", str(n)) for n in range(3)], 10, pace=clock.pace(2.5))
    assert clock.slept == [2.5, 2.5, 2.5]  # four requests, robots.txt the first


def test_redirects_stay_within_the_host(site: Site, clock: Clock):
    site.page("/new", "New")
    site.replies["/old"] = (301, {"Location": "/new#part"}, b"")
    site.replies["/away"] = (301, {"Location": "http://127.0.0.2:9/"}, b"")
    site.replies["/file"] = (301, {"Location": "file:///etc/hostname"}, b"")
    site.replies["/loop"] = (307, {"Location": "/loop"}, b"")
    pages = [site.url + path for path in ("/old", "/new", "/away", "/file", "/loop")]
    documents, drops = read_site(pages, 10, client=httpx.Client(follow_redirects=True), pace=clock.pace())
    assert [d.source for d in documents] == [site.url + "/new"]  # once, although two addresses lead there
    assert [(d.item, d.reason, d.detail) for d in drops] == [
        (pages[2], "other host", "redirected to http://127.0.0.2:9/"),
        (pages[3], "other host", "redirected to file:/etc/hostname"),
        (pages[4], "unreachable", "more than 5 redirects"),
    ]


def test_busy_servers_are_asked_again_after_a_growing_wait(site: Site, clock: Clock):
    url = site.page("/a", "A")
    good = site.replies["/a"]
    site.replies["/a"] = [(503, {}, b""), (500, {}, b""), (429, {"Retry-After": "30"}, b""), good]
    assert len(read_site([url], 1, pace=clock.pace())[0]) == 1
    assert clock.slept == [1, 2, 30]


def test_a_page_that_stays_broken_is_left_out(site: Site, clock: Clock):
    site.replies["/bad"] = (500, {}, b"")
    site.replies["/dead"] = (0, {}, b"")  # the connection closes
    pages = [site.page("/a", "A"), site.url + "/bad", site.url + "/dead"]
    documents, drops = read_site(pages, 5, pace=clock.pace())
    assert len(documents) == 1
    assert [(d.reason, d.detail[:13]) for d in drops] == [
        ("unreachable", "status 500"),
        ("unreachable", "4 attempts: R"),
    ]
    assert site.asked.count("/bad") == site.asked.count("/dead") == ATTEMPTS


def test_what_is_no_page_is_left_out(site: Site, clock: Clock):
    site.replies["/pdf"] = (200, {"Content-Type": "application/pdf"}, b"%PDF-1.4")
    site.replies["/bare"] = (200, {}, b"words")
    site.replies["/void"] = (200, HTML, b"<html><body><script>x()</script></body></html>")
    site.replies["/zip"] = (200, {"Content-Type": "text/plain"}, b"PK\x03\x04....")
    site.replies["/big"] = (200, HTML, b"<p>" + b"x" * 1_100_000)
    site.replies["/bomb"] = (200, {**HTML, "Content-Encoding": "gzip"}, gzip.compress(b"x" * 50_000_000))
    site.replies["/torn"] = (200, {**HTML, "Content-Encoding": "gzip"}, gzip.compress(b"<p>words" * 99)[:-9])
    site.replies["/brotli"] = (200, {**HTML, "Content-Encoding": "br"}, b"x")
    paths = ("/pdf", "/bare", "/void", "/zip", "/big", "/bomb", "/torn", "/brotli", "/gone")
    pages = [site.page("/a", "A"), *(site.url + path for path in paths)]
    _, drops = read_site(pages, 20, pace=clock.pace(), max_megabytes=1)
    assert [d.reason for d in drops] == [
        "not a page", "not a page", "empty", "unreadable", "too large", "too large", "unreadable", "not a page",
        "unreachable",
    ]  # fmt: skip
    assert drops[0].detail == "expected text/html or text/plain, got application/pdf"


def test_packed_pages_and_the_header_encoding(site: Site, clock: Clock):
    site.replies["/a"] = (
        200,
        {"Content-Type": "text/html; charset=windows-1252", "Content-Encoding": "gzip"},
        gzip.compress("<meta charset='utf-8'><p>Café – 5 €</p>".encode("cp1252")),
    )
    assert read_site([site.url + "/a"], 1, pace=clock.pace())[0][0].text == "Café – 5 €\n"


def test_other_hosts_and_the_limit_are_counted(site: Site, clock: Clock):
    own = [site.page(f"/{n}", str(n)) for n in range(4)]
    start = site.sitemap("/s.xml", own[0], "http://127.0.0.2:9/x", "not an address", *own[1:])
    documents, drops = read_site(start, 2, pace=clock.pace())
    assert [d.title for d in documents] == ["0", "1"]
    assert [(d.reason, d.detail) for d in drops] == [
        ("other host", ""), ("other host", ""), ("over max_pages", "2 pages not requested"),
    ]  # fmt: skip
    assert "/2" not in site.asked


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"<html></html>", r"expected a sitemap \(urlset or sitemapindex\), got <html>"),
        (b"words", r"expected a sitemap \(XML\), got ParseError"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><urlset>&a;</urlset>', r"expected a sitemap \(XML\), got DTDForbidden"),
    ],
)
def test_what_is_no_sitemap(site: Site, clock: Clock, xml: bytes, message: str):
    site.replies["/s.xml"] = (200, {}, xml)
    with pytest.raises(DataError, match=rf"/s\.xml: {message}"):
        read_site(site.url + "/s.xml", 5, pace=clock.pace())


def test_sitemap_that_cannot_be_had(site: Site, clock: Clock):
    with pytest.raises(ServiceError, match=r"/s\.xml: sitemap cannot be had: unreachable status 404"):
        read_site(site.url + "/s.xml", 5, pace=clock.pace())


def test_server_that_is_not_there(clock: Clock):
    with pytest.raises(ServiceError, match=r"robots\.txt: cannot be had: unreachable 4 attempts: ConnectError"):
        read_site(["http://127.0.0.1:9/a"], 5, pace=clock.pace())
    assert clock.slept == [1, 2, 4]


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ([], r"expected http\(s\) addresses, got \[\]"),
        ("file:///etc/passwd", r"expected http\(s\) addresses, got \['file:///etc/passwd'\]"),
        (["http://a.example/x", "http://b.example/y"], r"expected one host, got a\.example and b\.example"),
        ("http://a.example:port/", r"expected http\(s\) addresses, got one that is none"),
    ],
)
def test_start_that_is_none(start: str | list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        read_site(start, 5)
