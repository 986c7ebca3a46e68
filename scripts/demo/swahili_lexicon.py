"""The words of `scripts.demo.swahili`: nouns with their class pairs, verb roots, adjectives, names, places, times.

Each noun line is `singular plural pair tags`. The pair gives the agreement of both numbers: "1/2" for m-/wa- and for
anything alive (living things agree with 1/2 whatever their own prefix), "kin" for living nouns whose possessives follow
class 9/10 (mama yangu, marafiki zangu), otherwise the class numbers; `-` stands for no plural in use. Each verb line is
`root final kind objects`: final is the last vowel (`a`, or `i=`, `u=` for roots of Arabic origin, whose end never
changes), kind `mono` for one-syllable roots that keep ku- (anakula), and objects the noun tags it may take (`.` for
none). A leading `*` marks what only the test part may use, so that the claim of unseen words does not rest on chance.
Common words stand first: the choice falls more often on them.
"""

NOUNS = """
mtoto watoto 1/2 person child
mwalimu walimu 1/2 person worker
mwanafunzi wanafunzi 1/2 person child
daktari madaktari 1/2 person worker
muuguzi wauguzi 1/2 person worker
mkulima wakulima 1/2 person worker
mvuvi wavuvi 1/2 person worker
mpishi wapishi 1/2 person worker
mgeni wageni 1/2 person
mgonjwa wagonjwa 1/2 person patient
mzee wazee 1/2 person
kijana vijana 1/2 person
msichana wasichana 1/2 person child
mvulana wavulana 1/2 person child
dereva madereva 1/2 person worker
fundi mafundi 1/2 person worker
mfanyakazi wafanyakazi 1/2 person worker
*mchungaji wachungaji 1/2 person worker
*mwandishi waandishi 1/2 person worker
*mlinzi walinzi 1/2 person worker
rafiki marafiki kin person
jirani majirani kin person
mama mama kin person family
baba baba kin person family
dada dada kin person family
kaka kaka kin person family
babu babu kin person family
bibi bibi kin person family
*shangazi shangazi kin person family
mbuzi mbuzi 1/2 animal stock
kuku kuku 1/2 animal stock
mbwa mbwa 1/2 animal pet
paka paka 1/2 animal pet
punda punda 1/2 animal stock
samaki samaki 1/2 food goods fish
simba simba 1/2 animal wild
tembo tembo 1/2 animal wild
twiga twiga 1/2 animal wild
ndege ndege 1/2 animal wild
*kondoo kondoo 1/2 animal stock
*nyoka nyoka 1/2 animal wild
mti miti 3/4 tall plant
mkate mikate 3/4 food goods
mlango milango 3/4 door
mguu miguu 3/4 body
mkono mikono 3/4 body
mto mito 3/4 nature
mlima milima 3/4 nature tall
mji miji 3/4 town
mpira mipira 3/4 toy goods
mfuko mifuko 3/4 box goods
*mkeka mikeka 3/4 house goods
chungwa machungwa 5/6 food fruit goods crop
embe maembe 5/6 food fruit goods crop
yai mayai 5/6 food goods
shamba mashamba 5/6 field
gari magari 5/6 vehicle machine
basi mabasi 5/6 vehicle
jiko majiko 5/6 house machine
dirisha madirisha 5/6 door
soko masoko 5/6 town
jicho macho 5/6 body
*nanasi mananasi 5/6 food fruit goods crop
*sanduku masanduku 5/6 box goods
*jembe majembe 5/6 tool goods
- maji 5/6 drink
- maziwa 5/6 drink goods
- mafuta 5/6 goods
- maua 5/6 goods plant
- mahindi 5/6 food crop goods
- maharagwe 5/6 food crop goods
kitabu vitabu 7/8 book goods
kiti viti 7/8 house goods
kisu visu 7/8 tool goods
kikombe vikombe 7/8 dish goods
kijiji vijiji 7/8 town
kitanda vitanda 7/8 house goods
kiatu viatu 7/8 clothes goods
kichwa vichwa 7/8 body
kiazi viazi 7/8 food crop goods
chumba vyumba 7/8 room
chakula vyakula 7/8 food
chombo vyombo 7/8 dish
*kikapu vikapu 7/8 box goods
*kijiko vijiko 7/8 dish goods
nyumba nyumba 9/10 building room
shule shule 9/10 building
hospitali hospitali 9/10 building
nguo nguo 9/10 clothes goods
barua barua 9/10 letter
simu simu 9/10 machine goods
meza meza 9/10 house goods
ndizi ndizi 9/10 food fruit goods crop
nyanya nyanya 9/10 food crop goods
nyama - 9/10 food goods
chai - 9/10 drink
kahawa - 9/10 drink goods
dawa dawa 9/10 medicine
baiskeli baiskeli 9/10 vehicle machine goods
pikipiki pikipiki 9/10 vehicle machine
sahani sahani 9/10 dish goods
picha picha 9/10 goods
kalamu kalamu 9/10 goods
kazi kazi 9/10 task
habari habari 9/10 news
barabara barabara 9/10 town
*kompyuta kompyuta 9/10 machine goods
*karanga karanga 9/10 food crop goods
ugali - 11 food
wali - 11 food
ukuta kuta 11/10 tall
wimbo nyimbo 11/10 song
ufunguo funguo 11/10 tool
*uji - 11 drink food
"""

VERBS = """
l a mono food
nyw a mono drink
pik a . food
nunu a . goods
uz a . goods
som a . book letter
andik a . letter book
lim a . field
pand a . crop
vun a . crop
osh a . dish vehicle fruit
fu a . clothes
beb a . box goods child
tafut a . goods animal tool person
on a . animal person building nature
let a . goods drink food
pelek a . goods letter child
chuku a . goods tool
fungu a . door box
fung a . door box
jeng a . building
tengenez a . machine
lip a . .
endesh a . vehicle
chung a . stock
lish a . animal
pend a . person animal food
saidi a . person
fundish a . child
it a . person
uliz a . person
sikiliz a . person song news
safish a . room dish vehicle
kat a . fruit plant
chom a . fish
chemsh a . drink
tib u= . patient
subir i= . person vehicle
tembele a . person
salimi a . person
angali a . picture animal nature
imb a . song
poke a . letter
*shon a . clothes
*pim a . patient
*funik a . dish food
*chor a . animal nature
lal a . .
amk a . .
chek a . .
li a . .
kimbi a . .
tembe a . .
pumzik a . .
fik a . .
ondok a . .
rud i= . .
safir i= . .
ka a . .
chez a . .
ogele a . .
*ruk a . .
*cheleweshw a . .
"""

SIZED = frozenset("person animal goods building house machine town tall nature plant door box fruit field".split())
# stem, its forms where the plain prefix is not enough (class: form), and what it may describe; None means anything
ADJECTIVES: dict[str, tuple[dict[str, str], frozenset[str] | None]] = {
    "zuri": ({"9": "nzuri", "10": "nzuri"}, None),
    "baya": ({"9": "mbaya", "10": "mbaya"}, None),
    "kubwa": ({}, SIZED),
    "dogo": ({"9": "ndogo", "10": "ndogo"}, SIZED),
    "refu": (
        {"9": "ndefu", "10": "ndefu"},
        frozenset({"person", "tall", "building", "plant", "body", "nature", "worker"}),
    ),
    "fupi": ({}, frozenset({"person", "tall", "letter", "song", "worker"})),
    "zito": ({"9": "nzito", "10": "nzito"}, frozenset({"box", "goods", "tool", "machine"})),
    "tamu": ({}, frozenset({"food", "drink", "fruit"})),
    "chafu": ({}, frozenset({"dish", "clothes", "room", "vehicle", "house", "body"})),
    "geni": ({"9": "ngeni", "10": "ngeni"}, frozenset({"news", "person"})),
    "pya": (
        {"5": "jipya", "9": "mpya", "10": "mpya"},
        frozenset({"goods", "machine", "building", "book", "song", "task", "house", "vehicle", "clothes", "news", "worker"}),
    ),
    "gumu": ({"9": "ngumu", "10": "ngumu"}, frozenset({"task", "book", "fruit"})),
    "eusi": (
        {
            "1": "mweusi",
            "2": "weusi",
            "3": "mweusi",
            "4": "myeusi",
            "5": "jeusi",
            "6": "meusi",
            "7": "cheusi",
            "8": "vyeusi",
            "9": "nyeusi",
            "10": "nyeusi",
            "11": "mweusi",
        },
        frozenset({"clothes", "animal", "vehicle", "house", "box", "pet", "stock"}),
    ),
    "eupe": (
        {
            "1": "mweupe",
            "2": "weupe",
            "3": "mweupe",
            "4": "myeupe",
            "5": "jeupe",
            "6": "meupe",
            "7": "cheupe",
            "8": "vyeupe",
            "9": "nyeupe",
            "10": "nyeupe",
            "11": "mweupe",
        },
        frozenset({"clothes", "animal", "vehicle", "dish", "box", "house", "stock"}),
    ),
    "ekundu": (
        {
            "1": "mwekundu",
            "2": "wekundu",
            "3": "mwekundu",
            "4": "myekundu",
            "5": "jekundu",
            "6": "mekundu",
            "7": "chekundu",
            "8": "vyekundu",
            "9": "nyekundu",
            "10": "nyekundu",
            "11": "mwekundu",
        },
        frozenset({"clothes", "vehicle", "fruit", "dish", "box", "house"}),
    ),
    "ingine": (
        {
            "1": "mwingine",
            "2": "wengine",
            "3": "mwingine",
            "4": "mingine",
            "5": "lingine",
            "6": "mengine",
            "7": "kingine",
            "8": "vingine",
            "9": "nyingine",
            "10": "nyingine",
            "11": "mwingine",
        },
        None,
    ),
    "ingi": ({"2": "wengi", "4": "mingi", "6": "mengi", "8": "vingi", "10": "nyingi"}, None),  # "many": plurals only
}

NAMES = "amina juma asha neema baraka hamisi fatuma rehema zawadi salim halima omari zuhura bakari mwajuma daudi".split()
HELD_NAMES = "khadija rashidi subira".split()
TOWNS = "mombasa nairobi arusha mwanza dodoma kisumu zanzibar tanga iringa lamu mbeya moshi".split()
HELD_TOWNS = "kigoma bukoba".split()
PLACES = ("nyumbani sokoni shuleni shambani mjini kijijini hospitalini jikoni dukani kazini ofisini barabarani pwani mtoni kanisani msikitini kituoni").split()
HELD_PLACES = "msituni bandarini".split()
SURFACES = ["mezani", "kitandani", "chumbani", "jikoni", "mlangoni", "kabatini"]
PAST = ["jana", "juzi", "jana jioni", "jana asubuhi", "wiki iliyopita", "mwaka jana", "mwezi uliopita"]
NOW = [
    "leo",
    "sasa",
    "sasa hivi",
    "leo asubuhi",
    "kila siku",
    "kila asubuhi",
    "mchana",
    "usiku",
    "pamoja",
    "polepole",
    "vizuri",
]
FUTURE = [
    "kesho",
    "kesho asubuhi",
    "kesho kutwa",
    "jumamosi",
    "jumatatu",
    "wiki ijayo",
    "mwaka ujao",
    "baadaye",
    "jioni",
]
PERFECT = ["tayari", "leo", "leo asubuhi", "sasa", "mapema"]
DAYS = ["jumatatu", "jumanne", "jumatano", "alhamisi", "ijumaa", "jumamosi", "jumapili"]
