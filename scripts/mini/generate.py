"""Generated sentences: numbers, dates, names, commands and small talk in nine languages, and an English trigram model."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence

# Per language: 0–20 and the tens, and how tens and units are joined. Enough for 0–99; larger numbers are read in parts.
_NUMBERS = {
    "en": (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        "{t} {u}",
        "hundred thousand million",
    ),
    "es": (
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve",
        "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
        "{t} y {u}",
        "cien mil",
    ),
    "it": (
        "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove",
        "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
        "{t} {u}",
        "cento mille",
    ),
    "de": (
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn",
        "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
        "{u}und{t}",
        "hundert tausend",
    ),
    "pt": (
        "zero um dois três quatro cinco seis sete oito nove dez onze doze treze quatorze quinze dezesseis dezessete dezoito dezenove",
        "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
        "{t} e {u}",
        "cem mil",
    ),
    "pl": (
        "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście trzynaście czternaście "
        "piętnaście szesnaście siedemnaście osiemnaście dziewiętnaście",
        "dwadzieścia trzydzieści czterdzieści pięćdziesiąt sześćdziesiąt siedemdziesiąt osiemdziesiąt dziewięćdziesiąt",
        "{t} {u}",
        "sto tysiąc",
    ),
    "cs": (
        "nula jedna dva tři čtyři pět šest sedm osm devět deset jedenáct dvanáct třináct čtrnáct patnáct šestnáct sedmnáct osmnáct devatenáct",
        "dvacet třicet čtyřicet padesát šedesát sedmdesát osmdesát devadesát",
        "{t} {u}",
        "sto tisíc",
    ),
    "fi": (
        "nolla yksi kaksi kolme neljä viisi kuusi seitsemän kahdeksan yhdeksän kymmenen yksitoista kaksitoista "
        "kolmetoista neljätoista viisitoista kuusitoista seitsemäntoista kahdeksantoista yhdeksäntoista",
        "kaksikymmentä kolmekymmentä neljäkymmentä viisikymmentä kuusikymmentä seitsemänkymmentä kahdeksankymmentä yhdeksänkymmentä",
        "{t} {u}",
        "sata tuhat",
    ),
    "ru": (
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать тринадцать четырнадцать "
        "пятнадцать шестнадцать семнадцать восемнадцать девятнадцать",
        "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
        "{t} {u}",
        "сто тысяча",
    ),
}
_WORDS = {
    "en": {
        "day": "monday tuesday wednesday thursday friday saturday sunday",
        "month": "january february march april may june july august september october november december",
        "name": "mary john anna peter alice tom lucy david emma sam helen mark jane paul kate robert susan james linda michael",
        "place": "london paris beijing shanghai boston berlin rome madrid chicago tokyo oxford dublin",
        "thing": "door window light book table car phone bag water coffee letter box chair picture ticket garden house dinner",
        "verb": "open close find bring take leave buy sell clean show call send read watch",
    },
    "es": {
        "day": "lunes martes miércoles jueves viernes sábado domingo",
        "month": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "name": "maría juan ana pedro lucía carlos elena pablo carmen",
        "thing": "la_puerta la_ventana la_luz el_libro la_mesa el_coche el_agua el_café la_carta la_casa el_perro",
        "verb": "abre cierra busca trae toma compra vende limpia muestra lee mira",
    },
    "it": {
        "day": "lunedì martedì mercoledì giovedì venerdì sabato domenica",
        "month": "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "name": "maria giovanni anna pietro lucia marco elena",
        "thing": "la_porta la_finestra la_luce il_libro il_tavolo la_macchina il_caffè la_lettera la_casa il_cane",
        "verb": "apri chiudi cerca porta prendi compra vendi pulisci mostra leggi guarda",
    },
    "de": {
        "day": "montag dienstag mittwoch donnerstag freitag samstag sonntag",
        "month": "januar februar märz april mai juni juli august september oktober november dezember",
        "name": "maria johann anna peter lena karl eva paul",
        "thing": "die_tür das_fenster das_licht das_buch den_tisch das_auto das_wasser den_kaffee den_brief das_haus",
        "verb": "öffne schließe suche bringe nimm kaufe verkaufe putze zeige lies",
    },
    "pt": {
        "day": "segunda terça quarta quinta sexta sábado domingo",
        "month": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "name": "maria joão ana pedro lúcia carlos helena paulo",
        "thing": "a_porta a_janela a_luz o_livro a_mesa o_carro a_água o_café a_carta a_casa o_cachorro",
        "verb": "abra feche procure traga pegue compre venda limpe mostre leia veja",
    },
    "pl": {
        "day": "poniedziałek wtorek środa czwartek piątek sobota niedziela",
        "month": "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października listopada grudnia",
        "name": "maria jan anna piotr ewa tomasz zofia",
        "thing": "drzwi okno światło książkę stół samochód wodę kawę list dom",
        "verb": "otwórz zamknij znajdź przynieś weź kup sprzedaj wyczyść pokaż przeczytaj",
    },
    "cs": {
        "day": "pondělí úterý středa čtvrtek pátek sobota neděle",
        "month": "ledna února března dubna května června července srpna září října listopadu prosince",
        "name": "marie jan anna petr eva tomáš jana karel",
        "thing": "dveře okno světlo knihu stůl auto vodu kávu dopis dům",
        "verb": "otevři zavři najdi přines vezmi kup prodej umyj ukaž přečti",
    },
    "fi": {
        "day": "maanantai tiistai keskiviikko torstai perjantai lauantai sunnuntai",
        "month": "tammikuu helmikuu maaliskuu huhtikuu toukokuu kesäkuu heinäkuu elokuu syyskuu lokakuu marraskuu joulukuu",
        "name": "maria juhani anna pekka liisa matti eeva antti",
        "thing": "ovi ikkuna valo kirja pöytä auto vesi kahvi kirje talo koira",
        "verb": "avaa sulje etsi tuo ota osta myy pese näytä lue katso",
    },
    "ru": {
        "day": "понедельник вторник среда четверг пятница суббота воскресенье",
        "month": "января февраля марта апреля мая июня июля августа сентября октября ноября декабря",
        "name": "мария иван анна пётр елена павел ольга",
        "thing": "дверь окно свет книгу стол машину воду кофе письмо дом",
        "verb": "открой закрой найди принеси возьми купи продай вымой покажи прочитай",
    },
}
_FRAMES = {
    "en": [
        "{verb} the {thing}",
        "please {verb} the {thing}",
        "{name} lives in {place}",
        "my name is {name}",
        "{name} and {name} went to {place} on {day}",
        "i was born on the {n} of {month}",
        "the number is {n}",
        "there are {n} {thing}s",
        "it is {day} the {n} of {month}",
        "{name} wants to {verb} a {thing}",
        "{n} {n} {n} {n}",
        "can you {verb} the {thing} for me",
        "i will {verb} it on {day}",
        "where is the {thing}",
        "call {name} at {n}",
        "she is {n} years old",
        "we have to go to {place}",
        "it costs {n} dollars",
        "chapter {n}",
        "turn to page {n}",
        "he did not {verb} the {thing}",
        "why did you {verb} my {thing}",
        "the {thing} is near the {thing}",
        "{name} has {n} brothers and {n} sisters",
        "i like the {thing} more than the {thing}",
        "see you on {day}",
    ],
    "es": [
        "{verb} {thing}",
        "me llamo {name}",
        "es {day} {n} de {month}",
        "tengo {n} años",
        "{n} {n} {n}",
        "el número es {n}",
        "{name} y {name}",
        "por favor {verb} {thing}",
        "dónde está {thing}",
        "{name} vive aquí",
        "hasta el {day}",
    ],
    "it": [
        "{verb} {thing}",
        "mi chiamo {name}",
        "è {day} {n} {month}",
        "ho {n} anni",
        "{n} {n} {n}",
        "il numero è {n}",
        "{name} e {name}",
        "per favore {verb} {thing}",
        "dov'è {thing}",
        "{name} abita qui",
        "ci vediamo {day}",
    ],
    "de": [
        "{verb} {thing}",
        "ich heiße {name}",
        "heute ist {day}",
        "ich bin {n} jahre alt",
        "{n} {n} {n}",
        "die nummer ist {n}",
        "{name} und {name}",
        "bitte {verb} {thing}",
        "{name} wohnt hier",
        "wir sehen uns am {day}",
        "im {month}",
    ],
    "pt": [
        "{verb} {thing}",
        "meu nome é {name}",
        "hoje é {day} {n} de {month}",
        "tenho {n} anos",
        "{n} {n} {n}",
        "o número é {n}",
        "{name} e {name}",
        "por favor {verb} {thing}",
        "onde está {thing}",
        "{name} mora aqui",
    ],
    "pl": [
        "{verb} {thing}",
        "mam na imię {name}",
        "dzisiaj jest {day}",
        "mam {n} lat",
        "{n} {n} {n}",
        "numer to {n}",
        "{name} i {name}",
        "proszę {verb} {thing}",
        "gdzie jest {name}",
        "{name} mieszka tutaj",
        "pierwszego {month}",
    ],
    "cs": [
        "{verb} {thing}",
        "jmenuji se {name}",
        "dnes je {day}",
        "je mi {n} let",
        "{n} {n} {n}",
        "číslo je {n}",
        "{name} a {name}",
        "prosím {verb} {thing}",
        "kde je {name}",
        "{name} bydlí tady",
        "prvního {month}",
    ],
    "fi": [
        "{verb} {thing}",
        "minun nimeni on {name}",
        "tänään on {day}",
        "olen {n} vuotta vanha",
        "{n} {n} {n}",
        "numero on {n}",
        "{name} ja {name}",
        "missä on {thing}",
        "{name} asuu täällä",
        "nyt on {month}",
        "{thing} ja {thing}",
        "{name} ei ole kotona",
        "tämä on uusi {thing}",
        "minulla on vanha {thing}",
    ],
    "ru": [
        "{verb} {thing}",
        "меня зовут {name}",
        "сегодня {day}",
        "мне {n} лет",
        "{n} {n} {n}",
        "номер {n}",
        "{name} и {name}",
        "пожалуйста {verb} {thing}",
        "где {name}",
        "{name} живёт здесь",
        "первого {month}",
    ],
}


def number(lang: str, random_: random.Random) -> str:
    """A number below a hundred in words, or (one in ten) a larger round word."""
    small, tens, joined, large = _NUMBERS[lang]
    small, tens, large = small.split(), tens.split(), large.split()
    draw = random_.random()
    if draw < 0.5:
        return random_.choice(small)
    if draw < 0.9:
        unit = random_.randint(0, 9)
        ten = random_.choice(tens)
        unit_word = "ein" if lang == "de" and unit == 1 else small[unit]
        if lang in ("it", "fi") or (lang == "es" and ten == "veinte"):
            return ten  # these write tens and units as one word with changes of its own
        return joined.format(t=ten, u=unit_word) if unit else ten
    return random_.choice(large)


def generated(lang: str, random_: random.Random) -> str:
    """A sentence from a frame of the language, its slots filled at random."""
    words = _WORDS[lang]

    def fill(match: re.Match) -> str:
        slot = match.group(1)
        return number(lang, random_) if slot == "n" else random_.choice(words[slot].split()).replace("_", " ")

    return re.sub(r"\{(\w+)\}", fill, random_.choice(_FRAMES[lang]))


class English:
    """A trigram model of read-aloud English: the style's own continuations first, those of the larger text now and then."""

    def __init__(self, style: Sequence[str], general: Sequence[str]):
        self.after: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.after_one: dict[str, list[str]] = defaultdict(list)
        for sentences, weight in ((style, 4), (general, 1)):
            for sentence in sentences:
                words = ["<s>", "<s>", *sentence.split(), "</s>"]
                for a, b, c in zip(words, words[1:], words[2:]):
                    self.after[a, b] += [c] * weight
                    self.after_one[b].append(c)

    def sentence(self, random_: random.Random) -> str:
        """Two to twelve words; at each word a one in five chance of forgetting the word before the last."""
        for _ in range(20):
            words = ["<s>", "<s>"]
            while words[-1] != "</s>" and len(words) < 16:
                pair = (words[-2], words[-1])
                forget = len(words) > 3 and random_.random() < 0.2
                words.append(random_.choice(self.after_one[words[-1]] if forget else self.after[pair]))
            if words[-1] == "</s>" and 4 < len(words) < 16:
                return " ".join(words[2:-1])
        return " ".join(word for word in words[2:10] if word != "</s>")
