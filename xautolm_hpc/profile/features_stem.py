"""The Porter stemmer: removes the endings of English words, so that the forms of a word become equal.

Source:
    M. F. Porter, An algorithm for suffix stripping, Program 14 (1980), 130-137.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

_CONSONANT_OR_Y = "(?:[^aeiouy]|(?<=[aeiou])y|^y)"
_VOWEL = "(?:[aeiou]|(?<![aeiou])(?<!^)y)"
_RUN = re.compile(f"{_VOWEL}+{_CONSONANT_OR_Y}+")
_HAS_VOWEL = re.compile(_VOWEL)
_ENDS_CVC = re.compile(f"{_CONSONANT_OR_Y}{_VOWEL}[^aeiouwxy]$")
_DOUBLE = re.compile(r"([^aeiou])\1$")

_STEP_2 = (
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"), ("abli", "able"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al"),
    ("iviti", "ive"), ("biliti", "ble"),
)  # fmt: skip
_STEP_3 = (
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", ""),
)  # fmt: skip
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Stem a word in lower case; words of up to two letters stay as they are."""
    if len(word) <= 2:
        return word
    for step in (_plural, _past, _final_y, _long_suffix, _short_suffix, _last_suffix, _final_e):
        word = step(word)
    return word


def _measure(word: str) -> int:
    return len(_RUN.findall(word))


def _plural(word: str) -> str:
    for suffix, new in (("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")):
        if word.endswith(suffix):
            return word.removesuffix(suffix) + new
    return word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    for suffix in ("ed", "ing"):
        rest = word.removesuffix(suffix)
        if rest != word and _HAS_VOWEL.search(rest):
            return _restore(rest)
    return word


def _restore(word: str) -> str:
    """Add the letter that ``ed`` or ``ing`` replaced, or remove the one that it doubled."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if _DOUBLE.search(word) and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _ENDS_CVC.search(word) else word


def _final_y(word: str) -> str:
    return word[:-1] + "i" if word.endswith("y") and _HAS_VOWEL.search(word[:-1]) else word


def _replace(word: str, pairs: Sequence[tuple[str, str]]) -> str:
    for suffix, new in sorted(pairs, key=lambda pair: -len(pair[0])):
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            return rest + new if _measure(rest) > 0 else word
    return word


def _long_suffix(word: str) -> str:
    return _replace(word, _STEP_2)


def _short_suffix(word: str) -> str:
    return _replace(word, _STEP_3)


def _last_suffix(word: str) -> str:
    for suffix in sorted(_STEP_4, key=len, reverse=True):
        if word.endswith(suffix):
            rest = word.removesuffix(suffix)
            is_cut = _measure(rest) > 1 and (suffix != "ion" or rest.endswith(("s", "t")))
            return rest if is_cut else word
    return word


def _final_e(word: str) -> str:
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _ENDS_CVC.search(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word
