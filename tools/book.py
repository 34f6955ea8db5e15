r"""mdBook's preprocessor: a chapter that is a notebook becomes Markdown.

mdBook starts it as `python -m tools.book`, sends [context, book] as JSON and reads the
book back; `python -m tools.book supports html` exits with 0, with 1 for other outputs.
nbconvert writes the Markdown. Before that
  formulas     $…$ and $$…$$ become MathML, which browsers draw without a script
  links        to a notebook lead to its chapter; those to other files of the
               repository, which the book does not hold, become the text they stand on
  exercises    show the stub; the solution and its table of cases are folded away
  cells        whose code is hidden in the notebook show what it printed; it is folded
  pictures     are part of the page, with the alternative text that they must have;
               on a phone a wide one scrolls
Nothing is written but the answer. Money is \$ in a notebook.
"""

import base64
import html
import json
import re
import sys
from functools import partial
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from latex2mathml.converter import convert
from nbconvert import MarkdownExporter
from traitlets.config import Config

from .cells import BEGIN, END, is_exercise, is_hidden


class BookError(Exception):
    """A notebook cannot become a chapter; the message names it and says why."""


def preprocess(context, book):
    """`book` with Markdown in the place of every chapter that is a notebook.

    mdBook 0.4 calls the list of chapters "sections", 0.5 calls it "items". Raises
    BookError.
    """
    source = Path(context["root"]) / context["config"]["book"]["src"]
    chapters = list(_chapters(book["items" if "items" in book else "sections"]))
    paths = {chapter["path"] for chapter in chapters}
    for chapter in chapters:
        if chapter["path"].endswith(".ipynb"):
            learner = nbformat.reads(chapter["content"], as_version=4)
            try:
                solved = _read(source / "solutions" / chapter["path"])
                chapter["content"] = to_markdown(learner, solved, paths)
            except BookError as error:
                raise BookError(f"{chapter['path']}: {error}") from error
    return book


def _chapters(items):
    """The chapters in a list of items, at any depth, without drafts (no path)."""
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            if item["Chapter"]["path"]:
                yield item["Chapter"]
            yield from _chapters(item["Chapter"]["sub_items"])


def _read(path):
    if not path.exists():
        raise BookError(f"{path.parent.name}/{path.name} is missing: make notebooks")
    return nbformat.read(path, as_version=4)


# ---- one notebook --------------------------------------------------------------------

TEMPLATE = """
{%- extends 'markdown/index.md.j2' -%}
{% block markdowncell %}{{ '\n\n' + cell.source + '\n\n' }}{% endblock %}
{% block input %}
{%- if cell.source %}{{ cell.source | fence('python') }}{% endif -%}
{% endblock %}
{% block stream %}{{ output.text | strip_ansi | fence('text') }}{% endblock %}
{% block data_text %}
{{- output.data['text/plain'] | strip_ansi | fence('text') }}
{%- endblock %}
{% block data_png %}{{ output | picture }}{% endblock %}
"""

SETTINGS = {
    # Left on, it moves the pictures into files, before `picture` sees them.
    "ExtractOutputPreprocessor": {"enabled": False},
    # What a cell printed in several pieces is one text.
    "CoalesceStreamsPreprocessor": {"enabled": True},
}


def to_markdown(learner, solved, paths):
    """The Markdown of a chapter: the `learner` notebook with the solutions of `solved`.

    `paths` are those of all chapters, to which links may lead. Raises BookError.
    """
    cells = list(_fold_solutions(learner.cells, solved.cells))
    for cell in cells:
        if cell.cell_type == "markdown":
            cell.source = markdown(cell.source, paths)
        else:
            cell.source = re.sub(r"^# NBVAL_\w+\n", "", cell.source, flags=re.M)
    exporter = MarkdownExporter(
        config=Config(SETTINGS),
        extra_loaders=[DictLoader({"book.md.j2": TEMPLATE})],
        template_file="book.md.j2",
        filters={"fence": fence, "picture": picture},
    )
    return exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))[0]


def _fold_solutions(learner, solved):
    """The learner's cells, each stub followed by its solution in <details>."""
    if len(learner) != len(solved):
        raise BookError("its solutions have other cells: make notebooks")
    for cell, solution in zip(learner, solved, strict=True):
        if not is_exercise(solution):
            yield from _fold_hidden(cell)
            continue
        cell.outputs = []  # "not attempted yet"
        yield cell
        lines = solution.source.splitlines()
        kept = [line for line in lines if line.strip() not in (BEGIN, END)]
        # The table of cases, without the True that `check` returns.
        printed = [o for o in solution.outputs if o.output_type == "stream"]
        yield from _folded("Solution", "\n".join(kept), printed)


def _fold_hidden(cell):
    """A cell whose code is hidden in two parts: the code in <details>, the outputs."""
    if not is_hidden(cell):
        yield cell
        return
    yield from _folded("Code", cell.source)
    yield nbformat.v4.new_code_cell("", outputs=cell.outputs)


def _folded(summary, source, outputs=()):
    yield nbformat.v4.new_markdown_cell(f"<details><summary>{summary}</summary>")
    yield nbformat.v4.new_code_cell(source, outputs=list(outputs))
    yield nbformat.v4.new_markdown_cell("</details>")


def fence(text, language):
    """A fenced block of code around `text`, whatever backticks stand in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"\n\n{marks}{language}\n{text.rstrip()}\n{marks}\n\n"


def picture(output):
    """An <img> that holds the picture of `output`; without alt text a BookError.

    Its box knows how wide the picture is: on a phone tools/book.css lets it scroll.
    """
    alt = output.metadata.get("image/png", {}).get("alt", "").strip()
    if not alt:
        raise BookError("a picture has no alternative text: viz.show(figure, alt=…)")
    data = "".join(output.data["image/png"].split())
    width = int.from_bytes(base64.b64decode(data[:32])[16:20], "big")  # in its header
    alt = html.escape(" ".join(alt.split()))
    image = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return f'\n\n<div class="picture" style="--width: {width}px">{image}</div>\n\n'


# ---- one cell of text ----------------------------------------------------------------

INLINE = re.compile(
    r"""(?P<escape>\\[\\`$\[])
    | (?P<code>(?P<ticks>`+)(?!`).+?(?<!`)(?P=ticks)(?!`))
    | (?<!!)\[(?P<text>(?:`[^`]*`|[^][`])*)\]\((?P<target>[^)\s]+)\)
    | \$\$(?P<display>.+?)\$\$
    | \$(?!\s)(?P<formula>(?:\\.|[^$\\])+?)(?<!\s)\$(?!\d)(?P<mark>[.,;:!?)]*)
    | (?P<lone>\$)""",
    re.VERBOSE | re.DOTALL,
)


def markdown(text, paths):
    """`text`, a notebook's Markdown, with formulas and links as the book needs them."""
    return INLINE.sub(partial(_replace, paths=paths), text)


def _replace(match, paths):
    """What the book has for one match of INLINE."""
    if match["lone"]:
        line = match.string[: match.end()].splitlines()[-1]
        raise BookError(rf"a $ without its partner (write \$ for money): …{line[-60:]}")
    if match["escape"] == r"\$":
        return '<span class="dollar">&#36;</span>'
    if match["target"]:
        return _link(markdown(match["text"], paths), match["target"], paths)
    tex = match["display"] or match["formula"]
    if not tex:  # code, or another escape
        return match[0]
    line = match.string[: match.start()].rpartition("\n")[2]
    if line.lstrip().startswith(">"):  # the formula goes on in a quotation
        tex = re.sub(r"\n\s*>", "\n", tex)
    if match["display"]:
        return f'<span class="formula">{mathml(tex, "block")}</span>'
    formula = mathml(tex, "inline")
    if match["mark"]:  # browsers would begin a line with it
        return f'<span class="together">{formula}{match["mark"]}</span>'
    return formula


def _link(text, target, paths):
    """A link to a chapter or out of the repository; otherwise the text alone."""
    if re.match(r"[a-z]+:|#", target):
        return f"[{text}]({target})"
    path, mark, fragment = target.partition("#")
    if path in paths:
        page = re.sub(r"\.(ipynb|md)$", ".html", path)
        return f"[{text}]({page}{mark}{fragment.lower()})"
    if path.startswith("../"):
        return text
    raise BookError(f"it links to {target}, which is no chapter of SUMMARY.md")


def mathml(tex, display):
    """`tex` as a <math> on one line, in which Markdown sees nothing to change.

    `display` is "block" or "inline". Raises BookError on what is no formula.
    """
    try:
        formula = convert(tex.strip(), display=display)
    except Exception as error:  # latex2mathml's many errors have no common class
        raise BookError(f"no formula: {tex!r} ({type(error).__name__})") from error
    if "\\" in formula:  # an unknown command is passed on as text
        raise BookError(f"a formula has a command that MathML lacks: {tex!r}")
    formula = formula.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    formula = formula.replace("<mo>&#x0221E;</mo>", "<mi>&#x0221E;</mi>")  # no operator
    formula = FUNCTION.sub(_spaced, formula)
    return re.sub(r">([^<>]+)<", _encode, " ".join(formula.split()))


FUNCTION = re.compile(r"(</m(?!o)\w+>)?<mi>([a-z]{2,})</mi>(?=(<mo\b)?)")


def _spaced(match):
    """ln, sin, … with TeX's thin space on either side, but none before a bracket."""
    before = "0.167em" if match[1] else "0"
    after = "0" if match[3] else "0.167em"
    return f'{match[1] or ""}<mo lspace="{before}" rspace="{after}">{match[2]}</mo>'


def _encode(match):
    """Text between two tags, all but letters and digits as numbers."""
    text = html.unescape(match[1])
    coded = (c if c.isascii() and c.isalnum() else f"&#{ord(c)};" for c in text)
    return f">{''.join(coded)}<"


# ---- mdBook's protocol ---------------------------------------------------------------


def main(arguments):
    if arguments[:1] == ["supports"]:
        return 0 if arguments[1:] == ["html"] else 1
    context, book = json.load(sys.stdin)
    try:
        json.dump(preprocess(context, book), sys.stdout)
    except BookError as error:
        print(f"The book was not built. {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
