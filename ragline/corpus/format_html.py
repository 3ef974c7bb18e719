"""HTML to Markdown: the page's own content, without what stands around it on every page."""

import re
from collections.abc import Iterator
from typing import Any

from ragline.corpus.format_markdown import MAX_CHARACTERS, Loaded, fenced, joined, one_line, prose, table
from ragline.corpus.format_text import LEAVE_OUT
from ragline.errors import DataError

Element = Any
"""lxml's, which has no types."""

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "header hr legend li main nav ol p pre section summary table ul".split()
) | frozenset(_HEADINGS)
_NEVER_TEXT = frozenset(
    "script style noscript template svg canvas iframe object embed applet audio video map button select input "
    "textarea datalist progress meter head link meta nav dialog menu".split()
)
_AROUND_ONLY = frozenset("header footer aside".split())
"""Page furniture outside the main content; inside it they hold titles, sources and notes."""

_FURNITURE_ROLES = frozenset(
    "navigation banner contentinfo search dialog alertdialog menu menubar toolbar tablist".split()
)
_FURNITURE = re.compile(
    r"^(?:cookies?|consent|gdpr|breadcrumbs?|side-?bar|side-?nav|navbar|nav|navigation|menu|toc|table-of-contents|"
    r"skip-?link|skip-?to|pagination|pager|prev-next|social|share|related|newsletter|advert|advertisement|ads|footer|"
    r"site-header|masthead|edit-page|edit-this-page|sr-only|visually-hidden|screen-reader|headerlink|modal|popup)(?:$|[-_])|"
    r"[-_](?:cookies?|consent|breadcrumbs?|side-?bar|side-?nav|navbar|nav|navigation|menu|toc|pagination|footer)$",
    re.IGNORECASE,
)
_LAYOUT_WORD = re.compile(r"^(?:has|with|without|no|is|js|layout|col|md|lg|sm|theme)[-_]", re.IGNORECASE)
_HIDING_STYLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_ANCHOR_SIGN = frozenset("¶ § # 🔗 ⚓".split())
_META_CHARSET = re.compile(
    rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)|<\?xml[^>]+encoding=[\"']([\w.-]+)", re.IGNORECASE
)

MAX_TAGS = 2_000_000
"""A page of more is no page; a million elements take half a gigabyte."""

MAX_SPAN = 50
"""A cell that claims more rows or columns gets no more: the standard's 65,534 would multiply small files."""

MAX_COLUMNS = 500
"""A cell further right in its row claims one column only."""


def declared_encoding(content: bytes) -> str:
    """The encoding that a page names in its first two kilobytes; empty where it names none."""
    found = _META_CHARSET.search(content[:2048])
    return (found[1] or found[2]).decode("ascii") if found else ""


def page(text: str, name: str, shown: str) -> Loaded:
    """Turn a page into Markdown.

    The content is what stands in `<main>` (or the like) if there is such an element, else the body without
    navigation, banners, footers, and blocks that are mostly links. Scripts, forms, hidden and embedded things
    never give text; nothing is run or fetched.

    Returns:
        The title is the only h1, else the page's own `<title>`, else the first heading, else the file's name.

    Raises:
        DataError: nested too deep to be read whole, or of too many tags.
    """
    from lxml import etree, html

    if (tags := text.count("<")) > MAX_TAGS:
        raise DataError(f"{shown}: expected at most {MAX_TAGS:,} tags in a page, got {tags:,}; split it {LEAVE_OUT}")
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True)
    try:
        root = html.document_fromstring(text.encode("utf-8"), parser=parser)
    except etree.ParserError:  # nothing but white space or comments
        return Loaded(name, "", "markdown")
    if deep := [fault.message for fault in parser.error_log if "depth" in fault.message.lower()]:
        raise DataError(
            f"{shown}: expected HTML nested at most 256 deep, got {deep[0].strip()}; simplify it {LEAVE_OUT}"
        )
    named = one_line(root.findtext(".//title") or "")
    body = root.find("body")
    if body is None:
        return Loaded(named or name, "", "markdown")
    content = _content(body)
    titles = [title for h1 in content.iter("h1") if (title := _line(h1))]
    first = next((found for h in content.iter(*_HEADINGS) if (found := _line(h))), "")
    title = titles[0] if len(titles) == 1 else named or first or name
    holders = {above for block in content.iter(*_BLOCKS) for above in block.iterancestors()}
    return Loaded(title, _bounded(joined(_blocks(content, holders))), "markdown")


# --- what is content -------------------------------------------------------------------------------


def _content(body: Element) -> Element:
    for element in list(body.iter(*_NEVER_TEXT)):
        _drop(element)
    whole = _length(body)
    for element in list(body.iter()):
        if element is not body and _is_hidden(element):
            _drop(element)
    mains = [e for e in body.iter() if e.tag == "main" or e.get("role") == "main"]
    main = max(mains or list(body.iter("article"))[:2], key=_length, default=None)
    if main is not None and (not mains and len(list(body.iter("article"))) != 1):
        main = None  # several articles are a page of them
    if main is not None and _length(main) < 80:
        main = None  # an empty shell
    top = body if main is None else main
    for element in list(top.iter()):
        if element is top or not _is_furniture(element, inside=main is not None):
            continue
        titled = next(element.iter("h1"), None) is not None and element.tag not in ("aside", "footer")
        if not titled and 2 * _length(element) < whole:  # names mislead: most of a page is not beside it
            _drop(element)
    if main is None:
        _drop_link_lists(top)
    return top


def _is_hidden(element: Element) -> bool:
    return (
        element.get("hidden") is not None
        or element.get("aria-hidden") == "true"
        or bool(_HIDING_STYLE.search(element.get("style") or ""))
    )


def _is_furniture(element: Element, inside: bool) -> bool:
    if element.get("role") in _FURNITURE_ROLES:
        return True
    if not inside and (element.tag in _AROUND_ONLY or element.get("role") == "complementary"):
        return True
    names = f"{element.get('class') or ''} {element.get('id') or ''}".split()
    if element.tag in _HEADINGS or element.tag in ("body", "main", "article", "table", "code", "pre"):
        return False
    return any(_FURNITURE.search(word) and not _LAYOUT_WORD.match(word) for word in names)


def _drop_link_lists(top: Element) -> None:
    """Lists and boxes that are links for the most part, unless nothing else is there."""
    found = [e for e in top.iter("ul", "ol", "div", "table") if _is_link_list(e)]
    dropped = set(found)
    outermost = [e for e in found if not any(above in dropped for above in e.iterancestors())]
    if sum(map(_length, outermost)) < 0.8 * _length(top):
        for element in outermost:
            _drop(element)


def _is_link_list(element: Element) -> bool:
    links = list(element.iter("a"))
    return (
        len(links) >= 4
        and next(element.iter(*_HEADINGS), None) is None
        and sum(map(_length, links)) >= 0.8 * _length(element)
    )


def _length(element: Element) -> int:
    return sum(len(text.strip()) for text in element.itertext())


def _drop(element: Element) -> None:
    """Empty an element, keeping the text that follows it; taking it out would join texts, in quadratic time."""
    element.clear(keep_tail=True)


# --- how it is written -----------------------------------------------------------------------------


def _blocks(element: Element, holders: set[Element]) -> Iterator[str]:
    """Markdown blocks of an element's children; text between them becomes paragraphs."""
    run = [element.text or ""]
    for child in element:
        if child.tag in _BLOCKS or child in holders:
            yield _paragraph(run)
            run = []
            yield from _block(child, holders)
        else:
            run.append(_inline(child))
        run.append(child.tail or "")
    yield _paragraph(run)


def _block(element: Element, holders: set[Element]) -> Iterator[str]:
    tag = element.tag
    if tag in _HEADINGS:
        if title := _line(element):
            yield f"{'#' * _HEADINGS[tag]} {title}"
    elif tag == "pre":
        yield fenced(_code(element), _language(element))
    elif tag in ("ul", "ol"):
        yield _bounded("\n".join(_items(element, holders)))
    elif tag == "table" and _is_data(element):
        if caption := " ".join(_line(c) for c in element.iterchildren("caption")):
            yield caption
        yield _bounded(table(_rows(element)))
    elif tag == "dt":
        yield f"**{term}**" if (term := _line(element)) else ""
    elif tag == "blockquote":
        inner = joined(_blocks(element, holders)).rstrip("\n")
        yield _bounded("\n".join(f"> {line}".rstrip() for line in inner.split("\n"))) if inner else ""
    else:
        yield from _blocks(element, holders)


def _bounded(text: str) -> str:
    """The text; spans and nested quotes can make a small page a huge one, which stops here."""
    if len(text) > MAX_CHARACTERS:
        raise OverflowError(f"more than {MAX_CHARACTERS:,} characters")
    return text


def _items(element: Element, holders: set[Element]) -> Iterator[str]:
    for number, item in enumerate(element.iterchildren("li", "ul", "ol"), start=1):
        mark = f"{number}. " if element.tag == "ol" else "- "
        blocks = _blocks(item, holders) if item.tag == "li" else _block(item, holders)
        inner = re.sub(r"\n\n(?=\s*(?:- |\d+\. ))", "\n", joined(blocks).rstrip("\n"))
        if inner:
            yield mark + inner.replace("\n", "\n" + " " * len(mark))


def _is_data(element: Element) -> bool:
    """Not one that lays out the page: no table inside, and somewhere two cells side by side."""
    inner = next((e for e in element.iter("table") if e is not element), None)
    return inner is None and any(len(row.findall("td")) + len(row.findall("th")) > 1 for row in element.iter("tr"))


def _rows(element: Element) -> list[list[str]]:
    """Cells of each row; a cell that spans rows is repeated, so that every row can be read by itself."""
    rows: list[list[str]] = []
    pending: dict[int, tuple[int, str]] = {}  # column → rows still to fill, text
    for row in element.iter("tr"):
        cells: list[str] = []
        left = list(row.iterchildren("td", "th"))
        while left or len(cells) in pending:
            if len(cells) in pending:
                more, text = pending.pop(len(cells))
                if more > 1:
                    pending[len(cells)] = (more - 1, text)
                cells.append(text)
                continue
            cell = left.pop(0)
            text, down = _line(cell), _span(cell, "rowspan")
            for column in range(max(1, min(_span(cell, "colspan"), MAX_COLUMNS - len(cells)))):
                if down > 1 and len(cells) < MAX_COLUMNS:
                    pending[len(cells)] = (down - 1, text)
                cells.append(text if not column else "")
        rows.append(cells)
    return rows


def _span(cell: Element, name: str) -> int:
    value = cell.get(name) or "1"
    return min(int(value), MAX_SPAN) if value.isascii() and value.isdigit() and int(value[:6]) > 0 else 1


def _paragraph(run: list[str]) -> str:
    lines = (one_line(line) for line in "".join(run).split("\0"))
    return prose("\n".join(line for line in lines if line))


def _line(element: Element) -> str:
    return one_line(_inline(element).replace("\0", " "))


def _inline(element: Element) -> str:
    """Text of an element; a NUL, which no HTML text holds, stands for `<br>`."""
    tag = element.tag
    if tag == "br":
        return "\0"
    if not isinstance(tag, str):
        return ""
    inner = (element.text or "") + "".join(
        (" " if child.tag in _BLOCKS else "") + _inline(child) + (child.tail or "") for child in element
    )
    if tag == "a" and inner.strip() in _ANCHOR_SIGN:
        return ""
    if tag in ("code", "tt", "kbd", "samp") and inner.strip() and "`" not in inner and "\0" not in inner:
        return f"`{one_line(inner)}`"
    return inner


def _code(element: Element) -> str:
    for line_break in element.iter("br"):
        line_break.text = "\n"
    return "".join(element.itertext())


def _language(element: Element) -> str:
    for holder in (element, *element.iterchildren("code")):
        for word in (holder.get("class") or "").split():
            if found := re.fullmatch(r"(?:language|lang|highlight-source|brush:)-?([\w+#-]+)", word):
                return found[1]
    return ""
