"""The parts of a tokenizer.json, the format of the library `tokenizers`.

A file names what is done to a text: `normalizer`, then `pre_tokenizer` (where it is cut
into words), `model` (words to ids), `post_processor` (what is put around the ids), and
for the way back `decoder`; `added_tokens` are found before all of that. Here is what
the kinds of tokenizers share. Each error is a `ValueError` that names the entry.
"""

from .added import AddedToken
from .template import PLAIN, Template

_REQUIRED = object()


def document(tokenizer, model, *, normalizer=None, pre_tokenizer=None, decoder=None):
    """The contents of a tokenizer's file; `model` without its vocabulary."""
    added = [
        t.contents(tokenizer.token_to_id[t.content]) for t in tokenizer.added_tokens
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": _post_processor(tokenizer),
        "decoder": decoder,
        "model": {**model, "vocab": tokenizer.token_to_id},
    }


def split_at(pattern):
    """A pre-tokenizer that cuts a text at the matches of a pattern."""
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def entry(contents, name, kind, default=_REQUIRED):
    """`contents[name]`, which must be of a kind, or may be left out: the default."""
    if not isinstance(contents, dict):
        raise ValueError(f'{contents!r:.60} stands where a dict with "{name}" should')
    value = contents.get(name, default)
    if value is _REQUIRED:
        raise ValueError(f'"{name}" is missing')
    if value is not default and type(value) is not kind:
        raise ValueError(f'"{name}" is {value!r:.60}, not a {kind.__name__}')
    return value


def refuse_settings(what, part, **readable):
    """ValueError for a setting of `part` with a value not among the readable ones.

    A setting that is left out has the first of them.
    """
    if not isinstance(part, dict):
        raise ValueError(f"the {what} is {part!r:.60}, not a dict")
    for name, values in readable.items():
        if part.get(name, values[0]) not in values:
            raise ValueError(
                f'minibig does not read a {what} with "{name}": {part[name]!r:.60}, '
                f"only {' or '.join(map(repr, values))}"
            )


def vocabulary_settings(contents):
    """{"tokens", "special_tokens", "template"} of a file, for a tokenizer's making."""
    vocabulary = dict(entry(contents["model"], "vocab", dict))
    added = []
    for stored in entry(contents, "added_tokens", list, []):
        token, index = _added_token(stored)
        if vocabulary.setdefault(token.content, index) != index:
            raise ValueError(
                f"added token {token.content!r} has the id {index}, and "
                f"{vocabulary[token.content]} in the vocabulary"
            )
        added.append(token)
    tokens = in_order(vocabulary)
    return {
        "tokens": tokens,
        "special_tokens": added,
        "template": _template(contents.get("post_processor"), vocabulary),
    }


def in_order(vocabulary):
    """The tokens of token -> id, which must be 0, 1, 2 and so on, in a list."""
    if not all(type(index) is int for index in vocabulary.values()):
        raise ValueError('"vocab" has ids that are not whole numbers')
    tokens = sorted(vocabulary, key=vocabulary.get)
    for index, token in enumerate(tokens):
        if vocabulary[token] < index:
            raise ValueError(f"{tokens[index - 1]!r} and {token!r} have the same id")
        if vocabulary[token] > index:
            raise ValueError(f"no token of the vocabulary has the id {index}")
    return tokens


def _added_token(stored):
    refuse_settings("added token", stored, single_word=(False,))
    flags = ("special", "lstrip", "rstrip", "normalized")
    token = AddedToken(
        entry(stored, "content", str),
        **{name: entry(stored, name, bool, False) for name in flags},
    )
    return token, entry(stored, "id", int)


def _post_processor(tokenizer):
    template = tokenizer.template
    if template == PLAIN:
        return None
    ids = tokenizer.token_to_id
    return {
        "type": "TemplateProcessing",
        "single": [_piece(*piece) for piece in template.single],
        "pair": [_piece(*piece) for piece in template.pair],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]}
            for token in template.tokens
        },
    }


def _piece(name, type_id):
    if name in ("$A", "$B"):
        return {"Sequence": {"id": name[1:], "type_id": type_id}}
    return {"SpecialToken": {"id": name, "type_id": type_id}}


def _template(part, vocabulary):
    """The `Template` of a file's post-processor; ByteLevel's touches no ids."""
    parts = [part] if part is not None else []
    if parts and entry(part, "type", str) == "Sequence":
        parts = entry(part, "processors", list)
    parts = [p for p in parts if entry(p, "type", str) != "ByteLevel"]
    if not parts:
        return PLAIN
    kind = parts[0]["type"]
    if len(parts) > 1 or kind not in _TEMPLATES:
        kinds = [p["type"] for p in parts]
        raise ValueError(f"minibig does not read the post_processor {', '.join(kinds)}")
    return _TEMPLATES[kind](parts[0], vocabulary)


def _from_template(part, vocabulary):
    special = entry(part, "special_tokens", dict)
    for token, stored in special.items():
        if entry(stored, "ids", list) != [vocabulary.get(token)]:
            raise ValueError(
                f"the template puts the ids {stored['ids']} for {token!r}, whose id is "
                f"{vocabulary.get(token)}"
            )
    single, pair = (
        tuple(map(_template_entry, entry(part, name, list)))
        for name in ("single", "pair")
    )
    template = Template(single, pair)
    if not set(template.tokens) <= special.keys():
        raise ValueError('the template has tokens that its "special_tokens" lack')
    return template


def _template_entry(piece):
    if entry(piece, "Sequence", dict, None) is not None:
        name = "$" + entry(piece["Sequence"], "id", str)
        return name, entry(piece["Sequence"], "type_id", int)
    stored = entry(piece, "SpecialToken", dict)
    return entry(stored, "id", str), entry(stored, "type_id", int)


def _from_bert(part, vocabulary):
    cls, sep = _ends(part, vocabulary)
    single = (cls, 0), ("$A", 0), (sep, 0)
    return Template(single, (*single, ("$B", 1), (sep, 1)))


def _from_roberta(part, vocabulary):
    cls, sep = _ends(part, vocabulary)
    single = (cls, 0), ("$A", 0), (sep, 0)
    return Template(single, (*single, (sep, 0), ("$B", 0), (sep, 0)))


def _ends(part, vocabulary):
    for name in ("cls", "sep"):
        stored = entry(part, name, list)
        if [vocabulary.get(str(token)) for token in stored[:1]] != stored[1:]:
            raise ValueError(f'"{name}" is {stored!r:.60}, which the vocabulary lacks')
    return part["cls"][0], part["sep"][0]


_TEMPLATES = {
    "TemplateProcessing": _from_template,
    "BertProcessing": _from_bert,
    "RobertaProcessing": _from_roberta,
}
