"""`marks`, the default: case and punctuation go, everything a reader would pronounce stays, in any script.

Stays:    letters, digits, combining marks (vowel signs, viramas, tones, harakat, nikkud), tone letters (˥, ꜜ),
          apostrophes and the Catalan point inside words, geresh and gershayim inside Hebrew words, `.` and `,`
          inside numbers.
Goes:     case, punctuation of every script (। ። ، 。 ፡ ¿ …) and symbols, each to a space; tatweel, variation selectors,
          soft hyphens, joiners and direction marks, which print nothing or only lengthen a stroke, to nothing.
Becomes one: canonically equal spellings (NFC), full-width and half-width forms, Arabic presentation forms and Latin
          ligatures, the kinds of apostrophe, Malayalam chillu letters and their old spelling with a joiner.

It never folds letters together (Arabic alef forms, Persian and Arabic yeh, traditional and simplified Han): those are
spelling, and a spelling rule is the business of a mapping file (`marks+map:FILE`).

Source: Unicode general categories and UAX 15; the reason for it is that Whisper's own rule blanks combining marks,
https://github.com/openai/whisper/discussions/858 and https://arxiv.org/abs/2409.02449.
"""

from __future__ import annotations

import unicodedata

import regex

from asrpeft.scoring.normalize import Step, register

_APOSTROPHES = "'’‘ʼ`´′＇"
_IN_WORD_APOSTROPHE = regex.compile(rf"(?<=[\p{{L}}\p{{M}}])[{_APOSTROPHES}](?=\p{{L}})")
_IN_WORD_POINT = regex.compile(r"(?<=[\p{L}\p{M}])[·‧](?=\p{L})")
_GERESH = regex.compile(rf"(?<=\p{{Script=Hebrew}})[{_APOSTROPHES}׳](?=\p{{Script=Hebrew}})")
_GERSHAYIM = regex.compile(r"(?<=\p{Script=Hebrew})[\"“”״](?=\p{Script=Hebrew})")
_IN_NUMBER = regex.compile(r"(?<=\p{Nd})[.,٫٬](?=\p{Nd})")
_COMPATIBLE = regex.compile(r"[\uFB00-\uFDFF\uFE70-\uFEFC\uFF01-\uFFEF]+")  # ligatures, Arabic forms, full and half width
# Tatweel; the zero-width joiners, direction marks and soft hyphen (Cf); variation selectors and the grapheme joiner
# (Mn); marks that enclose symbols (keycaps). The zero-width space is not here: it parts words in Khmer and Thai.
_INVISIBLE = regex.compile(
    r"[\u0640\u00AD\u034F\u061C\u180B-\u180F\u200C-\u200F\u202A-\u202E\u2060-\u2064\u2066-\u206F"
    r"\u20DD-\u20E4\uFE00-\uFE0F\uFEFF\U000E0000-\U000E01EF]"
)
_CHILLU = {
    "\u0d23": "\u0d7a",
    "\u0d28": "\u0d7b",
    "\u0d30": "\u0d7c",
    "\u0d32": "\u0d7d",
    "\u0d33": "\u0d7e",
    "\u0d15": "\u0d7f",
}
_OLD_CHILLU = regex.compile(f"([{''.join(_CHILLU)}])\u0d4d\u200d")
# Tone letters are "symbols" to Unicode (Sk), and so are the colon and equals sign that some African orthographies use.
_TONE_LETTERS = r"\u02E5-\u02FF\uA700-\uA721\uA789\uA78A"
_PUNCTUATION = regex.compile(rf"[^\p{{L}}\p{{M}}\p{{N}}\p{{Co}}{_TONE_LETTERS}]+")
# A sign that is part of a word hides in a private plane while the others of its kind are blanked.
_HOLD = {sign: chr(0xF1000 + i) for i, sign in enumerate("'·״.,٫٬")}
_RELEASE = {ord(held): sign for sign, held in _HOLD.items()}


@register("marks")
class Marks(Step):
    about = "no case, no punctuation; combining marks, tones and apostrophes inside words stay; NFC (the default)"

    def __call__(self, text: str) -> str:
        text = _COMPATIBLE.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
        text = unicodedata.normalize("NFC", text)
        text = _OLD_CHILLU.sub(lambda found: _CHILLU[found.group(1)], text)
        text = _INVISIBLE.sub("", text)
        # "İ".lower() is an i with a second dot above it; Turkish writes a plain i.
        text = unicodedata.normalize("NFC", text.replace("İ", "i").lower())
        text = _GERSHAYIM.sub(_HOLD["״"], text)
        text = _GERESH.sub(_HOLD["'"], text)
        text = _IN_WORD_APOSTROPHE.sub(_HOLD["'"], text)
        text = _IN_WORD_POINT.sub(_HOLD["·"], text)
        text = _IN_NUMBER.sub(lambda found: _HOLD[found.group()], text)
        return " ".join(_PUNCTUATION.sub(" ", text).translate(_RELEASE).split())
