"""What of a model is trained, and how fast: parameters chosen by their names.

Patterns are those of file names: "blocks.0.*" is all of block 0, "blocks.[01].*" of two
blocks, "*bias" every bias; "*" goes over dots. Taught by notebook 12.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from .. import checks
from ..nn import Module


def freeze(model, *patterns):
    """The names of the parameters that any of the patterns matches, frozen from now on.

    A frozen parameter gets no gradient; make the optimizer afterwards, from
    `parameter_groups`, say, since it takes none that is frozen.
    `model.requires_grad_()` thaws all. ValueError, before anything is changed, for a
    pattern that matches no name.
    """
    named = _named("freeze", model)
    if not patterns:
        raise ValueError(
            'freeze: name what to freeze: freeze(model, "blocks.0.*"), say'
        )
    found = {name for p in patterns for name in _matching("freeze", p, named)}
    for name in found:
        named[name].requires_grad_(False)
    return [name for name in named if name in found]


def parameter_groups(model, settings):
    """What is not frozen of a model, as groups for an optimizer.

    `settings` gives patterns their settings: {"classifier.*": {"lr": 1e-3}}. The first
    pattern that matches a name decides; names that none matches make a last group, with
    the optimizer's own settings. ValueError for a pattern that matches no name, or none
    that those before it have left, and where all is frozen.
    """
    named = _named("parameter_groups", model)
    kind = "parameter_groups: settings, a dict of pattern → dict,"
    checks.kind(kind, settings, Mapping)
    groups, rest = [], dict(named)
    for pattern, own in settings.items():
        checks.kind(f"parameter_groups: the settings of {pattern!r}", own, Mapping)
        found = set(_matching("parameter_groups", pattern, named)) & rest.keys()
        if not found:
            raise ValueError(
                f"parameter_groups: patterns before {pattern!r} match all its names: "
                "the first one decides, so put it before them"
            )
        groups.append((own, [rest.pop(n) for n in named if n in found]))
    groups.append(({}, list(rest.values())))
    trained = [(own, [p for p in ps if p.requires_grad]) for own, ps in groups]
    if not any(parameters for _, parameters in trained):
        raise ValueError(
            "parameter_groups: every parameter is frozen: model.requires_grad_() thaws"
        )
    return [{**own, "params": ps} for own, ps in trained if ps]


def _named(name, model):
    return dict(checks.kind(f"{name}: model", model, Module).named_parameters())


def _matching(name, pattern, named):
    """The names that a pattern matches; an error where it matches none."""
    checks.kind(f"{name}: a pattern", pattern, str)
    found = [n for n in named if fnmatchcase(n, pattern)]
    if not found:
        raise ValueError(
            f"{name}: {pattern!r} matches no parameter's name; names are "
            f"{checks.shown(list(named))}"
        )
    return found
