"""What a prompt asks of the camera, the light and the weather: text in, a frozen Direction out.

Pure text: no pixels, no seed, no frame size, no time. It reads a few hundred words of English (and the commonest camera
words of some other languages); whatever it does not know leaves the default, so no prompt can fail.
"""

# ruff: noqa: E501 - a pattern a line is what can be read and checked

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

Weather = Literal["snow", "rain", "dust", "sparkles", "fog", "embers"]
Join = Literal["dissolve", "cut"]


@dataclass(frozen=True, slots=True)
class Moves:
    """Signed amounts of each camera move: 1 is a whole, ordinary one, 0 none.

    push: + in, zoom: + in (lens only), pan and truck and orbit: + to the right, tilt and crane: + up, roll: + clockwise.
    """

    push: float = 0.0
    zoom: float = 0.0
    pan: float = 0.0
    tilt: float = 0.0
    truck: float = 0.0
    crane: float = 0.0
    orbit: float = 0.0
    roll: float = 0.0
    handheld: float = 0.0

    def any(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Direction:
    """A prompt, read as a director's notes.

    `moves` is None when the prompt says nothing of the camera (a default is then chosen for what is filmed), and all
    zeros when it asks for a locked-off camera. Amounts are 0 to 1 (`warmth`: -1 cold to 1 warm) unless said otherwise.
    """

    moves: Moves | None = None
    studio: bool = False  # a product shot: backdrop, contact shadow, reflection
    backdrop: str | None = None  # a colour word for the studio
    sweep: float = 0.0  # light travelling over the subject
    rays: float = 0.0  # shafts of light
    warmth: float = 0.0
    night: float = 0.0
    contrast: float = 0.0
    colour: float = 1.0  # saturation; 0 is black and white
    soften: float | None = None  # blur of what lies behind; None: chosen for what is filmed
    weather: tuple[Weather, ...] = ()
    grain: float = 0.0
    join: Join = "dissolve"


_NEGATION: Final = re.compile(
    r"\b(?:no|not|non|never|without|avoid|don't|dont|doesn't|isn't|stop|cannot|can't|minimal|zero|sin|sans|kein\w*|ohne)\b"
    r"|n't\b|不|无|沒|没"
)
_CLAUSE: Final = re.compile(r"[.,;:!?\n。，；！？、]+|\s(?:then|while|but|before|after|as)\s")
_HOW: Final = r"(?:\s+(?:very|slow(?:ly)?|gentl[ey]|gently|smoothly|smooth|quick(?:ly)?|fast|gradually|steadily|softly|subtly|slightly|rapidly|straight|back|over|across|around|the|its|view|shot|camera|movement|move|from|further|much|closer|all|way|a|bit|little))*"
_TO: Final = r"(?:\s+(?:to|toward|towards))?(?:\s+the)?"
_CAMERA: Final = re.compile(r"\b(?:camera|shot|lens|cinematograph\w*|footage|view|frame|framing)\b|镜头|相机")

_LEFT: Final = rf"{_HOW}(?:\s+right\W+to\W+left|{_TO}\s+left(?:ward|wards)?(?!\W+to\W+right))"
_RIGHT: Final = rf"{_HOW}(?:\s+left\W+to\W+right|{_TO}\s+right(?:ward|wards)?(?!\W+to\W+left))"
_UP: Final = rf"{_HOW}\s+up(?:ward|wards)?\b"
_DOWN: Final = rf"{_HOW}\s+down(?:ward|wards)?\b"
_PAN: Final = r"(?:pan(?:s|ning|ned)?|whip\W?pan(?:s|ning)?|swivel(?:s|ing)?)"
_TILT: Final = r"(?:tilt(?:s|ing|ed)?)"
_TRUCK: Final = (
    r"(?:truck(?:s|ing)?|track(?:s|ing)?|slid(?:e|es|ing)|lateral(?:ly)?|dolly(?:ing)?|dollies|crab(?:s|bing)?)"
)
_CRANE: Final = r"(?:crane(?:s|d)?|craning|boom(?:s|ing)?|jib(?:s|bing)?|pedestal(?:s|ing)?)"
_ORBIT: Final = r"(?:orbit(?:s|ing|al)?|arc(?:s|ing)?|circl(?:e|es|ing)|rotat(?:e|es|ing)|revolv(?:e|es|ing)|turntable)"
_IN: Final = rf"{_HOW}\W?(?:\s*in(?:to|ward|wards)?|\s*forward|\s*closer|\s*toward(?:s)?)\b"
_OUT: Final = rf"{_HOW}\W?(?:\s*out(?:ward|wards)?|\s*back(?:ward|wards)?|\s*away)\b"

# (pattern, move, signed amount, whether the clause must also speak of the camera)
_MOVES: Final[tuple[tuple[re.Pattern[str], str, float, bool], ...]] = tuple(
    (re.compile(pattern), move, amount, camera)
    for pattern, move, amount, camera in (
        (rf"\b(?:push(?:es|ing)?|doll(?:y|ies)|dollying|creep(?:s|ing)?|track(?:s|ing)?){_IN}", "push", 1, False),
        (r"\bpush\W?in\b|\bdolly\W?in\b|\bclos(?:e|es|ing) in on\b", "push", 1, False),
        (
            r"\b(?:mov|glid|fl|com|drift|float|approach)\w*\b.*?\b(?:in|closer|forward|toward|towards)\b",
            "push",
            1,
            True,
        ),
        (r"\bapproach(?:es|ing)?\b|\badvanc(?:e|es|ing)\b", "push", 1, True),
        (rf"\b(?:pull(?:s|ing)?|doll(?:y|ies)|dollying|track(?:s|ing)?){_OUT}", "push", -1, False),
        (r"\bpull\W?(?:out|back)\b|\bdolly\W?out\b", "push", -1, False),
        (r"\b(?:mov|glid|fl|drift|retreat|back)\w*\b.*?\b(?:out|backward|backwards|away|back)\b", "push", -1, True),
        (rf"\bzoom(?:s|ing|ed)?{_OUT}|\bzoom\W?out\b", "zoom", -1, False),
        (rf"\bzoom(?:s|ing|ed)?\b(?!{_OUT})(?!\W?out)(?!\s+lens)", "zoom", 1, False),
        (rf"\b{_PAN}{_LEFT}|\bleft(?:ward)?\W+pan\b|\bpan\W?left\b", "pan", -1, False),
        (rf"\b{_PAN}{_RIGHT}|\bright(?:ward)?\W+pan\b|\bpan\W?right\b", "pan", 1, False),
        (rf"\b{_PAN}{_UP}", "tilt", 1, False),
        (rf"\b{_PAN}{_DOWN}", "tilt", -1, False),
        (
            r"\b(?:camera|slow|smooth|gentle|lateral|quick)\s+pan(?:s|ning)?\b|\bpanning\s+(?:shot|across|over)",
            "pan",
            1,
            False,
        ),
        (rf"\b{_TILT}{_UP}|\bupward\s+tilt\b|\btilt\W?up\b", "tilt", 1, False),
        (rf"\b{_TILT}{_DOWN}|\bdownward\s+tilt\b|\btilt\W?down\b", "tilt", -1, False),
        (rf"\b{_TRUCK}(?:\s+shot)?{_LEFT}|\bleft\W+(?:truck|slide)\b", "truck", -1, False),
        (rf"\b{_TRUCK}(?:\s+shot)?{_RIGHT}|\bright\W+(?:truck|slide)\b", "truck", 1, False),
        (
            rf"\b(?:mov(?:e|es|ing)|glid(?:e|es|ing)|drift(?:s|ing)?|travel(?:s|ling|ing)?|fl(?:y|ies)){_LEFT}",
            "truck",
            -1,
            True,
        ),
        (
            rf"\b(?:mov(?:e|es|ing)|glid(?:e|es|ing)|drift(?:s|ing)?|travel(?:s|ling|ing)?|fl(?:y|ies)){_RIGHT}",
            "truck",
            1,
            True,
        ),
        (r"\b(?:truck|trucking|tracking|sliding|slider|lateral|parallax)\s+(?:shot|move\w*)\b", "truck", 0.9, False),
        (rf"\b{_CRANE}{_UP}", "crane", 1, False),
        (rf"\b{_CRANE}{_DOWN}", "crane", -1, False),
        (
            r"\b(?:ris(?:e|es|ing)|ascend(?:s|ing)?|lift(?:s|ing)?|mov(?:e|es|ing)\s+up(?:ward|wards)?)\b",
            "crane",
            1,
            True,
        ),
        (
            r"\b(?:descend(?:s|ing)?|lower(?:s|ing)|sink(?:s|ing)?|mov(?:e|es|ing)\s+down(?:ward|wards)?)\b",
            "crane",
            -1,
            True,
        ),
        (r"\b(?:crane|jib|drone)\s+(?:shot|move\w*)\b", "crane", 0.9, False),
        (rf"\b{_ORBIT}{_LEFT}|\b{_ORBIT}(?:\s+\w+){{0,3}}\s+counter\W?clockwise|\barc\W?left\b", "orbit", -1, False),
        (
            rf"\b{_ORBIT}{_RIGHT}|\b{_ORBIT}(?:\s+\w+){{0,3}}\s+(?<!counter)(?<!counter-)clockwise|\barc\W?right\b",
            "orbit",
            1,
            False,
        ),
        (
            r"\b(?:orbit(?:s|ing|al)?|arc(?:s|ing)?|circl(?:es|ing)|rotat(?:es|ing)|revolv(?:es|ing))\b",
            "orbit",
            1,
            True,
        ),
        (
            r"(?:^|\b(?:slow|smooth|gentle|slight|quick|fast|full)\s+)(?:orbit|arc)\b|(?<!in )\b(?:orbit|arc)\s+(?:shot|around)\b",
            "orbit",
            1,
            False,
        ),
        (r"\bturntable\b|\b360\b|\bspin(?:s|ning)?\s+(?:slowly\s+)?(?:on|around)\b", "orbit", 1, False),
        (
            r"\b(?:counter\W?clockwise|left)\s+roll\b|\broll(?:s|ing)?\s+(?:counter\W?clockwise|left)\b",
            "roll",
            -1,
            False,
        ),
        (
            r"\bbarrel\s+roll\b|\bdutch\b|\broll(?:s|ing)?\s+(?:clockwise|right)\b|\b(?:camera|slow)\s+roll",
            "roll",
            1,
            False,
        ),
        (
            r"\bhand\W?held\b|\bshak(?:y|es|ing|e)\b(?=.*\b(?:camera|cam|footage)\b)|\bshaky\W?cam|\bdocumentary\s+camera",
            "handheld",
            1,
            False,
        ),
        # The commonest words of Chinese, Spanish, French, German, Italian, Portuguese and Russian.
        (
            r"推进|推近|推镜|缓推|靠近|acerca|avanza la cámara|travelling avant|kamerafahrt vor|приближ|наезд",
            "push",
            1,
            False,
        ),
        (
            r"拉远|拉镜|后退|aleja|recul de la caméra|travelling arrière|kamera fährt zurück|отъезд|отдал",
            "push",
            -1,
            False,
        ),
        (r"左摇|向左|hacia la izquierda|vers la gauche|nach links|a sinistra|para a esquerda|влево", "pan", -1, True),
        (r"右摇|向右|hacia la derecha|vers la droite|nach rechts|a destra|para a direita|вправо", "pan", 1, True),
        (r"环绕|旋转镜头|orbita|kreist|облёт|облет", "orbit", 1, False),
        (r"手持|cámara en mano|caméra à l'épaule|handkamera", "handheld", 1, False),
    )
)
_CAMERA_ABROAD: Final = re.compile(
    r"镜头|相机|摄像|cámara|camara|caméra|kamera|câmera|telecamera|камер|plano|панорам|panorámica|panoramique"
)
_STILL: Final = re.compile(
    r"\b(?:static|stationary|locked\W?(?:off|down)?|lock\W?off|tripod|motionless|fixed)\b(?=.*\b(?:camera|shot|frame|lens|view|angle)\b)"
    r"|\b(?:camera|shot|frame|lens|view)\b.*\b(?:static|stationary|still|locked|fixed|motionless|steady)\b"
    r"|\block(?:ed)?\W?off\b|\bstatic\b(?!\s+electric)|\bon\s+a\s+tripod\b|\bstill\s+(?:camera|frame|shot)\b"
    r"|固定镜头|静止|cámara fija|caméra fixe|plan fixe|feste kamera|statische kamera|статичн"
)
_UNMOVING: Final = re.compile(
    r"\bcamera\b(?:\W+\w+){0,3}\W+(?:mov\w*|motion)|\b(?:movement|motion|moves?)\b(?=.*\bcamera\b)|\bcamera\b.*\bmov\w*|运镜|镜头移动"
)
_COUNTER: Final = re.compile(r"\b(?:counter|anti)\W?clockwise\b")
_SLOW: Final = re.compile(
    r"\b(?:slow\w*|gentl\w*|subtl\w*|gradual\w*|slight\w*|soft\w*|calm\w*|lent\w*|langsam\w*)\b|缓|慢|медлен"
)
_FAST: Final = re.compile(
    r"\b(?:fast|quick\w*|rapid\w*|swift\w*|whip|crash|dramatic\w*|dynamic|energetic|rápid\w*|schnell)\b|快|быстр"
)

_STUDIO: Final = re.compile(
    r"\bproduct\s+(?:shot|video|photo\w*|commercial|ad\b|advert\w*|showcase|reveal|demo|film|render|display|hero)"
    r"|\b(?:studio|packshot|pack shot|seamless\s+(?:background|backdrop|paper)|cyclorama|infinity\s+cove|turntable|commercial|"
    r"advert\w*|pedestal|podium|e\W?commerce|catalog\w*|showroom)\b|\bhero\s+shot\s+of\s+(?:the|a)\s+product|\bthe\s+product\b|产品|商品"
)
_PLACES_COLOUR: Final = re.compile(
    r"\b(white|black|grey|gray|red|orange|yellow|green|teal|cyan|blue|navy|purple|violet|pink|beige|cream|brown|pastel|dark|light)\b"
    r"(?:\W+\w+){0,2}\W+(?:background|backdrop|studio|surface|seamless|cyclorama|wall|paper)"
)

_TONES: Final[tuple[tuple[re.Pattern[str], str, float], ...]] = tuple(
    (re.compile(pattern), name, amount)
    for pattern, name, amount in (
        (
            r"\b(?:light\s+(?:sweep|sweeps|sweeping|glint|passes|travels|moves|slides)|sweep(?:ing|s)?\s+(?:of\s+)?(?:\w+\s+)?light|glint\w*|gleam\w*|shimmer\w*|specular|light\s+streak)\b",
            "sweep",
            1.0,
        ),
        (
            r"\b(?:god\W?rays?|light\s+(?:rays?|shafts?|beams?)|sun\W?(?:beams?|rays?|shafts?)|volumetric|crepuscular|shafts?\s+of\s+light)\b",
            "rays",
            1.0,
        ),
        (
            r"\b(?:golden\s+hour|sunset|sunrise|warm\w*|amber|candle\w*|fire\s?light|cozy|cosy|autumn\w*|dawn)\b|暖|日落",
            "warmth",
            0.8,
        ),
        (
            r"\b(?:cold|cool\s+(?:tone\w*|light\w*|grade|colou?rs?|blue)|icy|wint(?:er|ry)\w*|bluish|frost\w*|frozen|teal)\b|冷",
            "warmth",
            -0.8,
        ),
        (
            r"\b(?:night\w*|midnight|moonli\w*|moonlight|starry|after\s+dark|nocturnal)\b|夜|noche|nuit|nacht|ночь",
            "night",
            1.0,
        ),
        (r"\b(?:dusk|twilight|blue\s+hour|evening)\b|黄昏", "night", 0.5),
        (r"\b(?:dramatic|noir|moody|high\W?contrast|contrasty|gritty|cinematic)\b", "contrast", 0.6),
        (
            r"\b(?:black\s+and\s+white|black\W?&\W?white|b\W?&\W?w|monochrome|noir|grayscale|greyscale)\b|黑白",
            "colour",
            0.0,
        ),
        (r"\b(?:desaturated|muted|faded|bleach\w*)\b", "colour", 0.65),
        (r"\b(?:vivid|vibrant|saturated|colou?rful)\b", "colour", 1.2),
        (
            r"\b(?:shallow|bokeh|blurr\w*\s+background|background\s+blur\w*|out\s+of\s+focus|depth\s+of\s+field|defocus\w*|macro)\b|虚化|浅景深",
            "soften",
            1.0,
        ),
        (
            r"\b(?:deep\s+focus|everything\s+(?:is\s+)?(?:sharp|in\s+focus)|(?:sharp|crisp)\s+background)\b",
            "soften",
            0.0,
        ),
        (r"\b(?:film\s+grain|grainy|16\s?mm|8\s?mm|35\s?mm|vintage|analog\w*|retro)\b", "grain", 1.0),
    )
)
_WEATHER: Final[tuple[tuple[re.Pattern[str], Weather], ...]] = (
    (re.compile(r"\b(?:snow\w*|blizzard|flurr\w*)\b(?!\W?(?:leopard|board|drop))|雪|nieve|neige|schnee|снег"), "snow"),
    (
        re.compile(
            r"\b(?:rain(?:s|ing|y|fall|drops?|storm)?|drizzl\w*|downpour|monsoon)\b|雨|lluvia|pluie|regen\b|дожд"
        ),
        "rain",
    ),
    (re.compile(r"\b(?:embers?|sparks?|campfire|bonfire|burning)\b|火花"), "embers"),
    (
        re.compile(
            r"\b(?:sparkl\w*|glitter\w*|magic\w*|fairy|twinkl\w*|firefl\w*|stardust|confetti|bokeh\s+lights)\b|闪"
        ),
        "sparkles",
    ),
    (re.compile(r"\b(?:dust|dusty|motes?|pollen|floating\s+particles?|particles?)\b|尘"), "dust"),
    (re.compile(r"\b(?:fog\w*|mist|misty|haz[ey]|smok[ey]|steam\w*)\b|雾|niebla|brouillard|nebel"), "fog"),
)
_CUT: Final = re.compile(
    r"\b(?:cut(?:s)?\s+to|hard\s+cuts?|jump\s+cuts?|quick\s+cuts?|smash\s+cut|fast\s+cuts?|cutting\s+between)\b"
)


def read_direction(prompt: str) -> Direction:
    """What `prompt` asks for. Never fails: what is not understood is left at its default."""
    text = " ".join(prompt.lower().replace("’", "'").replace("`", "'").split(" "))
    clauses = [clause.strip() for clause in _CLAUSE.split(text) if clause and clause.strip()]
    direction = Direction(moves=_read_moves(clauses), join="cut" if _stated(_CUT, clauses) else "dissolve")
    if _stated(_STUDIO, clauses):
        colour = _PLACES_COLOUR.search(text)
        direction = replace(direction, studio=True, backdrop=colour[1] if colour else None)
    tones: dict[str, float] = {}
    for pattern, name, amount in _TONES:
        if _stated(pattern, clauses):
            tones[name] = amount + tones.get(name, 0.0) if name == "warmth" else amount
    direction = replace(direction, **tones)  # type: ignore[arg-type]  # every name in the table is a float field
    return replace(direction, weather=tuple(kind for pattern, kind in _WEATHER if _stated(pattern, clauses)))


def _read_moves(clauses: list[str]) -> Moves | None:
    amounts: dict[str, float] = {}
    still = False
    for clause in clauses:
        of_camera = bool(_CAMERA.search(clause) or _CAMERA_ABROAD.search(clause))
        found: dict[str, float] = {}
        for pattern, move, amount, needs_camera in _MOVES:
            if needs_camera and not of_camera:
                continue
            if (match := pattern.search(clause)) and not _denied(clause, match.start()):
                found.setdefault(move, amount)
        for move, amount in found.items():
            amounts[move] = amount * _pace(clause)
        if match := _STILL.search(clause):
            still = still or not _denied(clause, match.start())
        elif match := _UNMOVING.search(clause):
            still = still or (not found and _NEGATION.search(clause) is not None)
    if amounts.get("orbit", 0.0) > 0 and any(_COUNTER.search(clause) for clause in clauses):
        amounts["orbit"] = -amounts["orbit"]
    if amounts:  # A move that is named outweighs a "static" said of something else.
        return Moves(**amounts)
    return Moves() if still else None


def _pace(clause: str) -> float:
    if _FAST.search(clause):
        return 1.6
    return 0.65 if _SLOW.search(clause) else 1.0


def _stated(pattern: re.Pattern[str], clauses: list[str]) -> bool:
    return any((match := pattern.search(clause)) and not _denied(clause, match.start()) for clause in clauses)


def _denied(clause: str, start: int) -> bool:
    """Whether a negation stands within the five words before `start`."""
    before = " ".join(clause[:start].split()[-5:])
    return _NEGATION.search(before) is not None
