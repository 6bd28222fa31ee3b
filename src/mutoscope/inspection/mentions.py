"""Which references a prompt speaks of: by number, by a word for what they show, or by their file's name.

Pure words; knows no picture. It errs towards "mentioned": advice that is wrong teaches people to overlook advice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote, urlsplit

_NUMBERS: Final = {"1": 1, "one": 1, "first": 1, "1st": 1, "2": 2, "two": 2, "second": 2, "2nd": 2, "3": 3}
_NUMBERS.update({"three": 3, "third": 3, "3rd": 3, "4": 4, "four": 4, "fourth": 4, "4th": 4})
_CARDINAL: Final = r"(?:[1-4]|one|two|three|four)"
_ORDINAL: Final = r"(?:first|second|third|fourth|last|1st|2nd|3rd|4th)"
_NOUN: Final = r"(?:images?|imgs?|pictures?|pics?|photos?|photographs?|references?|refs?|figures?)"
_AND: Final = r"(?:\s*(?:,|and|&|\+|,\s*and)\s*)"
_SIGN: Final = re.compile(r"@\s?([1-4])(?!\d)|图片?\s?([1-4])")
_COUNTED: Final = re.compile(
    rf"\b{_NOUN}\s*(?:no\.?|number|#)?\s*({_CARDINAL}\b(?:(?:{_AND}|\s*(?:to|-|–)\s*){_CARDINAL}\b)*)"
)
_ORDERED: Final = re.compile(rf"\b({_ORDINAL}(?:{_AND}(?:the\s+)?{_ORDINAL})*)\s+(?:reference\s+|input\s+)?{_NOUN}\b")
_ALL: Final = re.compile(
    rf"\b(?:both|all|each|every|any)\b(?:\s+(?:of|the|these|my|our|two|three|four)\b)*\s+{_NOUN}\b"
)
_RANGE: Final = re.compile(rf"({_CARDINAL})\s*(?:to|-|–)\s*({_CARDINAL})")

_PEOPLE: Final = (
    "person people human man men woman women boy boys girl girls child children kid kids baby babies toddler teen "
    "teenager lady ladies gentleman guy guys he him his she her hers they them their themselves himself herself who "
    "someone somebody couple friend friends family mother father mom mum dad daughter son sister brother wife husband "
    "grandmother grandfather bride groom twins crowd model actor actress character hero heroine protagonist face "
    "portrait selfie hair eyes smile head hand hands dancer singer driver rider runner worker player skater surfer "
    "climber swimmer boxer fighter warrior soldier officer teacher doctor nurse chef cook waiter waitress baker barber "
    "farmer painter writer speaker presenter reporter teacher student pilot sailor knight king queen prince princess "
    "witch wizard samurai ninja cowboy detective dj barista engineer customer lover traveller traveler hiker speaker"
)
_ANIMALS: Final = (
    "animal animals pet pets cat cats kitten kittens kitty dog dogs puppy puppies bird birds parrot owl eagle chicken "
    "duck horse horses pony cow bull sheep lamb goat pig rabbit bunny hamster mouse rat fox wolf bear panda tiger lion "
    "leopard cheetah elephant giraffe zebra monkey ape gorilla deer moose squirrel raccoon otter seal whale dolphin "
    "fish shark turtle frog snake lizard dragon dinosaur creature insect bee butterfly spider it its fur paw tail "
    "whiskers"
)
_THINGS: Final = (
    "product products object objects item items thing things it its this that package packaging box bottle can cup mug "
    "glass plate bowl jar tin tube pot pan spoon knife fork coffee tea drink juice beer wine water food meal cake "
    "bread burger pizza fruit apple flower flowers plant tree shoe shoes sneaker sneakers boot boots bag handbag "
    "backpack suitcase wallet watch ring necklace earring jewelry jewellery bracelet glasses sunglasses hat cap helmet "
    "shirt dress jacket coat jeans suit scarf clothes outfit phone smartphone laptop computer tablet keyboard mouse "
    "camera headphones earbuds speaker tv screen console robot drone toy doll figurine ball book magazine poster card "
    "logo car cars vehicle truck bus bike bicycle motorcycle motorbike scooter boat ship plane airplane aircraft train "
    "rocket spaceship chair sofa couch table desk lamp bed vase candle clock mirror guitar piano violin perfume "
    "lipstick cream lotion serum cosmetics makeup soap shampoo machine device gadget tool sword statue sculpture "
    "building house tower temple castle bridge monument coin coins gift sign brand"
)
_PLACES: Final = (
    "scene scenery background backdrop setting place location landscape view environment room kitchen bedroom bathroom "
    "office studio gallery museum shop store cafe café restaurant bar street road alley city town village square plaza "
    "park garden forest woods jungle field meadow mountain mountains hill hills valley desert dunes beach coast sea "
    "ocean lake river waterfall island sky clouds stars space planet moon sunset sunrise harbour harbor port station "
    "airport runway bridge tower building buildings house castle temple church skyline rooftop balcony window stage "
    "stadium gym pool factory warehouse laboratory lab library school classroom hospital corridor hallway interior "
    "exterior outside outdoors indoors inside there here where launch pad rocket snow rain storm cave ruins farm "
    "market subway wall floor ground world"
)
_WORDS: Final[dict[str, frozenset[str]]] = {
    "person": frozenset(_PEOPLE.split()),
    "face": frozenset(_PEOPLE.split()),
    "animal": frozenset(_ANIMALS.split()),
    "product": frozenset(_THINGS.split()),
    "object": frozenset((_THINGS + " " + _PLACES).split()),  # a building is either
    "scene": frozenset(_PLACES.split()),
}
_PRONOUNS: Final = frozenset(["he", "him", "his", "she", "her", "hers", "they", "them", "their"])
_PROFESSION: Final = re.compile(r"[a-z]{3,}(?:naut|nauts|man|men|woman|women|ist|ists|ician|icians)")
_WHERE: Final = re.compile(
    r"\b(?:in|at|inside|outside|through|across|along|beside|near|behind|before|above|beneath|into|towards?)\s+"
    r"(?:a|an|the|this|that|some|her|his|their|its)\s+"
    r"(?!camera|frame|lens|shot|distance|style|end|start|first|second|third|fourth|last|next)\w"
)
_FOREIGN: Final = (
    "der das und ein eine einer einen dem den ist mit auf für el los las una uno con por para le les une des et avec "
    "dans sur il lo gli di che sono um uma com não em och det som een het van"
)
_MEANINGLESS: Final = (
    "image images img picture photo photos pic file upload uploads reference ref scan copy final edited edit new the "
    "dsc dscn pxl untitled screenshot download unnamed crop cropped small large full original and with jpeg jpg"
)


def mentioned(prompt: str, references: Sequence[str], kinds: Sequence[str]) -> set[int] | None:
    """The numbers, from 1, of the references that the prompt speaks of; None where its language is not understood.

    `kinds` are a Sight's, one for each reference and "" for one that was not seen, which counts as mentioned.
    """
    text = " ".join(prompt.lower().split())
    found = _by_number(text, len(references))
    words = re.findall(r"[^\W\d_]+", text)
    if len(found) < len(references) and _is_foreign(words):
        return None
    if not {"person", "face"} & set(kinds):
        words += ["it"] * bool(_PRONOUNS & set(words))  # with nobody there, she is the cat
    plain = set(words) | {word[:-1] for word in words if word.endswith("s")}
    for number, (reference, kind) in enumerate(zip(references, kinds, strict=True), 1):
        if not kind or plain & _WORDS[kind] or plain & _words_of_name(reference):
            found.add(number)
        elif kind in ("person", "face"):
            found |= {number} if any(map(_PROFESSION.fullmatch, words)) else set()
        elif kind == "scene":
            found |= {number} if _WHERE.search(text) else set()
    return found


def _by_number(text: str, count: int) -> set[int]:
    if _ALL.search(text):
        return set(range(1, count + 1))
    found = {int(match[1] or match[2]) for match in _SIGN.finditer(text)}
    for match in _COUNTED.finditer(text):
        for first, last in _RANGE.findall(match[1]):
            found |= set(range(_NUMBERS[first], _NUMBERS[last] + 1))
        found |= {_NUMBERS[word] for word in re.findall(_CARDINAL, match[1])}
    for match in _ORDERED.finditer(text):
        found |= {count if word == "last" else _NUMBERS[word] for word in re.findall(_ORDINAL, match[1])}
    return {number for number in found if number <= count}


def _is_foreign(words: Sequence[str]) -> bool:
    """Whether these are hardly English: then silence is better than a guess."""
    is_asian = any(letter > "\u2e80" for word in words for letter in word)
    return is_asian or len(set(words) & set(_FOREIGN.split())) + sum(not word.isascii() for word in words) >= 2


def _words_of_name(reference: str) -> set[str]:
    """The words in a file's name, which people often call by what it shows; none in a data URI."""
    if reference[:5].lower() == "data:":
        return set()
    try:
        name = unquote(urlsplit(reference).path).replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]
    except ValueError:
        return set()
    return set(re.findall(r"[a-z]{3,}", name.lower())) - set(_MEANINGLESS.split())
