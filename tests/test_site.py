"""The built docs: every link leads somewhere, and nothing is asked of another host."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
ELSEWHERE = ("__",)  # anchors of the theme's own switches


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, source):
        super().__init__()
        self.links, self.loaded, self.anchors = [], [], set()
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("href") and "stylesheet" in (given.get("rel") or ""):
            self.loaded.append(given["href"])
        elif given.get("src"):
            self.loaded.append(given["src"])


def broken(folder):
    """The links of all pages in a folder that lead nowhere, with where they stand."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":  # whose addresses begin at the root of a site
            continue
        for link in [*page.links, *page.loaded]:
            asked = urlsplit(link)
            if asked.scheme or asked.netloc:
                continue
            target = (path.parent / unquote(asked.path)).resolve() if asked.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(asked.fragment)
            known = pages[target].anchors if target in pages else {anchor}
            if not target.exists() or (anchor and not anchor.startswith(ELSEWHERE) and anchor not in known):
                yield f"{path.relative_to(folder.resolve())}: {link}"


def test_every_link_of_the_docs_leads_somewhere(site):
    assert len(list(site.rglob("*.html"))) > 40
    assert list(broken(site)) == []


def test_no_page_loads_anything_from_elsewhere(site):
    for path in site.rglob("*.html"):
        foreign = [link for link in Page(path.read_text(encoding="utf-8")).loaded if urlsplit(link).netloc]
        assert foreign == [], path


@pytest.mark.parametrize(
    "link", ["nowhere/", "other/#nowhere", "#nowhere", "other.png", "../other/#nowhere"], ids=lambda link: link
)
def test_a_link_that_leads_nowhere_is_found(tmp_path, link):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text("<h2 id='here'>")
    (tmp_path / "index.html").write_text("<a href='other/#here'></a><a href='https://example.org'></a>")
    assert list(broken(tmp_path)) == []
    (tmp_path / "index.html").write_text(f"<a href='{link}'></a>")
    assert list(broken(tmp_path)) == [f"index.html: {link}"]


def test_the_docs_are_built_strictly_and_not_quietly():
    """`--quiet` silences the warnings that `--strict` counts, and with them strictness itself."""
    build = re.search(r"mkdocs.*build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))[0]
    assert "--strict" in build
    assert "quiet" not in build
