"""Which language a text is in, told without a model: by its script where one language alone writes in it, by its
function words where many share one.

Known are those of `KNOWN`. A text of another language, a mix, a few words, a name, a formula or code gives None: nobody
can tell. The word lists are short and of our own; `benchmarks/checks.py` has how often they are right.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

KNOWN: Mapping[str, str] = {
    "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch",
    "pt": "Portuguese", "sv": "Swedish", "pl": "Polish", "tr": "Turkish",
    "el": "Greek", "he": "Hebrew", "hy": "Armenian", "ja": "Japanese", "ka": "Georgian", "ko": "Korean",
    "ru": "Russian", "th": "Thai", "uk": "Ukrainian", "zh": "Chinese",
}  # fmt: skip
SHARE = 0.6  # of the letters, that a script must have
HITS = 3  # function words of the best language, at least
AHEAD = 1.5  # times those of the second best

_WORDS: Mapping[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": (
            "the of and to in is that it for was with as on are be at by this have from or had not but what all "
            "were when we there can an your which their if will each how do you they about would these his her "
            "has he she than i my me could should some any no yes don't it's"
        ),
        "de": (
            "der die das und ist nicht ein eine einen einem einer zu den von mit sich des auf für im dem auch es "
            "an als wie bei oder nur noch nach werden sind wir ihr ich du er sie aber wenn kann man haben hat war "
            "aus so dass zum zur über durch mehr sehr wird keine kein"
        ),
        "fr": (
            "le la les des du de et est un une en que qui dans pour pas ne sur ce il elle au aux plus par avec se "
            "sont nous vous ils ou mais son ses cette ces être avoir fait comme je tu y leur était si tout où "
            "même très sans c'est d'un d'une l'on qu'il n'est j'ai"
        ),
        "es": (
            "el la los las de que y en un una es por con para no se del al lo como más pero sus le ya o este sí "
            "porque esta entre cuando muy sin sobre también me hasta hay donde quien desde todo nos durante uno "
            "ni contra otros ese eso ante ellos fue está son puede"
        ),
        "it": (
            "il lo la i gli le di che e è un una in per non con del della dei delle al alla da si come più ma "
            "anche nel nella sono questo questa ha o se ci loro suo sua essere quando molto tutto perché cosa dal "
            "dalla ho hanno può era degli alle"
        ),
        "pt": (
            "o a os as de que e em um uma é do da dos das para com não por mais se no na como mas ao ele ela foi "
            "ou ser quando muito nos já eu também só pelo pela até isso entre era depois sem mesmo aos seus quem "
            "nas me esse você está são há pode"
        ),
        "nl": (
            "de het een en van is dat niet in te op zijn voor met die aan er om ook als bij maar naar dan uit ze "
            "nog wel of door hij wij je ik geen over kan meer heeft hebben wordt worden deze zo dit wat waar u "
            "moet zich"
        ),
        "sv": (
            "och att det som en på är av för med den till inte om ett jag han hon men sig från vi så kan när var "
            "har ska eller nu du här där de efter upp vid mycket utan bara också hur mot än vara detta"
        ),
        "pl": (
            "i w na z się nie do to że jest o jak po co ale tak za od przez dla ten ta czy być są było jego jej "
            "oraz już tylko jako może pod bez przy który która które gdy także można tym tego"
        ),
        "tr": (
            "ve bir bu da de için ile çok daha olarak var ama o ne gibi kadar en sonra her şey mi mı değil ki ben "  # noqa: RUF001
            "sen biz siz olan oldu olduğu ise veya nasıl bunu şu hem eğer onun"  # noqa: RUF001
        ),
    }.items()
}
_ONE_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_LONGEST = 20_000  # characters that are looked at
_SCRIPTS: Mapping[str, str] = {  # by the first word of a letter's name in Unicode, the language that alone writes in it
    "GREEK": "el", "HEBREW": "he", "ARMENIAN": "hy", "GEORGIAN": "ka", "HANGUL": "ko", "THAI": "th",
}  # fmt: skip


def of(text: str) -> str | None:
    """The code of its language (ISO 639-1), or None where nobody can tell. Code, and addresses, are not read."""
    text = _CODE.sub(" ", text[:_LONGEST]).replace("\u2019", "'").lower()
    scripts = Counter(script for c in text if c.isalpha() and (script := _script(c)))
    letters = scripts.total()
    if not letters:
        return None
    kana, han = scripts["HIRAGANA"] + scripts["KATAKANA"], scripts["CJK"]
    if (kana + han) / letters >= SHARE:
        return "ja" if kana / (kana + han) >= 0.1 else "zh" if not kana else None
    script, most = scripts.most_common(1)[0]
    if most / letters < SHARE:
        return None
    if script in _SCRIPTS:
        return _SCRIPTS[script]
    if script == "CYRILLIC":
        return _cyrillic(text)
    return _latin(text) if script == "LATIN" else None


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0].partition("-")[0]


def _cyrillic(text: str) -> str | None:
    """Ukrainian has letters that Russian has not, and the other way round; Bulgarian, Serbian and others have
    neither."""
    ukrainian, russian = sum(text.count(c) for c in "іїєґ"), sum(text.count(c) for c in "ыэёъ")
    if ukrainian and not russian:
        return "uk" if "ў" not in text else None  # Belarusian has it
    return "ru" if russian > 0 and not ukrainian and "ы" in text else None


def _latin(text: str) -> str | None:
    words = _ONE_WORD.findall(text)
    hits = sorted(((sum(word in known for word in words), code) for code, known in _WORDS.items()), reverse=True)
    (most, code), (second, _) = hits[0], hits[1]
    return code if most >= HITS and most >= AHEAD * second and most >= 0.1 * len(words) else None
