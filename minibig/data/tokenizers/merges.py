"""Byte-pair encoding itself: learning merges, and applying them to a word.

Both work on ids, so that it does not matter whether the first pieces were bytes (GPT-2)
or characters (WordPiece). Source: Sennrich et al., arXiv 1508.07909, algorithm 1.
"""

import heapq
from collections import Counter, defaultdict
from itertools import pairwise
from operator import add


def learn_merges(tokens, words, vocab_size, min_frequency=2, join=add):
    """(tokens, merges): all tokens in id order, and the pairs of them to be merged.

    tokens: the first pieces. words: (ids of its pieces, how often it occurs) of each
    different word. The most frequent pair of neighbours becomes a token, `join` of the
    two, until there are `vocab_size`, or no pair occurs `min_frequency` times. Of equal
    counts the pair of smaller ids is merged first.
    """
    tokens = list(tokens)
    ids = {token: index for index, token in enumerate(tokens)}
    pairs = _Pairs(words)
    merges = []
    while len(tokens) < vocab_size:
        count, pair = pairs.most_frequent()
        if count < max(min_frequency, 1):
            break
        left, right = tokens[pair[0]], tokens[pair[1]]
        merges.append((left, right))
        token = join(left, right)
        if token not in ids:  # "a" + "bc" may give what "ab" + "c" gave
            ids[token] = len(tokens)
            tokens.append(token)
        pairs.merge(pair, ids[token])
    return tokens, merges


class _Pairs:
    """The pairs of neighbours in all words, counted anew only where a word changes."""

    def __init__(self, words):
        self.words, self.frequencies = [], []
        self.counts = Counter()
        self.places = defaultdict(set)  # pair -> words that hold it, or did once
        for index, (word, frequency) in enumerate(words):
            self.words.append(list(word))
            self.frequencies.append(frequency)
            for pair in pairwise(word):
                self.counts[pair] += frequency
                self.places[pair].add(index)
        self.heap = [(-count, pair) for pair, count in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """(count, pair), of equal counts the one with the smaller ids."""
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            if -count == self.counts[pair]:
                return -count, pair
            # Counts fall without notice here; the entry goes back where it belongs.
            heapq.heappush(self.heap, (-self.counts[pair], pair))
        return 0, None

    def merge(self, pair, merged):
        """Put the id `merged` for `pair` in all words."""
        created = set()
        for index in self.places.pop(pair):
            word = replace_pair(self.words[index], pair, merged)
            for old in pairwise(self.words[index]):
                self.counts[old] -= self.frequencies[index]
            for new in pairwise(word):
                self.counts[new] += self.frequencies[index]
                if merged in new:
                    self.places[new].add(index)
                    created.add(new)
            self.words[index] = word
        for new in created:
            heapq.heappush(self.heap, (-self.counts[new], new))


def replace_pair(ids, pair, merged):
    """`ids` with `merged` in place of each `pair` of neighbours, from the left."""
    result, position = [], 0
    while position < len(ids):
        if ids[position] == pair[0] and ids[position + 1 : position + 2] == [pair[1]]:
            result.append(merged)
            position += 2
        else:
            result.append(ids[position])
            position += 1
    return result


def rank_merges(merges, token_to_id):
    """(left id, right id) -> (the merge's place, the id of what it makes)."""
    ranks = {}
    for place, (left, right) in enumerate(merges):
        made = left + right
        missing = sorted({t for t in (left, right, made) if t not in token_to_id})
        if missing:
            raise ValueError(
                f"merge {left!r} + {right!r} needs {missing}, which the "
                "vocabulary lacks"
            )
        pair = token_to_id[left], token_to_id[right]
        ranks[pair] = place, token_to_id[made]
    return ranks


def apply_merges(ids, ranks):
    """The ids of a word after all merges that fit, the most important first.

    ids: those of its first pieces. ranks: (left, right) -> (rank, merged id). Of equal
    ranks the leftmost goes first. A heap holds the pairs and a chain the pieces, so
    that a word of n pieces takes n log n steps, not n².
    """
    ids = list(ids)
    size = len(ids)
    following, previous = list(range(1, size + 1)), list(range(-1, size - 1))
    heap = []

    def consider(left, right):
        found = ranks.get((ids[left], ids[right])) if 0 <= left < right < size else None
        if found is not None:
            heapq.heappush(heap, (found[0], left, found[1]))

    for left in range(size - 1):
        consider(left, left + 1)
    while heap:
        _, left, merged = heapq.heappop(heap)
        right = following[left]
        if right == size or ranks.get((ids[left], ids[right]), (0, None))[1] != merged:
            continue  # one of the two has become part of something else meanwhile
        ids[left], ids[right] = merged, None
        following[left] = after = following[right]
        if after < size:
            previous[after] = left
        consider(previous[left], left)
        consider(left, after)
    return [index for index in ids if index is not None]
