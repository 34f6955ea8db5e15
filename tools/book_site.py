"""Build the book and check its pages: `python -m tools.book_site [--ci]`; `make book`.

mdBook, 0.4 or 0.5, is the program that $MDBOOK names, or `mdbook` on the PATH, or is
unpacked by ../shared/tools/get-mdbook where that stands. The site is written to
build/book and works from there without a server. With `--ci` both versions that can be
unpacked build it, and where there is no mdBook this says so and is content.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .kernels import ROOT

GET_MDBOOK = ROOT.parent / "shared" / "tools" / "get-mdbook"
MISSING = """\
*** THE BOOK WAS NOT BUILT: there is no mdBook. ***
Get 0.4 or 0.5 from https://github.com/rust-lang/mdBook/releases and put it on the PATH,
or name it: make book MDBOOK=/path/to/mdbook"""


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ci", action="store_true", help="both versions, if any")
    ci = parser.parse_args(arguments).ci
    given = os.environ.get("MDBOOK") or shutil.which("mdbook")
    if not given and not GET_MDBOOK.exists():
        print(MISSING, file=sys.stderr)
        return 0 if ci else 1
    site = ROOT / "build" / "book"
    if given or not ci:
        return build(given or unpack("mdbook-0.5", "--next"), site)
    try:
        old, new = unpack("mdbook-0.4"), unpack("mdbook-0.5", "--next")
    except subprocess.CalledProcessError:
        print(MISSING, file=sys.stderr)
        return 0
    failed = build(old, site.with_name("book-0.4"))
    return build(new, site) or failed


def unpack(name, *options):
    """The path of an mdBook that get-mdbook unpacked into .cache/."""
    folder = ROOT / ".cache" / name
    subprocess.run([GET_MDBOOK, *options, folder], check=True)
    return folder / "mdbook"


def build(mdbook, site):
    """0 when `mdbook` has built the book in folder `site` and no fault is in it."""
    done = run(mdbook, site)
    if done.returncode and "Font Awesome" in done.stderr:
        done = run(mdbook, site, MDBOOK_OUTPUT__HTML__THEME=str(plain_theme(mdbook)))
    sys.stderr.write(done.stderr)
    if done.returncode:
        return 1
    for copied in site.rglob("*.ipynb"):  # mdBook copies whatever is not Markdown
        copied.unlink()
    drop_what_is_missing(site)
    found = faults(site)
    print(*found, f"{site / 'index.html'}: {len(found)} faults", sep="\n", flush=True)
    return 1 if found else 0


# mdBook's own files that Debian's packages leave out: fonts, in 0.4 the script that
# folds the sidebar. Where they are → how a page asks for them.
LEFT_OUT = {
    "fonts/fonts*.css": r"<link[^>]*fonts/fonts[^>]*>",
    "book*.js": r'<script src="[^"]*\bbook[-\w]*\.js"></script>',
}


def drop_what_is_missing(site):
    """Takes off the pages what asks for files that mdBook's package left out."""
    for files, asks in LEFT_OUT.items():
        for path in () if any(site.glob(files)) else site.rglob("*.html"):
            text = path.read_text("utf-8")
            path.write_text(re.sub(asks, "", text), "utf-8")


def run(mdbook, site, **settings):
    """What `mdbook build` said; the preprocessor runs in the Python that runs this."""
    python = Path(sys.executable).parent  # book.toml calls it by the name of python
    settings["PATH"] = f"{python}{os.pathsep}{os.environ['PATH']}"
    command = [mdbook, "build", "--dest-dir", site]
    environment = os.environ | settings
    return subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )


SIGNS = {
    "bars": "☰", "paintbrush": "◐", "magnifying-glass": "⌕", "angle-left": "‹",
    "angle-right": "›", "copy": "⧉",
}  # fmt: skip


def plain_theme(mdbook):
    """The path of a copy of `mdbook`'s own theme with characters as icons.

    Debian's mdBook 0.5 reads the icons from a second package; without that it fails.
    """
    folder = ROOT / "build" / "book-theme"
    shutil.rmtree(folder, ignore_errors=True)
    options = ["--theme", "--force", "--ignore=none", "--title=theme"]
    init = [mdbook, "init", *options, folder]
    subprocess.run(init, check=True, capture_output=True)
    page = folder / "theme" / "index.hbs"
    page.write_text(with_signs(page.read_text("utf-8")), "utf-8")
    return page.parent


def with_signs(template):
    """`template` with a character, or nothing, for each of its icons."""
    icon = r"""\{\{fa \S+ "?([\w-]*)[^}]*\}\}"""
    return re.sub(icon, lambda match: SIGNS.get(match[1], ""), template)


# ---- what must not be on a page ------------------------------------------------------


class Page(HTMLParser):
    """What `faults` asks of a page: places, addresses, text, pictures and formulas."""

    CODE = ("code", "pre", "script", "style")

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.text, self.without_alt, self.formulas = "", 0, 0
        self._in_code = 0
        self.feed(text.replace('<span class="dollar">$</span>', ""))
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found.get("id"), found.get("name")} - {None}
        self.formulas += tag == "math"
        self._in_code += tag in self.CODE
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        elif tag == "img":
            self.loaded.append(found["src"])
            self.without_alt += not found.get("alt")
        elif tag in ("script", "link"):
            self.loaded += filter(None, [found.get("src"), found.get("href")])

    def handle_endtag(self, tag):
        self._in_code -= tag in self.CODE

    def handle_data(self, data):
        if not self._in_code:
            self.text += data


def faults(site):
    """Sentences about what is wrong with the pages in folder `site`; [] if nothing."""
    files = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    pages = {path.resolve(): Page(path.read_text("utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        found += [
            f"{path.name}: a raw $ in …{text}…"
            for text in re.findall(r".{0,30}\$.{0,30}", page.text)
        ]
        if page.without_alt:
            found.append(f"{path.name}: {page.without_alt} pictures say nothing")
        found += [f"{path.name}: {fault}" for fault in _dead_links(path, page, pages)]
    if not any(page.formulas for page in pages.values()):
        found.append("no page has a formula")
    if not list(site.glob("searchindex*.js")):
        found.append("there is no search index")
    return found


def _dead_links(path, page, pages):
    """Sentences about addresses that lead nowhere, or out of what is on the disk."""
    for address in page.loaded:
        parts = urlsplit(address)
        if parts.netloc or parts.scheme not in ("", "data"):
            yield f"it loads {address} from elsewhere"
    for address in page.loaded + page.links:  # a style or a picture must be there too
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.exists():
            yield f"{address} leads nowhere"
        elif (
            parts.fragment
            and target in pages
            and unquote(parts.fragment) not in pages[target].ids
        ):
            yield f"{address} leads to no place on {target.name}"


if __name__ == "__main__":
    sys.exit(main())
