"""Swahili sentences from a small grammar: noun classes and agreement, verbs with subject, tense and object prefixes.

    verb word = subject + tense (+ relative) (+ object) + root + final vowel       wa·li·ki·som·a   "they read it"
    noun phrase = noun + (possessive) + (adjective | numeral | demonstrative), each agreeing with the noun's class

    sentences = generate(1500, part="train", seed=1)        # 1500 different sentences, lower case, 3 to 7 words

The words stand in `swahili_lexicon`; some of them are reserved for `part="test"`. The forms are those of any standard
description of the language (for instance Ashton, "Swahili Grammar", 1944); the sentences are this project's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from scripts.demo import swahili_lexicon as lexicon

MIN_WORDS, MAX_WORDS, MAX_LETTERS = 3, 7, 44
HELD_OUT_SHARE = 0.04  # of the test's choices that fall on a reserved noun, verb, name or place where there is one
VOWELS = "aeiou"


@dataclass(frozen=True)
class Agreement:
    """What words about a noun of one class begin with."""

    subject: str
    adjective: str
    possessive: str
    near: str
    far: str
    object: str
    relative: str


CLASSES = {
    "1": Agreement("a", "m", "w", "huyu", "yule", "m", "ye"),
    "2": Agreement("wa", "wa", "w", "hawa", "wale", "wa", "o"),
    "3": Agreement("u", "m", "w", "huu", "ule", "u", "o"),
    "4": Agreement("i", "mi", "y", "hii", "ile", "i", "yo"),
    "5": Agreement("li", "", "l", "hili", "lile", "li", "lo"),
    "6": Agreement("ya", "ma", "y", "haya", "yale", "ya", "yo"),
    "7": Agreement("ki", "ki", "ch", "hiki", "kile", "ki", "cho"),
    "8": Agreement("vi", "vi", "vy", "hivi", "vile", "vi", "vyo"),
    "9": Agreement("i", "", "y", "hii", "ile", "i", "yo"),
    "10": Agreement("zi", "", "z", "hizi", "zile", "zi", "zo"),
    "11": Agreement("u", "m", "w", "huu", "ule", "u", "o"),
}
PERSONS = {"ni": "si", "u": "hu", "a": "ha", "tu": "hatu", "m": "ham", "wa": "hawa"}  # subject → its negative
PERSON_OBJECTS = {"ni": "mimi", "ku": "wewe", "m": "yeye", "tu": "sisi", "wa": "wao"}
NUMERALS = {1: "moja", 2: "wili", 3: "tatu", 4: "nne", 5: "tano", 8: "nane"}
FIXED_NUMERALS = {6: "sita", 7: "saba", 9: "tisa", 10: "kumi"}


@dataclass(frozen=True)
class Noun:
    word: str
    agrees: str  # the class that verbs and adjectives agree with
    owned: str  # the class that possessives agree with
    plural: bool
    tags: frozenset[str]
    held: bool


@dataclass(frozen=True)
class Verb:
    root: str
    final: str  # "a", or "" for roots that never change their end
    mono: bool
    objects: frozenset[str]
    held: bool

    def word(self, subject: str, tense: str, obj: str = "", relative: str = "") -> str:
        """`wa` + `li` (+ relative `cho`) (+ object `ki`) + root; one-syllable roots keep ku- to carry the stress."""
        stem = self.stem(obj)
        if self.mono and not obj and (tense in ("na", "li", "ta", "me") or relative):
            stem = "ku" + stem
        return subject + tense + relative + stem

    def stem(self, obj: str = "", final: str = "a") -> str:
        """Object prefix + root + final vowel (`final` only for roots that change)."""
        return join(obj, self.root) + (final if self.final else "")

    def infinitive(self, obj: str = "") -> str:
        return "ku" + self.stem(obj) if self.root != "end" else "kwenda"

    def negative(self, subject: str, tense: str, obj: str = "") -> str:
        """`tense`: `na` (does not), `li` (did not), `me` (has not), `ta` (will not)."""
        head = negative_subject(subject)
        if tense == "na":
            return head + self.stem(obj, "i")
        if tense == "ta":
            return head + "ta" + ("ku" if self.mono and not obj else "") + self.stem(obj)
        return head + {"li": "ku", "me": "ja"}[tense] + self.stem(obj)

    def wish(self, subject: str, obj: str = "") -> str:
        """The subjunctive: nisome, aende, tukusaidie."""
        stem = self.stem(obj, "e")
        return ("tw" if subject == "tu" else subject) + stem if self.root == "end" else subject + stem


GO = Verb("end", "a", False, frozenset(), False)
COME = Verb("j", "a", True, frozenset(), False)


def join(prefix: str, root: str) -> str:
    """An object prefix before a root: m becomes mw before a vowel (alimwona), as in ordinary spelling."""
    return ("mw" if prefix == "m" and root[0] in VOWELS else prefix) + root


def negative_subject(subject: str) -> str:
    return PERSONS.get(subject, "ha" + subject)


def adjective(stem: str, noun_class: str) -> str:
    forms, _ = lexicon.ADJECTIVES[stem]
    return forms.get(noun_class) or CLASSES[noun_class].adjective + stem


def numeral(number: int, noun_class: str) -> str:
    """watoto wawili, viti vitatu, siku mbili, mayai sita."""
    if number in FIXED_NUMERALS:
        return FIXED_NUMERALS[number]
    if noun_class == "10":
        return {2: "mbili"}.get(number, NUMERALS[number])
    return CLASSES[noun_class].adjective + NUMERALS[number]


@lru_cache(maxsize=1)
def nouns() -> tuple[Noun, ...]:
    found = []
    for line in lexicon.NOUNS.split("\n"):
        if not line:
            continue
        singular, plural, pair, *tags = line.lstrip("*").split()
        one, _, many = ("1/2" if pair == "kin" else pair).partition("/")
        owned = ("9", "10") if pair == "kin" else (one, many)
        for word, agrees, owns, is_plural in ((singular, one, owned[0], False), (plural, many, owned[1], True)):
            if word != "-" and agrees:
                found.append(Noun(word, agrees, owns, is_plural, frozenset(tags), line.startswith("*")))
    return tuple(found)


@lru_cache(maxsize=1)
def verbs() -> tuple[Verb, ...]:
    found = []
    for line in lexicon.VERBS.split("\n"):
        if not line:
            continue
        root, final, kind, *objects = line.lstrip("*").split()
        if final.endswith("="):
            root, final = root + final[:-1], ""
        found.append(Verb(root, final, kind == "mono", frozenset(objects) - {"."}, line.startswith("*")))
    return tuple(found)


class Speaker:
    """One seeded source of choices; `test` says whether the reserved words may be used (and then are sought)."""

    def __init__(self, seed: int, *, test: bool) -> None:
        self.chance, self.test = random.Random(seed), test

    def pick(self, usual, held=()):
        """One of `usual`, or in the test part sometimes one of `held`; all alike."""
        if self.test and held and self.chance.random() < HELD_OUT_SHARE:
            return self.chance.choice(list(held))
        return self.chance.choice(list(usual))

    def common(self, fit: list):
        """One of the lexicon's entries, reserved ones as in `pick`; the first ones more often (about as Zipf found)."""
        if self.test and (held := [entry for entry in fit if entry.held]) and self.chance.random() < HELD_OUT_SHARE:
            return self.chance.choice(held)
        usual = [entry for entry in fit if not entry.held]
        return self.chance.choices(usual, [1 / (2 + rank) for rank in range(len(usual))])[0]

    def one(self, alternatives: str) -> str:
        """One of "this|that|the other"; an empty one says nothing."""
        return self.chance.choice(alternatives.split("|"))

    def coin(self, p: float) -> bool:
        return self.chance.random() < p

    def noun(self, *tags: str, plural: bool | None = None) -> Noun:
        """Any noun with one of the tags."""
        if plural is None and self.coin(0.4):
            plural = False
        return self.common([n for n in nouns() if n.tags & set(tags) and plural in (None, n.plural)])

    def verb(self, *, transitive: bool) -> Verb:
        fit = [v for v in verbs() if bool(v.objects) == transitive]
        return self.common(fit)

    def name(self) -> str:
        return self.pick(lexicon.NAMES, lexicon.HELD_NAMES)

    def town(self) -> str:
        return self.pick(lexicon.TOWNS, lexicon.HELD_TOWNS)

    def place(self) -> str:
        return self.pick(lexicon.PLACES, lexicon.HELD_PLACES)

    def person(self) -> str:
        return self.pick(["ni", "ni", "ni", "ni", "tu", "tu", "wa", "a", "u"])

    def owner(self) -> str:
        return self.one("angu|angu|angu|ako|ake|ake|etu")

    def describing(self, noun: Noun, *, after_is: bool = False) -> str:
        """An adjective that suits the noun and agrees with it; `after_is`: not "other", "many" or "strange"."""
        fit = [
            stem
            for stem, (forms, suits) in lexicon.ADJECTIVES.items()
            if (suits is None or suits & noun.tags) and (stem != "ingi" or noun.agrees in forms) and not (after_is and stem in ("ingi", "ingine", "geni"))
        ]
        return adjective(self.pick(fit), noun.agrees)

    def phrase(self, noun: Noun, *, bare: float = 0.4, pointed: bool = False) -> str:
        """The noun alone (with chance `bare`) or with one word that agrees; `pointed`: "my" or "this", no adjective."""
        if self.coin(bare):
            return noun.word
        kinds = ["possessive", "demonstrative"] + ([] if pointed else ["adjective", "adjective"])
        if noun.plural and noun.agrees != "6" and not pointed:
            kinds.append("numeral")
        agreement = CLASSES[noun.agrees]
        match self.pick(kinds):
            case "adjective":
                return f"{noun.word} {self.describing(noun)}"
            case "possessive":
                return f"{noun.word} {CLASSES[noun.owned].possessive}{self.owner()}"
            case "demonstrative":
                return f"{noun.word} {self.pick([agreement.near, agreement.near, agreement.far])}"
            case _:
                return f"{noun.word} {numeral(self.pick([2, 3, 4, 5, 6, 7, 8, 9, 10]), noun.agrees)}"

    def actor(self) -> tuple[str, str]:
        """(words before the verb, subject prefix): a person, a name, or nobody named."""
        if self.coin(0.38):
            return "", self.person()
        if self.coin(0.3):
            return self.name(), "a"
        noun = self.noun("person")
        return self.phrase(noun, bare=0.6), CLASSES[noun.agrees].subject

    def when(self, tense: str) -> str:
        if self.coin(0.35):
            return self.place()
        return self.pick({"na": lexicon.NOW, "li": lexicon.PAST, "ta": lexicon.FUTURE, "me": lexicon.PERFECT}[tense])

    def tense(self) -> str:
        return self.one("na|na|na|na|li|li|li|li|ta|ta|me")


def plain(s: Speaker) -> str:
    """mama anapika ugali jikoni · watoto wamefika mapema"""
    who, subject = s.actor()
    tense, verb = s.tense(), s.verb(transitive=s.coin(0.72))
    what = s.phrase(s.noun(*sorted(verb.objects))) if verb.objects else ""
    negative = s.coin(0.08)
    word = verb.negative(subject, tense) if negative else verb.word(subject, tense)
    return f"{who} {word} {what} {s.when(tense) if s.coin(0.6) else ''}"


def with_object(s: Speaker) -> str:
    """nitakusaidia kesho · kitabu hiki nimekisoma tayari"""
    tense = s.tense()
    if s.coin(0.5):
        roots = [v for v in verbs() if "person" in v.objects]
        subject = s.person()
        forbidden = {"ni": ("ni", "tu"), "tu": ("ni", "tu"), "u": ("ku",), "m": ("ku",)}.get(subject, ())
        obj = s.pick([o for o in PERSON_OBJECTS if o not in forbidden])
        who = s.name() if subject == "a" else ""
        return f"{who} {s.pick(roots).word(subject, tense, obj)} {s.when(tense)} {s.place() if s.coin(0.4) else ''}"
    verb = s.verb(transitive=True)
    thing = s.noun(*sorted(verb.objects))
    who, subject = s.actor()
    return f"{s.phrase(thing, bare=0.1)} {who} {verb.word(subject, tense, CLASSES[thing.agrees].object)} {s.when(tense)}"


def going(s: Speaker) -> str:
    """tunaenda sokoni kununua nyanya"""
    who, subject = s.actor()
    verb, tense = s.verb(transitive=True), s.tense()
    move = s.pick([GO, GO, COME]).word(subject, tense)
    return f"{who} {move} {s.place()} {verb.infinitive()} {s.phrase(s.noun(*sorted(verb.objects)), bare=0.7)}"


def wanting(s: Speaker) -> str:
    """ninataka kununua kitabu kipya · hatupendi kula samaki"""
    who, subject = s.actor()
    root = s.pick(["tak", "pend", "wez", "anz", "jifunz"])
    want, verb = Verb(root, "a", False, frozenset(), False), s.verb(transitive=s.coin(0.8))
    word = want.negative(subject, "na") if s.coin(0.12) else want.word(subject, s.pick(["na", "na", "li", "ta"]))
    what = s.phrase(s.noun(*sorted(verb.objects))) if verb.objects else s.place()
    return f"{who} {word} {verb.infinitive()} {what}"


def being(s: Speaker) -> str:
    """nyumba yetu ni kubwa sana"""
    noun = s.noun("goods", "building", "person", "food", "machine", "town", "nature", "task")
    link = s.pick(["ni", "ni", "si"])
    quality = s.describing(noun, after_is=True)
    return f"{s.phrase(noun, bare=0.0, pointed=True)} {link} {quality} {'sana' if link == 'ni' and s.coin(0.6) else ''}"


def where(s: Speaker) -> str:
    """vitabu vyangu viko mezani · paka yuko chini ya meza"""
    noun = s.noun("goods", "tool", "pet", "person", "dish", "book")
    subject = {"1": "yu"}.get(noun.agrees, CLASSES[noun.agrees].subject)
    if s.coin(0.4):
        spot = f"{s.one('juu ya|chini ya|ndani ya|nyuma ya|mbele ya|karibu na')} {s.noun('house', 'building', 'box').word}"
    else:
        spot = s.pick(lexicon.SURFACES + lexicon.PLACES)
    return f"{s.phrase(noun, bare=0.3)} {subject}ko {spot}"


def having(s: Speaker) -> str:
    """nina watoto watatu · juma hana pesa leo"""
    noun = s.noun("goods", "stock", "child", "vehicle", "pet", "dish", plural=True)
    who, subject = s.actor()
    word = negative_subject(subject) + "na" if s.coin(0.25) else subject + "na"
    amount = s.describing(noun) if noun.agrees == "6" or word.startswith(("ha", "si")) else None
    amount = amount or numeral(s.pick([2, 3, 4, 5, 6, 7, 8, 9, 10]), noun.agrees)
    return f"{who} {word} {noun.word} {amount} {s.place() if s.coin(0.3) else ''}"


def weather(s: Speaker) -> str:
    """mvua kubwa itanyesha kesho pwani"""
    tense = s.tense()
    where_or_when = f"{s.when(tense)} {s.pick(['', s.town(), s.place()])}"
    match s.one("rain|sun|wind|cold|cloud|season"):
        case "rain":
            return f"mvua {s.one('|kubwa|nyingi|ndogo')} i{tense}nyesha {where_or_when}"
        case "sun":
            return f"jua {s.one('|kali')} li{tense}waka {s.one('|sana')} {where_or_when}"
        case "wind":
            return f"upepo {s.one('|mkali')} u{tense}vuma {where_or_when}"
        case "cloud":
            return f"mawingu {s.one('meusi|mengi|meupe')} ya{tense}funika {s.one('mlima|anga|mji')} {s.when(tense)}"
        case "season":
            return f"msimu wa {s.one('mvua|baridi|mavuno|joto')} u{s.one('naanza|meanza|liisha|nakaribia')} {s.town()}"
        case _:
            here = s.pick([s.town(), s.place()])
            weather = f"{s.one('baridi|joto|ukungu')} {s.one('sana|kali|kidogo')}"
            return f"{s.one('leo|usiku huu|mwezi huu')} kuna {weather} {here}"


def health(s: Speaker) -> str:
    """kichwa kinaniuma sana leo · meza dawa hii mara tatu kwa siku"""
    match s.one("pain|pain|dose|need|ill|give"):
        case "pain":
            part = s.noun("body")
            word = CLASSES[part.agrees].subject + s.one("na|na|li") + join(s.one("ni|ni|ku|m|tu"), "uma")
            return f"{part.word} {word} {s.one('sana|kidogo|tangu jana|usiku kucha')} {s.one('|leo')}"
        case "dose":
            often = f"mara {s.one('moja|mbili|tatu|nne')} kwa {s.one('siku|wiki')}"
            return f"{s.one('meza|kunywa|tumia')} dawa {s.one('hii|hizi|yako')} {often}"
        case "need":
            who, subject = s.actor()
            what = s.one("dawa|daktari|chanjo|miwani|kupumzika|msaada")
            return f"{who} {subject}{s.one('na|na|li')}hitaji {what} {s.one('sasa|haraka|leo|sana')}"
        case "ill":
            who, subject = s.actor()
            illness = s.one("homa|malaria|mafua|tumbo|jino")
            return f"{who} {subject}{s.one('na|me|li')}umwa {illness} {s.one('tangu jana|sana|wiki hii|siku tatu')}"
        case _:
            patient = s.noun("person")
            word = s.one("aliwapa|atawapa" if patient.plural else "alimpa|atampa|amempa")
            what = s.one("dawa|chanjo|maji|ushauri|dawa mpya|ushauri mzuri")
            return f"{s.one('daktari|muuguzi')} {word} {patient.word} {what}"


def market(s: Speaker) -> str:
    """bei ya nyanya ni shilingi mia tano"""
    thing = s.noun("crop", "goods", "clothes")
    match s.one("price|ask|kilo|dear"):
        case "price":
            amount = s.one("mia mbili|mia tano|mia nane|elfu moja|elfu mbili|elfu tatu|elfu kumi")
            return f"bei ya {thing.word} ni shilingi {amount}"
        case "ask":
            link = CLASSES[thing.agrees]
            return f"{thing.word} {link.near} {link.subject}nauzwa {s.one('bei gani|shilingi ngapi|wapi')}"
        case "kilo":
            amount = f"kilo {s.one('moja|mbili|tatu|tano|kumi')} za {s.one('nyanya|mahindi|viazi|mchele|sukari|unga')}"
            return f"{s.one('nipe|naomba|ninataka|tunahitaji')} {amount} {s.one('|tafadhali')}"
        case _:
            whose = f"{CLASSES[thing.owned].possessive}a {s.town()}"
            return f"{thing.word} {whose} {s.one('ni ghali|ni rahisi|si ghali|ni bora')} {s.one('|sana')}"


def greeting(s: Speaker) -> str:
    """habari za asubuhi mwalimu · karibu nyumbani kwetu rafiki yangu"""
    whom = s.pick([s.name(), s.name(), "mama", "baba yangu", "mwalimu", "daktari", "rafiki yangu", "ndugu yangu"])
    match s.one("news|welcome|thanks|bye|name|live"):
        case "news":
            return f"habari {s.one('za asubuhi|za jioni|za nyumbani|za kazi|za safari|za leo|za mchana')} {whom}"
        case "welcome":
            return f"karibu {s.one('nyumbani kwetu|tena|chakula|chai|kijijini kwetu|sana')} {whom}"
        case "thanks":
            return f"asante {s.one('sana|kwa chakula|kwa msaada wako|kwa zawadi|kwa barua yako')} {whom}"
        case "bye":
            return f"kwaheri {whom} tutaonana {s.pick(lexicon.FUTURE)}"
        case "name":
            start = s.one("jina langu ni|jina lake ni|yeye anaitwa|mimi ninaitwa")
            return f"{start} {s.name()} {s.pick(['', 'kutoka ' + s.town()])}"
        case _:
            who = s.pick([s.name(), s.noun("family").word + " yangu"])
            word = s.one("anaishi|alizaliwa|anafanya kazi|amehamia|anasoma")
            return f"{who} {word} {s.town()} {s.one('|sasa|pamoja nasi')}"


def travel(s: Speaker) -> str:
    """basi la mombasa litaondoka saa tatu asubuhi"""
    hour = f"saa {s.one('moja|mbili|tatu|nne|tano|sita|saba|nane|tisa|kumi')} {s.one('asubuhi|jioni|mchana|usiku')}"
    match s.one("bus|meet|road|ask|journey"):
        case "bus":
            return f"{s.one('basi|basi|gari')} la {s.town()} {s.one('litaondoka|linaondoka|litafika|lilifika')} {hour}"
        case "meet":
            return f"{s.one('tutakutana|tulikutana|mkutano utaanza|masomo yanaanza|duka linafunguliwa')} {hour}"
        case "road":
            spot = f"{s.one('karibu na|mbele ya|nyuma ya')} {s.noun('building').word}"
            return f"{s.one('geuka|pinda')} {s.one('kulia|kushoto')} {spot}"
        case "ask":
            what = s.one("kituo cha basi kiko|hospitali kubwa iko|shule ya msingi iko|benki iko|choo kiko")
            return f"{what} {s.one('wapi|wapi tafadhali|mbali na soko|karibu na hapa')}"
        case _:
            who, subject = s.actor()
            towns = f"{s.town()} {s.one('kwenda|hadi')} {s.town()}"
            return f"{who} {subject}{s.one('litoka|natoka|metoka')} {towns} {s.one('kwa basi|kwa gari|kwa miguu')}"


def asking(s: Speaker) -> str:
    """tafadhali fungua mlango · usisahau kufunga dirisha"""
    verb = s.verb(transitive=True)
    thing = s.phrase(s.noun(*sorted(verb.objects)), bare=0.5)
    match s.one("please|do not|question|let us|must|give"):
        case "please":
            word = verb.infinitive() if verb.mono else verb.stem()  # kula!, kunywa!, but soma!
            return f"tafadhali {word} {thing} {s.one('|sasa|haraka|vizuri')}"
        case "do not":
            return f"usisahau {verb.infinitive()} {thing} {s.one('|kesho|leo')}"
        case "question":
            return f"{s.one('je|kwa nini|lini')} {verb.word(s.one('u|m|wa'), s.tense())} {thing}"
        case "let us":
            return f"{s.one('twende|njooni')} {s.place()} {verb.wish('tu') if s.coin(0.4) else verb.infinitive()} {thing}"
        case "must":
            who, subject = s.actor()
            return f"{s.one('lazima|ni lazima|ni vizuri|afadhali')} {who} {verb.wish(subject)} {thing}"
        case _:
            what = s.phrase(s.noun("food", "drink", "dish", "book"), bare=0.2)
            return f"{s.one('naomba|nipe|tupe|niletee|mletee mgeni')} {what} {s.one('|tafadhali')}"


def telling(s: Speaker) -> str:
    """mgeni aliyesoma kitabu ni fundi · kitabu nilichosoma kilikuwa kizuri"""
    verb = s.verb(transitive=True)
    thing = s.noun(*sorted(verb.objects))
    if s.coin(0.45):
        person = s.noun("person")
        link = CLASSES[person.agrees]
        did = verb.word(link.subject, "li", relative=link.relative)
        job = "ni " + s.noun("worker", plural=person.plural).word
        end = s.pick([job, link.subject + "meondoka", link.subject + "natoka " + s.town()])
        return f"{person.word} {did} {thing.word} {end}"
    link = CLASSES[thing.agrees]
    did = verb.word(s.person(), "li", relative=link.relative)
    return f"{thing.word} {did} {link.subject}{s.one('likuwa|takuwa')} {s.describing(thing, after_is=True)}"


def joining(s: Speaker) -> str:
    """mvua ikinyesha tutabaki nyumbani · asha na neema wanasoma pamoja"""
    verb = s.verb(transitive=s.coin(0.7))
    what = s.phrase(s.noun(*sorted(verb.objects)), bare=0.6) if verb.objects else s.place()
    match s.one("if|both|reason|state"):
        case "if":
            thing = s.noun("goods").word
            first = s.one(f"mvua ikinyesha|ukifika {s.place()}|{s.name()} akija|tukipata {thing}|nikirudi {s.place()}")
            return f"{first} {verb.word(s.person(), 'ta')} {what}"
        case "both":
            return f"{s.name()} na {s.name()} {verb.word('wa', s.tense())} {what}"
        case "reason":
            who, subject = s.actor()
            feeling = subject + s.one("mechoka|mefurahi|nasikitika|mechelewa")
            why = s.one("ya mvua|ya kazi nyingi|ya safari ndefu|ya habari hizi|ya joto kali")
            return f"{who} {feeling} kwa sababu {why}"
        case _:
            noun = s.noun(*DONE_TO)
            done = next(done for tag, done in DONE_TO.items() if tag in noun.tags)
            word = CLASSES[noun.agrees].subject + s.one("me|li|ta") + done
            return f"{s.phrase(noun, bare=0.2)} {word} {s.one('|leo|vizuri|nyumbani|mjini')}"


DONE_TO = {  # what is commonly done to a thing, as a passive
    "door": "fungwa",
    "clothes": "fuliwa",
    "food": "pikwa",
    "machine": "haribika",
    "building": "jengwa",
    "dish": "oshwa",
}
PATTERNS: dict[Callable[[Speaker], str], int] = {
    plain: 26,
    with_object: 5,
    going: 6,
    wanting: 8,
    being: 8,
    where: 6,
    having: 6,
    weather: 5,
    health: 6,
    market: 5,
    greeting: 5,
    travel: 6,
    asking: 9,
    telling: 2,
    joining: 8,
}


def generate(count: int, *, part: str, seed: int, avoid: frozenset[str] = frozenset()) -> list[str]:
    """`count` different sentences of 3 to 7 words, none of them in `avoid`.

    Args:    part: "train" (no reserved words) or "test" (they are sought); seed: the same seed gives the same list.
    Raises:  ValueError for another part, or for more sentences than the grammar gives in 1,000 tries each.
    """
    if part not in ("train", "test"):
        raise ValueError(f"part is {part!r}; give 'train' or 'test'.")
    speaker = Speaker(seed, test=part == "test")
    patterns, weights = list(PATTERNS), list(PATTERNS.values())
    found: dict[str, None] = {}
    for _ in range(1_000 * count):
        if len(found) == count:
            return list(found)
        pattern = speaker.chance.choices(patterns, weights)[0]
        words = pattern(speaker).split()
        sentence = " ".join(words)
        if not MIN_WORDS <= len(words) <= MAX_WORDS or len(sentence) > MAX_LETTERS or len(set(words)) < len(words):
            continue
        if sentence not in avoid:
            found[sentence] = None
    raise ValueError(f"the grammar gave {len(found)} different sentences and {count} were asked for; ask for fewer.")
