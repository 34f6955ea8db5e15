"""What a tokenizer.json says of BPE: its merges, and how it finds words."""

from .file_format import entry, refuse_settings, split_at
from .patterns import GPT2


def merges_of(model):
    """The merges of a BPE model's contents, written as "a b" or as ["a", "b"]."""
    merges = []
    for stored in entry(model, "merges", list):
        merge = stored.split(" ") if isinstance(stored, str) else stored
        if not isinstance(merge, list) or [type(token) for token in merge] != [str] * 2:
            raise ValueError(f"merge {stored!r:.60} is not two tokens")
        merges.append(tuple(merge))
    return merges


def refuse_bpe_settings(model):
    """ValueError for settings of a BPE model that no tokenizer here follows."""
    refuse_settings(
        "BPE model",
        model,
        dropout=(None, 0, 0.0),
        continuing_subword_prefix=(None, ""),
        end_of_word_suffix=(None, ""),
    )


def word_splitter(pattern, add_prefix_space):
    """The pre-tokenizer of a byte-level file, for `word_settings`."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": True,
        "use_regex": pattern == GPT2,
    }
    if pattern == GPT2:
        return byte_level
    return {"type": "Sequence", "pretokenizers": [split_at(pattern), byte_level]}


def word_settings(pre_tokenizer):
    """{"add_prefix_space"} or {"pattern"} of a byte-level file's pre-tokenizer."""
    steps = [pre_tokenizer]
    if pre_tokenizer.get("type") == "Sequence":
        steps = entry(pre_tokenizer, "pretokenizers", list)
    kinds = [entry(step, "type", str) for step in steps]
    if kinds == ["ByteLevel"]:
        refuse_settings("ByteLevel", steps[0], use_regex=(True,))
        prefix = entry(steps[0], "add_prefix_space", bool, True)
        return {"add_prefix_space": prefix}
    if kinds != ["Split", "ByteLevel"]:
        raise ValueError(
            f"minibig does not read the pre_tokenizer {', '.join(kinds)} of a BPE "
            "model, only ByteLevel, and Split before it"
        )
    refuse_settings("Split", steps[0], behavior=("Isolated",), invert=(False,))
    refuse_settings(
        "ByteLevel", steps[1], add_prefix_space=(False,), use_regex=(False,)
    )
    return {"pattern": entry(entry(steps[0], "pattern", dict), "Regex", str)}
