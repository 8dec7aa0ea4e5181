"""Words that exist in one world only.

A word is a row of syllables whose code carries the world's seed, so that the words of two worlds
differ unless their seeds agree modulo `NUM_VOCABULARIES`. What is left out: what bears a name
(schema, world).
"""

import random

ONSETS = tuple("b d f g h j k l m n p r s t v z br dr gr kl kr pl tr vl".split())
VOWELS = tuple("a e i o u".split())
CODAS = ("", "l", "n", "r", "s")
NUM_SYLLABLES = len(ONSETS) * len(VOWELS) * len(CODAS)
NUM_VOCABULARIES = 256

# Spreads the codes; coprime to the number of syllables, so that no two codes meet.
_STRIDE = 100_000_007


def word(seed: int, number: int) -> str:
    """Word `number` of the world's vocabulary, capitalised; each number gives another word.

    Two syllables while they last (some 1,400), then three and more. The syllables can be read
    off a word in one way only: no coda begins an onset of two letters.
    """
    length, available = 2, NUM_SYLLABLES**2 // NUM_VOCABULARIES
    while number >= available:
        number -= available
        length, available = length + 1, available * NUM_SYLLABLES
    code = number * NUM_VOCABULARIES + seed % NUM_VOCABULARIES
    return _spelled(code * _STRIDE % NUM_SYLLABLES**length, length).capitalize()


def _spelled(code: int, length: int) -> str:
    parts = []
    for _ in range(length):
        code, digit = divmod(code, NUM_SYLLABLES)
        onset, rest = divmod(digit, len(VOWELS) * len(CODAS))
        vowel, coda = divmod(rest, len(CODAS))
        parts.append(ONSETS[onset] + VOWELS[vowel] + CODAS[coda])
    return "".join(parts)


def drawn(draw: random.Random, first_seed: int, last_seed: int) -> str:
    """A random word of two syllables that some world of these seeds may know, and no other."""
    number = draw.randrange(NUM_SYLLABLES**2 // NUM_VOCABULARIES)
    return word(draw.randint(first_seed, last_seed), number)
