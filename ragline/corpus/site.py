"""Pages of one web site, fetched politely, as documents in a JSONL file.

Fetching is a command, not a stage: a stage's outputs are a function of its inputs, and a site changes. The
command writes data/raw/<name>/pages.jsonl whole; ingest reads that.
"""

import gzip
import logging
import re
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from protego import Protego

from ragline import io
from ragline.corpus.format_markdown import Loaded
from ragline.corpus.formats import load
from ragline.errors import ConfigError, DataError, ServiceError
from ragline.types import Document, Drop

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

USER_AGENT = "ragline"
"""What robots.txt calls us, and the User-Agent header says."""

TIMEOUT_S = 20.0
ATTEMPTS = 4
MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
"""Longest wait that a server's Retry-After or Crawl-delay gets."""

MAX_SITEMAPS = 200
MAX_LISTED = 200_000
"""Addresses taken from sitemaps; a sitemap may hold 50,000."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How requests are spaced; tests bring their own `sleep` and `clock`."""

    delay_s: float = 1.0
    """Between the starts of two requests; a longer Crawl-delay in robots.txt wins."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    kind: str
    """Media type, lower case, without parameters."""
    encoding: str
    body: bytes
    location: str = ""
    wait_s: float | None = None


class _Refused(Exception):
    """A page is left out: (reason, detail)."""


def fetch_site(
    start: str | Sequence[str],
    name: str,
    max_pages: int,
    client: "httpx.Client | None" = None,
    root: Path = Path(),
    pace: Pace = Pace(),
    max_megabytes: float = 10,
) -> tuple[Path, int, list[Drop]]:
    """Fetch a site and write data/raw/`name`/pages.jsonl, whole or not at all; see `read_site`.

    Each line has id, title, source (the page's address), text and format (markdown or text).

    Returns:
        path: the file, relative to `root`; pages: how many it holds; drops: what was left out, and why.

    Raises:
        ConfigError: `name` is not a plain folder name; and what `read_site` raises.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"fetch: name: expected letters, digits, '.', '-' or '_', got {name!r}; name a folder")
    documents, drops = read_site(start, max_pages, client, pace, max_megabytes)
    path = Path("data/raw") / name / "pages.jsonl"
    rows = (
        {"id": d.doc_id, "title": d.title, "source": d.source, "text": d.text, "format": d.format} for d in documents
    )
    io.write_jsonl(rows, root / path)
    return path, len(documents), drops


def read_site(
    start: str | Sequence[str],
    max_pages: int,
    client: "httpx.Client | None" = None,
    pace: Pace = Pace(),
    max_megabytes: float = 10,
) -> tuple[list[Document], list[Drop]]:
    """Fetch pages of one host, one at a time, as its robots.txt allows user agent `ragline`.

    Redirects are followed within the host. 429, 5xx and broken connections are tried again, after a wait that
    doubles or that the server names. Only text/html and text/plain become documents.

    Args:
        start: address of a sitemap, a sitemap index or a robots.txt with Sitemap lines, or a list of pages' addresses,
            all of one host.
        max_pages: pages requested at most; the others are counted in one drop.
        client: where the requests go; its own redirect setting is not used.
        max_megabytes: larger pages are left out, also when they unpack to more.

    Returns:
        documents: sorted by doc_id, the address without its scheme; one for each final address.
        drops: stage `fetch`; addresses of other hosts, forbidden by robots.txt, unreachable, of another
            type, too large, unreadable or without text.

    Raises:
        ConfigError: no address, not http(s), or of several hosts.
        DataError: the sitemap is none, or not one page could be read.
        ServiceError: the host, its robots.txt or its sitemap cannot be reached.
    """
    import httpx

    urls = [start] if isinstance(start, str) else list(dict.fromkeys(start))
    origin = _one_origin(urls)
    if client is None:
        with httpx.Client(timeout=TIMEOUT_S, trust_env=True) as own:
            return _Visit(own, origin, pace, max_megabytes).run(urls, isinstance(start, str), max_pages)
    return _Visit(client, origin, pace, max_megabytes).run(urls, isinstance(start, str), max_pages)


def _one_origin(urls: Sequence[str]) -> "httpx.URL":
    import httpx

    try:
        parsed = [httpx.URL(url) for url in urls]
    except httpx.InvalidURL as error:
        raise ConfigError(f"fetch: expected http(s) addresses, got one that is none: {error}; mend it") from None
    if not parsed or any(url.scheme not in ("http", "https") or not url.host for url in parsed):
        raise ConfigError(f"fetch: expected http(s) addresses, got {list(urls)[:3]}; name a sitemap or pages")
    if other := next((url for url in parsed if not _same_host(url, parsed[0])), None):
        raise ConfigError(f"fetch: expected one host, got {parsed[0].host} and {other.host}; fetch each by itself")
    return parsed[0]


def _same_host(one: "httpx.URL", other: "httpx.URL") -> bool:
    """The same name and port; http and https count as one where neither names a port."""
    return one.scheme in ("http", "https") and (one.host, one.port) == (other.host, other.port)


class _Visit:
    """One visit to one host: its rules, and when the last request went out."""

    def __init__(self, client: "httpx.Client", origin: "httpx.URL", pace: Pace, max_megabytes: float) -> None:
        self.client, self.origin, self.pace = client, origin, pace
        self.max_bytes = int(max_megabytes * 1e6)
        self.delay_s = pace.delay_s
        self.last: float | None = None
        self.robots = Protego()
        self.drops: list[Drop] = []

    def run(self, urls: Sequence[str], is_sitemap: bool, max_pages: int) -> tuple[list[Document], list[Drop]]:
        self._read_robots()
        pages = self._listed(urls[0]) if is_sitemap else list(urls)
        documents: dict[str, Document] = {}
        for url in pages[:max_pages]:
            try:
                document = self._page(url)
                documents.setdefault(document.doc_id, document)
            except _Refused as error:
                self._drop(url, *error.args)
        if len(pages) > max_pages:
            self._drop(pages[max_pages], "over max_pages", f"{len(pages) - max_pages} pages not requested")
        if not documents:
            why = (
                f"{self.drops[0].item}: {self.drops[0].reason} {self.drops[0].detail}" if self.drops else "none listed"
            )
            raise DataError(f"{urls[0]}: expected pages with text, got none ({why.strip()}); mend the addresses")
        return sorted(documents.values(), key=lambda d: d.doc_id), self.drops

    def _drop(self, item: str, reason: str, detail: str = "") -> None:
        log.info("%s: left out: %s %s", item, reason, detail)
        self.drops.append(Drop("fetch", item, reason, detail))

    # --- rules -------------------------------------------------------------------------------------

    def _read_robots(self) -> None:
        """RFC 9309: without a robots.txt (4xx) all is allowed; while it cannot be had (5xx), nothing is."""
        url = str(self.origin.copy_with(raw_path=b"/robots.txt", fragment=None))
        try:
            _, reply = self._followed(url, check_robots=False)
        except _Refused as error:
            raise ServiceError(f"{url}: cannot be had: {' '.join(error.args)}; try again later") from None
        if reply.status >= 500 or reply.status == 429:
            raise ServiceError(f"{url}: expected 200 or 404, got {reply.status}; try again later")
        if reply.status == 200:
            self.robots = Protego.parse(reply.body.decode("utf-8-sig", "replace"))
        if asked := self.robots.crawl_delay(USER_AGENT):
            self.delay_s = max(self.delay_s, min(asked, MAX_WAIT_S))

    def _listed(self, start: str) -> list[str]:
        """Pages that a sitemap names, and the sitemaps that a sitemap index or the robots.txt names."""
        import httpx

        pages: dict[str, None] = {}
        todo, seen = deque([start]), {start}
        while todo and len(pages) < MAX_LISTED:
            at = todo.popleft()
            try:
                is_index, found = self._locations(at)
            except _Refused as error:
                if at == start:
                    raise ServiceError(
                        f"{at}: sitemap cannot be had: {' '.join(error.args)}; mend it or try later"
                    ) from None
                self._drop(at, *error.args)
                continue
            except DataError as error:
                if at == start:
                    raise
                self._drop(at, "unreadable", str(error))
                continue
            for url in found:
                try:
                    inside = _same_host(httpx.URL(url), self.origin)
                except httpx.InvalidURL:
                    inside = False
                if not inside:
                    self._drop(url, "other host")
                elif not is_index:
                    pages[url] = None
                elif url not in seen and len(seen) < MAX_SITEMAPS:
                    seen.add(url)
                    todo.append(url)
                elif url not in seen:
                    self._drop(url, "too many sitemaps")
        return list(pages)

    def _locations(self, at: str) -> tuple[bool, list[str]]:
        """(whether it names sitemaps, the addresses it names)."""
        import httpx

        if httpx.URL(at).path == "/robots.txt":
            return True, list(self.robots.sitemaps)
        _, reply = self._followed(at)
        if reply.status != 200:
            raise _Refused("unreachable", f"status {reply.status}")
        return _locations(_gunzipped(reply.body, self.max_bytes), at)

    # --- pages -------------------------------------------------------------------------------------

    def _page(self, url: str) -> Document:
        address, reply = self._followed(url)
        if reply.status != 200:
            raise _Refused("unreachable", f"status {reply.status}")
        if reply.kind not in ("text/html", "text/plain"):
            raise _Refused("not a page", f"expected text/html or text/plain, got {reply.kind or 'no type'}")
        loaded = _loaded(reply, address)
        if not loaded.text.strip():
            raise _Refused("empty")
        doc_id = address.split("://", 1)[1]
        title = loaded.title if loaded.title != "page.html" else doc_id
        return Document(doc_id, address, title if reply.kind == "text/html" else doc_id, loaded.text, loaded.format)

    def _followed(self, url: str, check_robots: bool = True) -> "tuple[str, _Reply]":
        """(final address, reply) after redirects within the host."""
        import httpx

        at = httpx.URL(url).copy_with(fragment=None)
        for _ in range(MAX_REDIRECTS + 1):
            if not _same_host(at, self.origin):
                raise _Refused("other host", f"redirected to {at}" if str(at) != url else "")
            if check_robots and not self.robots.can_fetch(str(at), USER_AGENT):
                raise _Refused("forbidden by robots.txt")
            reply = self._retried(str(at))
            if reply.status not in (301, 302, 303, 307, 308) or not reply.location:
                return str(at), reply
            try:
                at = at.join(reply.location).copy_with(fragment=None)
            except httpx.InvalidURL:
                raise _Refused("unreachable", f"redirected to {reply.location!r}") from None
        raise _Refused("unreachable", f"more than {MAX_REDIRECTS} redirects")

    def _retried(self, url: str) -> _Reply:
        import httpx

        reply = None
        fault = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                asked = reply.wait_s if reply is not None and reply.wait_s is not None else 2.0 ** (attempt - 1)
                self.pace.sleep(min(asked, MAX_WAIT_S))
            self._wait()
            try:
                reply, fault = self._once(url), ""
            except (httpx.TransportError, httpx.DecodingError) as error:
                reply, fault = None, f"{type(error).__name__}: {error}"
            if reply is not None and reply.status != 429 and reply.status < 500:
                return reply
        if reply is None:
            raise _Refused("unreachable", f"{ATTEMPTS} attempts: {fault}")
        return reply

    def _wait(self) -> None:
        if self.last is not None and (left := self.last + self.delay_s - self.pace.clock()) > 0:
            self.pace.sleep(left)
        self.last = self.pace.clock()

    def _once(self, url: str) -> _Reply:
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", "Accept": "text/html,text/plain,*/*;q=0.1"}
        with self.client.stream("GET", url, headers=headers, follow_redirects=False, timeout=TIMEOUT_S) as response:
            body = bytearray()
            for block in response.iter_raw(1 << 16):  # as sent: unpacking is bounded below
                body += block
                if len(body) > self.max_bytes:
                    raise _Refused("too large", f"more than {self.max_bytes / 1e6:g} MB")
            packed = response.headers.get("content-encoding", "identity").lower()
            if packed not in ("identity", "", "gzip", "x-gzip"):
                raise _Refused("not a page", f"expected gzip or no encoding, got {packed}")
            return _Reply(
                response.status_code,
                response.headers.get("content-type", "").split(";")[0].strip().lower(),
                response.charset_encoding or "",
                _gunzipped(bytes(body), self.max_bytes) if packed.endswith("gzip") else bytes(body),
                response.headers.get("location", ""),
                _wait_s(response.headers.get("retry-after", "")),
            )


def _loaded(reply: _Reply, address: str) -> Loaded:
    """The page as text; the encoding that the header names comes before what the page says of itself."""
    content = reply.body
    if reply.encoding:
        try:
            content = content.decode(reply.encoding).encode("utf-8")
        except (LookupError, UnicodeError):
            content = reply.body
    try:
        return load(content, "page.html" if reply.kind == "text/html" else "page.txt", address)
    except DataError as error:
        raise _Refused("unreadable", str(error)) from None


def _wait_s(header: str) -> float | None:
    """Seconds that Retry-After asks for, which may be a date; None where it says nothing sensible."""
    if header.isascii() and header.isdigit():
        return float(header[:6])
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _gunzipped(body: bytes, max_bytes: int) -> bytes:
    """The body, unpacked if it is gzip."""
    if not body.startswith(b"\x1f\x8b"):
        return body
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as stream:
            unpacked = stream.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _Refused("unreadable", f"broken gzip: {error}") from None
    if len(unpacked) > max_bytes:
        raise _Refused("too large", f"more than {max_bytes / 1e6:g} MB when unpacked")
    return unpacked


def _locations(content: bytes, shown: str) -> tuple[bool, list[str]]:
    """(whether it is a sitemap index, the addresses it names)."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    try:
        tree = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise DataError(
            f"{shown}: expected a sitemap (XML), got {type(error).__name__}: {error}; mend the address"
        ) from None
    root = tree.tag.rsplit("}", 1)[-1]
    if root not in ("urlset", "sitemapindex"):
        raise DataError(f"{shown}: expected a sitemap (urlset or sitemapindex), got <{root}>; mend the address")
    found = [
        node.text.strip() for entry in tree for node in entry if node.tag.rsplit("}", 1)[-1] == "loc" and node.text
    ]
    return root == "sitemapindex", found
